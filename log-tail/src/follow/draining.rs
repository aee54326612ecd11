//! Draining: when a file that lost its name has been read to its end for good, and what waited for it.
//!
//! The files that came to its name later are kept waiting until nobody has it open for writing any more,
//! for the grace time at most. A writer that never lets go does not hold them back for ever: from then on
//! all are read side by side.

use std::{
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Follower, NotFollowable, Retired,
    files::FollowedFile,
    memory::Known,
    writers::{self, Writers},
};
use crate::{observe::FileId, record::Ending};

/// The longest time until it is asked again who has a file open for writing.
const ASK_AT_LEAST_EVERY: Duration = Duration::from_millis(250);

impl Follower {
    /// The end of a file was reached: whoever waited for it may be read, and it is let go if its time has come.
    pub(super) fn end_of_turn(&mut self, id: FileId) {
        let Some(file) = self.file_mut(id) else { return };
        file.queued = false;
        let written_ns = file.written_ns.take();
        self.answered_ns.extend(written_ns.map(NonZeroU64::get));
        if !self.is_drained(id) {
            return;
        }
        let Some(file) = self.file_mut(id) else { return };
        let before = match file.passing.where_there() {
            Some(passing) => {
                passing.hold_until = None;
                std::mem::take(&mut passing.before)
            }
            None => Vec::new(),
        };
        let is_bare = std::mem::take(&mut file.sealed) && file.names.is_empty();
        let finish = file.finish || (is_bare && !self.is_in_line(id));
        for later in before {
            if let Some(file) = self.file_mut(later) {
                file.waits_for = file.waits_for.saturating_sub(1);
            }
            self.queue(later);
        }
        if finish {
            self.let_go(id);
        }
    }

    /// Whether nothing more is to be expected of a file that was read to its end just now. Where that is
    /// asked of nobody, it is so. Sees to it that it is asked again.
    fn is_drained(&mut self, id: FileId) -> bool {
        let Some(file) = self.file(id) else { return true };
        let patience = file.passing.hold_until.or(file.passing.leaves_at.filter(|_| file.names.is_empty()));
        let Some(until) = patience.filter(|_| !file.finish && !file.sealed) else { return true };
        let now = Instant::now();
        if self.stopping || now >= until {
            return true;
        }
        // Before it is asked: whoever closes it from now on is told of.
        let is_told = self.observer.as_mut().is_some_and(|observer| observer.tell_close(id));
        match self.writers(id) {
            Writers::None => {
                // Once more: it may have been written to, and closed, since its end was read.
                if let Some(file) = self.file_mut(id) {
                    file.sealed = true;
                }
                self.queue(id);
            }
            Writers::Some => {
                let Some(file) = self.file_mut(id).filter(|file| !file.passing.before.is_empty()) else {
                    // Nobody waits: it is asked when the grace time is over.
                    return false;
                };
                let at = if is_told { until } else { until.min(now + file.passing.ask_after) };
                file.passing.ask_after = (file.passing.ask_after * 2).min(ASK_AT_LEAST_EVERY);
                self.asks.push((at, id));
            }
            Writers::Unknown => self.asks.push((until, id)),
        }
        false
    }

    fn writers(&mut self, id: FileId) -> Writers {
        let Some(file) = self.files.get_mut(id.0 as usize) else { return Writers::None };
        match self.descriptors.get(id, &mut file.path, file.identity) {
            Ok(file) => writers::of(file),
            // To be asked again soon.
            Err(NotFollowable::Descriptors { .. }) => Writers::Some,
            Err(_) => Writers::Unknown,
        }
    }

    /// Asks again who has files open for writing.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let (due, later): (Vec<_>, Vec<_>) = self.asks.drain(..).partition(|(at, _)| *at <= now);
        self.asks = later;
        for (_, id) in due {
            self.queue(id);
        }
    }

    fn let_go(&mut self, id: FileId) {
        if let Some(observer) = self.observer.as_mut() {
            observer.leave_file(id);
        }
        self.descriptors.close(id);
        self.looked.remove(id);
        let Some(mut file) = self.files.try_remove(id.0 as usize) else { return };
        self.by_identity.remove(&file.identity);
        self.forget_file(id, file.place.take());
        // A line that may go on is left to the next run.
        let left = self.stopping && self.memory.is_kept && file.stream.is_none();
        // Nor is half a line handed on that was being written when its copy was made: the rest is lost.
        let rest = if left || file.passing.copy_of.is_some() { None } else { file.position.give_up_rest() };
        if let Some((offset, rest)) = rest {
            let block = file.block(offset, rest, Ending::EndOfFile);
            self.hand_on(block);
        }
        if self.memory.is_kept {
            let number = file.source.number;
            self.by_number.remove(&number);
            // At the end of a run it is not the file that ends.
            let finished = self.observer.is_some() && !self.stopping;
            self.memory.departed.insert(number, Known { finished, ..file.known() });
            self.memory.touched.push((number, None));
        }
        let FollowedFile { identity, position, passing, source, .. } = file;
        // A name that a pattern matched was kept for it.
        self.doubtful.extend(self.by_path.get(&source.path));
        if let Some((original, start)) = passing.copy_of {
            let exact = self.lost_is_exact(original);
            if let Some(original) = self.file_mut(original) {
                // Less than none where half a line had been read, and the copy does not hold its end.
                let handed_on = i64::try_from(position.handed_on()).unwrap_or(i64::MAX);
                original.lost_bytes -= handed_on - i64::try_from(start).unwrap_or(i64::MAX);
                if !exact {
                    // It may never have been seen to be there.
                    original.lost_bytes = original.lost_bytes.max(0);
                }
            }
        }
        let (read_to, print, number) = (position.handed_on(), position.print, source.number);
        self.retired.put(identity, Retired { read_to, print, number, path: Arc::clone(&source.path) });
    }

    /// The file has lost its last name: it is read on for the grace time.
    pub(super) fn leave_later(&mut self, id: FileId) {
        let at = Instant::now() + self.settings.rotate_wait;
        self.leaving.push_back((at, id));
        let size = self.size(id);
        if let Some(file) = self.file_mut(id) {
            file.passing.leaves_at = Some(at);
            file.passing.leaves_with = size;
        }
    }

    /// The grace time given at that moment is over: lets the file go, unless it bears a name again.
    pub(super) fn leave(&mut self, id: FileId, at: Instant) {
        if self.file(id).is_none_or(|file| !file.names.is_empty() || file.passing.leaves_at != Some(at)) {
            return;
        }
        let is_written = match self.writers(id) {
            Writers::Some => true,
            Writers::None => false,
            // Another user's file: all there is to go by is that somebody wrote to it meanwhile.
            Writers::Unknown => {
                let (before, size) = (self.file(id).and_then(|file| file.passing.leaves_with), self.size(id));
                size.is_some() && size != before
            }
        };
        if is_written {
            // From now on it is read side by side with what came after it.
            self.leave_later(id);
            self.queue(id);
        } else {
            self.finish_at_end(id);
        }
    }
}
