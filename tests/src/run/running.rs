//! A `log-tail` that runs: waited for, asked, stalled and ended. Every wait has its limit.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdout, ExitStatus},
    sync::{Arc, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        statfs::{BTRFS_SUPER_MAGIC, statfs},
    },
    unistd::Pid,
};
use serde_json::Value;

use super::{
    Following,
    heard::{Heard, Inner},
    records,
};
use crate::{
    PATIENCE,
    account::Account,
    backend::{Backend, tells_subvolumes},
    metrics::Scrape,
    place::Place,
};

/// A `log-tail` that runs. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    pub(super) child: Child,
    pub(super) unheard: Option<ChildStdout>,
    pub(super) heard: Arc<Heard>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) following: Option<Following>,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) has_metrics: bool,
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

    /// Whether it is told how much is lost. On btrfs, where the kernel does not show what tells subvolumes apart, what the
    /// kernel program tells may be about another file.
    ///
    /// # Panics
    /// Where nobody says what filesystem `place` is on.
    #[must_use]
    pub fn tells_what_is_lost(&self, place: &Place) -> bool {
        let is_btrfs = statfs(place.dir()).expect("a filesystem").filesystem_type() == BTRFS_SUPER_MAGIC;
        self.following().backend == Backend::Ebpf && (!is_btrfs || tells_subvolumes())
    }

    /// What it said so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.heard.lock().stderr.clone()
    }

    /// What came out so far, where it is not counted.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        self.heard.lock().stdout.clone()
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

    /// One more than the highest number of a writer that was counted so far.
    ///
    /// # Panics
    /// Where lines are not counted.
    #[must_use]
    pub fn reached(&self, writer: &str) -> u64 {
        self.heard.lock().account.as_ref().expect("lines are counted").reached(writer)
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

    /// Waits until so many records have come out as json, and returns all of them.
    #[track_caller]
    pub fn wait_for_records(&self, count: usize) -> Vec<Value> {
        let is_there = |stdout: &[u8]| stdout.split(|byte| *byte == b'\n').count() > count;
        let inner = self.wait_until("records", |inner| is_there(&inner.stdout));
        records(&inner.stdout)
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
