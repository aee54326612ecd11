//! What is tortured: a follower of files that prints what is appended. A file a subject.
//!
//! A subject only says how it is started; starting, listening and stopping are the same for all.

mod descriptor;
mod fluent_bit;
mod log_tail;
mod named;
mod rsyslog;
mod tail;
mod vector;

pub use self::{
    descriptor::{Descriptor, Once},
    fluent_bit::FLUENT_BIT,
    log_tail::LogTail,
    named::Named,
    rsyslog::Rsyslog,
    tail::Tail,
    vector::VECTOR,
};

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

/// A program that follows files.
pub trait Subject {
    /// As the tables call it.
    fn name(&self) -> &'static str;

    /// The program with its version, for the record.
    fn version(&self) -> String;

    /// Why it cannot be run on this machine.
    fn lacks(&self) -> Option<String> {
        None
    }

    /// Whether it goes on after a restart where it stopped.
    fn keeps_state(&self) -> bool {
        false
    }

    /// Whether it is told of everything without inotify.
    fn needs_no_watches(&self) -> bool {
        false
    }

    /// The command that follows what is ordered, each file from its beginning, and prints to standard output.
    fn command(&self, order: &Order) -> Result<Command>;

    /// Whether this line on standard error says that it is following; `None` where it never says so.
    fn says_it_follows(&self, _line: &str) -> Option<bool> {
        None
    }

    /// Bytes that it says were lost to truncation, given what it wrote to standard error so far; `None`
    /// where it does not count them.
    fn counted_bytes(&self, _stderr: &[String]) -> Option<u64> {
        None
    }

    /// Whether what it counts must be what is lost, or may be less.
    fn counts_exactly(&self, _stderr: &[String]) -> bool {
        false
    }

    /// How often it has noticed that the kernel had no room for an event; `None` where it does not count that.
    fn overflows(&self, _stderr: &[String]) -> Option<u64> {
        None
    }

    /// What it says it follows through, given what it wrote to standard error so far.
    fn backend(&self, _stderr: &[String]) -> Option<String> {
        None
    }

    /// Whether its failures are ours.
    fn is_ours(&self) -> bool {
        false
    }
}

/// What a subject is to follow, and with what.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Names to follow.
    pub names: Vec<PathBuf>,
    /// One pattern for all of them, for subjects that know patterns.
    pub glob: Option<PathBuf>,
    /// A directory for the subject's own files.
    pub home: PathBuf,
    /// Whether to keep state there.
    pub with_state: bool,
    /// How long to read on a file that has lost its name, as `--rotate-wait` takes it.
    pub rotate_wait: Option<&'static str>,
    /// Whether the kernel is to have as little room for events as can be had.
    pub with_small_ring: bool,
    /// How many files it may have open.
    pub open_files: Option<u64>,
    /// How many inotify watches it may have.
    pub watches: Option<u64>,
}

impl Order {
    /// The pattern where there is one, else the names.
    fn patterns(&self) -> impl Iterator<Item = &Path> {
        let names = if self.glob.is_some() { &[][..] } else { &self.names };
        self.glob.iter().chain(names).map(PathBuf::as_path)
    }

    /// The command under the limits that are ordered. It keeps its process.
    pub fn limit(&self, command: Command) -> Command {
        let mut script = Vec::new();
        if let Some(watches) = self.watches {
            // A limit of the new user namespace alone.
            script.push(format!("echo {watches} >/proc/sys/user/max_inotify_watches"));
        }
        if let Some(files) = self.open_files {
            script.push(format!("ulimit -n {files}"));
        }
        if script.is_empty() {
            return command;
        }
        script.push("exec \"$@\"".to_owned());
        let own_namespace = ["unshare", "--user", "--map-root-user"].map(OsString::from);
        let shell = ["sh".into(), "-c".into(), script.join(" && ").into(), "sh".into()];
        let words = self.watches.into_iter().flat_map(|_| own_namespace.clone()).chain(shell);
        let program = [command.get_program().to_owned()];
        let mut words = words.chain(program).chain(command.get_args().map(OsString::from));
        let mut limited = Command::new(words.next().unwrap_or_default());
        limited.args(words);
        limited
    }
}

/// Where a program is, by `PATH` and the system's own folders.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// The first line that a program prints when asked.
fn first_line(program: impl AsRef<std::ffi::OsStr>, arg: &str) -> String {
    let output = Command::new(program).arg(arg).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let line = text.lines().next().unwrap_or("unknown version").trim();
    line.trim_end_matches(" compiled with:").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_limits_is_left_alone() {
        let mut command = Command::new("tail");
        command.arg("-F");
        assert_eq!(format!("{:?}", Order::default().limit(command)), r#""tail" "-F""#);
    }

    #[test]
    fn a_limited_command_has_its_own_words_last() {
        let order = Order { open_files: Some(256), ..Order::default() };
        let mut command = Command::new("tail");
        command.args(["-F", "a b"]);
        let output = order.limit(command);
        let words: Vec<_> = output.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words, ["-c", "ulimit -n 256 && exec \"$@\"", "sh", "tail", "-F", "a b"]);
    }
}
