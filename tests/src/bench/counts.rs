//! What does not depend on the machine's speed: system calls, allocations and instructions, by the content that is read.
//!
//! strace and valgrind count them, where they are there, of the program as it is. What starting takes is left out: what a
//! file of one line takes is taken off.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Measured, Plan,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
};
use crate::{place::Place, run::binary};

/// Lines of the file that is read. Under valgrind everything takes some fifty times as long.
const LINES: u64 = 50_000;

/// By so much a count may exceed what is checked in: libraries and compilers change, too.
const TOLERANCE: f64 = 1.25;

/// Something that a tool counts.
struct Count {
    what: &'static str,
    unit: &'static str,
    /// How many of what they are counted by the file has.
    parts: f64,
    /// The tool, with its options. Its report goes to the file whose name follows.
    tool: &'static [&'static str],
    /// Which word of the line that has this in it.
    line: &'static str,
    word: usize,
    /// What was counted when this was last looked at, as text and as json.
    checked: [f64; 2],
}

#[expect(clippy::cast_precision_loss, reason = "far fewer lines than 2^52")]
const COUNTS: [Count; 3] = [
    Count {
        what: "system calls",
        unit: "a MB",
        parts: (LINES * LINE_BYTES as u64) as f64 / 1e6,
        tool: &["strace", "-f", "-c", "-o"],
        line: " total",
        word: 3,
        checked: [7.5, 16.4],
    },
    Count {
        what: "allocations",
        unit: "a million lines",
        parts: LINES as f64 / 1e6,
        tool: &["valgrind", "--tool=memcheck", "--leak-check=no", "--log-file"],
        line: "total heap usage:",
        word: 4,
        checked: [100.0, 21_400.0],
    },
    Count {
        what: "instructions",
        unit: "a line",
        parts: LINES as f64,
        tool: &["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-file"],
        line: "Collected :",
        word: 3,
        checked: [28.0, 1_710.0],
    },
];

const FORMATS: [&str; 2] = ["text", "json"];

/// Counts once: it is the same each time, but for a few.
pub fn measure(_: Plan) -> Result<Measured> {
    let place = Place::new();
    let (file, line) = (place.path("app.log"), place.path("line.log"));
    content::file(&file, LINES)?;
    content::file(&line, 1)?;
    let mut measured = Measured::default();
    for count in COUNTS {
        for (format, checked) in FORMATS.into_iter().zip(count.checked) {
            let mut figure = Figure::new(format!("{format}: {}", count.what), count.unit);
            let (Some(whole), Some(start)) =
                (count.of(&place, &file, format)?, count.of(&place, &line, format)?)
            else {
                eprintln!("bench: without {}: there is no {} here", count.what, count.tool[0]);
                break;
            };
            figure.values.push((whole - start) / count.parts);
            measured.goals.push(Goal::of(&figure, Limit::AtMost(checked * TOLERANCE)).binding());
            measured.figures.push(figure);
        }
    }
    ensure!(
        !measured.figures.is_empty(),
        "there is neither strace nor valgrind: apt-get install strace valgrind"
    );
    Ok(measured)
}

impl Count {
    /// While log-tail reads this file from its beginning to its end. `None` where the tool is not there.
    fn of(&self, place: &Place, file: &Path, format: &str) -> Result<Option<f64>> {
        let [tool, options @ ..] = self.tool else { bail!("no tool") };
        let report = place.path("report");
        let mut command = Command::new(tool);
        // `--log-file` takes its value as one word with it.
        match options.split_last() {
            Some((&"--log-file", options)) => {
                command.args(options).arg(format!("--log-file={}", report.display()));
            }
            _ => drop(command.args(options).arg(&report)),
        }
        command.arg(binary()).args(["--no-follow", "-n", "+1", "--format", format]).arg(file);
        let status = match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("starting {tool}"))?,
        };
        ensure!(status.success(), "{command:?}: {status}");
        let text = fs::read_to_string(&report).with_context(|| format!("reading what {tool} counted"))?;
        let count = number(&text, self.line, self.word);
        count.with_context(|| format!("{tool} says nothing of {}: {text}", self.what)).map(Some)
    }
}

/// This word of the last line that has this in it.
fn number(report: &str, line: &str, word: usize) -> Option<f64> {
    let line = report.lines().rfind(|it| it.contains(line))?;
    line.split_whitespace().nth(word)?.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_tool_says_is_understood() {
        let reports = [
            "% time     seconds  usecs/call     calls    errors syscall\n------\n100.00    0.003012           6       493        21 total\n",
            "==42== HEAP SUMMARY:\n==42==   total heap usage: 24,029 allocs, 24,000 frees, 1 bytes allocated\n",
            "==42== Events    : Ir\n==42== Collected : 18123456\n",
        ];
        let counts = COUNTS.iter().zip(reports).map(|(count, report)| number(report, count.line, count.word));
        assert_eq!(counts.collect::<Vec<_>>(), [Some(493.0), Some(24_029.0), Some(18_123_456.0)]);
        assert_eq!(number("strace: nothing\n", " total", 3), None);
    }
}
