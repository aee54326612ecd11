//! The packages that booting kernels and counting need: which are missing here, and installing them.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::{guest, guest::Filesystem, kernel, process};

const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(15);

/// The programs that count what log-tail does.
pub const COUNTERS: [&str; 2] = ["strace", "valgrind"];
/// The programs that rotate and compress logs under it.
const ROTATORS: [&str; 3] = ["logrotate", "zstd", "bzip2"];

/// The programs that the tests start.
pub fn of_tests() -> Vec<&'static str> {
    [&COUNTERS[..], &ROTATORS].concat()
}

/// Installs what is missing, also to make these filesystems, and these programs, each in a package of its name; or says
/// what could not be installed and how to do it.
pub fn set_up(filesystems: &[Filesystem], programs: &[&'static str]) -> Result<()> {
    let missing = missing(filesystems, programs);
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install {}", missing.join(" "));
    if process::find("apt-get").is_none() {
        bail!("install {} (this machine has no apt-get, so they may have other names)", missing.join(", "));
    }
    let Some(prefix) = as_root() else {
        bail!("run `sudo {command}` (from here, sudo would ask for a password)");
    };
    eprintln!("xtask: installing {}", missing.join(", "));
    for attempt in 1..=ATTEMPTS {
        let installed = apt(prefix, &["update"]).and_then(|()| {
            let options = ["install", "--yes", "--no-install-recommends"];
            apt(prefix, &[&options[..], &missing].concat())
        });
        match installed {
            Ok(()) => break,
            Err(error) if attempt == ATTEMPTS => bail!("run `{command}`, which failed here: {error:#}"),
            Err(error) => eprintln!("xtask: {error:#}\nxtask: trying again in {} s", PAUSE.as_secs()),
        }
        thread::sleep(PAUSE);
    }
    match self::missing(filesystems, programs)[..] {
        [] => Ok(()),
        ref still => bail!("installing {} did not bring what is needed", still.join(", ")),
    }
}

/// Judged by what is there and not by what is installed: where it comes from does not matter.
fn missing(filesystems: &[Filesystem], programs: &[&'static str]) -> Vec<&'static str> {
    let there = |program| process::find(program).is_some();
    let needs = [
        (there("qemu-system-x86_64"), "qemu-system-x86"),
        (guest::static_busybox().is_ok(), "busybox-static"),
        (there("mke2fs"), "e2fsprogs"),
        (there("xz"), "xz-utils"),
        (static_libc(), "libc6-dev"),
        (kernel::mirror::keyring().is_ok(), "debian-archive-keyring"),
        (kernel::mirror::mirror().is_ok(), "debootstrap"),
    ];
    let makers = filesystems.iter().map(|filesystem| filesystem.needs());
    let programs = programs.iter().map(|program| (*program, *program));
    let named = makers.chain(programs).map(|(program, package)| (there(program), package));
    let needs = needs.into_iter().chain(named);
    needs.filter(|(there, _)| !there).map(|(_, package)| package).collect()
}

fn static_libc() -> bool {
    // The compiler answers with the bare name where it knows no such file.
    let answer = process::text(Command::new("cc").arg("-print-file-name=libc.a"));
    answer.is_ok_and(|answer| Path::new(answer.trim()).is_absolute())
}

/// What to put before a command so that it runs as root; `None` where nothing does without asking.
fn as_root() -> Option<&'static [&'static str]> {
    if geteuid().is_root() {
        Some(&[])
    } else if works(Command::new("sudo").args(["-n", "true"])) {
        Some(&["sudo", "-n"])
    } else {
        None
    }
}

fn apt(prefix: &[&str], arguments: &[&str]) -> Result<()> {
    // `env`, because sudo does not pass our variables on.
    let start = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"];
    let options = ["-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=300"];
    let words: Vec<_> = [prefix, &start, &options, arguments].concat();
    process::output(Command::new(words[0]).args(&words[1..])).map(|_| ())
}

/// Whether this can be run at all; what it prints is thrown away.
fn works(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
