//! `cargo xtask torture`: rotates, truncates, removes and overloads logs under log-tail and under others, and
//! counts what becomes of every line: on this machine, or on a kernel of one's choice.
//!
//! The program that does it is `torture` of the tests' package. What it is told is passed on as it is; it says
//! itself what is wrong with it.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    guest::Stream,
    kernel::Series,
    process, static_build,
    vm::{LOST, MachineOptions, Needs},
    workspace,
};

/// In the guest, what follows this line on standard output is not for the terminal: a report, by its option.
const MARK: &str = "@torture-report@";
/// Lines for a guest: its processors are twenty times slower.
const GUEST_LINES: u64 = 20_000;
/// Seconds of silence that mean something in a guest.
const GUEST_QUIET: u64 = 20;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Go on until so many minutes have passed.
    #[arg(long, value_name = "N")]
    minutes: Option<String>,

    /// Run every scenario so many times.
    #[arg(long, value_name = "N")]
    runs: Option<String>,

    /// Only this scenario; may be given more than once.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,

    /// Whom to torture: log-tail, tail, rsyslog; may be given more than once.
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

    /// Write the rows to this file as json.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the comparison of all subjects to this file as a markdown table.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// List the scenarios.
    #[arg(long)]
    list: bool,

    /// On this kernel, in QEMU: 5.10, 6.1, 6.12, 6.18, 7.
    #[arg(long, value_name = "KERNEL")]
    vm: Option<Series>,

    #[command(flatten)]
    machine: MachineOptions,
}

impl Options {
    /// What the program is told, but for the files: in a guest they have other names.
    fn words(&self) -> Vec<String> {
        let Self { minutes, runs, scenario, subject, backend, lines, quiet, list, .. } = self;
        let mut words = Vec::new();
        let one =
            [("minutes", minutes), ("runs", runs), ("backend", backend), ("lines", lines), ("quiet", quiet)];
        for (option, value) in one {
            words.extend(value.iter().map(|value| format!("--{option}={value}")));
        }
        for (option, values) in [("scenario", scenario), ("subject", subject)] {
            words.extend(values.iter().map(|value| format!("--{option}={value}")));
        }
        words.extend(list.then(|| "--list".to_owned()));
        words
    }

    fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        [("json", &self.json), ("markdown", &self.markdown)]
            .into_iter()
            .filter_map(|(option, file)| Some((option, file.as_ref()?)))
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.vm {
        Some(kernel) => in_a_guest(options, kernel),
        None => here(options),
    }
}

fn here(options: &Options) -> Result<ExitCode> {
    let log_tail = workspace::build_release("log-tail")?;
    let build = ["build", "--quiet", "--release", "--package", "log-tail-tests", "--bin", "torture"];
    let torture = workspace::only(workspace::build(workspace::cargo().args(build))?, "torture")?;
    let mut command = Command::new(torture);
    command.args(options.words()).env("LOG_TAIL_BIN", log_tail);
    for (option, file) in options.files() {
        command.arg(format!("--{option}")).arg(file);
    }
    let status = process::status(&mut command)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn in_a_guest(options: &Options, kernel: &Series) -> Result<ExitCode> {
    let programs = static_build::torture()?;
    let needs = Needs { files: programs, ..Needs::default() };
    let guest = options.machine.guest(kernel, needs, script(options))?;
    let release = &guest.kernel.release;
    eprintln!("xtask: booting {release}");
    let mut split = Split::default();
    let outcome = guest.boot(&mut |stream, bytes| {
        match stream {
            Stream::Stdout => {
                let shown = split.take(bytes);
                io::stdout().lock().write_all(&shown).and_then(|()| io::stdout().flush())
            }
            Stream::Stderr => io::stderr().lock().write_all(bytes),
        }
        .context("could not pass on what the torture says")
    });
    let ended = outcome.with_context(|| format!("could not boot {release}"))?.status();
    let reports = split.finish();
    let status = match ended {
        Ok(status) => status,
        Err(error) => {
            eprintln!("xtask: kernel {release}, limit {} s: {error:#}", options.machine.timeout);
            return Ok(ExitCode::from(LOST));
        }
    };
    for (option, file) in options.files() {
        let Some((_, text)) = reports.iter().find(|(name, _)| name == option) else {
            bail!("the guest sent no report for {}", file.display());
        };
        fs::write(file, text).with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(ExitCode::from(status))
}

/// Runs it on the guest's disk, and sends the reports after what is for the terminal.
fn script(options: &Options) -> String {
    let mut words = vec!["/bin/torture".to_owned()];
    words.extend(options.lines.is_none().then(|| format!("--lines={GUEST_LINES}")));
    words.extend(options.quiet.is_none().then(|| format!("--quiet={GUEST_QUIET}")));
    words.extend(options.backend.is_none().then(|| "--backend=ebpf".to_owned()));
    words.extend(options.words());
    words.extend(options.files().map(|(option, _)| format!("--{option}=/root/{option}")));
    let words: Vec<_> = words.iter().map(|word| process::quoted(word)).collect();
    let mut script = format!(
        "export LOG_TAIL_BIN=/bin/log-tail LOG_TAIL_TEST_DIR=/ext4 RUST_BACKTRACE=1\n{}\ncode=$?\n",
        words.join(" ")
    );
    for (option, _) in options.files() {
        script.extend(["echo '", MARK, " ", option, "'; cat /root/", option, "\n"]);
    }
    script + "exit $code\n"
}

/// Divides what comes out of a guest into what is for the terminal and the reports after it.
#[derive(Debug, Default)]
struct Split {
    /// A line whose end is yet to come.
    open: Vec<u8>,
    reports: Vec<(String, Vec<u8>)>,
}

impl Split {
    /// What of it is for the terminal.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::new();
        self.open.extend_from_slice(bytes);
        while let Some(newline) = self.open.iter().position(|byte| *byte == b'\n') {
            let rest = self.open.split_off(newline + 1);
            let line = std::mem::replace(&mut self.open, rest);
            let text = String::from_utf8_lossy(&line);
            match (text.strip_prefix(MARK), self.reports.last_mut()) {
                (Some(option), _) => self.reports.push((option.trim().to_owned(), Vec::new())),
                (None, Some((_, report))) => report.extend(line),
                (None, None) => shown.extend(line),
            }
        }
        shown
    }

    /// The reports, by their options.
    fn finish(mut self) -> Vec<(String, Vec<u8>)> {
        if let Some((_, report)) = self.reports.last_mut() {
            report.append(&mut self.open);
        }
        self.reports
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
        let script = script(&options("x --lines 7000 --json /x"));
        assert!(
            script.contains("/bin/torture --quiet=20 --backend=ebpf --lines=7000 --json=/root/json\n"),
            "{script}"
        );
        assert!(script.contains("echo '@torture-report@ json'; cat /root/json\nexit $code\n"), "{script}");
    }

    #[test]
    fn reports_are_told_from_what_is_for_the_terminal() {
        let mut split = Split::default();
        let mut shown = Vec::new();
        for piece in
            ["a row\nano", "ther\n@torture-rep", "ort@ json\n{\n}\n@torture-report@ markdown\n|", "x|"]
        {
            shown.extend(split.take(piece.as_bytes()));
        }
        assert_eq!(shown, b"a row\nanother\n");
        let expected = [("json", "{\n}\n"), ("markdown", "|x|")];
        assert_eq!(split.finish(), expected.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
    }
}
