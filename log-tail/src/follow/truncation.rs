//! Truncation: where to go on, what a copy still holds of the rest, and how much is lost to everyone.
//!
//! The kernel program tells to which size, and how many bytes were cut off; so what is lost is exact.
//! Otherwise the content tells: the file is shorter than what was read of it, or holds other bytes where
//! reading ended. Then it goes on behind the last piece that is still the same, and what is lost is at
//! least what the file was seen to have held.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Follower, NotFollowable, Rotation, files::Turn, memory, reader::Position};
use crate::{
    observe::{Answer, FileId, Observer},
    record::{Ending, Item, Lost, Reached, Reason},
};

/// How often to ask for the other half of what was told: far longer than the kernel program takes for it.
const HALVES: u16 = 10_000;
/// How long the kernel program's word about a change of a file may take that is seen in it already.
pub(super) const WORD_TAKES: Duration = Duration::from_millis(50);
/// How long a truncation may take whose beginning was told: pages of a very large file are let go meanwhile, and whoever
/// does it may have to wait for a processor.
const TRUNCATION_TAKES: Duration = Duration::from_secs(10);
/// How soon to ask for it again.
const ASK_AFTER: Duration = Duration::from_millis(2);

/// What the kernel program tells of a file's truncations. It writes both halves one after the other, so that
/// one may be there without the other for a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The smallest size in bytes since the last time that both were there.
    to: Option<u64>,
    /// Bytes cut off since the file was followed, and how many of them are accounted for.
    cut_off_bytes: u64,
    accounted_bytes: u64,
    /// How often one half was there without the other.
    halves: u16,
}

impl Told {
    /// Nothing was ever told.
    pub const NOTHING: Self = Self { to: None, cut_off_bytes: 0, accounted_bytes: 0, halves: 0 };

    /// Takes what is told; returns it where both halves are there.
    pub fn with(&mut self, answer: Answer) -> Option<Truncations> {
        self.to = [self.to, answer.truncated_to].into_iter().flatten().min();
        self.cut_off_bytes = answer.cut_off_bytes;
        if self.is_half() {
            self.halves += 1;
            // Two truncations one right after the other: the second half of the first was read with the whole of
            // the second, and there is no more to come.
            if self.halves <= HALVES {
                return None;
            }
        } else if self.to.is_none() {
            return None;
        }
        let told = Truncations {
            to: self.to,
            bytes: self.cut_off_bytes.saturating_sub(self.accounted_bytes),
            cut_off_bytes: self.cut_off_bytes,
        };
        *self = Self {
            accounted_bytes: self.cut_off_bytes,
            cut_off_bytes: self.cut_off_bytes,
            to: None,
            halves: 0,
        };
        Some(told)
    }

    /// Whether there is more to come.
    pub fn is_half(&self) -> bool {
        self.to.is_some() != (self.cut_off_bytes > self.accounted_bytes)
    }
}

/// Truncations that the kernel program told of, and that nothing was made of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truncations {
    /// The smallest size in bytes; `None` where it was made something of before.
    to: Option<u64>,
    /// Bytes cut off by all of them.
    bytes: u64,
    /// Bytes cut off since the file was followed.
    cut_off_bytes: u64,
}

impl Follower {
    /// Whether every truncation of the file is told, with its sizes. What other hosts do to it, nobody tells.
    pub(super) fn truncations_are_told(&self, id: FileId) -> bool {
        self.file(id).is_some_and(|file| !file.shares_key)
            && !self.looked.contains(id)
            && self.observer.as_deref().is_some_and(Observer::tells_truncations)
    }

    /// Whether no more than what is known to be lost of the file can be.
    pub(super) fn lost_is_exact(&self, id: FileId) -> bool {
        self.truncations_are_told(id) && self.file(id).is_some_and(|file| !file.lost_is_least)
    }

    /// The kernel program noted truncations since the file was last read.
    pub(super) fn truncation_told(&mut self, id: FileId, told: Truncations) {
        self.leave_later_copies(id, told.cut_off_bytes);
        let Some(file) = self.file_mut(id) else { return };
        file.told_of();
        let read_to = file.position.read_to();
        let told_to = told.to.unwrap_or(read_to);
        let to = told_to.min(read_to);
        // Of what was cut off, this had been read, or was room that was reserved for more.
        let had = i64::try_from(file.position.looked_to().saturating_sub(told_to)).unwrap_or(i64::MAX);
        file.lost_bytes += i64::try_from(told.bytes).unwrap_or(i64::MAX) - had;
        let rest_is_gone = file.lost_bytes > 0;
        file.truncated |= rest_is_gone;
        if to < read_to {
            self.go_on_from(id, to, rest_is_gone);
        }
    }

    /// What lies before the offset is not what was read there.
    pub(super) fn rewritten(&mut self, id: FileId) -> Turn {
        let Some(size) = self.size_unless_unreadable(id) else { return Turn::Later };
        let tells = self.truncations_are_told(id);
        let is_under_way = self.observer.as_deref().is_some_and(|observer| observer.is_being_truncated(id));
        let Some(file) = self.file_mut(id) else { return Turn::Over };
        let read_to = file.position.read_to();
        if tells {
            // The kernel's word may be on its way, and says from which byte on to read.
            let now = Instant::now();
            let since = *file.passing.untold_since.get_or_insert(now);
            if now - since < if is_under_way { TRUNCATION_TAKES } else { WORD_TAKES } {
                file.answered = false;
                self.asks.push((now + ASK_AFTER, id));
                return Turn::Over;
            }
            file.told_of();
        }
        let Some(file) = self.files.get_mut(id.0 as usize) else { return Turn::Over };
        let unchanged = match self.descriptors.get(id, &mut file.path, file.identity) {
            Ok(descriptor) => file.position.unchanged_to(descriptor, size.min(read_to)),
            Err(error) => return self.unreadable(id, &error),
        };
        match unchanged {
            // Nobody told of a truncation, and what it begins with is still there. Otherwise a call was left out.
            Ok(to) if tells && to > 0 && size >= read_to => {
                file.position.forget_context();
                let path = file.source.path.display().to_string();
                self.notice(format_args!(
                    "'{path}' was written over before byte {read_to}; what was read there is not read again"
                ));
                Turn::GoOn
            }
            Ok(to) => {
                let seen = i64::try_from(file.seen_bytes.saturating_sub(file.position.looked_to()))
                    .unwrap_or(i64::MAX);
                file.lost_bytes += seen;
                (file.truncated, file.lost_is_least) = (true, true);
                self.go_on_from(id, to, true);
                Turn::GoOn
            }
            Err(source) => {
                let path = file.path.to_path_buf();
                self.unreadable(id, &NotFollowable::System { path, source })
            }
        }
    }

    /// The file was truncated or written over between two runs, or is one that was and has a copy.
    pub(super) fn changed_meanwhile(&mut self, id: FileId, size: u64) {
        let Some(file) = self.files.get_mut(id.0 as usize) else { return };
        let read_to = file.position.read_to();
        let unchanged = match self.descriptors.get(id, &mut file.path, file.identity) {
            Ok(descriptor) => file.position.print.unchanged_to(descriptor, size.min(read_to)),
            Err(_) => return,
        };
        (file.truncated, file.lost_is_least) = (true, true);
        self.go_on_from(id, unchanged.unwrap_or(0), true);
    }

    fn size_unless_unreadable(&mut self, id: FileId) -> Option<u64> {
        let file = self.files.get_mut(id.0 as usize)?;
        let looked = match self.descriptors.get(id, &mut file.path, file.identity) {
            Ok(descriptor) => descriptor
                .metadata()
                .map_err(|source| NotFollowable::System { path: file.path.to_path_buf(), source }),
            Err(error) => Err(error),
        };
        match looked {
            Ok(metadata) => Some(metadata.len()),
            Err(error) => {
                self.unreadable(id, &error);
                None
            }
        }
    }

    /// The file was truncated, and goes on at `to`, which lies before what was read. Where a rest may be
    /// unread, it is read from a copy first, if there is one.
    fn go_on_from(&mut self, id: FileId, to: u64, rest_is_gone: bool) {
        let tells = self.truncations_are_told(id);
        let Some(file) = self.files.get_mut(id.0 as usize) else { return };
        file.seen_bytes = to;
        let known = file.known();
        file.looked_ns = memory::now_ns();
        let mut print = file.position.print.clone();
        print.truncate_to(to);
        let mut position = Position::known(to, print);
        position.trail = std::mem::take(&mut file.position.trail);
        position.trail.truncate_to(to);
        if let Ok(descriptor) = self.descriptors.get(id, &mut file.path, file.identity) {
            // It may be truncated once more before anything behind that is read.
            position = position.primed(descriptor);
        }
        let mut before = std::mem::replace(&mut file.position, position);
        before.settle();
        let waited = file.unfinished.take().is_some_and(|it| it.is_all_up_to(before.read_to()));
        let path = file.source.path.display().to_string();
        let number = file.source.number;
        self.memory.went_back(known, to);
        let unfinished = if rest_is_gone {
            self.read_copies(id, before)
        } else {
            self.pass_over_copies(id);
            Some(before)
        };
        if let Some((offset, rest)) = unfinished.and_then(|mut before| before.give_up_rest())
            && let Some(file) = self.file_mut(id)
        {
            // The kernel program says whether anything came after it.
            let was_all = if tells { !rest_is_gone } else { waited };
            if was_all {
                // What was held back is all that there was of its last line.
                let block = file.block(offset, rest, Ending::EndOfFile);
                self.hand_on(block);
            } else {
                // It was being written when the truncation cut it: half a line is none.
                file.lost_bytes += i64::try_from(rest.len()).unwrap_or(0);
                file.truncated = true;
            }
        }
        self.outbox.push_back(Item::Back(Reached { number, offset: to, is_back: true }));
        self.rotated(Rotation::Truncate);
        self.notice(format_args!("'{path}' was truncated; going on from byte {to}"));
    }

    /// Reports what is lost, in its place: after everything that could still be had, and before what is
    /// new. `false` where there is nothing to report.
    pub(super) fn report_lost(&mut self, id: FileId) -> bool {
        let exact = self.lost_is_exact(id);
        let Some(file) = self.file_mut(id).filter(|file| file.truncated) else { return false };
        (file.truncated, file.lost_is_least) = (false, false);
        let bytes = u64::try_from(file.lost_bytes).unwrap_or(0);
        if bytes == 0 && exact {
            return false;
        }
        file.lost_bytes = 0;
        let lost = Lost {
            path: Arc::clone(&file.source.path),
            source: Some(Arc::clone(&file.source)),
            reason: Reason::Truncated,
            offset: file.position.handed_on(),
            bytes,
            exact,
        };
        let path = file.source.path.display().to_string();
        self.counts.lost_bytes += bytes;
        if exact {
            self.notice(format_args!("'{path}': {bytes} bytes were truncated before they could be read"));
        } else if bytes > 0 {
            self.notice(format_args!(
                "'{path}': at least {bytes} bytes were truncated before they could be read"
            ));
        }
        self.outbox.push_back(Item::Lost(lost));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(truncated_to: Option<u64>, cut_off_bytes: u64) -> Answer {
        Answer { rung: true, truncated_to, cut_off_bytes, ..Answer::default() }
    }

    #[test]
    fn one_half_waits_for_the_other_but_not_for_ever() {
        let mut told = Told::default();
        assert_eq!(told.with(answer(None, 0)), None);
        assert!(!told.is_half());
        assert_eq!(told.with(answer(None, 100)), None);
        assert!(told.is_half());
        let whole = told.with(answer(Some(7), 100)).unwrap();
        assert_eq!(whole, Truncations { to: Some(7), bytes: 100, cut_off_bytes: 100 });
        assert_eq!(told.with(answer(None, 100)), None, "that was accounted for");
        let next = told.with(answer(Some(0), 130)).unwrap();
        assert_eq!(next, Truncations { to: Some(0), bytes: 30, cut_off_bytes: 130 });
        let mut alone = Told::default();
        assert_eq!(alone.with(answer(Some(7), 0)), None);
        let ended = (0..=HALVES).find_map(|_| alone.with(answer(None, 0))).unwrap();
        assert_eq!(ended, Truncations { to: Some(7), bytes: 0, cut_off_bytes: 0 });
    }
}
