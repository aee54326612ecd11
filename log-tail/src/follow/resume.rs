//! Resuming: where the last run got to in each file, and which file that is now.
//!
//! A file is known again by device and inode, provided that its birth and its content agree; otherwise by
//! content alone, also when it was compressed. What was rotated while nobody was looking is read first,
//! oldest first. Where the last run knew a name, whatever came to it since is read from its beginning.

use std::{
    collections::hash_map::Entry,
    fmt::Display,
    fs::{File, Metadata},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Follower, Identity, NameId, NotFollowable, PatternId, compressed,
    files::FollowedFile,
    identity,
    print::Print,
    reader::Position,
    siblings::{self, Content, Found, Sibling, without_suffix},
    start::Start,
    succession::{Bearer, ComerId, Earlier},
};
use crate::observe::FileId;

/// What is known of a file from one run to the next.
#[derive(Clone, Debug)]
pub struct Known {
    /// Stands for the file in all runs, and says which of two came first.
    pub number: u64,
    /// The followed name it bore.
    pub path: PathBuf,
    /// Where it was last found.
    pub located: PathBuf,
    /// Device, inode and birth.
    pub identity: Identity,
    /// What else tells it from a later file with the same inode number: `FS_IOC_GETVERSION`, where the
    /// filesystem knows it.
    pub generation: Option<u32>,
    /// Bytes that were acknowledged.
    pub offset: u64,
    /// What its content is recognised by.
    pub print: Print,
    /// When it was last known to exist, in seconds since 1970.
    pub seen_s: u64,
    /// It was read to its end and let go.
    pub finished: bool,
}

pub(super) fn generation(file: &File) -> Option<u32> {
    let mut generation: libc::c_long = 0;
    // SAFETY: this request writes an int, up to a long on some filesystems, to where its argument points.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETVERSION, &raw mut generation) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the number is an int")]
    (result == 0).then_some(generation as u32)
}

/// `_IOR('v', 1, long)`: include/uapi/linux/fs.h.
const FS_IOC_GETVERSION: libc::Ioctl =
    (2 << 30 | (size_of::<libc::c_long>() << 16) | (b'v' as usize) << 8 | 1) as libc::Ioctl;

/// What the last run knew and nobody has asked for yet.
#[derive(Debug, Default)]
pub(super) struct Memory {
    by_path: FxHashMap<PathBuf, Vec<Known>>,
    /// What was asked for and was not found by or beside its name: it may come to another followed name.
    elsewhere: FxHashMap<Identity, Known>,
    /// Of those, the numbers of which it is not known whether they are there: the next run is to look again.
    unsearched: FxHashSet<u64>,
    /// Numbers are given out from here on.
    pub next_number: u64,
    /// Whether anything is to be remembered.
    pub is_kept: bool,
    /// Files that were let go and not yet acknowledged to their end.
    pub departed: FxHashMap<u64, Known>,
    /// Files in which reading went back to an earlier byte, which is not acknowledged yet: how often, and to
    /// which at the least.
    backs: FxHashMap<u64, (u32, u64)>,
    /// Files whose checkpoint has to be written anew, though nothing was acknowledged: with where they start
    /// where they are new.
    pub touched: Vec<(u64, Option<u64>)>,
}

impl Memory {
    /// Reading went back: what is acknowledged until that is, is of a content that is no more.
    pub fn went_back(&mut self, number: u64, to: u64) {
        let (times, least) = self.backs.entry(number).or_insert((0, to));
        *times += 1;
        *least = to.min(*least);
    }
}

impl Follower {
    /// It is acknowledged that reading went back in this file.
    pub fn back_acknowledged(&mut self, number: u64) {
        if let Some((times, _)) = self.memory.backs.get_mut(&number) {
            *times -= 1;
            if *times == 0 {
                self.memory.backs.remove(&number);
            }
        }
    }

    /// What the last run knew; to be called before any name is added. Files are numbered from
    /// `next_number` on.
    pub fn remember(&mut self, known: Vec<Known>, next_number: u64) {
        for known in known {
            self.memory.by_path.entry(known.path.clone()).or_default().push(known);
        }
        for known in self.memory.by_path.values_mut() {
            known.sort_by_key(|known| known.number);
        }
        self.memory.next_number = next_number;
        self.memory.is_kept = true;
    }

    /// Names that the last run followed, that this pattern matches, and that nobody bears now.
    pub(super) fn remembered_matches(&self, pattern: PatternId) -> Vec<PathBuf> {
        let pattern = &self.patterns[pattern.0];
        let paths = self.memory.by_path.keys();
        paths
            .filter(|path| !self.by_path.contains_key(path.as_path()) && pattern.matches(path))
            .cloned()
            .collect()
    }

    /// Files that are new, or that bear another name now, since this was last asked: their numbers, and where
    /// new ones start.
    pub fn take_touched(&mut self) -> Vec<(u64, Option<u64>)> {
        std::mem::take(&mut self.memory.touched)
    }

    /// What is known of a file, which was acknowledged up to `offset`. `None` for one that was let go long ago.
    pub fn checkpoint(&mut self, number: u64, offset: u64) -> Option<Known> {
        // An offset in a content that is no more says nothing of the present one.
        let offset = self.memory.backs.get(&number).map_or(offset, |(_, least)| offset.min(*least));
        let live = self.by_number.get(&number).and_then(|id| self.file(*id)).map(FollowedFile::known);
        let known = live.or_else(|| {
            let mut departed = self.memory.departed.get(&number)?.clone();
            if offset >= departed.offset {
                self.memory.departed.remove(&number);
            } else {
                departed.finished = false;
            }
            Some(departed)
        });
        known.map(|mut known| {
            known.offset = offset;
            known.print.truncate_to(offset);
            known
        })
    }

    /// The numbers of all files that are followed.
    pub fn numbers(&self) -> Vec<u64> {
        self.by_number.keys().copied().collect()
    }

    /// The number for a file that nobody knows.
    pub(super) fn next_number(&mut self) -> u64 {
        self.memory.next_number += 1;
        self.memory.next_number - 1
    }

    /// What the last run knew of an open file, if it is certain to be that one.
    pub(super) fn recall(&mut self, path: &Path, file: &File, metadata: &Metadata) -> Option<Known> {
        if self.memory.by_path.is_empty() && self.memory.elsewhere.is_empty() {
            return None;
        }
        let identity = Identity::of(metadata);
        let generation = generation(file);
        if let Entry::Occupied(known) = self.memory.elsewhere.entry(identity)
            && known.get().generation == generation
            && !is_packed(&known.get().path, path, file)
        {
            return Some(known.remove());
        }
        let is_it = |known: &Known| {
            known.identity == identity
                && known.generation == generation
                && !is_packed(&known.path, path, file)
        };
        let path = if self.memory.by_path.get(path).is_some_and(|known| known.iter().any(is_it)) {
            path.to_owned()
        } else {
            // It bore another followed name.
            let others = &self.memory.by_path;
            others.iter().find(|(_, known)| known.iter().any(is_it)).map(|(path, _)| path.clone())?
        };
        let list = self.memory.by_path.get_mut(&path)?;
        let known = list.remove(list.iter().position(is_it)?);
        if list.is_empty() {
            self.memory.by_path.remove(&path);
        }
        Some(known)
    }

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
        // Nothing came after the file that bears the name now.
        let mut since: Option<Option<Since>> = None;
        // Those that were found and not read: by nothing but their inodes. Where they belong, and after which file.
        let mut unread = Vec::new();
        let mut gap = None;
        let mut line = Vec::new();
        for known in &list {
            let found = self.find_known(&path, known, &siblings);
            if found.is_none() && known.offset == 0 && !known.finished {
                unread.push(known.clone());
                let came_after = since.clone().unwrap_or(Some(Since { sibling: None, seen_s: known.seen_s }));
                gap.get_or_insert((line.len(), came_after));
            } else if found.is_none() {
                self.memory.elsewhere.insert(known.identity, known.clone());
            }
            since = Some(match &found {
                Some((file, None)) if self.file(*file).is_some_and(|file| file.path == path) => None,
                Some((_, sibling)) => Some(Since { sibling: sibling.clone(), seen_s: known.seen_s }),
                None => Some(Since { sibling: None, seen_s: known.seen_s }),
            });
            line.extend(found.map(|(file, _)| file));
        }
        if let Some((at, Some(since))) = gap {
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
        if let Some(Some(since)) = since {
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
        let line = self.names.get(id.0).map(|name| name.line.clone()).unwrap_or_default();
        for bearer in line {
            let number = self.next_number();
            if let Bearer::Comer(ComerId(comer)) = bearer
                && let Some(comer) = self.successions.comers.get_mut(comer)
            {
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
    // By its place among them; or by its time alone, because times that are too near, or of a file that is
    // still written to, put it in the wrong place.
    let last = since.sibling.as_ref().map(|last| siblings::newer_than(siblings, last).len());
    let seen_ns = i128::from(since.seen_s) * 1_000_000_000;
    let is_newer = |(at, sibling): &(usize, &Sibling)| {
        last.is_some_and(|newer| *at >= siblings.len() - newer) || sibling.modified_ns >= seen_ns
    };
    // One that was read in the last run may have been compressed since, and is another inode now.
    let was_read = |sibling: &Sibling| {
        known.iter().any(|known| siblings::is_of(sibling, &known.print, known.offset).unwrap_or(false))
    };
    let newer = siblings.iter().enumerate().filter(is_newer).map(|(_, sibling)| sibling);
    newer.filter(|sibling| !was_read(sibling)).cloned().collect()
}

/// After which file those that are not known came.
#[derive(Clone)]
struct Since {
    sibling: Option<Sibling>,
    seen_s: u64,
}

/// Whether the file holds, compressed, what bore the followed name: an offset that is known of it is one in its content,
/// and is found by that.
fn is_packed(followed: &Path, place: &Path, file: &File) -> bool {
    without_suffix(place).is_some()
        && without_suffix(followed).is_none()
        && compressed::Kind::of(file).is_ok_and(|kind| kind.is_some())
}

#[cfg(test)]
mod tests;
