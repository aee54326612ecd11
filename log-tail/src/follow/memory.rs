//! Memory: what one run leaves to the next, and which open file that is.

use std::{
    collections::hash_map::Entry,
    fs::{File, Metadata},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Follower, Identity, PatternId, compressed, files::FollowedFile, print::Print, siblings::without_suffix,
};

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
    /// Copies that were made up to then are known, or hold nothing more that is to be read; in nanoseconds since 1970.
    /// Says something where nothing was acknowledged of what the file holds.
    pub looked_ns: u64,
    /// The number of the file that it is a copy of: it comes before that.
    pub copy_of: Option<u64>,
    /// It was read to its end and let go.
    pub finished: bool,
}

/// What the kernel would note as the time of birth of a file that is made now, in nanoseconds since 1970: it goes by
/// ticks, of 4 ms on most kernels.
pub(super) fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME_COARSE)
        .map_or(0, |now| u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX))
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
    pub by_path: FxHashMap<PathBuf, Vec<Known>>,
    /// What was asked for and was not found by or beside its name: it may come to another followed name.
    pub elsewhere: FxHashMap<Identity, Known>,
    /// Of those, the numbers of which it is not known whether they are there: the next run is to look again.
    pub unsearched: FxHashSet<u64>,
    /// Numbers are given out from here on.
    pub next_number: u64,
    /// Whether anything is to be remembered.
    pub is_kept: bool,
    /// Files that were let go and not yet acknowledged to their end.
    pub departed: FxHashMap<u64, Known>,
    /// Files in which reading went back to an earlier byte, which is not acknowledged yet: how often, and to
    /// which at the least.
    backs: FxHashMap<u64, (u32, u64)>,
    /// The copies that are read before such a file, by its number. What is known of it finds them, as long as that stands.
    copies: FxHashMap<u64, Vec<u64>>,
    /// Of which of those files one is a copy.
    copied: FxHashMap<u64, u64>,
    /// Files whose checkpoint has to be written anew, though nothing was acknowledged: with where they start
    /// where they are new.
    pub touched: Vec<(u64, Option<u64>)>,
}

impl Memory {
    /// Whether the last run knew it, by whatever name.
    pub fn knows(&self, identity: Identity) -> bool {
        let mut known = self.by_path.values().flatten().chain(self.elsewhere.values());
        known.any(|known| known.identity == identity)
    }

    /// Reading went back: what is acknowledged until that is, is of a content that is no more.
    pub fn went_back(&mut self, number: u64, to: u64) {
        if !self.is_kept {
            return;
        }
        let (times, least) = self.backs.entry(number).or_insert((0, to));
        *times += 1;
        *least = to.min(*least);
    }

    /// A copy is read before a file in which reading went back.
    pub fn read_before(&mut self, number: u64, copy: u64) {
        if self.backs.contains_key(&number) {
            self.copies.entry(number).or_default().push(copy);
            self.copied.insert(copy, number);
        }
    }

    /// Whether what was known of a file is to stand: it is what leads to what its copies hold, of which the output has
    /// not taken everything that came before reading went back to the beginning.
    fn stands(&self, number: u64) -> bool {
        let is_back = |number: u64| self.backs.get(&number).is_some_and(|(_, least)| *least == 0);
        is_back(number) || self.copied.get(&number).is_some_and(|of| is_back(*of))
    }
}

impl Follower {
    /// It is acknowledged that reading went back in this file.
    pub fn back_acknowledged(&mut self, number: u64) {
        if let Some((times, _)) = self.memory.backs.get_mut(&number) {
            *times -= 1;
            if *times == 0 {
                self.memory.backs.remove(&number);
                for copy in self.memory.copies.remove(&number).unwrap_or_default() {
                    self.memory.copied.remove(&copy);
                    self.memory.touched.push((copy, None));
                }
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
            known.sort_by_key(|known| {
                (known.copy_of.unwrap_or(known.number), known.copy_of.is_none(), known.number)
            });
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

    /// What is known of a file, which was acknowledged up to `offset`. `None` for one that was let go long ago, and
    /// where what was known before still stands.
    pub fn checkpoint(&mut self, number: u64, offset: u64) -> Option<Known> {
        if self.memory.stands(number) {
            return None;
        }
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
}

/// Whether the file holds, compressed, what bore the followed name: an offset that is known of it is one in its content,
/// and is found by that.
pub(super) fn is_packed(followed: &Path, place: &Path, file: &File) -> bool {
    without_suffix(place).is_some()
        && without_suffix(followed).is_none()
        && compressed::Kind::of(file).is_ok_and(|kind| kind.is_some())
}
