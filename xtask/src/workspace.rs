//! Where things are: the workspace, its target directory, the cache, and the cargo that runs us.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;

/// The folder that holds the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    // Cargo sets it when it runs us; the compiled-in one serves whoever starts the binary by hand.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Where kernels are kept between runs: `$LOG_TAIL_CACHE`, else `log-tail` in the user's cache folder.
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = set("LOG_TAIL_CACHE") {
        return Ok(folder);
    }
    if let Some(folder) = set("XDG_CACHE_HOME") {
        return Ok(folder.join("log-tail"));
    }
    let home =
        set("HOME").context("neither LOG_TAIL_CACHE nor HOME is set: where should kernels be kept?")?;
    Ok(home.join(".cache/log-tail"))
}

fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The cargo that runs us, started in the workspace's root.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// An executable that cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// The name of its target, without the hash that test executables carry in their file names.
    pub name: String,
    pub path: PathBuf,
}

/// Builds with `command` (a `cargo build` or `cargo test --no-run`) and lists the executables it made.
/// What the compiler says goes to standard error as usual.
pub fn build(command: &mut Command) -> Result<Vec<Executable>> {
    command.arg("--message-format=json-render-diagnostics").stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("could not start {}", process::shown(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", process::shown(command), output.status);
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// Builds one of the workspace's programs in release mode.
pub fn build_release(package: &str) -> Result<PathBuf> {
    let built =
        build(cargo().args(["build", "--quiet", "--release", "--package", package, "--bin", package]))?;
    only(built, package)
}

/// The executable of that name.
pub fn only(built: Vec<Executable>, name: &str) -> Result<PathBuf> {
    let found = built.into_iter().find(|executable| executable.name == name);
    Ok(found.with_context(|| format!("cargo built no executable named {name}"))?.path)
}

fn executables(messages: &str) -> Vec<Executable> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            let path = message["executable"].as_str()?.into();
            let name = message["target"]["name"].as_str()?.to_owned();
            Some(Executable { name, path })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"aya","kind":["lib"]},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"follow","kind":["test"]},"executable":"/t/follow-1f"}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found, [Executable { name: "follow".into(), path: "/t/follow-1f".into() }]);
        assert!(only(found, "other").is_err());
    }
}
