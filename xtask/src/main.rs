//! log-tail's chores, as `cargo xtask SUBCOMMAND`: a file a subcommand.

mod bench;
mod coverage;
mod ebpf;
mod guest;
mod kernel;
mod packages;
mod process;
mod program;
mod run;
mod static_build;
mod test;
mod torture;
mod vm;
mod vm_test;
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
    /// Measure log-tail, case beside case.
    Bench(bench::Options),
    /// Do everything that can be done to a followed file, on every kernel and filesystem, and write what came of it to
    /// docs/coverage.md.
    Coverage(coverage::Options),
    /// Run all tests, after setting up what they need.
    Test(test::Options),
    /// Rotate, truncate and remove logs under log-tail, and count what becomes of every line.
    Torture(torture::Options),
    /// Run a command as root on a Debian cloud kernel in QEMU.
    Vm(vm::Options),
    /// Run the end-to-end tests with eBPF on every kernel that log-tail is tested on.
    VmTest(vm_test::Options),
}

fn main() -> ExitCode {
    if let Some(ended) = ebpf::compile::wrapper() {
        return ended;
    }
    let done = match Chore::parse() {
        Chore::Run(options) => run::run(&options),
        Chore::BuildEbpf(options) => ebpf::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Coverage(options) => coverage::run(&options),
        Chore::Test(options) => test::run(&options),
        Chore::Torture(options) => torture::run(&options),
        Chore::Vm(options) => vm::run(&options),
        Chore::VmTest(options) => vm_test::run(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
