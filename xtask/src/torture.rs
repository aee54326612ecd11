//! `cargo xtask torture`: rotates, truncates, removes and overloads logs under log-tail and under others, and
//! counts what becomes of every line: on this machine, or on a kernel of one's choice.
//!
//! The program that does it is `torture` of the tests' package. What it is told is passed on as it is; it says
//! itself what is wrong with it.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    program::{Program, ProgramOptions},
    static_build,
};

/// Lines for a guest: its processors are twenty times slower.
const GUEST_LINES: u64 = 20_000;
/// Seconds of silence that mean something in a guest.
const GUEST_QUIET: u64 = 20;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Go on until so many minutes have passed.
    #[arg(long, value_name = "N")]
    minutes: Option<String>,

    /// Only this scenario; may be given more than once.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,

    /// Whom to torture: log-tail, tail, rsyslog, fluent-bit, vector; may be given more than once.
    #[arg(long, value_name = "NAME")]
    subject: Vec<String>,

    /// The backend of log-tail: auto, inotify, ebpf.
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,

    /// How many lines a scenario that goes flat out writes.
    #[arg(long, value_name = "N")]
    lines: Option<String>,

    /// After how many seconds of silence nothing more will come.
    #[arg(long, value_name = "SECONDS")]
    quiet: Option<String>,

    #[command(flatten)]
    program: ProgramOptions,
}

impl Options {
    /// What the program is told, but for the files.
    fn words(&self) -> Vec<String> {
        let Self { minutes, scenario, subject, backend, lines, quiet, program } = self;
        let mut words = program.words();
        let one = [("minutes", minutes), ("backend", backend), ("lines", lines), ("quiet", quiet)];
        for (option, value) in one {
            words.extend(value.iter().map(|value| format!("--{option}={value}")));
        }
        for (option, values) in [("scenario", scenario), ("subject", subject)] {
            words.extend(values.iter().map(|value| format!("--{option}={value}")));
        }
        words
    }

    /// What it is told in a guest where it is not told otherwise.
    fn words_of_guest(&self) -> Vec<String> {
        let mut words = Vec::new();
        words.extend(self.lines.is_none().then(|| format!("--lines={GUEST_LINES}")));
        words.extend(self.quiet.is_none().then(|| format!("--quiet={GUEST_QUIET}")));
        words.extend(self.backend.is_none().then(|| "--backend=ebpf".to_owned()));
        words
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let torture = Program::new("torture", options.words(), &options.program);
    match &options.program.vm {
        Some(kernel) => {
            let files = static_build::torture()?;
            torture.run_in_guest(kernel, &options.program.machine, files, options.words_of_guest())
        }
        None => torture.run_here(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        Cli::try_parse_from(line.split(' ')).expect("a good command line").options
    }

    #[test]
    fn what_it_is_told_is_passed_on() {
        let options = options("x --runs 3 --scenario shift --scenario deleted --subject tail --json /x");
        assert_eq!(options.words(), ["--runs=3", "--scenario=shift", "--scenario=deleted", "--subject=tail"]);
    }

    #[test]
    fn a_guest_is_given_less_to_do_unless_told_otherwise() {
        assert_eq!(options("x --lines 7000").words_of_guest(), ["--quiet=20", "--backend=ebpf"]);
        assert_eq!(options("x --quiet 7").words_of_guest(), ["--lines=20000", "--backend=ebpf"]);
    }
}
