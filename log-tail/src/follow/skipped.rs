//! Events that the kernel did not tell of, because a task was preempted inside the kernel program.
//!
//! How many there were the kernel says, not of which files, so every file is looked at; that costs a stat a
//! file. On a busy machine it can happen at every other switch from task to task. So looking takes a small part
//! of the time at most, and what happens meanwhile is found by the next look.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::{Follower, Identity, identity};
use crate::observe::{FileId, Skipped};

/// What this thread has had of the processor.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// After a look, the next one waits for so many times the processor's time that it took. Not the time that went
/// by: this thread is preempted too.
const REST: u32 = 20;
const LEAST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_secs(2);

/// When to look.
#[derive(Debug, Default)]
pub(super) struct Skips {
    /// Something may have been skipped: look then.
    pub due: Option<Instant>,
    not_before: Option<Instant>,
    /// Files of this number and higher ones came when hints may have been lost already.
    pub unsure_from: u64,
    /// Those that come from now on.
    next_unsure_from: u64,
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
            Skipped::Nothing => self.skips.next_unsure_from = self.memory.next_number,
            Skipped::Writes => {
                self.skips.next_unsure_from = self.memory.next_number;
                self.look_at_sizes();
            }
            Skipped::Anything => self.look_at_everything(),
        }
        let rest = processor_time().saturating_sub(before) * REST;
        self.skips.not_before = Some(Instant::now() + rest.clamp(LEAST_REST, LONGEST_REST));
    }

    /// Of what came to the names since hints were last known to be complete, nothing is certain.
    pub(super) fn doubt_what_came(&mut self) {
        self.skips.unsure_from = self.skips.next_unsure_from;
        self.skips.next_unsure_from = self.memory.next_number;
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
