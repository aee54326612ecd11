//! The real `log-tail`, started, listened to and ended.

mod heard;
mod listen;
mod running;
mod stopped;

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, ErrorKind},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use nix::sys::resource::{Resource, setrlimit};
use serde_json::Value;

use self::heard::{Heard, Inner};
pub use self::{
    listen::listen,
    running::{Finished, Running},
};
use crate::{
    account::Account,
    backend::{Backend, wanted_backend},
    state::StateDir,
};

/// How often the following tests sweep. Longer than the second that log-tail gives a hint before it calls it missed.
const SWEEP: &str = "1200ms";

/// A `log-tail` that is about to be started.
#[derive(Debug)]
pub struct LogTail {
    command: Command,
    account: Option<Account>,
    /// What it must follow through, where that is known.
    backend: Option<Backend>,
    is_listened_to: bool,
    has_metrics: bool,
}

/// The `log-tail` to test.
///
/// # Panics
/// Where there is none, with what to do.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("LOG_TAIL_BIN") {
        return path.into();
    }
    // target/debug/deps/TEST
    let here = std::env::current_exe().expect("a path");
    let path = here.ancestors().nth(2).map(|dir| dir.join("log-tail")).expect("a path with directories");
    assert!(
        path.is_file(),
        "there is no {}: run `cargo build` first, or say with LOG_TAIL_BIN which log-tail to test",
        path.display()
    );
    path
}

/// The records of json output, but for one that is not whole yet.
///
/// # Panics
/// Where a line is no json document.
#[must_use]
pub fn records(stdout: &[u8]) -> Vec<Value> {
    let lines = stdout.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    lines.map(|line| serde_json::from_slice(line).expect("a line is a json document")).collect()
}

impl LogTail {
    /// With nothing said but what the caller says.
    #[must_use]
    pub fn bare() -> Self {
        Self::bare_at(&binary())
    }

    /// Another copy of the binary.
    #[must_use]
    pub fn bare_at(binary: &Path) -> Self {
        let mut command = Command::new(binary);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, account: None, backend: None, is_listened_to: true, has_metrics: false }
    }

    /// With the backend that the tests are about.
    #[must_use]
    pub fn plain() -> Self {
        let backend = wanted_backend();
        let tail = match backend {
            // Not asked for: that log-tail chooses it itself where it is to be had is part of the test.
            None | Some(Backend::Ebpf) => Self::bare(),
            Some(backend) => Self::bare().args(["--backend", backend.word()]),
        };
        Self { backend, ..tail }
    }

    /// For what no backend has a part in: the one that starts fastest.
    #[must_use]
    pub fn quick() -> Self {
        Self::bare().args(["--backend", "inotify"])
    }

    /// As [`Self::plain`], with metrics: [`Running::finish`] then asserts that no hint was missed.
    #[must_use]
    pub fn new() -> Self {
        Self::plain().with_metrics().args(["--sweep", SWEEP])
    }

    /// As [`Self::new`], but nothing is ever found by a sweep: what comes out was hinted at.
    #[must_use]
    pub fn without_sweep() -> Self {
        Self::plain().with_metrics().args(["--sweep", "1h"])
    }

    /// With this backend.
    #[must_use]
    pub fn through(backend: Backend) -> Self {
        Self { backend: Some(backend), ..Self::bare().args(["--backend", backend.word()]) }
    }

    /// With metrics, wherever there is a port for them.
    #[must_use]
    pub fn with_metrics(mut self) -> Self {
        self.has_metrics = true;
        self.args(["--metrics", "127.0.0.1:0"])
    }

    /// An argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Started by another command, which is given log-tail and its arguments as arguments.
    #[must_use]
    pub fn within(mut self, command: &[&str]) -> Self {
        let mut outer = Command::new(command[0]);
        outer.args(&command[1..]).arg(self.command.get_program()).args(self.command.get_args());
        outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = outer;
        self
    }

    /// Run in this directory, for names that are not absolute.
    #[must_use]
    pub fn in_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Counts the lines that come out on the fly, and does not keep them.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.account = Some(Account::default());
        self
    }

    /// As [`Self::counted`], going on from what was counted before: in an earlier run.
    #[must_use]
    pub fn counted_on(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// With this state directory.
    #[must_use]
    pub fn keeping(self, state: &StateDir) -> Self {
        self.arg("--state-dir").arg(state.path())
    }

    /// Leaves standard output to the caller: see [`Running::take_stdout`].
    #[must_use]
    pub fn unheard(mut self) -> Self {
        self.is_listened_to = false;
        self
    }

    /// With its standard output going nowhere: it is not this process that takes the time to hear it.
    #[must_use]
    pub fn into_nothing(mut self) -> Self {
        self.command.stdout(Stdio::null());
        self
    }

    /// With no more than so many open files.
    #[must_use]
    pub fn with_open_files(mut self, limit: u64) -> Self {
        let restrict = move || {
            setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?;
            Ok(())
        };
        // SAFETY: between fork and exec, setrlimit(2) alone is called: it takes no lock and no memory.
        unsafe { self.command.pre_exec(restrict) };
        self
    }

    /// As the user nobody. The tests must run as root.
    #[must_use]
    pub fn as_nobody(mut self) -> Self {
        self.command.uid(65534).gid(65534);
        self
    }

    /// Starts it, and waits until it says that it is following.
    ///
    /// # Panics
    /// Where it does not, or follows through another backend than the one wanted.
    #[must_use]
    pub fn follow(self) -> Running {
        let backend = self.backend;
        let mut running = self.start();
        running.wait_for_stderr("the line that says what is followed", |lines| {
            lines.iter().any(|line| Following::of(line).is_some())
        });
        running.following = running.stderr().iter().find_map(|line| Following::of(line));
        if let Some(backend) = backend {
            assert_eq!(running.following().backend, backend, "stderr: {:#?}", running.stderr());
        }
        if running.has_metrics {
            let address = |line: &String| {
                line.strip_prefix("log-tail: metrics at http://")?.strip_suffix("/metrics")?.parse().ok()
            };
            running.metrics = running.stderr().iter().find_map(address);
            assert!(running.metrics.is_some(), "stderr: {:#?}", running.stderr());
        }
        running
    }

    /// Starts it, and waits until it has ended.
    #[must_use]
    pub fn run(self) -> Finished {
        self.start().wait()
    }

    /// Starts it.
    ///
    /// # Panics
    /// Where the system does not.
    #[must_use]
    pub fn start(mut self) -> Running {
        let mut spawned = self.command.spawn();
        // A program copied a moment ago: a child that another test starts at the same time may still hold
        // the copy open for writing, until it becomes another program itself.
        while spawned.as_ref().is_err_and(|error| error.kind() == ErrorKind::ExecutableFileBusy) {
            std::thread::sleep(Duration::from_millis(5));
            spawned = self.command.spawn();
        }
        let program = self.command.get_program().display();
        let mut child = spawned.unwrap_or_else(|error| panic!("starting {program}: {error}"));
        let heard = Arc::new(Heard {
            inner: Mutex::new(Inner { account: self.account.take(), ..Inner::default() }),
            changed: Condvar::new(),
        });
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take().expect("piped"));
        let (unheard, listened) = if self.is_listened_to { (None, stdout) } else { (stdout, None) };
        let threads = [
            listened.map(|stdout| {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || heard.listen(stdout))
            }),
            Some({
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || {
                    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                        heard.change(|inner| inner.stderr.push(String::from_utf8_lossy(&line).into_owned()));
                    }
                    heard.change(|inner| inner.ended += 1);
                })
            }),
        ];
        Running {
            child,
            unheard,
            heard,
            threads: threads.into_iter().flatten().collect(),
            following: None,
            metrics: None,
            has_metrics: self.has_metrics,
        }
    }
}

impl Default for LogTail {
    fn default() -> Self {
        Self::new()
    }
}

/// What log-tail says when it starts to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    /// How many files.
    pub files: u64,
    /// Through what.
    pub backend: Backend,
    /// Why not through eBPF, where that was wanted.
    pub instead_because: Option<String>,
}

impl Following {
    fn of(line: &str) -> Option<Self> {
        let (files, rest) = line.strip_prefix("log-tail: following ")?.split_once(' ')?;
        let files = files.parse().ok()?;
        let rest = rest.strip_prefix(if files == 1 { "file " } else { "files " })?;
        let inside = rest.strip_prefix("(backend: ")?.strip_suffix(')')?;
        let (backend, because) = match inside.split_once("; ebpf: ") {
            Some((backend, because)) => (backend, Some(because.to_owned())),
            None => (inside, None),
        };
        Some(Self { files, backend: Backend::of_word(backend), instead_because: because })
    }
}
