//! `cargo xtask test`: everything that must hold, on whatever machine this is.
//!
//! It installs what the tests need where it may, runs each step whatever became of the others, and
//! ends with the line `N passed, N failed, N skipped`. What this machine cannot do is skipped by name,
//! with how to enable it.

mod report;

use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf::{self, Rebuilt},
    packages, process,
    program::Program,
    static_build, vm, vm_test, workspace,
};
use report::{Report, Step};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Leave out the kernel matrix.
    #[arg(long)]
    quick: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let lacking =
        if options.quick { None } else { packages::set_up(&vm_test::DISKS, &packages::of_tests()).err() };
    let mut report = Report::default();
    report.step("format", || {
        // The kernel program is a workspace of its own.
        let kernel_program = ["--manifest-path", "log-tail-ebpf/Cargo.toml", "--check"];
        let install = "rustup component add rustfmt";
        match cargo_tool("fmt", install, &["--all", "--check"])? {
            Step::Passed => cargo_tool("fmt", install, &kernel_program),
            skipped @ Step::Skipped { .. } => Ok(skipped),
        }
    });
    report.step("clippy", || {
        let strict = ["--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        cargo_tool("clippy", "rustup component add clippy", &strict)
    });
    report.step("fuzz targets compile", fuzz_targets);
    report.step("unit tests", unit_tests);
    report.step("end-to-end tests on this machine", end_to_end);
    report.step("counts: what does not depend on the machine's speed", counts);
    report.step("kernel program: made from its sources", || ebpf::check_sources().map(|()| Step::Passed));
    report.step("kernel program: comes out the same", kernel_program);
    report.step("dependencies: cargo deny", || {
        let checks = ["check", "bans", "licenses", "sources"];
        cargo_tool("deny", "cargo install cargo-deny --locked", &checks)
    });
    report.step("dependencies: cargo machete", || {
        cargo_tool("machete", "cargo install cargo-machete --locked", &[])
    });
    kernel_matrix(&mut report, options.quick, lacking)?;
    print!("{report}");
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a cargo subcommand that may not be installed.
fn cargo_tool(tool: &str, install: &str, arguments: &[&str]) -> Result<Step> {
    let mut probe = workspace::cargo();
    let there = probe.args([tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.context("could not start cargo")?.success() {
        return Ok(Step::Skipped { why: "not installed".into(), enable: install.into() });
    }
    process::run(workspace::cargo().arg(tool).args(arguments))?;
    Ok(Step::Passed)
}

/// They are a workspace of their own. Run they are not: libFuzzer needs a nightly, and the unit tests hand the same
/// functions seeded bytes.
fn fuzz_targets() -> Result<Step> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "check",
        "--quiet",
        "--locked",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target-dir",
        "target",
    ]);
    // Nothing is linked, so libFuzzer itself need not be built.
    process::run(cargo.env("CUSTOM_LIBFUZZER_PATH", "target/none"))?;
    Ok(Step::Passed)
}

fn unit_tests() -> Result<Step> {
    for kinds in [&["--lib", "--bins"][..], &["--doc"]] {
        let mut cargo = workspace::cargo();
        cargo.args(["test", "--quiet", "--workspace", "--exclude", "log-tail-tests"]).args(kinds);
        process::run(&mut cargo)?;
    }
    Ok(Step::Passed)
}

fn end_to_end() -> Result<Step> {
    let program = workspace::build_release("log-tail")?;
    let mut cargo = workspace::cargo();
    cargo
        .args(["test", "--quiet", "--no-fail-fast", "--package", "log-tail-tests"])
        .env("LOG_TAIL_BIN", program);
    process::run(&mut cargo)?;
    Ok(Step::Passed)
}

fn counts() -> Result<Step> {
    let missing: Vec<&str> =
        packages::COUNTERS.into_iter().filter(|it| process::find(it).is_none()).collect();
    if !missing.is_empty() {
        let enable = format!("apt-get install {}", missing.join(" "));
        return Ok(Step::Skipped { why: "not installed".into(), enable });
    }
    let words = ["--quick", "--only=counts"].map(str::to_owned).to_vec();
    if (Program { name: "bench", words, reports: Vec::new() }).run_here()? != ExitCode::SUCCESS {
        bail!("more than what is checked in: see above");
    }
    Ok(Step::Passed)
}

fn kernel_program() -> Result<Step> {
    Ok(match ebpf::check_bytes()? {
        Rebuilt::Same => Step::Passed,
        Rebuilt::NotTried(why) => Step::Skipped {
            why: "the toolchain that made the object is not here".into(),
            enable: format!("{why:#}"),
        },
    })
}

/// A step for each kernel, so that the report says which one failed.
fn kernel_matrix(report: &mut Report, quick: bool, lacking: Option<anyhow::Error>) -> Result<()> {
    let reason = match lacking {
        _ if quick => Some(("left out by --quick", "run `cargo xtask test`".to_owned())),
        lacking => lacking.map(|error| ("not set up", format!("{error:#}"))),
    };
    if let Some((why, enable)) = reason {
        report.step("kernel matrix", || Ok(Step::Skipped { why: why.into(), enable }));
        return Ok(());
    }
    let mut programs = None;
    report.step("static programs for the kernel matrix", || {
        programs = Some(static_build::all()?);
        Ok(Step::Passed)
    });
    // Without programs there is nothing to boot a kernel for, and the step above has failed already.
    let Some(programs) = programs else { return Ok(()) };
    let kernels = vm_test::tested()?;
    println!("\n==> kernels {}", kernels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    let tested = vm_test::on_each(&kernels, &vm::MachineOptions::default(), &programs, None);
    for (series, tested) in kernels.iter().zip(tested) {
        report.step(&format!("kernel {series}"), || {
            tested.print_failures();
            println!("{}", vm_test::Row::HEADER);
            for row in &tested.rows {
                println!("{row}");
            }
            if !tested.passed() {
                bail!("the end-to-end tests do not pass on kernel {series}");
            }
            Ok(Step::Passed)
        });
    }
    Ok(())
}
