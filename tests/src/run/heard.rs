//! What a started `log-tail` printed and said so far, and how fast it is listened to.

use std::{
    io::Read as _,
    process::ChildStdout,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::account::Account;

#[derive(Debug)]
pub(super) struct Heard {
    pub inner: Mutex<Inner>,
    pub changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub stdout: Vec<u8>,
    pub stderr: Vec<String>,
    pub account: Option<Account>,
    /// Bytes, kept or counted.
    pub printed: u64,
    pub is_deaf: bool,
    pub slowness: Option<(usize, Duration)>,
    pub changes: u64,
    /// Listeners that have come to the end of what they listen to.
    pub ended: usize,
}

impl Heard {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        inner.changes += 1;
        self.changed.notify_all();
    }

    pub fn listen(&self, mut stdout: ChildStdout) {
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
