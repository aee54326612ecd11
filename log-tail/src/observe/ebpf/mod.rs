//! The kernel program as an observer: which inodes have a doorbell, and what the ring says of them.
//!
//! While it runs, nothing else watches: no inotify watch and no descriptor a file. A file costs one
//! element of a hash map and one 64-byte doorbell.

pub mod btf;
pub mod cost;
pub mod doorbell;
pub mod events;
mod fdinfo;
pub mod hooks;
pub mod load;
mod preempt;
pub mod ring;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya_log::EbpfLogger;
use log_tail_common::{Counters, InodeKey, RESERVED_SLOTS, SKIPPED_SLOT};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustc_hash::FxHashMap;

use self::{
    cost::Cost,
    doorbell::Doorbells,
    hooks::{LAST_CLOSE, NOTIFY_CHANGE},
    load::{Attached, LoadError, LoadOptions, Telling},
    ring::{Record, Written},
};
use crate::say::say;

use super::{
    Answer, Backend, Claim, DirectoryId, FileId, Hint, Interest, ObserveError, Observer, Reach, Skipped,
    key::Keys, writer::Writers,
};

/// Records taken from the ring before the loop gets its turn: a busy ring never yields by itself.
const RECORDS_A_DRAIN: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    File(FileId),
    Directory(DirectoryId),
}

/// The running kernel program and what its doorbells stand for.
pub struct EbpfObserver {
    /// Holds programs and links: the kernel program ends with it.
    _ebpf: aya::Ebpf,
    hooks: Vec<Attached>,
    followed: HashMap<MapData, InodeKey, u32>,
    /// Those whose last writer is awaited.
    closing: HashMap<MapData, InodeKey, u32>,
    doorbells: Doorbells,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, Counters>,
    logger: EbpfLogger<KernelLog>,
    keys: Keys,
    writers: Writers,
    tells_writers: bool,
    /// What each doorbell stands for. More than one target where the kernel gives two files one key, as btrfs does in
    /// different subvolumes that are not told apart: both are looked at.
    targets: Vec<Vec<Target>>,
    free: Vec<u32>,
    slots: FxHashMap<InodeKey, u32>,
    files: FxHashMap<FileId, InodeKey>,
    /// Bytes that had been cut off already when a file came to a doorbell that another one has too.
    cut_off_before: FxHashMap<FileId, u64>,
    directories: FxHashMap<DirectoryId, InodeKey>,
    /// What was known of the events that the kernel skipped when they were last asked for.
    skipped: SkippedEvents,
    /// The kernel keeps statistics as long as this is open.
    statistics: Option<OwnedFd>,
}

/// Events that the kernel did not run a program for, since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SkippedEvents {
    writes: u64,
    others: u64,
}

/// Prints what the kernel program logs about itself.
struct KernelLog;

impl log::Log for KernelLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        say(format_args!("kernel program: {}: {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

impl EbpfObserver {
    /// Loads the kernel program.
    ///
    /// # Errors
    /// [`LoadError`] says what this kernel refused.
    pub fn new(options: LoadOptions) -> Result<Self, LoadError> {
        let mut loaded = load::load(options)?;
        let (memory, capacity) = (LoadError::Memory, loaded.capacity);
        let logger = EbpfLogger::init_with_logger(&mut loaded.ebpf, KernelLog)
            .map_err(|error| memory(io::Error::other(error)))?;
        let Map::Array(doorbells) = loaded.take_map("DOORBELLS")? else {
            return Err(memory(io::Error::other("DOORBELLS is no array")));
        };
        let doorbells = Doorbells::map(doorbells.fd().as_fd(), capacity).map_err(memory)?;
        Ok(Self {
            followed: loaded.take("FOLLOWED")?,
            closing: loaded.take("CLOSING")?,
            ring: loaded.take("HINTS")?,
            counters: loaded.take("COUNTERS")?,
            logger,
            keys: Keys::new(loaded.tells_subvolumes).map_err(memory)?,
            writers: Writers::new(),
            tells_writers: options.telling == Telling::HintsAndWriters,
            targets: vec![Vec::new(); capacity as usize],
            free: (RESERVED_SLOTS..capacity).rev().collect(),
            slots: FxHashMap::default(),
            files: FxHashMap::default(),
            cut_off_before: FxHashMap::default(),
            directories: FxHashMap::default(),
            skipped: SkippedEvents::default(),
            statistics: options
                .measure_cost
                .then(cost::keep_statistics)
                .transpose()
                .map_err(LoadError::Statistics)?,
            doorbells,
            hooks: loaded.hooks,
            _ebpf: loaded.ebpf,
        })
    }

    /// Every hook, with what became of it.
    pub fn hooks(&self) -> &[Attached] {
        &self.hooks
    }

    fn follow(&mut self, target: Target, of: BorrowedFd<'_>, path: &Path) -> Result<InodeKey, ObserveError> {
        let system = |source| ObserveError::System { path: path.to_owned(), source };
        let key = self.keys.of(of).map_err(system)?;
        if let Some(slot) = self.slots.get(&key) {
            let targets = &mut self.targets[*slot as usize];
            if !targets.contains(&target) {
                targets.push(target);
            }
            return Ok(key);
        }
        let full = ObserveError::Full { capacity: self.doorbells.capacity() - RESERVED_SLOTS };
        let slot = self.free.pop().ok_or(full)?;
        self.doorbells.reset(slot);
        if let Err(error) = self.followed.insert(key, slot, 0) {
            self.free.push(slot);
            return Err(system(io::Error::other(error)));
        }
        self.targets[slot as usize].push(target);
        self.slots.insert(key, slot);
        Ok(key)
    }

    fn leave(&mut self, key: InodeKey, target: Target) {
        let Some(slot) = self.slots.get(&key).copied() else { return };
        let targets = &mut self.targets[slot as usize];
        targets.retain(|other| *other != target);
        if targets.is_empty() {
            // A program that has looked the doorbell up already may still ring it: the hint is then
            // answered by whichever inode has it next, which finds nothing new.
            let _ = self.followed.remove(&key);
            let _ = self.closing.remove(&key);
            self.slots.remove(&key);
            self.free.push(slot);
        }
    }

    fn is_attached(&self, function: &str) -> bool {
        let mut hooks = self.hooks.iter().filter(|attached| attached.hook.function == function);
        hooks.all(|attached| attached.missing.is_none())
    }

    fn skipped_events(&self) -> SkippedEvents {
        let mut skipped = SkippedEvents::default();
        for Attached { hook, program, .. } in &self.hooks {
            let misses = program.and_then(preempt::misses).unwrap_or(0);
            *(if hook.sees_writes() { &mut skipped.writes } else { &mut skipped.others }) += misses;
        }
        skipped
    }

    /// It was told that the last writer has closed this inode: the next one is not awaited.
    fn stop_closing(&mut self, slot: u32) {
        for target in self.targets.get(slot as usize).into_iter().flatten() {
            if let Target::File(file) = target
                && let Some(key) = self.files.get(file)
            {
                let _ = self.closing.remove(key);
            }
        }
    }

    fn cut_off_since(&self, id: FileId, cut_off_bytes: u64) -> u64 {
        cut_off_bytes.saturating_sub(self.cut_off_before.get(&id).copied().unwrap_or(0))
    }

    /// Whether it stands for several files: nobody can say which of them somebody wrote to.
    fn is_shared(&self, slot: u32) -> bool {
        let targets = self.targets.get(slot as usize).into_iter().flatten();
        targets.filter(|target| matches!(target, Target::File(_))).count() > 1
    }

    fn slot(&self, id: FileId) -> Option<u32> {
        self.slots.get(self.files.get(&id)?).copied()
    }

    fn translate(&mut self, record: &Record, hints: &mut Vec<Hint>) {
        let slot = match record {
            Record::Overflow => return hints.push(Hint::LookAtEverything),
            Record::Skipped => return hints.push(Hint::Skipped),
            Record::Append { slot, .. }
            | Record::Written { slot, .. }
            | Record::Close { slot }
            | Record::Truncate { slot, .. }
            | Record::Move { slot }
            | Record::Unlink { slot }
            | Record::Entry { slot, .. } => *slot,
        };
        if let Record::Close { .. } = record {
            self.stop_closing(slot);
        }
        let by = match record {
            Record::Append { by: Some(by), .. } | Record::Written { by, .. } => Some(&**by),
            _ => None,
        };
        let by = by.filter(|_| !self.is_shared(slot)).map(|Written { bytes, last, writer }| {
            let last = Claim::decoded(*last, bytes.from);
            (self.writers.of(writer), bytes.from..bytes.to, last)
        });
        for target in self.targets.get(slot as usize).into_iter().flatten() {
            if let (Target::File(file), Some((writer, bytes, last))) = (*target, &by) {
                let (writer, bytes, last) = (Arc::clone(writer), bytes.clone(), *last);
                hints.push(Hint::Written { file, writer, bytes, last });
            }
            hints.extend(match (*target, record) {
                (Target::File(file), Record::Append { time_ns, .. }) => {
                    Some(Hint::Appended { file, time_ns: Some(*time_ns) })
                }
                (Target::File(file), Record::Close { .. }) => Some(Hint::Closed { file }),
                (Target::File(file), Record::Truncate { cut_off_bytes, .. }) => {
                    Some(Hint::Truncated { file, cut_off_bytes: self.cut_off_since(file, *cut_off_bytes) })
                }
                (Target::File(file), Record::Move { .. }) => Some(Hint::Moved { file }),
                (Target::File(file), Record::Unlink { .. }) => Some(Hint::Unlinked { file }),
                (Target::Directory(directory), Record::Entry { name, change, .. }) => {
                    Some(Hint::Entry { directory, name: name.clone(), change: *change })
                }
                (Target::Directory(directory), Record::Move { .. } | Record::Unlink { .. }) => {
                    Some(Hint::DirectoryGone { directory })
                }
                // A doorbell that went from a file to a directory, or back, with a hint on its way.
                _ => None,
            });
        }
    }
}

impl Observer for EbpfObserver {
    fn backend(&self) -> Backend {
        Backend::Ebpf
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    fn follow_file(&mut self, id: FileId, file: BorrowedFd<'_>, _: Reach) -> Result<(), ObserveError> {
        if !self.files.contains_key(&id) {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let key = self.follow(Target::File(id), file, Path::new(&path))?;
            self.files.insert(id, key);
            let cut_off = self.slot(id).map_or(0, |slot| self.doorbells.cut_off_bytes(slot));
            if cut_off > 0 {
                self.cut_off_before.insert(id, cut_off);
            }
        }
        Ok(())
    }

    fn leave_file(&mut self, id: FileId) {
        self.cut_off_before.remove(&id);
        if let Some(key) = self.files.remove(&id) {
            self.leave(key, Target::File(id));
        }
    }

    fn follow_directory(
        &mut self,
        id: DirectoryId,
        path: &Path,
        directory: BorrowedFd<'_>,
        _: Interest,
    ) -> Result<(), ObserveError> {
        let key = self.follow(Target::Directory(id), directory, path)?;
        self.directories.insert(id, key);
        Ok(())
    }

    fn leave_directory(&mut self, id: DirectoryId) {
        if let Some(key) = self.directories.remove(&id) {
            self.leave(key, Target::Directory(id));
        }
    }

    fn answer(&mut self, id: FileId, near: u64) -> Answer {
        let Some(slot) = self.slot(id) else { return Answer::default() };
        let answer = self.doorbells.answer(slot, near);
        let answer = Answer { cut_off_bytes: self.cut_off_since(id, answer.cut_off_bytes), ..answer };
        if self.is_shared(slot) { Answer { written: None, by_several: true, ..answer } } else { answer }
    }

    fn tell_close(&mut self, id: FileId) -> bool {
        let Some((key, slot)) = self.files.get(&id).and_then(|key| Some((*key, *self.slots.get(key)?)))
        else {
            return false;
        };
        self.is_attached(LAST_CLOSE) && self.closing.insert(key, slot, 0).is_ok()
    }

    fn tells_writers(&self) -> bool {
        self.tells_writers
    }

    fn claim(&self, id: FileId, near: u64) -> Option<Claim> {
        let slot = self.slot(id).filter(|slot| !self.is_shared(*slot))?;
        self.doorbells.claim(slot, near)
    }

    fn tells_truncations(&self) -> bool {
        self.is_attached(NOTIFY_CHANGE)
    }

    fn may_mistake(&self, open: BorrowedFd<'_>) -> bool {
        self.keys.may_be_of_two(open)
    }

    fn truncated_since(&self, id: FileId) -> bool {
        self.slot(id).is_some_and(|slot| self.doorbells.truncated(slot))
    }

    fn is_being_truncated(&self, id: FileId) -> bool {
        self.slot(id).is_some_and(|slot| self.doorbells.is_being_truncated(slot))
    }

    fn drain(&mut self, hints: &mut Vec<Hint>) -> io::Result<bool> {
        for _ in 0..RECORDS_A_DRAIN {
            let Some(record) = self.ring.next().map(|item| ring::decode(&item)) else {
                // Asked after the ring was seen empty: the kernel program rings before it tries again.
                if self.doorbells.overflowed() {
                    hints.push(Hint::LookAtEverything);
                }
                return Ok(false);
            };
            self.translate(&record.map_err(io::Error::other)?, hints);
        }
        Ok(true)
    }

    fn is_telling(&self) -> bool {
        // The ring is drained up to a record that is reserved and not yet submitted; poll(2) counts that one.
        let mut ring = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        poll(&mut ring, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn events(&self) -> Option<Counters> {
        let cpus = self.counters.get(&0, 0).ok()?;
        Some(cpus.iter().fold(Counters::default(), |sum, cpu| Counters {
            seen: sum.seen + cpu.seen,
            submitted: sum.submitted + cpu.submitted,
            coalesced: sum.coalesced + cpu.coalesced,
            dropped: sum.dropped + cpu.dropped,
        }))
    }

    fn skipped(&mut self) -> Skipped {
        // Before the counts are read: whatever is skipped from now on rings again.
        self.doorbells.answer(SKIPPED_SLOT, 0);
        let now = self.skipped_events();
        let before = std::mem::replace(&mut self.skipped, now);
        if now.others != before.others {
            Skipped::Anything
        } else if now.writes != before.writes {
            Skipped::Writes
        } else {
            Skipped::Nothing
        }
    }

    fn skipped_count(&self) -> Option<u64> {
        let SkippedEvents { writes, others } = self.skipped_events();
        Some(writes + others)
    }

    fn costs(&self) -> Vec<Cost> {
        if self.statistics.is_some() { self.ran() } else { Vec::new() }
    }

    fn log(&mut self) {
        self.logger.flush();
    }
}
