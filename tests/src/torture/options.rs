//! The command line of the torture.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Rotate, truncate, remove and overload logs under a follower, and count what becomes of their lines.
///
/// Every scenario writes numbered lines and prints a row: written, delivered, lost, repeated, torn, out of
/// order. The exit status is 1 where log-tail breaks a promise, 2 where the command line is wrong.
#[derive(Debug, Clone, Parser)]
#[command(name = "torture", max_term_width = 100)]
pub struct Options {
    /// Run the scenarios over and over until so many minutes have passed
    #[arg(long, value_name = "N", value_parser = minutes)]
    pub minutes: Option<Duration>,

    /// Run every scenario so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,

    /// Only this scenario; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    pub scenario: Vec<String>,

    /// Whom to torture; may be given more than once
    #[arg(long, value_enum, default_value = "log-tail")]
    pub subject: Vec<SubjectName>,

    /// The backend of log-tail
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: BackendName,

    /// How many lines a scenario that goes flat out writes
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub lines: u64,

    /// After how many seconds of silence nothing more will come. More than log-tail's grace time of 5 s
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub quiet: u64,

    /// Write the rows to this file as json
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the comparison of all subjects to this file as a markdown table
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// List the scenarios
    #[arg(long)]
    pub list: bool,
}

/// Who can be tortured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SubjectName {
    /// The one we make
    LogTail,
    /// GNU `tail -F`
    Tail,
    /// rsyslog's imfile
    Rsyslog,
    /// Fluent Bit, where `$FLUENT_BIT` names it
    FluentBit,
    /// Vector, where `$VECTOR` names it
    Vector,
}

/// As log-tail's `--backend` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// The one that log-tail chooses here
    Auto,
    /// The one that needs no rights
    Inotify,
    /// The kernel program
    Ebpf,
}

impl BackendName {
    /// For the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Inotify => "inotify",
            Self::Ebpf => "ebpf",
        }
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(minutes @ 1..=10_000) => Ok(Duration::from_secs(minutes * 60)),
        _ => Err("a number of minutes is wanted, from 1 to 10000".into()),
    }
}

fn scenario(name: &str) -> Result<String, String> {
    if super::scenario::all().iter().any(|scenario| scenario.name == name) {
        return Ok(name.to_owned());
    }
    Err("there is no such scenario; --list lists them".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_with_an_option_is_said() {
        for (line, complaint) in [
            ("torture --minutes soon", "a number of minutes is wanted"),
            ("torture --minutes 0", "a number of minutes is wanted"),
            ("torture --runs 0", "0 is not in 1.."),
            ("torture --scenario nonsense", "--list lists them"),
            ("torture --subject promtail", "possible values: log-tail, tail, rsyslog"),
            ("torture --backend magic", "possible values: auto, inotify, ebpf"),
        ] {
            let said = parse(line).expect_err(line);
            assert!(said.contains(complaint), "{line}: {said}");
        }
    }

    #[test]
    fn one_run_of_everything_on_log_tail_unless_told_otherwise() {
        let options = parse("torture").expect("no options");
        assert_eq!((options.runs, options.subject.as_slice()), (1, &[SubjectName::LogTail][..]));
        assert_eq!(options.backend.word(), "auto");
    }
}
