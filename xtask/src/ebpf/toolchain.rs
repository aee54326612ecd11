//! The toolchain for the kernel program: which of those that can do it this machine has.
//!
//! The target `bpfel-unknown-none` has no ready-made `core`: the compiler must come with the library's
//! source, and must let us use unstable options.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

const INSTALL: &str = "\
install one of these two toolchains, and run this again:
  upstream's (any distribution):
    rustup toolchain install nightly --component rust-src
    cargo install bpf-linker@0.13.0 --locked
  Debian's (13 and later, 12 with security updates), built from Debian's own sources:
    apt-get install rustc-web rust-web-src llvm-22-dev
    LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker@0.13.0 --locked --no-default-features --features llvm-22";

/// The names and versions of all that shapes the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The first line of `rustc -vV`.
    pub rustc: String,
    pub llvm: String,
    pub linker: String,
}

/// A toolchain that can build the kernel program.
#[derive(Debug)]
pub struct Toolchain {
    kind: Kind,
    pub tools: Tools,
    /// The standard library's source, by every name that the compiler may call it.
    pub library: Vec<PathBuf>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// A nightly of rustup's, by its name there.
    Rustup(String),
    /// `/usr/bin/rustc`, told that it may use unstable options.
    System,
}

impl Toolchain {
    /// All that are here, upstream's first. An empty list comes as an error that says what to install.
    pub fn all() -> Result<Vec<Self>> {
        let Some(linker) = process::find("bpf-linker") else {
            bail!("bpf-linker is not installed: {INSTALL}");
        };
        let linker = process::text(Command::new(linker).arg("--version"))?.trim().to_owned();
        let mut kinds: Vec<_> = nightlies().into_iter().map(Kind::Rustup).collect();
        kinds.push(Kind::System);
        let found: Vec<_> = kinds.into_iter().filter_map(|kind| Self::of(kind, &linker)).collect();
        if found.is_empty() {
            bail!("no toolchain here can build the kernel program: {INSTALL}");
        }
        Ok(found)
    }

    fn of(kind: Kind, linker: &str) -> Option<Self> {
        if matches!(kind, Kind::System) && !Path::new("/usr/bin/rustc").is_file() {
            return None;
        }
        let sysroot = process::text(kind.rustc().args(["--print", "sysroot"])).ok()?;
        let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        if !library.join("library/core/src/lib.rs").is_file() {
            return None;
        }
        let targets = process::text(kind.rustc().args(["--print", "target-list"])).ok()?;
        if !targets.lines().any(|target| target == super::TARGET) {
            return None;
        }
        let version = process::text(kind.rustc().arg("-vV")).ok()?;
        let (rustc, llvm) = versions(&version)?;
        // Debian's is a symbolic link, and compilers follow it.
        let real = library.canonicalize().ok();
        let library = std::iter::once(library).chain(real).collect();
        Some(Self { kind, tools: Tools { rustc, llvm, linker: linker.to_owned() }, library })
    }

    /// A cargo that uses it.
    pub fn cargo(&self) -> Command {
        let mut cargo = match &self.kind {
            Kind::Rustup(name) => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", name, "cargo"]).env_remove("RUSTC");
                rustup
            }
            Kind::System => {
                let mut cargo = workspace::cargo();
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        };
        // What the cargo that runs us was told is not meant for this one.
        for variable in ["RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTC"] {
            cargo.env_remove(variable);
        }
        cargo
    }
}

impl Kind {
    fn rustc(&self) -> Command {
        match self {
            Self::Rustup(name) => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", name, "rustc"]);
                rustup
            }
            Self::System => Command::new("/usr/bin/rustc"),
        }
    }
}

/// Rustup's installed nightlies, the undated one first.
fn nightlies() -> Vec<String> {
    let list = process::text(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("nightly")).map(str::to_owned).collect();
    names.sort_by_key(|name| name.contains("-20"));
    names
}

/// The compiler's line and its LLVM, from what `rustc -vV` prints.
fn versions(text: &str) -> Option<(String, String)> {
    let llvm = text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    Some((text.lines().next()?.to_owned(), llvm.to_owned()))
}

/// The toolchain that a record names, or else the first.
pub fn preferred(mut all: Vec<Toolchain>, recorded: Option<&Tools>) -> Result<Toolchain> {
    let place = recorded.and_then(|tools| all.iter().position(|toolchain| toolchain.tools == *tools));
    if let Some(place) = place {
        return Ok(all.swap_remove(place));
    }
    all.into_iter().next().context("no toolchain to choose from")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_versions_are_found_in_what_it_prints() {
        let text =
            "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        let (rustc, llvm) = versions(text).unwrap();
        assert_eq!((rustc.as_str(), llvm.as_str()), ("rustc 1.96.0 (ac68faa20 2026-05-25)", "22.1.8"));
    }

    #[test]
    fn the_recorded_toolchain_is_preferred() {
        let named = |name: &str| Tools { rustc: name.into(), llvm: "22".into(), linker: "0.13".into() };
        let all = || {
            let each = ["one", "two"].map(named);
            each.map(|tools| Toolchain { kind: Kind::System, tools, library: Vec::new() }).into()
        };
        assert_eq!(preferred(all(), Some(&named("two"))).unwrap().tools.rustc, "two");
        assert_eq!(preferred(all(), Some(&named("three"))).unwrap().tools.rustc, "one");
        assert_eq!(preferred(all(), None).unwrap().tools.rustc, "one");
    }
}
