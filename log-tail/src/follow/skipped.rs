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
pub fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// After a look, the next one waits for so many times the processor's time that it took. Not the time that went
/// by: this thread is preempted too.
const REST: u32 = 20;
const LEAST_REST: Duration = Duration::from_millis(1);
/// How often it is asked while files come and nothing is told to be skipped.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Within this time after it was looked, what happened before that has been told.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// By how much a file's times may be too early: some ticks of the kernel.
const CLOCK_LAG: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(2);

/// When to look.
#[derive(Debug, Default)]
pub(super) struct Skips {
    /// Something may have been skipped: look then.
    pub due: Option<Instant>,
    not_before: Option<Instant>,
    /// Nothing was skipped that had happened by then, or it was made up for, as far as `unsure` does not say otherwise.
    /// Of what was skipped while following began, nothing is known.
    pub sure: Since,
    /// When that was found.
    sure_at: Option<Instant>,
    /// What came since then may have come when hints had been lost already.
    pub unsure: Since,
    /// The same, should it turn out that hints were lost. That is told after what was told before it, so this is not
    /// the last time they were asked for, but the one before.
    next_unsure: Since,
    asked: Since,
    /// Until when what was found then may be told of all the same.
    doubted_until: Option<Instant>,
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

impl Skips {
    /// The number from which on files may have been found before they were told of.
    pub fn doubted_from(&self, now: Instant) -> Option<u64> {
        self.doubted_until.filter(|until| now < *until).map(|_| self.unsure.number)
    }
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
        let by_now = self.told_by_now();
        let Some(observer) = self.observer.as_mut() else { return };
        match observer.skipped() {
            Skipped::Nothing => {}
            Skipped::Writes => self.look_at_sizes(),
            Skipped::Anything => {
                self.look_at_everything(self.skips.sure);
                // Names are listed and opened there: it is part of the look.
                self.settle();
            }
        }
        (self.skips.sure, self.skips.sure_at) = (by_now, Some(now));
        let rest = processor_time().saturating_sub(before) * REST;
        self.skips.not_before = Some(Instant::now() + rest.clamp(LEAST_REST, LONGEST_REST));
    }

    /// Files came since it was last asked whether anything was skipped: the longer that is ago, the more would have to be
    /// looked for. To be called right before it is looked, now and then.
    pub(super) fn ask_for_skipped(&mut self, now: Instant) {
        let skips = &mut self.skips;
        let is_soon = skips.sure_at.is_some_and(|at| now < at + ASKED_EVERY);
        let is_rested = skips.not_before.is_none_or(|at| at <= now);
        if skips.due.is_none() && skips.sure.number < self.memory.next_number && is_rested && !is_soon {
            skips.due = Some(now);
        }
    }

    /// What has been told so far.
    pub(super) fn told_by_now(&self) -> Since {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        // Files are born by a clock that lags.
        let born_ns = i128::try_from(now.saturating_sub(CLOCK_LAG).as_nanos()).unwrap_or(i128::MAX);
        Since { number: self.memory.next_number, born_ns }
    }

    /// Now and then, all hints have been asked for: what came before is certain, if none are told to be lost soon.
    pub(super) fn all_is_asked_for(&mut self) {
        let now = self.told_by_now();
        self.skips.next_unsure = std::mem::replace(&mut self.skips.asked, now);
    }

    /// Hints are told to be lost.
    pub(super) fn hints_lost(&mut self) {
        self.look_at_everything(self.skips.next_unsure);
    }

    /// Hints of what came since then were lost.
    pub(super) fn doubt_what_came(&mut self, since: Since) {
        self.skips.doubted_until = Some(Instant::now() + TOLD_AFTER);
        if self.names.iter().any(|(_, name)| name.unsure) {
            // What was lost before that has not been made up for yet.
            let unsure = &mut self.skips.unsure;
            unsure.number = unsure.number.min(since.number);
            unsure.born_ns = unsure.born_ns.min(since.born_ns);
            return;
        }
        self.skips.unsure = since;
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
