//! `cargo xtask bench`: measures log-tail, case beside case: on this machine, or on a kernel of one's choice.
//!
//! The program that does it is `bench` of the tests' package. What it is told is passed on as it is; it says itself
//! what is wrong with it. A guest is emulated: only ratios within one mean anything.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    program::{Program, ProgramOptions},
    static_build,
};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this benchmark; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    #[command(flatten)]
    program: ProgramOptions,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { only, program } = options;
    let mut words = program.words();
    words.extend(only.iter().map(|name| format!("--only={name}")));
    let bench = Program::new("bench", words, program);
    match &program.vm {
        Some(kernel) => {
            bench.run_in_guest(kernel, &program.machine, static_build::with("bench")?, Vec::new())
        }
        None => bench.run_here(),
    }
}
