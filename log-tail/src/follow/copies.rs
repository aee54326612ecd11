//! Copies: what a file held before it was truncated is read from the files that it was copied to.
//!
//! # Which are unread
//! Files that come beside a followed one under a name that rotation gives are numbered in their order, and keep their
//! numbers whatever they are renamed to. A copy is made before its content is truncated. So once the beginning of
//! a content has been read, every copy of an earlier one has been told of; and the copies behind the last one that was
//! seen to are read before it, but for those that are the beginning of what the file holds now. These were made of it,
//! and it may yet be truncated.
//!
//! Where every truncation is told, it is told between the copies that were made before and after it. So those that came
//! after the last one that was made something of are left alone, whatever has become of the file meanwhile.

mod before;

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
};

use rustc_hash::FxHashSet;

use super::{
    Follower, Identity, NameId,
    files::FollowedFile,
    reader::Position,
    siblings::{self, Content, Found, Sibling},
    succession::{Bearer, ComerId, Place},
};
use crate::{
    observe::{DirectoryId, FileId},
    record::Source,
};

/// The number of those that are no copies of what is followed now: they were there before, or were let go.
pub(super) const OLD: u64 = 0;

/// The numbers of the copies that may be of a file and hold something that is to be read: those that came while it
/// bore its name, and were not seen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copies {
    /// Greater than this.
    after: u64,
    /// Up to this one.
    until: u64,
    /// Those after this one are of what the file held after its last truncation that was made something of.
    of_past: u64,
}

/// What came before a truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CopiedBefore {
    /// Bytes that truncations had cut off when it was done.
    cut_off_bytes: u64,
    /// The last copy that had come by then.
    last: u64,
}

impl Copies {
    /// Of what is a copy itself, or an earlier generation.
    pub const NONE: Self = Self::after(u64::MAX);

    /// All that come from now on, when so many have come.
    pub const fn after(after: u64) -> Self {
        Self { after, until: u64::MAX, of_past: u64::MAX }
    }

    /// The file bears its name again, when so many have come.
    pub fn go_on(&mut self, last: u64) {
        let is_without_gap = self.until == last || self.until == u64::MAX;
        *self = Self::after(if is_without_gap && !self.is_none() { self.after } else { last });
    }

    /// Whether there can be none.
    pub fn is_none(self) -> bool {
        self.after == u64::MAX
    }

    pub fn contains(self, number: u64) -> bool {
        self.after < number && number <= self.until.min(self.of_past)
    }
}

impl Follower {
    /// It is told that the file was truncated: copies that come from now on are of what it holds then.
    pub(super) fn copied_before(&mut self, id: FileId, cut_off_bytes: u64) {
        let last = self.successions.copies;
        let is_its = |file: &&mut FollowedFile| !file.copies.is_none() && !file.shares_key;
        let Some(file) = self.file_mut(id).filter(is_its) else { return };
        // One that cuts off nothing parts no contents.
        if file.passing.copied_before.last().is_none_or(|before| before.cut_off_bytes < cut_off_bytes) {
            file.passing.copied_before.push(CopiedBefore { cut_off_bytes, last });
        }
    }

    /// Truncations of the file are made something of, up to the one by which so many bytes had been cut off: what was
    /// copied later is no copy of what they cut off.
    pub(super) fn leave_later_copies(&mut self, id: FileId, cut_off_bytes: u64) {
        let is_told = |file: &FollowedFile| {
            file.passing.copied_before.last().is_some_and(|last| last.cut_off_bytes >= cut_off_bytes)
        };
        if !self.file(id).is_some_and(is_told) {
            // It is noted before it is told.
            self.take_told();
        }
        let Some(file) = self.file_mut(id) else { return };
        let before = file.passing.copied_before.iter().find(|before| before.cut_off_bytes >= cut_off_bytes);
        // Not told where the ring was full, or the kernel skipped it: then content alone decides.
        file.copies.of_past = before.map_or(u64::MAX, |before| before.last);
        if let Some(passing) = file.passing.where_there() {
            passing.copied_before.retain(|before| before.cut_off_bytes > cut_off_bytes);
        }
    }

    /// Whether this is named like an earlier generation of a followed name.
    pub(super) fn is_generation_in(&self, id: DirectoryId, name: &OsStr) -> bool {
        let Some(directory) = self.directories.get(id) else { return false };
        let is_followed =
            |name: &OsStr| directory.entries.get(name).is_some_and(|entry| !entry.names.is_empty());
        siblings::originals(name).iter().any(|original| is_followed(original))
    }

    /// A new file that may be a copy of one that is followed in its directory.
    pub(super) fn new_copy(&mut self, id: DirectoryId, name: &OsStr) -> Option<Bearer> {
        if !self.is_generation_in(id, name) {
            return None;
        }
        let directory = self.directories.get(id)?;
        // Compressed later, it still holds what came then.
        let plain = siblings::without_suffix(Path::new(name));
        let plain = plain.and_then(|plain| directory.entries.get(plain.as_os_str())?.bearer);
        match plain {
            Some(copy @ Bearer::Copy(_)) => return Some(copy),
            // It will be read, or was.
            Some(Bearer::File(_)) => return Some(Bearer::Copy(OLD)),
            Some(Bearer::Comer(ComerId(comer))) => {
                let packed = Some((id, self.directories.get_mut(id)?.entry_name(name)));
                self.successions.comers.get_mut(comer)?.packed = packed;
                return Some(Bearer::Copy(OLD));
            }
            None => {}
        }
        self.successions.copies += 1;
        Some(Bearer::Copy(self.successions.copies))
    }

    /// A file went that nobody knows, for it was there before. One that came beside it is no copy, but what it was
    /// compressed to.
    pub(super) fn was_compressed(&mut self, id: DirectoryId, name: &OsStr) {
        let Some(directory) = self.directories.get_mut(id) else { return };
        for compressed in siblings::compressed(name) {
            let entry = directory.entries.get_mut(compressed.as_os_str());
            if let Some(Bearer::Copy(number)) = entry.and_then(|entry| entry.bearer.as_mut()) {
                *number = OLD;
            }
        }
    }

    /// The entry bears what a file that is followed was compressed to.
    pub(super) fn is_old_copy(&mut self, id: DirectoryId, name: &OsStr) {
        let entry = self.directories.get_mut(id).and_then(|directory| directory.entries.get_mut(name));
        if let Some(entry) = entry {
            entry.bearer = Some(Bearer::Copy(OLD));
        }
    }

    /// It lost its name: copies that come from now on are of another.
    pub(super) fn copied_no_more(&mut self, bearer: Bearer) {
        let last = self.successions.copies;
        if let Some(copies) = self.copies_of(bearer) {
            copies.until = copies.until.min(last);
        }
    }

    /// A name is given to it: copies that come beside that are of it, where it had that name before. Those that came
    /// meanwhile are of others.
    pub(super) fn copied_again(&mut self, id: NameId, bearer: Bearer) {
        let last = self.successions.copies;
        let first = match bearer {
            Bearer::File(file) => self.file(file).and_then(|file| self.by_path.get(&file.source.path)),
            Bearer::Comer(ComerId(comer)) => self.successions.comers.get(comer).and_then(|c| c.names.first()),
            Bearer::Copy(_) => None,
        };
        if first == Some(&id)
            && let Some(copies) = self.copies_of(bearer)
        {
            copies.go_on(last);
        }
    }

    fn copies_of(&mut self, bearer: Bearer) -> Option<&mut Copies> {
        match bearer {
            Bearer::File(id) => Some(&mut self.files.get_mut(id.0 as usize)?.copies),
            Bearer::Comer(ComerId(comer)) => Some(&mut self.successions.comers.get_mut(comer)?.copies),
            Bearer::Copy(_) => None,
        }
    }

    /// Has what copies of a truncated file hold of its rest read before the file itself. Gives the position
    /// back where there is no copy.
    pub(super) fn read_copies(&mut self, id: FileId, before: Position) -> Option<Position> {
        if before.handed_on() == 0 {
            let is_whole = self.file(id).is_some_and(|file| file.position.handed_on() == 0);
            if !is_whole || !self.read_missed_copies(id) {
                return Some(before);
            }
            // The half line that was held back comes from the copy too.
            self.file_mut(id)?.lost_bytes += i64::try_from(before.read_to()).unwrap_or(i64::MAX);
            return None;
        }
        let mut found = self.copies_since(id);
        let read_to = before.read_to();
        let has_rest = |(_, copy): &(u64, Found)| copy.content.is_of(&before.print, read_to);
        let copies = if let Some(last) = found.iter().rposition(has_rest) {
            self.pass_over(id, &found);
            found.split_off(last).into_iter().map(|(_, copy)| copy).collect()
        } else {
            // What came after the copy was read, and nothing more of it is to be had.
            let read: Vec<Option<bool>> = found.iter().map(|(_, copy)| was_read(copy, &before)).collect();
            let last = read.iter().rposition(|read| *read == Some(true));
            let last = last.or_else(|| (read.first() == Some(&None)).then_some(0));
            self.pass_over(id, last.map_or(&[], |last| &found[..=last]));
            // It was made before its directory was listened to, or that is not listened to.
            if last.is_some() { Vec::new() } else { self.older_copies(id, &before).unwrap_or_default() }
        };
        if copies.is_empty() {
            return Some(before);
        }
        self.read_in_turn(id, copies, before);
        None
    }

    /// Has copies of contents of which nothing was read, if there are any, read before the one that the file holds
    /// now. Nothing of that has been handed on; it will be read from its beginning.
    pub(super) fn read_missed_copies(&mut self, id: FileId) -> bool {
        let found = self.copies_since(id);
        let Some(file) = self.file_mut(id).filter(|_| !found.is_empty()) else { return false };
        file.position.start_over();
        self.pass_over(id, &found);
        self.read_in_turn(id, found.into_iter().map(|(_, copy)| copy).collect(), Position::at(0));
        true
    }

    /// Whether copies have come that may be of contents of the file of which nothing was read.
    pub(super) fn may_have_missed_copies(&mut self, id: FileId) -> bool {
        self.take_told();
        let last = self.successions.copies;
        self.file(id).is_some_and(|file| file.copies.after < last.min(file.copies.until))
    }

    /// Has copies read one after the other, the first one from a position on, and then the file.
    pub(super) fn read_in_turn(&mut self, id: FileId, copies: Vec<Found>, first: Position) {
        let Some(Source { path: name, number, .. }) = self.file(id).map(|file| Source::clone(&file.source))
        else {
            return;
        };
        let mut position = Some(first);
        let mut last = None;
        for found in copies {
            let position = position.take().unwrap_or_default();
            let start = position.read_to();
            let Some(copy) = self.add_generation(&name, found, position, None) else { continue };
            let Some(file) = self.file_mut(copy) else { continue };
            file.passing.copy_of = Some((id, start));
            file.passing.copy_of_number = Some(number);
            let copy_number = file.source.number;
            self.memory.read_before(number, copy_number);
            self.finish_at_end(copy);
            if let Some(last) = last {
                self.read_before(last, copy);
            }
            last = Some(copy);
        }
        if let Some(last) = last {
            self.read_before(last, id);
        }
    }

    /// The unread files that may be copies of what the file held, in the order in which they came. Not those that
    /// are followed, and not copies of what the file holds now.
    fn copies_since(&mut self, id: FileId) -> Vec<(u64, Found)> {
        let Some((directory, _)) = self.beside(id) else { return Vec::new() };
        let directory = FxHashSet::from_iter([directory]);
        let mut found = Vec::new();
        for _ in 0..siblings::TRIES {
            let places = self.copy_places(id);
            found = self.copies_at(id, &places);
            // Names may have moved on while they were opened.
            self.catch_up(&directory);
            if self.copy_places(id) == places {
                break;
            }
        }
        found
    }

    fn copies_at(&mut self, id: FileId, places: &[(u64, PathBuf)]) -> Vec<(u64, Found)> {
        let mut found = Vec::new();
        for (number, path) in places {
            if siblings::without_suffix(path).is_some_and(|plain| plain.exists()) {
                // The compressor has not finished; and its plain file may be no copy at all.
                continue;
            }
            let sibling = match Sibling::at(path) {
                Ok(Some(sibling)) => sibling,
                Ok(None) => continue,
                Err(error) => {
                    self.notice(error);
                    continue;
                }
            };
            if let Some(copy) = self.opened_from_start(&[sibling]).0.pop()
                // It had been found before it was told of.
                && self.let_go_before(&copy).is_none()
                // It is no copy of what was truncated.
                && !self.is_of_present(id, &copy.content)
            {
                found.push((*number, copy));
            }
        }
        found
    }

    /// The entry beside which copies of a file are made: that of the followed name which it bears or bore. It may
    /// have been renamed or removed since the copy was made.
    fn beside(&self, id: FileId) -> Option<Place> {
        let file = self.file(id)?;
        let name = self.by_path.get(&file.source.path).and_then(|name| self.names.get(name.0));
        let place = name.and_then(|name| name.places.last().cloned());
        place.or_else(|| Some((file.place.as_ref()?.0, file.source.path.file_name()?.into())))
    }

    /// Where files are that came beside a followed one under the names of its generations.
    fn copy_places(&self, id: FileId) -> Vec<(u64, PathBuf)> {
        let Some((directory, original)) = self.beside(id) else { return Vec::new() };
        let Some(directory) = self.directories.get(directory) else { return Vec::new() };
        let of_it = self.file(id).map_or(Copies::NONE, |file| file.copies);
        let mut copies: Vec<(u64, PathBuf)> = directory
            .entries
            .iter()
            .filter_map(|(name, entry)| match entry.bearer {
                Some(Bearer::Copy(number))
                    if of_it.contains(number) && siblings::is_generation(name, &original) =>
                {
                    Some((number, directory.path.join(&**name)))
                }
                _ => None,
            })
            .collect();
        copies.sort_unstable();
        copies
    }

    /// Up to the last of these, copies hold nothing more of the file that is to be read.
    fn pass_over(&mut self, id: FileId, copies: &[(u64, Found)]) {
        let Some(file) = self.file_mut(id) else { return };
        for (number, copy) in copies {
            file.copies.after = file.copies.after.max(*number);
            file.looked_ns = file.looked_ns.max(copy.sibling.last_ns().saturating_add(1));
        }
    }

    /// A truncation took nothing that had not been read: the copies made before it are of no use.
    pub(super) fn pass_over_copies(&mut self, id: FileId) {
        let found = self.copies_since(id);
        self.pass_over(id, &found);
    }

    /// Whether the content begins as the file does now.
    pub(super) fn is_of_present(&mut self, id: FileId, content: &Content) -> bool {
        self.present(id).is_some_and(|present| content.begins(present).unwrap_or(false))
    }

    /// What it is now.
    pub(super) fn present(&mut self, id: FileId) -> Option<&File> {
        let file = self.files.get_mut(id.0 as usize)?;
        self.descriptors.get(id, &mut file.path, file.identity).ok()
    }

    /// Copies that were there before their directory was listened to, by their times.
    fn older_copies(&mut self, id: FileId, before: &Position) -> Option<Vec<Found>> {
        let path = self.file(id)?.path.clone();
        let known = |identity: Identity| self.by_identity.contains_key(&identity);
        let found = match siblings::find(&path, &before.print, before.read_to(), &known) {
            Ok(found) => found?,
            Err(error) => {
                self.notice(error);
                return None;
            }
        };
        let siblings = siblings::rotated(&path).unwrap_or_default();
        let newer = siblings::newer_than(&siblings, &found.sibling);
        // Where the file itself was renamed since, those that came later are no copies of it.
        let itself = self.file(id)?.identity;
        let newer: Vec<Sibling> =
            newer.iter().take_while(|sibling| sibling.identity != itself).cloned().collect();
        let mut copies = vec![found];
        for copy in self.opened_from_start(&newer).0 {
            if !self.is_of_present(id, &copy.content) {
                copies.push(copy);
            }
        }
        Some(copies)
    }
}

/// Whether all that a copy holds was read; `None` where nothing is known of what it begins with.
pub(super) fn was_read(copy: &Found, position: &Position) -> Option<bool> {
    let Ok(length) = copy.content.length_to(position.read_to()) else { return Some(false) };
    if length >= position.read_to() {
        return Some(false);
    }
    if let Content::Plain(file) = &copy.content
        && position.trail.first().is_some_and(|first| first <= length)
    {
        return Some(position.trail.is_of(file, length).unwrap_or(false));
    }
    let first = position.print.first()?;
    if first.end <= length {
        return Some(copy.content.is_of(&position.print, length));
    }
    // Shorter than the first line, it is the beginning of that only if it is no line itself.
    first.is_at_front().then(|| copy.content.has_no_newline(length).unwrap_or(false))
}

#[cfg(test)]
mod tests;
