//! Where a scenario meets a subject: a fresh directory, the subject started, listened to, paused, killed and
//! started again, and in the end the account of what became of the lines.
//!
//! No wait here fails a scenario: a subject that has lost something is given up on after a while, and the
//! account says so.

use std::{
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    listen::Heard,
    subject::{Order, Subject},
};
use crate::{
    PATIENCE,
    account::{Account, Numbers},
    place::Place,
    write::Lines,
};

/// How long to let a subject be that does not say when it has finished starting.
const SETTLING: Duration = Duration::from_millis(300);
/// How long to listen for what should not come after all that should.
const AFTERMATH: Duration = Duration::from_millis(300);

/// One run of one scenario on one subject.
pub struct Arena<'a> {
    place: Place,
    subject: &'a dyn Subject,
    /// What the subject is to follow; a scenario may change it before [`Self::start`].
    pub order: Order,
    /// How many lines a scenario that goes flat out writes.
    pub lines: u64,
    /// How long nothing comes out before nothing will.
    quiet: Duration,
    /// How often that was too short already.
    given_up: u32,
    process: Option<Process>,
    heard: Arc<Heard>,
    written: Vec<(String, u64)>,
    complaints: Vec<String>,
}

/// Started, and killed when dropped.
struct Process {
    child: Child,
    listeners: [JoinHandle<()>; 2],
}

/// A scenario that cannot be run here, or on this subject: why.
#[derive(Debug)]
pub struct Skipped(pub String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The account.
    pub numbers: Numbers,
    /// What the subject counted as lost to truncation, in bytes.
    pub counted_bytes: Option<u64>,
    /// Whether that must be all of it.
    pub counts_exactly: bool,
    /// What the subject says it follows through, where it says it.
    pub backend: Option<String>,
    /// What was wrong besides the numbers.
    pub complaints: Vec<String>,
    /// The account in words, and the last that the subject said.
    pub details: String,
}

impl<'a> Arena<'a> {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// Where there is no room.
    pub fn new(subject: &'a dyn Subject, lines: u64, quiet: Duration) -> Result<Self> {
        let place = Place::new();
        let home = place.path("subject");
        fs::create_dir(&home).context("making a directory for the subject")?;
        fs::create_dir(place.path("logs")).context("making a directory for the logs")?;
        let order = Order { home, ..Order::default() };
        let (heard, written, complaints) = Default::default();
        let (given_up, process) = (0, None);
        Ok(Self { place, subject, order, lines, quiet, given_up, process, heard, written, complaints })
    }

    /// A path in the directory of the logs.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.place.path("logs").join(name)
    }

    /// Whether the subject goes on after a restart.
    #[must_use]
    pub fn keeps_state(&self) -> bool {
        self.subject.keeps_state()
    }

    /// Whether it is told of everything without inotify.
    #[must_use]
    pub fn needs_no_watches(&self) -> bool {
        self.subject.needs_no_watches()
    }

    /// Starts a writer of the lines "w" in `log`, and the subject following it.
    ///
    /// # Errors
    /// Where the subject does not start.
    pub fn follow(&mut self, log: &Path) -> Result<Lines> {
        let mut lines = Lines::new(log, "w");
        self.order.names = vec![log.to_owned()];
        self.start_with(&mut lines)?;
        Ok(lines)
    }

    /// Starts the subject, and waits until it has shown that it follows.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start_with(&mut self, lines: &mut Lines) -> Result<()> {
        lines.write(1);
        self.start()?;
        for _ in 0..2 {
            self.catch_up(lines);
            std::thread::sleep(SETTLING);
            lines.write(1);
        }
        self.catch_up(lines);
        Ok(())
    }

    /// Starts the subject.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.order.limit(self.subject.command(&self.order)?);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let (stdout, stderr) =
            (child.stdout.take().context("a pipe")?, child.stderr.take().context("a pipe")?);
        let said = self.heard.lock().stderr.len();
        let listeners = self.heard.listen(stdout, stderr);
        self.process = Some(Process { child, listeners });
        let follows = |line: &String| self.subject.says_it_follows(line) == Some(true);
        if self.subject.says_it_follows("").is_some()
            && !self.heard.wait(PATIENCE, |inner| inner.stderr[said..].iter().any(follows))
        {
            bail!("{} does not follow: {:?}", self.subject.name(), self.heard.lock().stderr);
        }
        Ok(())
    }

    /// Sends the subject a signal.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(process) = &self.process {
            let sent = kill(Pid::from_raw(process.child.id().cast_signed()), signal);
            if let Err(error) = sent {
                self.complain(format!("{signal} could not be sent: {error}"));
            }
        }
    }

    /// Does something while the subject stands still.
    pub fn while_paused<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.signal(Signal::SIGSTOP);
        let done = act(self);
        self.signal(Signal::SIGCONT);
        done
    }

    /// Leaves the subject's output in the pipe, or takes it again.
    pub fn set_deaf(&self, is_deaf: bool) {
        self.heard.set_deaf(is_deaf);
    }

    /// Ends the subject with this signal. What it has printed until then is heard to its end.
    pub fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let Some(mut process) = self.process.take() else { return };
        let deadline = Instant::now() + PATIENCE;
        while !matches!(process.child.try_wait(), Ok(Some(_))) {
            if Instant::now() > deadline {
                self.complain(format!("it does not end on {signal}"));
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(process.child.kill());
        drop(process.child.wait());
        for listener in process.listeners {
            if listener.join().is_err() {
                self.complain("a listener panicked".to_owned());
            }
        }
        if signal == Signal::SIGKILL {
            // Half a line in the pipe is nobody's fault.
            self.heard.lock().account.cut();
        }
    }

    /// Waits until what was written last has come out. Says whether it has.
    pub fn catch_up(&mut self, lines: &Lines) -> bool {
        let patience = match self.given_up {
            // The same for all subjects, ours or not: none is to be called lossy for being slow.
            0..3 => self.quiet,
            3..10 => AFTERMATH,
            // It follows something else.
            _ => Duration::ZERO,
        };
        let (writer, number) = (lines.writer(), lines.written());
        let has_come = self.heard.wait(patience, |inner| inner.account.reached(writer) >= number);
        self.given_up += u32::from(!has_come);
        has_come
    }

    /// How far the lines of a writer have come out.
    #[must_use]
    pub fn reached(&self, writer: &str) -> u64 {
        self.heard.lock().account.reached(writer)
    }

    /// Says what a writer has written, for the account.
    pub fn wrote(&mut self, lines: &Lines) {
        self.wrote_so_many(lines.writer(), lines.written());
    }

    /// As [`Self::wrote`], for a writer that is not there any more.
    pub fn wrote_so_many(&mut self, writer: &str, count: u64) {
        self.written.push((writer.to_owned(), count));
    }

    /// That the kernel had more to tell than it had room for is the point of the scenario.
    pub fn expect_overflow(&mut self) {
        let overflows = self.subject.overflows(&self.heard.lock().stderr);
        if overflows == Some(0) {
            self.complain("the kernel's queue held everything".to_owned());
        }
    }

    /// Something is wrong that no number tells.
    pub fn complain(&mut self, text: String) {
        self.complaints.push(text);
    }

    /// Waits for all that was written, and settles the account.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        let written = std::mem::take(&mut self.written);
        let written = || written.iter().map(|(writer, count)| (writer.as_str(), *count));
        self.heard.wait(self.quiet, |inner| inner.account.is_complete(written()));
        std::thread::sleep(AFTERMATH);
        let stderr = self.heard.lock().stderr.clone();
        let counted_bytes = self.subject.counted_bytes(&stderr);
        let counts_exactly = self.subject.counts_exactly(&stderr);
        let backend = self.subject.backend(&stderr);
        self.end(Signal::SIGTERM);
        let inner = self.heard.lock();
        let mut details = inner.account.check(written()).err().unwrap_or_default();
        for line in inner.stderr.iter().rev().take(40).rev() {
            let _ = writeln!(details, "it said: {line}");
        }
        let numbers = inner.account.numbers(written());
        let lacking = self.lying_in_files(&inner.account);
        drop(inner);
        if lacking > 0 {
            self.complaints.push(format!("{lacking} of them lie in a file or a copy"));
        }
        let complaints = std::mem::take(&mut self.complaints);
        Outcome { numbers, counted_bytes, counts_exactly, backend, complaints, details }
    }
}

impl Arena<'_> {
    /// Lines that a file or a copy holds at the end, and that never came out: those nobody else destroyed.
    fn lying_in_files(&self, account: &Account) -> u64 {
        let entries = fs::read_dir(self.path("")).into_iter().flatten().flatten();
        let plain = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"app.log"));
        plain.filter_map(|entry| fs::read(entry.path()).ok()).map(|bytes| account.lacking(&bytes)).sum()
    }
}

impl Drop for Arena<'_> {
    fn drop(&mut self) {
        self.set_deaf(false);
        if let Some(mut process) = self.process.take() {
            // One that has ended already is only waited for.
            drop(process.child.kill());
            drop(process.child.wait());
        }
    }
}
