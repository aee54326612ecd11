//! Resuming: where the last run got to in each file that bore a name, and which file that is now.
//!
//! A file is known again by device and inode, provided that its birth and its content agree; otherwise by
//! content alone, also when it was compressed. What was rotated while nobody was looking is read first,
//! oldest first. Where the last run knew a name, whatever came to it since is read from its beginning.

use std::{fmt::Display, path::Path};

use super::{
    Follower, Identity, NameId, NotFollowable,
    copies::was_read,
    files::FollowedFile,
    identity,
    memory::{Known, generation, is_packed},
    reader::Position,
    siblings::{self, Content, Found, Sibling},
    start::Start,
    succession::{Bearer, ComerId, Earlier},
};
use crate::observe::FileId;

impl Follower {
    /// Has what the last run had not read of a name's earlier files read first. `false` where it did not know
    /// the name.
    pub(super) fn resume(&mut self, id: NameId) -> bool {
        let Some(path) = self.names.get(id.0).map(|name| name.path.clone()) else { return false };
        let Some(list) = self.memory.by_path.get(&*path).cloned() else { return false };
        // Before anybody looks: what becomes of the file that bears the name now, the hints will tell.
        let is_expected = self.expect_comer(id);
        let siblings = siblings::rotated(&path).unwrap_or_else(|error| {
            self.notice(error);
            self.memory.unsearched.extend(list.iter().map(|known| known.number));
            Vec::new()
        });
        let mut since = None;
        // Those that were found and not read: by nothing but their inodes. Where they belong, and after which file.
        let mut unread = Vec::new();
        let mut gap = None;
        let mut line = Vec::new();
        let mut present = None;
        // The last file that may have been copied and truncated, and since when copies of it are unread.
        let mut copied_file = None;
        for known in &list {
            let found = self.find_known(&path, known, &siblings);
            if found.is_none() && known.offset == 0 && !known.finished {
                unread.push(known.clone());
                if present.is_none() {
                    let came_after = since.clone().unwrap_or_else(|| Since::generations(None, known));
                    gap.get_or_insert((line.len(), came_after));
                }
            } else if found.is_none() {
                self.memory.elsewhere.insert(known.identity, known.clone());
            }
            let bearer = found.as_ref().filter(|(_, sibling)| sibling.is_none()).map(|(file, _)| *file);
            let bearer = bearer.filter(|file| self.file(*file).is_some_and(|file| *file.path == *path));
            let sibling = found.as_ref().and_then(|(_, sibling)| sibling.clone());
            if bearer.is_some() {
                present = bearer;
            } else {
                since = Some(Since::generations(sibling.clone(), known));
            }
            let has_copies = bearer.is_some() || (present.is_none() && sibling.is_some());
            if let Some((file, _)) = found.as_ref().filter(|_| has_copies) {
                copied_file = self.unread_copies(*file, known, sibling).map(|since| (*file, known, since));
            }
            if let Some((file, _)) = &found {
                // Until copies are followed, the next run is to find them.
                self.looked_at_before(*file, known);
                if let Some(file) = self.file_mut(*file).filter(|_| known.copy_of.is_some()) {
                    file.passing.copy_of_number = known.copy_of;
                }
            }
            line.extend(found.map(|(file, _)| file));
        }
        if let Some((at, since)) = gap {
            // Plain ones are known by their inodes.
            let mut found = self.generations_since(&path, siblings.clone(), &since, &list);
            found.retain(|found| matches!(found.content, Content::Compressed(_)));
            for (at, (known, found)) in (at..).zip(unread.drain(..found.len().min(unread.len())).zip(found)) {
                if let Some(file) = self.add_generation(&path, found, Position::at(0), Some(known.number)) {
                    line.insert(at, file);
                }
            }
        }
        if let Some(name) = self.names.get_mut(id.0) {
            name.line.splice(0..0, line.into_iter().map(Bearer::File));
        }
        self.advance(id);
        let unread_copies = copied_file.map(|(file, known, since)| {
            let found = self.copies_made_since(&path, siblings.clone(), &since, (file, known), &list);
            (file, found)
        });
        if let Some(file) = present {
            // Nothing came after it but copies of it.
            if let Some((_, copies)) = unread_copies.filter(|(_, copies)| !copies.is_empty()) {
                self.came_before(file, copies);
            }
        } else if let Some(since) = since {
            if let Some((file, copies)) = unread_copies {
                self.read_in_turn(file, copies, Position::at(0));
            }
            let mut earlier = Vec::new();
            for found in self.generations_since(&path, siblings, &since, &list) {
                let (position, number) = self.known_of(&path, &found);
                let is_new = number.is_none();
                let file = self.add_generation(&path, found, position, number);
                earlier.extend(file.map(|file| Earlier { file, is_new }));
            }
            self.bore_earlier(id, earlier);
        }
        if is_expected {
            self.number_anew(id);
        }
        // Some may have been found after all, by what they were renamed to meanwhile.
        for known in unread.into_iter().filter(|known| !self.by_identity.contains_key(&known.identity)) {
            self.memory.elsewhere.insert(known.identity, known);
        }
        self.memory.by_path.remove(&*path);
        true
    }

    /// Since when copies of a file are unread, where nothing but that tells which they are. `sibling`: where it bears the
    /// name no more.
    fn unread_copies(&self, id: FileId, known: &Known, sibling: Option<Sibling>) -> Option<Since> {
        let is_known = |file: &FollowedFile| file.waits_for > 0 || file.position.handed_on() > 0;
        if known.offset > 0 && self.file(id).is_some_and(is_known) {
            return None;
        }
        // Nothing was read of it; or what was is in no copy, so nothing else tells which are of what it held later.
        let time_ns = known.looked_ns.into();
        Some(Since { sibling, time_ns, is_for_copies: true })
    }

    /// The copies of a file that were made since, oldest first.
    fn copies_made_since(
        &mut self,
        path: &Path,
        siblings: Vec<Sibling>,
        since: &Since,
        (id, known): (FileId, &Known),
        all: &[Known],
    ) -> Vec<Found> {
        let mut copies = self.generations_since(path, siblings, since, all);
        let before = Position::known(known.offset, known.print.clone());
        copies.retain(|copy| was_read(copy, &before) != Some(true));
        // One that was made of what it holds still is none of what it held. And one may have borne another followed name.
        copies.retain(|copy| {
            !self.memory.knows(copy.sibling.identity) && !self.is_of_present(id, &copy.content)
        });
        copies
    }

    /// Where to read on in a generation that nobody knows by this name: it may have borne another followed one.
    fn known_of(&mut self, path: &Path, found: &Found) -> (Position, Option<u64>) {
        let Content::Plain(file) = &found.content else { return (Position::at(0), None) };
        let known = file.metadata().ok().and_then(|metadata| self.recall(path, file, &metadata));
        known.map_or((Position::at(0), None), |known| {
            (Position::known(known.offset, known.print), Some(known.number))
        })
    }

    /// Says which of the last run's files are nowhere by or beside a followed name: once, not in every run.
    pub(super) fn report_missed(&mut self) {
        let mut missed = Vec::new();
        for known in self.memory.elsewhere.values_mut() {
            if self.memory.unsearched.contains(&known.number) {
                continue;
            }
            // Where it comes to a followed name later, it is known all the same.
            if !std::mem::replace(&mut known.finished, true) {
                missed.push(known.clone());
            }
        }
        missed.sort_unstable_by_key(|known| known.number);
        for known in missed {
            self.counts.missed_files += 1;
            self.notice(format_args!(
                "the file that bore '{}' when log-tail last ran is gone; what it had not read of it behind \
                 byte {} is lost",
                known.path.display(),
                known.offset
            ));
            self.memory.touched.push((known.number, Some(known.offset)));
            self.memory.departed.insert(known.number, known);
        }
    }

    /// What is expected at the name came after all that were found.
    fn number_anew(&mut self, id: NameId) {
        for ComerId(comer) in self.comers_of(id).collect::<Vec<_>>() {
            let number = self.next_number();
            if let Some(comer) = self.successions.comers.get_mut(comer) {
                comer.number = number;
            }
        }
    }

    /// The file the last run knew, wherever it is by now, and which of the siblings that is.
    fn find_known(
        &mut self,
        path: &Path,
        known: &Known,
        siblings: &[Sibling],
    ) -> Option<(FileId, Option<Sibling>)> {
        // By identity, where it should be and wherever its siblings are.
        let beside = siblings.iter().find(|sibling| sibling.identity == known.identity);
        for place in [Some(path), Some(&*known.located), beside.map(|sibling| &*sibling.path)] {
            let Some(place) = place else { continue };
            let (file, metadata) = match identity::open(place) {
                Ok(found) => found,
                Err(NotFollowable::Missing(_)) => continue,
                Err(error) => {
                    self.not_searched(known, &error);
                    continue;
                }
            };
            if Identity::of(&metadata) == known.identity
                && known.generation == generation(&file)
                && !is_packed(path, place, &file)
            {
                let id = self.take_up(path, file, &metadata, Start::FromByte(1), false, None).ok()?;
                if let Some(file) = self.file_mut(id) {
                    file.path = place.into();
                }
                return Some((id, beside.cloned()));
            }
        }
        if known.finished || known.offset == 0 {
            return None;
        }
        // By content: it was moved to another filesystem, restored, copied and truncated, or compressed.
        if let Ok((file, metadata)) = identity::open(path)
            && !self.by_identity.contains_key(&Identity::of(&metadata))
            && known.print.is_of(&file, known.offset).unwrap_or(false)
        {
            let position = Position::known(known.offset, known.print.clone());
            return Some((self.insert_file(path, file, &metadata, position, known.number), None));
        }
        let by_identity = &self.by_identity;
        let not = |identity: Identity| by_identity.contains_key(&identity);
        match siblings::find(path, &known.print, known.offset, &not) {
            Ok(found) => {
                let found = found?;
                let sibling = found.sibling.clone();
                Some((self.take_up_known(path, found, known)?, Some(sibling)))
            }
            Err(error) => {
                self.not_searched(known, &error);
                None
            }
        }
    }

    /// It may be there: that nobody could look says nothing about it.
    fn not_searched(&mut self, known: &Known, error: &dyn Display) {
        if self.memory.unsearched.insert(known.number) && !known.finished {
            self.notice(format_args!(
                "{error}: what the last run had not read of the file that bore '{}' is looked for again in the next run",
                known.path.display()
            ));
        }
    }

    fn take_up_known(&mut self, path: &Path, found: Found, known: &Known) -> Option<FileId> {
        let position = Position::known(known.offset, known.print.clone());
        self.add_generation(path, found, position, Some(known.number))
    }

    /// The generations that came after those that the last run knew, oldest first.
    ///
    /// They may be rotated on while they are opened: then the names have moved, and all is looked at again.
    fn generations_since(
        &mut self,
        path: &Path,
        mut siblings: Vec<Sibling>,
        since: &Since,
        known: &[Known],
    ) -> Vec<Found> {
        let mut tries = siblings::TRIES;
        loop {
            let (found, moved) = self.opened_from_start(&unread(&siblings, since, known));
            tries -= 1;
            // Listing a directory while names in it move may leave one out.
            let now = siblings::rotated(path).unwrap_or_default();
            let is_new = |sibling: &Sibling| !siblings.iter().any(|other| other.identity == sibling.identity);
            let moves_on = moved || now.iter().any(is_new);
            if tries == 0 && moves_on {
                self.notice(format_args!(
                    "the files beside '{}' were renamed faster than they could be listed; some that were rotated \
                     while log-tail did not run may be missing",
                    path.display()
                ));
            }
            if tries == 0 || !moves_on {
                return found;
            }
            siblings = now;
        }
    }
}

/// Those that the last run had not read.
fn unread(siblings: &[Sibling], since: &Since, known: &[Known]) -> Vec<Sibling> {
    let last = since.sibling.as_ref();
    let newer = last.map_or(&[][..], |last| siblings::newer_than(siblings, last));
    let is_newer = |sibling: &Sibling| {
        if since.is_for_copies {
            let made_ns = sibling.born_ns.unwrap_or(i128::MAX).min(sibling.modified_ns);
            return made_ns >= since.time_ns
                && last.is_none_or(|file| siblings::is_older(siblings, sibling, file));
        }
        // By its place among them; or by its time alone, because times that are too near, or of a file that is
        // still written to, put it in the wrong place.
        newer.iter().any(|newer| newer.same_inode(sibling)) || sibling.modified_ns >= since.time_ns
    };
    // One that was read in the last run may have been compressed since, and is another inode now.
    let was_read = |sibling: &Sibling| {
        // Most are what they were: no other content is to be looked at for those.
        let (itself, others): (Vec<_>, Vec<_>) =
            known.iter().partition(|known| known.identity == sibling.identity);
        let is_it = |known: &Known| siblings::is_of(sibling, &known.print, known.offset).unwrap_or(false);
        itself.into_iter().chain(others).any(is_it)
    };
    siblings.iter().filter(|sibling| is_newer(sibling) && !was_read(sibling)).cloned().collect()
}

/// After which file those that are not known came; or of which one they are copies.
#[derive(Clone)]
struct Since {
    sibling: Option<Sibling>,
    /// Or that were written to at this time or later, in nanoseconds since 1970.
    time_ns: i128,
    /// And made then, too: nothing but copies is looked for. Where their file bears another name now, they were made before.
    is_for_copies: bool,
}

impl Since {
    fn generations(sibling: Option<Sibling>, known: &Known) -> Self {
        Self { sibling, time_ns: i128::from(known.seen_s) * 1_000_000_000, is_for_copies: false }
    }
}

#[cfg(test)]
mod tests;
