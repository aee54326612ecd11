//! A figure: what several runs of one case measured, and how it is shown.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// How far apart the middle half of the runs may be, as a part of the median, before a figure is called noisy.
const NOISY: f64 = 0.1;

/// What was measured of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The case.
    pub case: String,
    /// Of the values.
    pub unit: &'static str,
    /// One a run, in the runs' order; never empty.
    pub values: Vec<f64>,
}

impl Figure {
    /// A case that was not measured yet.
    pub fn new(case: impl Into<String>, unit: &'static str) -> Self {
        Self { case: case.into(), unit, values: Vec::new() }
    }

    /// The value that so large a part of the runs is below: 0.5 for the median. Between two runs, the part between.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "runs are few"
    )]
    pub fn quantile(&self, part: f64) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        let at = part * (values.len() - 1) as f64;
        let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
        below + (above - below) * at.fract()
    }

    /// What stands for all runs.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn is_noisy(&self) -> bool {
        self.quantile(0.75) - self.quantile(0.25) > NOISY * self.median()
    }

    /// All there is to know of it.
    pub fn json(&self) -> Value {
        json!({
            "case": self.case,
            "unit": self.unit,
            "median": self.median(),
            "quartiles": [self.quantile(0.25), self.quantile(0.75)],
            "noisy": self.is_noisy(),
            "runs": self.values,
        })
    }
}

/// A markdown table of a benchmark's figures, each beside the first one of its unit.
pub fn table(name: &str, what: &str, figures: &[Figure]) -> String {
    let mut text = format!(
        "{name}: {what}\n\n| case | median | middle half of the runs | beside the first | runs |\n|---|--:|--:|--:|--:|\n"
    );
    for figure in figures {
        let Figure { case, unit, values } = figure;
        let first = figures.iter().find(|first| first.unit == *unit).unwrap_or(figure);
        let noisy = if figure.is_noisy() { ", noisy" } else { "" };
        let _ = writeln!(
            text,
            "| {case} | {} {unit} | {} to {}{noisy} | {} | {} |",
            shown(figure.median()),
            shown(figure.quantile(0.25)),
            shown(figure.quantile(0.75)),
            beside(figure.median() / first.median()),
            values.len()
        );
    }
    text
}

/// How many times the first: beside nothing there is no number.
fn beside(ratio: f64) -> String {
    if ratio.is_finite() { format!("{ratio:.2} ×") } else { "–".to_owned() }
}

/// With three digits that say something, and all those before the point.
pub fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.1 => format!("{value:.4}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64]) -> Figure {
        Figure { values: values.into(), ..Figure::new("a case", "ns") }
    }

    #[test]
    fn the_median_stands_in_the_middle_whatever_the_order() {
        assert!((figure(&[3.0, 100.0, 1.0]).median() - 3.0).abs() < 1e-9);
        assert!((figure(&[4.0, 1.0, 2.0, 100.0]).median() - 3.0).abs() < 1e-9);
        assert!((figure(&[0.0, 1.0, 2.0, 3.0, 4.0]).quantile(0.25) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_run_far_off_is_no_noise_and_many_are() {
        assert!(!figure(&[100.0, 101.0, 102.0, 103.0, 500.0]).is_noisy());
        assert!(figure(&[100.0, 120.0, 140.0, 160.0, 180.0]).is_noisy());
    }

    #[test]
    fn a_figure_stands_beside_the_first_of_its_unit() {
        let figures = [
            figure(&[200.0]),
            Figure { values: vec![7.0], ..Figure::new("another", "calls") },
            figure(&[300.0]),
        ];
        let table = table("x", "y", &figures);
        assert!(table.contains("| a case | 300 ns | 300 to 300 | 1.50 × | 1 |"), "{table}");
        let none = [figure(&[0.0]), figure(&[0.0])];
        assert!(super::table("x", "y", &none).contains("| 0 ns | 0 to 0 | – | 1 |"));
        assert!(table.contains("| another | 7.00 calls | 7.00 to 7.00 | 1.00 × | 1 |"), "{table}");
    }
}
