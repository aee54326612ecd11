//! `cargo xtask run`: builds log-tail and becomes it, as root where the kernel program needs that.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use nix::unistd::geteuid;

use crate::{process, workspace};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// log-tail's own options and arguments: files, --backend, doctor, --help after `--`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Returns only where the program could not be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { args } = options;
    let program = workspace::build_release("log-tail")?;
    let sudo = process::find("sudo");
    let mut command = match privilege(geteuid().is_root(), sudo.is_some(), args) {
        Privilege::AsWeAre => Command::new(&program),
        Privilege::Missing => {
            eprintln!("xtask: not root and there is no sudo: log-tail will fall back to inotify");
            Command::new(&program)
        }
        Privilege::Sudo => {
            eprintln!(
                "xtask: running with sudo, because loading an eBPF program needs root (--backend inotify does not)"
            );
            let mut sudo = Command::new(sudo.unwrap_or_else(|| "sudo".into()));
            sudo.arg("--").arg(&program);
            sudo
        }
    };
    let error = command.args(args).exec();
    Err(error).with_context(|| format!("could not start {}", process::shown(&command)))
}

#[derive(Debug, PartialEq, Eq)]
enum Privilege {
    /// Root already, or nothing that root is needed for.
    AsWeAre,
    Sudo,
    /// Wanted, and no way to get it.
    Missing,
}

fn privilege(root: bool, sudo: bool, args: &[OsString]) -> Privilege {
    if root || !wants_ebpf(args) {
        Privilege::AsWeAre
    } else if sudo {
        Privilege::Sudo
    } else {
        Privilege::Missing
    }
}

/// Whether these arguments let log-tail use its kernel program.
fn wants_ebpf(args: &[OsString]) -> bool {
    let mut previous = OsStr::new("");
    for arg in args {
        if arg == "--backend=inotify" || (previous == "--backend" && arg == "inotify") {
            return false;
        }
        if ["--help", "-h", "--version", "-V"].iter().any(|asking| arg == asking) {
            return false;
        }
        if arg == "--" {
            break;
        }
        previous = arg;
    }
    !args.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn sudo_is_used_only_where_ebpf_is_wanted() {
        for line in ["/var/log/x", "--backend ebpf x", "--backend auto x", "doctor", "-- --backend=inotify"] {
            assert_eq!(privilege(false, true, &args(line)), Privilege::Sudo, "{line}");
            assert_eq!(privilege(false, false, &args(line)), Privilege::Missing, "{line}");
            assert_eq!(privilege(true, true, &args(line)), Privilege::AsWeAre, "{line}");
        }
        for line in ["", "--backend inotify x", "x --backend=inotify", "--help", "-V"] {
            assert_eq!(privilege(false, true, &args(line)), Privilege::AsWeAre, "{line}");
        }
    }
}
