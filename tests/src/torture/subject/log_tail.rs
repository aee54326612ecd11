//! log-tail itself.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{Order, Subject, first_line};
use crate::metrics::Scrape;

/// A `log-tail` and the backend that it is to use.
#[derive(Debug)]
pub struct LogTail {
    program: PathBuf,
    backend: &'static str,
    help: String,
}

/// The series that counts what truncation took.
const LOST_TO_TRUNCATION: &str = "log_tail_lost_bytes_total{reason=\"truncated\"}";

impl LogTail {
    /// `backend` as `--backend` takes it. The program is `LOG_TAIL_BIN`, else the one beside this executable.
    ///
    /// # Errors
    /// Where there is none, with what to do.
    pub fn new(backend: &'static str) -> Result<Self> {
        let program = match std::env::var_os("LOG_TAIL_BIN") {
            Some(program) => PathBuf::from(program),
            None => std::env::current_exe().context("where am I?")?.with_file_name("log-tail"),
        };
        ensure!(
            program.is_file(),
            "there is no {}: run `cargo build --release -p log-tail` first, or say with LOG_TAIL_BIN which \
             log-tail to torture",
            program.display()
        );
        Self::at(program, backend)
    }

    /// Another copy of the program.
    ///
    /// # Errors
    /// Where it does not print its help.
    pub fn at(program: PathBuf, backend: &'static str) -> Result<Self> {
        let output = Command::new(&program).arg("--help").output();
        let output = output.with_context(|| format!("starting {}", program.display()))?;
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Self { program, backend, help })
    }

    fn scrape(stderr: &[String]) -> Option<Scrape> {
        // After a restart the last one is the one that answers.
        let address = |line: &String| {
            line.strip_prefix("log-tail: metrics at http://")?.strip_suffix("/metrics")?.parse().ok()
        };
        Some(Scrape::of(stderr.iter().rev().find_map(address)?))
    }
}

impl Subject for LogTail {
    fn name(&self) -> &'static str {
        "log-tail"
    }

    fn version(&self) -> String {
        first_line(&self.program, "--version")
    }

    fn keeps_state(&self) -> bool {
        self.help.contains("--state-dir")
    }

    fn needs_no_watches(&self) -> bool {
        self.backend == "ebpf"
    }

    fn command(&self, order: &Order) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(["-q", "-n", "+1", "--metrics", "127.0.0.1:0", "--backend", self.backend]);
        if let Some(wait) = order.rotate_wait {
            command.args(["--rotate-wait", wait]);
        }
        if order.with_small_ring {
            command.args(["--ring-bytes", "4096"]);
        }
        if order.with_state {
            command.arg("--state-dir").arg(order.home.join("state"));
        }
        command.arg("--").args(order.patterns());
        Ok(command)
    }

    fn says_it_follows(&self, line: &str) -> Option<bool> {
        Some(line.starts_with("log-tail: following "))
    }

    fn counted_bytes(&self, stderr: &[String]) -> Option<u64> {
        let scrape = Self::scrape(stderr)?;
        scrape.find(LOST_TO_TRUNCATION).map(|_| scrape.get(LOST_TO_TRUNCATION))
    }

    fn counts_exactly(&self, stderr: &[String]) -> bool {
        self.backend(stderr).as_deref() == Some("ebpf")
    }

    fn overflows(&self, stderr: &[String]) -> Option<u64> {
        Some(Self::scrape(stderr)?.get("log_tail_hints_total{kind=\"overflow\"}"))
    }

    fn backend(&self, stderr: &[String]) -> Option<String> {
        let word =
            |line: &String| Some(line.split_once("(backend: ")?.1.split([';', ')']).next()?.to_owned());
        stderr.iter().find_map(word)
    }

    fn is_ours(&self) -> bool {
        true
    }
}
