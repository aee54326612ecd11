//! `cargo xtask vm`: runs a command as root on a kernel of one's choice.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    guest::{Filesystem, Guest, Stream},
    kernel::{Kernel, Series},
    packages, process, static_build,
};

/// Ends with the command's status, or 125 where the guest was lost.
pub const LOST: u8 = 125;
static FETCH: Mutex<()> = Mutex::new(());

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Kernel version: 5.10, 6.1, 6.12, 6.18, 7 (the newest there is), or a longer one.
    #[arg(long, default_value = "6.12")]
    kernel: Series,

    #[command(flatten)]
    machine: MachineOptions,

    /// Kernel modules to load, with what they need.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    modules: Vec<String>,

    /// Filesystems besides ext4, each on a disk of its own mounted on /NAME.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    filesystems: Vec<Filesystem>,

    /// A file of this machine to take along, to the same path or the given one. Must be static.
    #[arg(long, value_name = "FILE[:PATH]")]
    add: Vec<String>,

    /// An environment variable for the command.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Take only busybox along, and build nothing.
    #[arg(long)]
    bare: bool,

    /// One word is a line for the guest's shell, several are a program and its arguments.
    /// The workspace's program is `log-tail`, its end-to-end tests are in /tests.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What all guests have in common.
#[derive(Debug, Clone, clap::Args)]
pub struct MachineOptions {
    /// Seconds from starting the machine to the command's end.
    #[arg(long, default_value_t = MachineOptions::default().timeout, value_name = "SECONDS")]
    pub timeout: u64,

    /// Memory of the machine.
    #[arg(long, default_value_t = MachineOptions::default().memory, value_name = "MIB")]
    pub memory: u32,

    /// QEMU's accelerator: tcg works everywhere, tcg-parallel runs the guest's processors at once, kvm is
    /// faster where it is allowed.
    #[arg(long, default_value_t = MachineOptions::default().accel, value_name = "NAME")]
    pub accel: String,

    /// Fetch a newer kernel than the cached one if Debian has one.
    #[arg(long)]
    pub refresh: bool,

    /// Show the kernel's console on standard error.
    #[arg(long)]
    pub console: bool,
}

/// What a guest takes along.
#[derive(Debug, Default)]
pub struct Needs {
    /// Programs of the host: their place in the guest and here.
    pub files: Vec<(String, PathBuf)>,
    pub modules: Vec<String>,
    /// Besides ext4.
    pub filesystems: Vec<Filesystem>,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self { timeout: 1800, memory: 1536, accel: "tcg".into(), refresh: false, console: false }
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { kernel, machine, modules, filesystems, add, env, bare, command } = options;
    let mut files = if *bare { Vec::new() } else { static_build::all()?.into_files() };
    for file in add {
        let (from, to) = file.split_once(':').unwrap_or((file, file));
        files.push((to.to_owned(), PathBuf::from(from)));
    }
    let needs = Needs { files, modules: modules.clone(), filesystems: filesystems.clone() };
    let guest = machine.guest(kernel, needs, script(env, command))?;
    let outcome = guest.boot(&mut pass_on).with_context(|| format!("kernel {}", guest.kernel.release))?;
    let seconds = machine.timeout;
    match outcome.status() {
        Ok(status) => Ok(ExitCode::from(status)),
        Err(error) => {
            eprintln!("xtask: kernel {}, limit {seconds} s: {error:#}", guest.kernel.release);
            Ok(ExitCode::from(LOST))
        }
    }
}

impl MachineOptions {
    /// A guest on that kernel, which is fetched if it has to be.
    pub fn guest(&self, kernel: &Series, needs: Needs, script: String) -> Result<Guest> {
        let Self { timeout, memory, accel, refresh, console } = self;
        let Needs { files, modules, filesystems } = needs;
        // Packages and kernels are fetched one after the other.
        let _turn = FETCH.lock().unwrap_or_else(PoisonError::into_inner);
        packages::set_up(&filesystems, &[])
            .context("something that booting a kernel needs is missing here")?;
        Ok(Guest {
            kernel: Kernel::obtain(kernel, *refresh)?,
            script,
            files,
            modules,
            filesystems,
            memory_mib: *memory,
            accelerator: accel.clone(),
            limit: Duration::from_secs(*timeout),
            show_console: *console,
        })
    }
}

fn script(env: &[String], command: &[String]) -> String {
    let mut script = String::new();
    for pair in env {
        script.extend(["export ", &process::quoted(pair), "\n"]);
    }
    match command {
        [line] => script.push_str(line),
        words => {
            let quoted: Vec<_> = words.iter().map(|word| process::quoted(word)).collect();
            script.push_str(&quoted.join(" "));
        }
    }
    script + "\n"
}

fn pass_on(stream: Stream, bytes: &[u8]) -> Result<()> {
    let written = match stream {
        Stream::Stdout => io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()),
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    };
    written.context("could not pass on the command's output")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn one_word_is_a_shell_line_and_several_are_a_program_with_its_arguments() {
        assert_eq!(script(&[], &words(&["echo a; exit 7"])), "echo a; exit 7\n");
        assert_eq!(script(&[], &words(&["echo", "a b", "$c"])), "echo 'a b' '$c'\n");
    }

    #[test]
    fn variables_are_set_for_the_whole_command() {
        assert_eq!(script(&words(&["A=x y"]), &words(&["true"])), "export 'A=x y'\ntrue\n");
    }
}
