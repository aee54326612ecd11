//! A program of the tests' package that measures something and writes reports: run here, or on a kernel of one's
//! choice, from where the reports are brought home.

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
    process,
    vm::{LOST, MachineOptions, Needs},
    workspace,
};

/// In the guest, what follows this line on standard output is not for the terminal: a report, by its option.
const MARK: &str = "@report@";

/// What is asked of all of them.
#[derive(Debug, clap::Args)]
pub struct ProgramOptions {
    /// Do everything so many times.
    #[arg(long, value_name = "N")]
    runs: Option<String>,

    /// Write what was measured to this file as json.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write it to this file as markdown tables.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// List what there is.
    #[arg(long)]
    pub list: bool,

    /// On this kernel, in QEMU: 5.10, 6.1, 6.12, 6.18, 7.
    #[arg(long, value_name = "KERNEL")]
    pub vm: Option<Series>,

    #[command(flatten)]
    pub machine: MachineOptions,
}

impl ProgramOptions {
    /// What the program is told, but for the files.
    pub fn words(&self) -> Vec<String> {
        let runs = self.runs.iter().map(|runs| format!("--runs={runs}"));
        runs.chain(self.list.then(|| "--list".to_owned())).collect()
    }
}

/// The program, and what it is told.
#[derive(Debug)]
pub struct Program<'a> {
    /// Of the tests' package.
    pub name: &'static str,
    pub words: Vec<String>,
    /// The options that name a file to write, each with that file: in a guest they have other names.
    pub reports: Vec<(&'static str, &'a PathBuf)>,
}

impl<'a> Program<'a> {
    /// `words`: all that it is told, but for the files.
    pub fn new(name: &'static str, words: Vec<String>, options: &'a ProgramOptions) -> Self {
        let reports = [("json", &options.json), ("markdown", &options.markdown)];
        let given = reports.into_iter().filter_map(|(option, file)| Some((option, file.as_ref()?)));
        Self { name, words, reports: given.collect() }
    }

    /// Builds it and log-tail, and runs it on this machine.
    pub fn run_here(&self) -> Result<ExitCode> {
        let log_tail = workspace::build_release("log-tail")?;
        let build = ["build", "--quiet", "--release", "--package", "log-tail-tests", "--bin", self.name];
        let program = workspace::only(workspace::build(workspace::cargo().args(build))?, self.name)?;
        let mut command = Command::new(program);
        command.args(&self.words).env("LOG_TAIL_BIN", log_tail);
        for (option, file) in &self.reports {
            command.arg(format!("--{option}")).arg(file);
        }
        let status = process::status(&mut command)?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// Runs it in a guest that takes these files along, the program among them. `words`: what it is told there besides.
    pub fn run_in_guest(
        &self,
        kernel: &Series,
        machine: &MachineOptions,
        files: Vec<(String, PathBuf)>,
        words: Vec<String>,
    ) -> Result<ExitCode> {
        let needs = Needs { files, ..Needs::default() };
        let guest = machine.guest(kernel, needs, self.script(words))?;
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
            .context("could not pass on what the guest says")
        });
        let ended = outcome.with_context(|| format!("could not boot {release}"))?.status();
        let reports = split.finish();
        let status = match ended {
            Ok(status) => status,
            Err(error) => {
                eprintln!("xtask: kernel {release}, limit {} s: {error:#}", machine.timeout);
                return Ok(ExitCode::from(LOST));
            }
        };
        for (option, file) in &self.reports {
            let Some((_, text)) = reports.iter().find(|(name, _)| name == option) else {
                bail!("the guest sent no report for {}", file.display());
            };
            fs::write(file, text).with_context(|| format!("could not write {}", file.display()))?;
        }
        Ok(ExitCode::from(status))
    }

    /// Runs it on the guest's disk, and sends the reports after what is for the terminal.
    fn script(&self, words: Vec<String>) -> String {
        let mut all = vec![format!("/bin/{}", self.name)];
        all.extend(words);
        all.extend(self.words.iter().cloned());
        all.extend(self.reports.iter().map(|(option, _)| format!("--{option}=/root/{option}")));
        let words: Vec<_> = all.iter().map(|word| process::quoted(word)).collect();
        let mut script = format!(
            "export LOG_TAIL_BIN=/bin/log-tail LOG_TAIL_TEST_DIR=/ext4 RUST_BACKTRACE=1\n{}\ncode=$?\n",
            words.join(" ")
        );
        for (option, _) in &self.reports {
            script.extend(["echo '", MARK, " ", option, "'; cat /root/", option, "\n"]);
        }
        script + "exit $code\n"
    }
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
    use super::*;

    #[test]
    fn reports_come_after_what_is_for_the_terminal() {
        let file = PathBuf::from("/x");
        let words = vec!["--runs=3".into()];
        let program = Program { name: "torture", words, reports: vec![("json", &file)] };
        let script = program.script(vec!["--quiet=20".into()]);
        assert!(script.contains("/bin/torture --quiet=20 --runs=3 --json=/root/json\n"), "{script}");
        assert!(script.contains("echo '@report@ json'; cat /root/json\nexit $code\n"), "{script}");
    }

    #[test]
    fn reports_are_told_from_what_is_for_the_terminal() {
        let mut split = Split::default();
        let mut shown = Vec::new();
        for piece in ["a row\nano", "ther\n@rep", "ort@ json\n{\n}\n@report@ markdown\n|", "x|"] {
            shown.extend(split.take(piece.as_bytes()));
        }
        assert_eq!(shown, b"a row\nanother\n");
        let expected = [("json", "{\n}\n"), ("markdown", "|x|")];
        assert_eq!(split.finish(), expected.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
    }
}
