//! What a benchmark is to reach, and whether it did.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figure::{Figure, shown};

/// A figure, or how large it is beside another one, and where it is to lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// In words.
    pub what: String,
    /// Of the medians.
    pub value: f64,
    /// The value, or what it is beside another figure.
    pub unit: &'static str,
    /// Where it is to lie.
    pub limit: Limit,
    /// Whether it must, whatever machine this is.
    pub is_binding: bool,
}

/// Where a value is to lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

impl Goal {
    /// How many times the other figure's median this one's is.
    pub fn ratio(figure: &Figure, other: &Figure, limit: Limit) -> Self {
        let what = format!("{}, beside {}", figure.case, other.case);
        Self { what, value: figure.median() / other.median(), unit: "×", limit, is_binding: false }
    }

    /// The figure's own median.
    pub fn of(figure: &Figure, limit: Limit) -> Self {
        let what = figure.case.clone();
        Self { what, value: figure.median(), unit: figure.unit, limit, is_binding: false }
    }

    /// It does not depend on the machine's speed: not to reach it is a failure.
    #[must_use]
    pub fn binding(self) -> Self {
        Self { is_binding: true, ..self }
    }

    /// Whether it is reached.
    pub fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.value <= limit,
            Limit::AtLeast(limit) => self.value >= limit,
        }
    }

    /// All there is to know of it.
    pub fn json(&self) -> Value {
        let (word, limit) = self.limit.words();
        json!({
            "what": self.what, "value": self.value, "unit": self.unit, word: limit, "met": self.is_met(),
        })
    }
}

impl Limit {
    /// As tables show it.
    pub fn sign(self) -> (&'static str, f64) {
        match self {
            Self::AtMost(limit) => ("≤", limit),
            Self::AtLeast(limit) => ("≥", limit),
        }
    }

    fn words(self) -> (&'static str, f64) {
        match self {
            Self::AtMost(limit) => ("at_most", limit),
            Self::AtLeast(limit) => ("at_least", limit),
        }
    }
}

/// A markdown table of a benchmark's goals; nothing where it has none.
pub fn table(goals: &[Goal]) -> String {
    if goals.is_empty() {
        return String::new();
    }
    let mut text = "\n| to reach | is | is to be | |\n|---|--:|--:|---|\n".to_owned();
    for goal in goals {
        let Goal { what, value, unit, limit, is_binding: _ } = goal;
        let (sign, limit) = limit.sign();
        let met = if goal.is_met() { "met" } else { "**not met**" };
        let _ =
            writeln!(text, "| {what} | {} {unit} | {sign} {} {unit} | {met} |", shown(*value), shown(limit));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_on_its_own_side_of_the_limit() {
        let [ours, theirs] = [("ours", 20.0), ("theirs", 10.0)]
            .map(|(case, value)| Figure { values: vec![value], ..Figure::new(case, "s") });
        assert!(Goal::ratio(&ours, &theirs, Limit::AtLeast(2.0)).is_met());
        assert!(!Goal::ratio(&ours, &theirs, Limit::AtMost(1.9)).is_met());
        let text = table(&[Goal::of(&ours, Limit::AtMost(5.0))]);
        assert!(text.ends_with("| ours | 20.0 s | ≤ 5.00 s | **not met** |\n"), "{text}");
        assert_eq!(table(&[]), "");
    }
}
