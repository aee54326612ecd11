//! The real `log-tail`, started, listened to and ended.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io::{BufRead as _, BufReader, ErrorKind, Read as _},
    net::SocketAddr,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use serde_json::Value;

use crate::{
    PATIENCE,
    account::Account,
    backend::{Backend, wanted_backend},
    metrics::Scrape,
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

    fn with_metrics(mut self) -> Self {
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

/// A `log-tail` that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    unheard: Option<ChildStdout>,
    heard: Arc<Heard>,
    threads: Vec<JoinHandle<()>>,
    following: Option<Following>,
    metrics: Option<SocketAddr>,
    has_metrics: bool,
}

/// How a `log-tail` ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// All it printed, unless it was counted.
    pub stdout: Vec<u8>,
    /// All it said.
    pub stderr: Vec<String>,
    /// What was counted, if it was.
    pub account: Account,
}

impl Finished {
    /// The exit status is this, and not a signal's.
    ///
    /// # Panics
    /// Where it is another.
    #[track_caller]
    pub fn assert_exit(&self, code: i32) -> &Self {
        assert_eq!(
            (self.status.code(), self.status.signal()),
            (Some(code), None),
            "exit status and signal; stderr: {:#?}",
            self.stderr
        );
        self
    }

    /// Some line of standard error has all of these words.
    ///
    /// # Panics
    /// Where none has.
    #[track_caller]
    pub fn assert_says(&self, words: &[&str]) -> &Self {
        let says = self.stderr.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(says, "no line says {words:?}: {:#?}", self.stderr);
        self
    }

    /// Every line that these writers wrote came out once and in order, and nothing else did.
    ///
    /// # Panics
    /// Where that is not so, with what is lost, repeated, torn or out of order.
    #[track_caller]
    pub fn assert_exactly<'a>(&self, written: impl IntoIterator<Item = (&'a str, u64)>) {
        if let Err(report) = self.account.check(written) {
            panic!("{report}stderr: {:#?}", self.stderr);
        }
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Running {
    /// What it said when it started to follow.
    ///
    /// # Panics
    /// Where it was not started with [`LogTail::follow`].
    #[must_use]
    pub fn following(&self) -> &Following {
        self.following.as_ref().expect("started with follow()")
    }

    /// What it said so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.heard.lock().stderr.clone()
    }

    /// Its metrics now.
    ///
    /// # Panics
    /// Where it has none.
    #[must_use]
    pub fn scrape(&self) -> Scrape {
        Scrape::of(self.metrics.expect("started with metrics"))
    }

    /// Where its metrics are.
    ///
    /// # Panics
    /// Where it has none.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.expect("started with metrics")
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// Where it is not there any more.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there");
    }

    /// Waits until all that came out so far is this, byte for byte, and fails as soon as it cannot become so.
    ///
    /// # Panics
    /// Where something else comes out, or nothing more.
    #[track_caller]
    pub fn wait_for_stdout(&self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let inner = self.wait_until("exactly the expected output", |inner| {
            inner.stdout == expected || !expected.starts_with(&inner.stdout)
        });
        if inner.stdout != expected {
            let at = inner.stdout.iter().zip(expected).take_while(|(a, b)| a == b).count();
            let around = |bytes: &[u8]| {
                let from = at.saturating_sub(40).min(bytes.len());
                String::from_utf8_lossy(&bytes[from..bytes.len().min(at + 80)]).into_owned()
            };
            let message = format!(
                "the output differs from byte {at} on:\n  printed:  {:?}\n  expected: {:?}\nstderr: {:#?}",
                around(&inner.stdout),
                around(expected),
                inner.stderr
            );
            drop(inner);
            panic!("{message}");
        }
    }

    /// Waits until so many lines were counted, good or bad.
    #[track_caller]
    pub fn wait_for_lines(&self, lines: u64) {
        drop(self.wait_until(&format!("{lines} lines"), |inner| {
            inner.account.as_ref().is_some_and(|account| account.counted().lines >= lines)
        }));
    }

    /// Waits until so many different lines were counted, however often.
    #[track_caller]
    pub fn wait_until_progress(&self, lines: u64) {
        drop(self.wait_until(&format!("{lines} different lines"), |inner| {
            inner.account.as_ref().is_some_and(|account| account.progress() >= lines)
        }));
    }

    /// Waits for something in what it printed.
    #[track_caller]
    pub fn wait_until_stdout(&self, what: &str, mut is_so: impl FnMut(&[u8]) -> bool) {
        drop(self.wait_until(what, |inner| is_so(&inner.stdout)));
    }

    /// Waits until a record with this line has come out as json, and returns all records up to then.
    #[track_caller]
    pub fn wait_for_record(&self, line: &str) -> Vec<Value> {
        let is_there = |records: &[Value]| records.iter().any(|record| record["line"] == line);
        let inner = self.wait_until(line, |inner| is_there(&records(&inner.stdout)));
        records(&inner.stdout)
    }

    /// Holds it still: it looks at nothing until it may go on.
    pub fn hold_still(&self) {
        self.signal(Signal::SIGSTOP);
        let stat = format!("/proc/{}/stat", self.pid());
        let is_still = || {
            let text = std::fs::read_to_string(&stat).expect("it is there");
            text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        while !is_still() {
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits for something in what it said.
    #[track_caller]
    pub fn wait_for_stderr(&self, what: &str, mut is_so: impl FnMut(&[String]) -> bool) {
        drop(self.wait_until(what, |inner| is_so(&inner.stderr)));
    }

    /// Waits for something in its metrics, asking again and again.
    ///
    /// # Panics
    /// Where it does not come.
    #[track_caller]
    pub fn wait_for_metrics(&self, what: &str, mut is_so: impl FnMut(&Scrape) -> bool) -> Scrape {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let scrape = self.scrape();
            if is_so(&scrape) {
                return scrape;
            }
            assert!(Instant::now() < deadline, "waited for {what} in vain:\n{}", scrape.page);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails when nothing new was heard for as long as anyone has patience for.
    #[track_caller]
    fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Inner) -> bool) -> MutexGuard<'_, Inner> {
        let mut inner = self.heard.lock();
        loop {
            if is_so(&inner) {
                return inner;
            }
            let before = inner.changes;
            let (next, timeout) =
                self.heard.changed.wait_timeout(inner, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            inner = next;
            let has_ended = inner.ended == self.threads.len();
            if (timeout.timed_out() && inner.changes == before) || (has_ended && !is_so(&inner)) {
                let mut report = format!("waited for {what} in vain ({} bytes came out)", inner.printed);
                if let Some(account) = &inner.account {
                    let _ = write!(report, "; {:?}", account.counted());
                }
                let tail = inner.stdout.len().saturating_sub(300);
                let _ = write!(report, "\nstdout ends: {:?}", String::from_utf8_lossy(&inner.stdout[tail..]));
                let _ = write!(report, "\nstderr: {:#?}", inner.stderr);
                drop(inner);
                panic!("{report}");
            }
        }
    }

    /// Stops listening to standard output until [`Self::listen_again`].
    pub fn stop_listening(&self) {
        self.heard.change(|inner| inner.is_deaf = true);
    }

    /// Listens again.
    pub fn listen_again(&self) {
        self.heard.change(|inner| inner.is_deaf = false);
    }

    /// Listens only so many bytes at a time, with a breath in between.
    pub fn listen_slowly(&self, bytes: usize, breath: Duration) {
        self.heard.change(|inner| inner.slowness = Some((bytes, breath)));
    }

    /// Standard output, where the caller wants to listen to it.
    ///
    /// # Panics
    /// Where it was not started with [`LogTail::unheard`].
    #[must_use]
    pub fn take_stdout(&mut self) -> ChildStdout {
        self.unheard.take().expect("started with unheard()")
    }

    /// Waits for two more sweeps, and asserts that they found nothing that no hint had told of.
    ///
    /// # Panics
    /// Where they did.
    #[track_caller]
    pub fn assert_no_missed_hints(&self) {
        let before = self.scrape().get("log_tail_sweeps_total");
        let scrape = self
            .wait_for_metrics("two more sweeps", |scrape| scrape.get("log_tail_sweeps_total") >= before + 2);
        assert_eq!(
            scrape.get("log_tail_missed_hints_total"),
            0,
            "hints were missed; stderr: {:#?}",
            self.stderr()
        );
    }

    /// Ends it as a user does, when nothing is left to be told: no hint was missed, every kernel event is
    /// accounted for, and the exit status is 0.
    ///
    /// # Panics
    /// Where any of it is not so.
    #[track_caller]
    pub fn finish(self) -> Finished {
        if self.metrics.is_some() {
            self.assert_no_missed_hints();
            self.scrape().assert_kernel_events_add_up();
        }
        self.terminate()
    }

    /// SIGTERM, and the exit status is 0.
    ///
    /// # Panics
    /// Where it is another.
    #[track_caller]
    pub fn terminate(self) -> Finished {
        self.signal(Signal::SIGTERM);
        let finished = self.wait();
        finished.assert_exit(0);
        finished
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// Where it does not.
    #[must_use]
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        drop(self.wait_to_the_end());
        let status = self.wait_for_exit();
        for thread in self.threads.drain(..) {
            thread.join().expect("a listener that does not panic");
        }
        let mut inner = self.heard.lock();
        Finished {
            status,
            stdout: std::mem::take(&mut inner.stdout),
            stderr: std::mem::take(&mut inner.stderr),
            account: inner.account.take().unwrap_or_default(),
        }
    }

    #[track_caller]
    fn wait_to_the_end(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.heard.lock();
        while inner.ended < self.threads.len() {
            let before = inner.changes;
            let (next, timeout) =
                self.heard.changed.wait_timeout(inner, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            inner = next;
            if timeout.timed_out() && inner.changes == before {
                let stderr = inner.stderr.clone();
                drop(inner);
                panic!("log-tail does not end; stderr: {stderr:#?}");
            }
        }
        inner
    }

    #[track_caller]
    fn wait_for_exit(&mut self) -> ExitStatus {
        // Both its pipes are closed: it is ending.
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "log-tail closed its output and does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A stopped process is killed too; one that has ended is only waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Heard {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    stdout: Vec<u8>,
    stderr: Vec<String>,
    account: Option<Account>,
    /// Bytes, kept or counted.
    printed: u64,
    is_deaf: bool,
    slowness: Option<(usize, Duration)>,
    changes: u64,
    /// Listeners that have come to the end of what they listen to.
    ended: usize,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        inner.changes += 1;
        self.changed.notify_all();
    }

    fn listen(&self, mut stdout: ChildStdout) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let mut inner = self.lock();
            while inner.is_deaf {
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
            let (bytes, breath) = inner.slowness.unwrap_or((buffer.len(), Duration::ZERO));
            drop(inner);
            std::thread::sleep(breath);
            let read = stdout.read(&mut buffer[..bytes]).expect("a pipe that can be read");
            if read == 0 {
                return self.change(|inner| inner.ended += 1);
            }
            self.change(|inner| {
                inner.printed += read as u64;
                match &mut inner.account {
                    Some(account) => account.take(&buffer[..read]),
                    None => inner.stdout.extend_from_slice(&buffer[..read]),
                }
            });
        }
    }
}
