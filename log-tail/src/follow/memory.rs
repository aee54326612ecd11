//! Memory: what one run leaves to the next, and which open file that is.

use std::{
    collections::{VecDeque, hash_map::Entry},
    fs::{File, Metadata},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Follower, Identity, PatternId, compressed, print::Print, siblings::without_suffix};
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
    /// Copies that were made up to then are known, or hold nothing more that is to be read; in nanoseconds since 1970.
    /// Says something where nothing was acknowledged of what the file holds, or that is in no copy.
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
    /// Files in which reading went back to an earlier byte: each time that is not acknowledged yet.
    backs: FxHashMap<u64, VecDeque<Back>>,
    /// The copies that are read after one of those times. What was known before it finds them.
    copies: FxHashSet<u64>,
    /// Files whose checkpoint has to be written anew, though nothing was acknowledged: with where they start
    /// where they are new.
    pub touched: Vec<(u64, Option<u64>)>,
}

/// Reading went back in a file.
#[derive(Debug)]
struct Back {
    /// To this byte.
    to: u64,
    /// What is to be remembered until that is acknowledged: it leads to what its copies hold. What is acknowledged
    /// meanwhile is of the content that it is known by.
    before: Known,
    /// The copies that are read after it, and before the file.
    copies: Vec<u64>,
}

impl Memory {
    /// Whether the last run knew it, by whatever name.
    pub fn knows(&self, identity: Identity) -> bool {
        let mut known = self.by_path.values().flatten().chain(self.elsewhere.values());
        known.any(|known| known.identity == identity)
    }

    /// Reading went back in a file of which this was known.
    pub fn went_back(&mut self, before: Known, to: u64) {
        if self.is_kept {
            let backs = self.backs.entry(before.number).or_default();
            backs.push_back(Back { to, before, copies: Vec::new() });
        }
    }

    /// What stands for a file in which reading went back until that is acknowledged, where that leads to copies; and of
    /// what is acknowledged, how much there is still.
    fn before(&self, number: u64, offset: u64) -> (Option<Known>, u64) {
        let backs = self.backs.get(&number).into_iter().flatten();
        let leads_to_copies = |back: &Back| back.to == 0 || !back.copies.is_empty();
        let least = backs.clone().take_while(|back| !leads_to_copies(back)).map(|back| back.to).min();
        let first = backs.clone().next().filter(|_| backs.clone().any(leads_to_copies));
        (first.map(|back| back.before.clone()), least.map_or(offset, |least| offset.min(least)))
    }

    /// A copy is read before a file in which reading went back.
    pub fn read_before(&mut self, number: u64, copy: u64) {
        if let Some(back) = self.backs.get_mut(&number).and_then(VecDeque::back_mut) {
            back.copies.push(copy);
            self.copies.insert(copy);
        }
    }
}

impl Follower {
    /// It is acknowledged that reading went back in this file.
    pub fn back_acknowledged(&mut self, number: u64) {
        let Entry::Occupied(mut backs) = self.memory.backs.entry(number) else { return };
        for copy in backs.get_mut().pop_front().into_iter().flat_map(|back| back.copies) {
            self.memory.copies.remove(&copy);
            self.memory.touched.push((copy, None));
        }
        if backs.get().is_empty() {
            backs.remove();
        }
    }

    /// What was known of a file in the last run stands for the time at which it was last looked at, too.
    pub(super) fn looked_at_before(&mut self, id: FileId, known: &Known) {
        for back in self.memory.backs.get_mut(&known.number).into_iter().flatten() {
            back.before.looked_ns = known.looked_ns;
        }
        if let Some(file) = self.file_mut(id) {
            file.looked_ns = known.looked_ns;
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
    /// for a copy that what is known of its file leads to.
    pub fn checkpoint(&mut self, number: u64, offset: u64) -> Option<Known> {
        if self.memory.copies.contains(&number) {
            return None;
        }
        let (before, offset) = self.memory.before(number, offset);
        let id = self.by_number.get(&number).copied();
        if let Some(file) = id.and_then(|id| self.file_mut(id)).filter(|_| before.is_none() && offset > 0) {
            file.looked_at(now_ns());
        }
        let live = id.and_then(|id| self.file(id));
        let known = match (before, live) {
            (Some(before), live) => {
                let located = live.map_or_else(|| before.located.clone(), |file| file.path.to_path_buf());
                Some(Known { located, ..before })
            }
            (None, Some(live)) => Some(live.known()),
            (None, None) => self.memory.departed.get(&number).cloned().map(|mut departed| {
                if offset >= departed.offset {
                    self.memory.departed.remove(&number);
                } else {
                    departed.finished = false;
                }
                departed
            }),
        };
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
