//! `cargo xtask bench`: measures log-tail, case beside case: on this machine, or on a kernel of one's choice.
//!
//! The program that does it is `bench` of the tests' package. What it is told is passed on as it is; it says itself
//! what is wrong with it. A guest is emulated: only ratios within one mean anything.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    program::{Program, ProgramOptions},
    static_build, workspace,
};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this benchmark; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Less of everything, in under two minutes.
    #[arg(long)]
    quick: bool,

    /// Write a page with tables and plots to this file [default: target/bench/report.html].
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    #[command(flatten)]
    program: ProgramOptions,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { only, quick, html, program } = options;
    let mut words = program.words();
    words.extend(only.iter().map(|name| format!("--only={name}")));
    words.extend(quick.then(|| "--quick".to_owned()));
    let mut bench = Program::new("bench", words, program);
    let reports = workspace::root().join("target/bench");
    let (default_html, default_json) = (reports.join("report.html"), reports.join("report.json"));
    if !program.list {
        std::fs::create_dir_all(&reports).with_context(|| format!("making {}", reports.display()))?;
        bench.reports.push(("html", html.as_ref().unwrap_or(&default_html)));
        if program.json.is_none() {
            bench.reports.push(("json", &default_json));
        }
    }
    match &program.vm {
        Some(kernel) => {
            bench.run_in_guest(kernel, &program.machine, static_build::with("bench")?, Vec::new())
        }
        None => bench.run_here(),
    }
}
