//! `cargo xtask bench`: measures log-tail, case beside case: on this machine, or on a kernel of one's choice.
//!
//! The program that does it is `bench` of the tests' package. What it is told is passed on as it is; it says itself
//! what is wrong with it. A guest is emulated: only ratios within one mean anything.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{kernel::Series, program::Program, static_build, vm::MachineOptions};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this benchmark; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Measure every case so many times.
    #[arg(long, value_name = "N")]
    runs: Option<String>,

    /// Write the figures to this file as json.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the figures to this file as markdown tables.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// List the benchmarks.
    #[arg(long)]
    list: bool,

    /// On this kernel, in QEMU: 5.10, 6.1, 6.12, 6.18, 7.
    #[arg(long, value_name = "KERNEL")]
    vm: Option<Series>,

    #[command(flatten)]
    machine: MachineOptions,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { only, runs, json, markdown, list, vm, machine } = options;
    let mut words: Vec<String> = runs.iter().map(|runs| format!("--runs={runs}")).collect();
    words.extend(only.iter().map(|name| format!("--only={name}")));
    words.extend(list.then(|| "--list".to_owned()));
    let bench = Program::new("bench", words, [("json", json), ("markdown", markdown)]);
    match vm {
        Some(kernel) => bench.run_in_guest(kernel, machine, static_build::with("bench")?, Vec::new()),
        None => bench.run_here(),
    }
}
