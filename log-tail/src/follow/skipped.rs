//! Events that the kernel did not tell of, because a task was preempted inside the kernel program.
//!
//! How many there were the kernel says, not of which files, so every file is looked at; that costs a stat a
//! file. On a busy machine it can happen at every other switch from task to task. So looking takes a small part
//! of the time at most, and what happens meanwhile is found by the next look.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::{Follower, Identity, identity};
use crate::observe::{Backend, FileId, Skipped};

/// What this thread has had of the processor.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// After a look, the next one waits for so many times the processor's time that it took. Not the time that went
/// by: this thread is preempted too.
const REST: u32 = 20;
const LEAST_REST: Duration = Duration::from_millis(1);
/// By how much a file's times may be too early: some ticks of the kernel.
const CLOCK_LAG: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(2);

/// When to look.
#[derive(Debug, Default)]
pub(super) struct Skips {
    /// Something may have been skipped: look then.
    pub due: Option<Instant>,
    not_before: Option<Instant>,
    /// What came since then may have come when hints had been lost already.
    pub unsure: Since,
    /// The same, should it turn out that hints were lost. That is told after what was told before it, so this is not
    /// the last time they were asked for, but the one before.
    next_unsure: Since,
    asked: Since,
    /// Hints were lost, and every file and name is being looked at.
    pub is_making_up: bool,
}

/// A moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since {
    /// Files that came later have this number or a higher one.
    pub number: u64,
    /// They were born, in nanoseconds since 1970, at this time or later.
    pub born_ns: i128,
}

impl Follower {
    /// The observer says that something may have been skipped.
    pub(super) fn skipped_told(&mut self) {
        let now = Instant::now();
        self.skips.due = Some(self.skips.not_before.map_or(now, |at| at.max(now)));
    }

    /// Looks, if it is time to.
    pub(super) fn look_at_skipped(&mut self, now: Instant) {
        if self.skips.due.is_none_or(|due| now < due) {
            return;
        }
        self.skips.due = None;
        let before = processor_time();
        let Some(observer) = self.observer.as_mut() else { return };
        match observer.skipped() {
            Skipped::Nothing => {}
            Skipped::Writes => self.look_at_sizes(),
            Skipped::Anything => {
                self.look_at_everything();
                // Names are listed and opened there: it is part of the look.
                self.settle();
            }
        }
        let rest = processor_time().saturating_sub(before) * REST;
        self.skips.not_before = Some(Instant::now() + rest.clamp(LEAST_REST, LONGEST_REST));
    }

    /// Now and then, all hints have been asked for: what came before is certain, if none are told to be lost soon.
    pub(super) fn all_is_asked_for(&mut self) {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        // Files are born by a clock that lags.
        let born_ns = i128::try_from(now.saturating_sub(CLOCK_LAG).as_nanos()).unwrap_or(i128::MAX);
        let now = Since { number: self.memory.next_number, born_ns };
        self.skips.next_unsure = std::mem::replace(&mut self.skips.asked, now);
    }

    /// Hints are told to be lost.
    pub(super) fn doubt_what_came(&mut self) {
        self.skips.unsure = self.skips.next_unsure;
        if self.observer.as_deref().is_some_and(|observer| observer.backend() == Backend::Inotify) {
            // It says so where they are missing: what it had told of before is certain.
            self.skips.unsure.number = self.memory.next_number;
        }
    }

    /// Reads every file that does not end where it was read to.
    fn look_at_sizes(&mut self) {
        let is_read = |path, identity, read_to| {
            identity::look(path).is_ok_and(|found| Identity::of(&found) == identity && found.len() == read_to)
        };
        let unread: Vec<FileId> = self
            .files
            .iter()
            .filter(|(_, file)| !is_read(&file.path, file.identity, file.position.looked_to()))
            .map(|(_, file)| file.id)
            .collect();
        for id in unread {
            self.written(id, None);
        }
    }
}
