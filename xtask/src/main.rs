//! log-tail's chores, as `cargo xtask SUBCOMMAND`: a file a subcommand.

mod ebpf;
mod guest;
mod kernel;
mod process;
mod run;
mod static_build;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// log-tail's chores: run it, test it, boot it on other kernels, build its kernel program.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Chore {
    /// Build log-tail and run it, with sudo where its kernel program needs that.
    Run(run::Options),
    /// Build the kernel program's checked-in object, or check that it is up to date.
    BuildEbpf(ebpf::Options),
    /// Run a command as root on a Debian cloud kernel in QEMU.
    Vm(vm::Options),
}

fn main() -> ExitCode {
    if let Some(ended) = ebpf::compile::wrapper() {
        return ended;
    }
    let done = match Chore::parse() {
        Chore::Run(options) => run::run(&options),
        Chore::BuildEbpf(options) => ebpf::run(&options),
        Chore::Vm(options) => vm::run(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
