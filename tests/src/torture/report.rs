//! The rows, and the ways they are shown: on a terminal, as json, as markdown.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::account::Numbers;

/// What became of one scenario on one subject, over all its runs.
#[derive(Debug, Default)]
pub struct Row {
    /// Whom it was done to.
    pub subject: &'static str,
    /// What was done.
    pub scenario: &'static str,
    /// The same in a few words.
    pub what: &'static str,
    /// How often.
    pub runs: u32,
    /// The sum of all runs.
    pub numbers: Numbers,
    /// Bytes that the subject counted as lost to truncation.
    pub counted_bytes: Option<u64>,
    /// What the subject says it followed through.
    pub backend: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Why it was not run.
    pub skipped: Option<String>,
    /// In how many runs the promise was broken.
    pub broken_runs: u32,
    /// What was broken in the first of them.
    pub broken: Option<String>,
}

impl Row {
    /// Whether it was run and nothing was broken.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.broken.is_none() && self.skipped.is_none()
    }

    /// What to show at the end of its line.
    fn verdict(&self) -> String {
        match (&self.skipped, &self.broken) {
            (Some(why), _) => format!("skipped: {why}"),
            (None, Some(what)) if self.runs > 1 => {
                format!("BROKEN in {} of {} runs: {what}", self.broken_runs, self.runs)
            }
            (None, Some(what)) => format!("BROKEN: {what}"),
            (None, None) => "kept".into(),
        }
    }

    /// What it is in json.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self {
            subject,
            scenario,
            what,
            runs,
            numbers,
            counted_bytes,
            backend,
            seconds,
            skipped,
            broken_runs,
            broken,
        } = self;
        let Numbers { written, delivered, lost, lost_bytes, repeated, torn, out_of_order } = numbers;
        json!({
            "subject": subject, "scenario": scenario, "what": what, "runs": runs, "written": written,
            "delivered": delivered, "lost": lost, "lost_bytes": lost_bytes, "repeated": repeated,
            "torn": torn, "out_of_order": out_of_order, "counted_bytes": counted_bytes,
            "backend": backend, "seconds": seconds, "skipped": skipped, "broken_runs": broken_runs, "broken": broken,
        })
    }
}

/// A table for a terminal.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<9} {:<24} {:>4} {:>9} {:>9} {:>8} {:>8} {:>5} {:>9} {:>10} {:>10} {:>7}  {}\n",
        "subject",
        "scenario",
        "runs",
        "written",
        "delivered",
        "lost",
        "repeated",
        "torn",
        "misorder",
        "lost B",
        "counted B",
        "seconds",
        "promise"
    );
    for row in rows {
        let Numbers { written, delivered, lost, lost_bytes, repeated, torn, out_of_order } = row.numbers;
        let counted = row.counted_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let _ = writeln!(
            text,
            "{:<9} {:<24} {:>4} {written:>9} {delivered:>9} {lost:>8} {repeated:>8} {torn:>5} \
             {out_of_order:>9} {lost_bytes:>10} {counted:>10} {:>7.1}  {}",
            row.subject,
            row.scenario,
            row.runs,
            row.seconds,
            row.verdict()
        );
    }
    text
}

/// The subjects side by side: a line a scenario, in each cell lost / repeated / torn / out of order.
#[must_use]
pub fn markdown(rows: &[Row], versions: &[(&'static str, String)]) -> String {
    let mut scenarios: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        if !scenarios.contains(&(row.scenario, row.what)) {
            scenarios.push((row.scenario, row.what));
        }
    }
    let subjects: Vec<_> = versions.iter().map(|(subject, _)| *subject).collect();
    let mut text = String::from(
        "Lines lost / repeated / torn / out of order, of lines written. **0** is none of any.\n\n",
    );
    let _ = writeln!(text, "| scenario | written | {} |", subjects.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(subjects.len()));
    for (scenario, what) in scenarios {
        let of = |subject: &str| rows.iter().find(|row| row.scenario == scenario && row.subject == subject);
        let written = rows.iter().filter(|row| row.scenario == scenario).map(|row| row.numbers.written).max();
        let _ = write!(text, "| `{scenario}`: {what} | {} |", written.unwrap_or(0));
        for subject in &subjects {
            let _ = write!(text, " {} |", of(subject).map_or_else(String::new, cell));
        }
        text.push('\n');
    }
    text.push('\n');
    for (subject, version) in versions {
        let _ = writeln!(text, "- {subject}: {version}");
    }
    text
}

fn cell(row: &Row) -> String {
    let Numbers { lost, lost_bytes, repeated, torn, out_of_order, .. } = row.numbers;
    if row.skipped.is_some() {
        return "–".into();
    }
    let mut cell = match lost + repeated + torn + out_of_order {
        0 => "**0**".to_owned(),
        _ => format!("{lost} / {repeated} / {torn} / {out_of_order}"),
    };
    if let (Some(counted), 1..) = (row.counted_bytes, lost_bytes) {
        let _ = write!(cell, " ({counted} of {lost_bytes} bytes counted)");
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &'static str, lost: u64) -> Row {
        let numbers = Numbers { written: 10, delivered: 10 - lost, lost, ..Numbers::default() };
        let broken = (lost > 0).then(|| format!("{lost} lost"));
        Row { subject, scenario: "rename", what: "renamed", runs: 1, numbers, broken, ..Row::default() }
    }

    #[test]
    fn subjects_stand_side_by_side() {
        let versions = [("log-tail", "1".to_owned()), ("tail", "2".to_owned())];
        let skipped =
            Row { scenario: "shift", what: "shifted", skipped: Some("why".into()), ..row("tail", 0) };
        let text = markdown(&[row("log-tail", 0), row("tail", 3), skipped], &versions);
        assert!(text.contains("| scenario | written | log-tail | tail |\n|---|---|---|---|\n"), "{text}");
        assert!(text.contains("| `rename`: renamed | 10 | **0** | 3 / 0 / 0 / 0 |"), "{text}");
        assert!(text.contains("| `shift`: shifted | 10 |  | – |"), "{text}");
    }

    #[test]
    fn a_table_says_what_is_broken() {
        let text = table(&[row("log-tail", 0), row("tail", 3)]);
        assert!(text.lines().nth(1).is_some_and(|line| line.ends_with("  kept")), "{text}");
        assert!(text.lines().nth(2).is_some_and(|line| line.ends_with("  BROKEN: 3 lost")), "{text}");
    }

    #[test]
    fn json_has_every_column() {
        let json = row("tail", 3).json();
        assert_eq!((json["lost"].as_u64(), json["delivered"].as_u64()), (Some(3), Some(7)));
        assert_eq!(json["broken"], "3 lost");
        assert!(json["counted_bytes"].is_null());
    }
}
