//! The workspace's programs, linked statically: they run on any kernel without a single library.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    process,
    workspace::{self, Executable},
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Everything that a guest takes along.
#[derive(Debug, Clone)]
pub struct Programs {
    pub log_tail: PathBuf,
    /// The end-to-end tests, an executable a file in `tests/`.
    pub tests: Vec<Executable>,
}

impl Programs {
    /// Where each goes in the guest.
    pub fn into_files(self) -> Vec<(String, PathBuf)> {
        let tests = self.tests.into_iter().map(|test| (format!("/tests/{}", test.name), test.path));
        std::iter::once(("/bin/log-tail".to_owned(), self.log_tail)).chain(tests).collect()
    }
}

/// Builds them all. They have a target directory of their own, so that no other build is undone.
pub fn all() -> Result<Programs> {
    let log_tail = log_tail()?;
    let mut tests =
        build(&["test", "--profile", "guest", "--package", "log-tail-tests", "--no-run", "--test", "*"])?;
    // Cargo also names the programs that the tests start, if there are any.
    tests.retain(|test| test.path.parent().is_some_and(|folder| folder.ends_with("deps")));
    tests.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Programs { log_tail, tests })
}

/// log-tail and one program of the tests' package: where each goes in a guest, and where it is here.
pub fn with(program: &str) -> Result<Vec<(String, PathBuf)>> {
    let log_tail = log_tail()?;
    let built = build(&["build", "--profile", "guest", "--package", "log-tail-tests", "--bin", program])?;
    let path = workspace::only(built, program)?;
    Ok(vec![("/bin/log-tail".to_owned(), log_tail), (format!("/bin/{program}"), path)])
}

/// What a guest needs to torture log-tail.
pub fn torture() -> Result<Vec<(String, PathBuf)>> {
    let mut files = with("torture")?;
    match process::find("logrotate") {
        Some(logrotate) => files.extend(with_libraries("/bin/logrotate", logrotate)?),
        None => eprintln!("xtask: the guest goes without logrotate; to have it: apt-get install logrotate"),
    }
    Ok(files)
}

/// A program of this machine, and the libraries it needs, where it looks for them.
fn with_libraries(to: &str, program: PathBuf) -> Result<Vec<(String, PathBuf)>> {
    let said = process::text(Command::new("ldd").arg(&program))?;
    // `libpopt.so.0 => /lib/libpopt.so.0 (0x7f..)`, `/lib64/ld-linux-x86-64.so.2 (0x7f..)`
    let libraries = said.split_whitespace().filter(|word| word.starts_with('/'));
    let libraries: Vec<_> = libraries.map(|path| (path.to_owned(), PathBuf::from(path))).collect();
    Ok(std::iter::once((to.to_owned(), program)).chain(libraries).collect())
}

fn log_tail() -> Result<PathBuf> {
    if !cfg!(target_arch = "x86_64") {
        bail!("guests are x86-64 machines, and building for them from another kind is not set up");
    }
    eprintln!("xtask: building static programs (target/static)");
    workspace::only(build(&["build", "--release", "--package", "log-tail", "--bin", "log-tail"])?, "log-tail")
}

fn build(arguments: &[&str]) -> Result<Vec<Executable>> {
    let (command, rest) = arguments.split_first().context("nothing to build")?;
    let target = workspace::target().join("static");
    let mut cargo = workspace::cargo();
    cargo
        .args([*command, "--quiet", "--target", TARGET, "--target-dir"])
        .arg(target)
        .args(rest)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        // They travel through the guest's memory on every boot.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    workspace::build(&mut cargo).context("could not build the static programs")
}
