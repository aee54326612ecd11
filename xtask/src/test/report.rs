//! The steps of a test run: what became of each, how long it took, and the last line.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;

/// How a step ended that did not fail.
#[derive(Debug)]
pub enum Step {
    Passed,
    /// This machine cannot do it; what would have to be done so that it can.
    Skipped {
        why: String,
        enable: String,
    },
}

/// All steps so far. Printing it ends with `N passed, N failed, N skipped`.
#[derive(Debug, Default)]
pub struct Report {
    steps: Vec<(String, Duration, Result<Step>)>,
}

impl Report {
    /// Runs a step, and says when it begins and how it ended.
    pub fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Step>) {
        println!("\n==> {name}");
        let began = Instant::now();
        let ended = work();
        let took = began.elapsed();
        let how = match &ended {
            Ok(Step::Passed) => "passed".to_owned(),
            Ok(Step::Skipped { why, .. }) => format!("skipped ({why})"),
            Err(error) => format!("FAILED: {error:#}"),
        };
        println!("<== {name}: {how}, {:.1} s", took.as_secs_f64());
        self.steps.push((name.to_owned(), took, ended));
    }

    pub fn failed(&self) -> usize {
        self.steps.iter().filter(|(_, _, ended)| ended.is_err()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let (mut passed, mut skips) = (0, Vec::new());
        for (name, took, ended) in &self.steps {
            let seconds = took.as_secs_f64();
            match ended {
                Ok(Step::Passed) => {
                    passed += 1;
                    writeln!(f, "passed  {seconds:>7.1} s  {name}")?;
                }
                Ok(Step::Skipped { why, enable }) => skips.push((name, why, enable)),
                Err(error) => writeln!(f, "FAILED  {seconds:>7.1} s  {name}: {error:#}")?,
            }
        }
        for (name, why, enable) in &skips {
            writeln!(f, "skipped: {name}: {why}; to enable: {enable}")?;
        }
        writeln!(f, "{passed} passed, {} failed, {} skipped", self.failed(), skips.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_the_skips_stand_above_it() {
        let mut report = Report::default();
        report.step("one", || Ok(Step::Passed));
        report.step("two", || anyhow::bail!("broken"));
        report.step("three", || Ok(Step::Skipped { why: "no tool".into(), enable: "install it".into() }));
        report.step("four", || Ok(Step::Passed));
        let text = report.to_string();
        let lines: Vec<_> = text.lines().rev().take(2).collect();
        assert_eq!(
            lines,
            ["2 passed, 1 failed, 1 skipped", "skipped: three: no tool; to enable: install it"]
        );
        assert!(text.contains("two: broken"), "{text}");
    }
}
