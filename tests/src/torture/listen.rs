//! Listens to a subject: its lines go into one account over all its restarts, its complaints are kept.
//!
//! Nothing here fails when a subject is silent: that is for the account to say.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{ChildStderr, ChildStdout},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::account::Account;

/// Lines of standard error that are kept. Some followers complain without end.
const COMPLAINTS: usize = 10_000;

/// All that was heard of a subject.
#[derive(Debug, Default)]
pub struct Heard {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// What [`Heard`] guards.
#[derive(Debug)]
pub struct Inner {
    /// What came out.
    pub account: Account,
    /// What it said, line by line.
    pub stderr: Vec<String>,
    is_deaf: bool,
    last: Instant,
}

impl Default for Inner {
    fn default() -> Self {
        Self { account: Account::default(), stderr: Vec::new(), is_deaf: false, last: Instant::now() }
    }
}

impl Heard {
    /// What was heard until now.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens, until it closes them, to a process's two streams. The threads end then.
    pub fn listen(self: &Arc<Self>, stdout: ChildStdout, stderr: ChildStderr) -> [JoinHandle<()>; 2] {
        let (lines, complaints) = (Arc::clone(self), Arc::clone(self));
        [
            std::thread::spawn(move || lines.count(stdout)),
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    let mut inner = complaints.lock();
                    if inner.stderr.len() < COMPLAINTS {
                        inner.stderr.push(String::from_utf8_lossy(&line).into_owned());
                    }
                    drop(inner);
                    complaints.changed.notify_all();
                }
            }),
        ]
    }

    fn count(&self, mut stdout: impl Read) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let mut inner = self.lock();
            while inner.is_deaf {
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
            drop(inner);
            let Ok(count @ 1..) = stdout.read(&mut buffer) else { return };
            let mut inner = self.lock();
            let before = inner.account.progress();
            inner.account.take(&buffer[..count]);
            if inner.account.progress() > before {
                inner.last = Instant::now();
            }
            drop(inner);
            self.changed.notify_all();
        }
    }

    /// Whether to leave the pipe full.
    pub fn set_deaf(&self, is_deaf: bool) {
        self.lock().is_deaf = is_deaf;
        self.changed.notify_all();
    }

    /// Waits until something is so. Says whether it is: it gives up when nothing new has come out for so long.
    pub fn wait(&self, quiet: Duration, mut is_so: impl FnMut(&Inner) -> bool) -> bool {
        let began = Instant::now();
        let mut inner = self.lock();
        loop {
            if is_so(&inner) {
                return true;
            }
            let left = quiet.saturating_sub(inner.last.max(began).elapsed());
            if left.is_zero() {
                return false;
            }
            // Asking is not free, and a busy subject changes things all the time.
            drop(inner);
            std::thread::sleep(Duration::from_millis(1));
            inner = self.lock();
            if inner.last.max(began).elapsed() > Duration::from_millis(5) {
                let left = left.min(Duration::from_millis(100));
                inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_given_up_on() {
        assert!(!Heard::default().wait(Duration::from_millis(10), |_| false));
        assert!(Heard::default().wait(Duration::ZERO, |_| true));
    }
}
