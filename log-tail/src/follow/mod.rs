//! Following names: which inode bears which name, what of each inode is still to be read, and in what order.
//!
//! [`Follower`] takes hints from an observer and gives out blocks of lines. It never waits: the event
//! loop asks it for the next block, and tells it when time has passed. What it promises:
//!
//! * after every hint a file is read to its end, so a hint needs to be neither complete nor unique;
//! * the inode that bore a name before is read to its end before the one that bears it now;
//! * an inode that lost its name is read on for a grace time, because its writer may hold it open.

mod claims;
mod collapsed;
mod comers;
mod compressed;
mod copied_up;
mod copies;
mod descriptors;
mod directories;
mod draining;
mod files;
mod generations;
mod glob;
mod identity;
#[cfg(test)]
mod interposed;
mod line;
mod memory;
mod missed;
#[cfg(test)]
mod model;
mod mounts;
mod names;
mod passing;
mod places;
mod print;
mod rare;
pub mod reader;
mod resume;
mod route;
mod siblings;
mod skipped;
mod start;
mod stream;
mod succession;
mod sweep;
mod taking;
mod trail;
mod truncation;
mod unfinished;
mod writers;
mod zeros;

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fmt,
    num::NonZeroUsize,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use lru::LruCache;
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;

use self::{
    descriptors::Descriptors,
    directories::{Directories, PatternId, Waiting},
    files::FollowedFile,
    memory::Memory,
    mounts::Mounts,
    names::{Name, NameId},
    reader::Reader,
    skipped::{Since, Skips},
    succession::Successions,
    sweep::Suspects,
};
pub use self::{
    glob::{Pattern, PatternError, check as check_pattern},
    identity::{Identity, NotFollowable, look},
    memory::Known,
    print::{Mark, Print},
    skipped::processor_time,
    start::Start,
};
use crate::{
    observe::{DirectoryId, FileId, Hint, HintKind, Observer, stat::Looked},
    record::Item,
};

/// How to follow.
#[derive(Clone, Debug)]
pub struct FollowSettings {
    /// Where to start in files that exist already. Files that appear later are read from their beginning.
    pub start: Start,
    /// Longest line held back for its newline, in bytes.
    pub max_line_bytes: NonZeroUsize,
    /// How long an inode that lost its name is read on.
    pub rotate_wait: Duration,
}

/// How a name came to mean another inode, or an inode another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rotation {
    /// The name bears another inode now.
    Replace,
    /// The name is gone.
    Unlink,
    /// The inode was truncated.
    Truncate,
}

/// What happened, counted since the start. Counts only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Bytes handed on.
    pub bytes: u64,
    /// Names that came to bear another inode.
    pub replaced: u64,
    /// Names that went away.
    pub unlinked: u64,
    /// Truncations.
    pub truncated: u64,
    /// Changes that the sweep found and no hint had told.
    pub missed_hints: u64,
    /// Bytes that were truncated before they were read and that no copy held: at least so many.
    pub lost_bytes: u64,
    /// Inodes that bore a followed name and were gone before they could be opened.
    pub missed_files: u64,
    /// What those held, where that is told: at least so many bytes.
    pub missed_bytes: u64,
    /// Sweeps.
    pub sweeps: u64,
    hints: [u64; HintKind::ALL.len()],
}

impl Counts {
    /// Hints by kind.
    pub fn hints(&self) -> impl Iterator<Item = (HintKind, u64)> {
        HintKind::ALL.into_iter().zip(self.hints)
    }
}

/// A file that was let go.
#[derive(Debug)]
struct Retired {
    /// How far it had been read.
    read_to: u64,
    print: Print,
    number: u64,
    /// The followed name it bore.
    path: Arc<Path>,
}

/// Something the user should know, as a sentence for standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice(pub String);

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Follows names.
pub struct Follower {
    settings: FollowSettings,
    observer: Option<Box<dyn Observer>>,
    names: Slab<Name>,
    by_path: FxHashMap<Arc<Path>, NameId>,
    patterns: Vec<Pattern>,
    directories: Directories,
    files: Slab<FollowedFile>,
    by_identity: FxHashMap<Identity, FileId>,
    descriptors: Descriptors,
    reader: Reader,
    /// What is to be handed on next.
    outbox: VecDeque<Item>,
    /// Files with something to read, in the order in which they will be.
    ready: VecDeque<FileId>,
    /// Everything that was there at the start has been read: from now on files take turns.
    caught_up: bool,
    /// Bytes the file at the front of `ready` was given in its turn.
    turn_bytes: usize,
    looked: Looked,
    /// Files that lost their last name in this batch of hints.
    nameless: Vec<FileId>,
    /// Names to look at once the batch of hints is at its end.
    doubtful: FxHashSet<NameId>,
    /// Files to let go, oldest first.
    leaving: VecDeque<(Instant, FileId)>,
    /// Files to look at again soon: somebody had them open for writing, or the kernel had not told all.
    asks: Vec<(Instant, FileId)>,
    /// By the numbers that stand for them from one run to the next, where that is remembered.
    by_number: FxHashMap<u64, FileId>,
    memory: Memory,
    /// Files that were let go: they may come back.
    retired: LruCache<Identity, Retired>,
    /// Directories to look at again soon: the hint about them may have come before the fact.
    rechecks: Vec<(Instant, DirectoryId)>,
    suspects: Suspects,
    skips: Skips,
    successions: Successions,
    mounts: Mounts,
    notices: Vec<Notice>,
    counts: Counts,
    stopping: bool,
    /// Kernel times of the writes that the blocks given out since the last question answer.
    answered_ns: Vec<u64>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl Follower {
    /// Follows nothing yet. Without an observer, files are read to their end once.
    pub fn new(settings: FollowSettings, observer: Option<Box<dyn Observer>>) -> Self {
        Self {
            reader: Reader::new(settings.max_line_bytes),
            settings,
            observer,
            names: Slab::new(),
            by_path: FxHashMap::default(),
            patterns: Vec::new(),
            directories: Directories::default(),
            files: Slab::new(),
            by_identity: FxHashMap::default(),
            descriptors: Descriptors::new(),
            outbox: VecDeque::new(),
            ready: VecDeque::new(),
            asks: Vec::new(),
            by_number: FxHashMap::default(),
            memory: Memory::default(),
            retired: LruCache::new(RETIRED),
            caught_up: false,
            turn_bytes: 0,
            looked: Looked::default(),
            nameless: Vec::new(),
            doubtful: FxHashSet::default(),
            leaving: VecDeque::new(),
            rechecks: Vec::new(),
            suspects: Suspects::default(),
            skips: Skips::default(),
            successions: Successions::default(),
            mounts: Mounts::default(),
            notices: Vec::new(),
            counts: Counts::default(),
            stopping: false,
            answered_ns: Vec::new(),
        }
    }

    /// The observer, to wait for it and to drain it.
    pub fn observer(&mut self) -> Option<&mut (dyn Observer + 'static)> {
        self.observer.as_deref_mut()
    }

    /// How many files are followed: those that bear a name, and those that still are to be drained.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the user should know since this was last asked.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Kernel times, `CLOCK_MONOTONIC` in nanoseconds, of the writes that were handed on since this was last asked.
    pub fn take_answered(&mut self) -> std::vec::Drain<'_, u64> {
        self.answered_ns.drain(..)
    }

    /// Whether there may be something to read.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.outbox.is_empty()
    }

    /// Whether some file has to be looked at every second.
    pub fn looks_every_second(&self) -> bool {
        !self.looked.is_empty() || self.directories.iter().any(|(_, directory)| directory.is_looked_at())
    }

    /// Bytes that are in the files that wait to be read, and were not handed on.
    pub fn lag_bytes(&mut self) -> u64 {
        let waiting: Vec<FileId> = self.ready.iter().copied().collect();
        waiting.into_iter().filter_map(|id| self.unread_bytes(id)).sum()
    }

    fn notice(&mut self, text: impl fmt::Display) {
        self.notices.push(Notice(text.to_string()));
    }

    /// Takes a batch of hints: every name they concern is looked at, every file they concern will be read.
    pub fn take(&mut self, hints: &mut Vec<Hint>) {
        self.apply(hints);
        self.look_at_skipped(Instant::now());
        self.settle();
    }

    /// Notes what hints say. Nothing is opened yet: what is told later in the same batch decides by which
    /// name.
    fn apply(&mut self, hints: &mut Vec<Hint>) {
        for hint in hints.drain(..) {
            self.counts.hints[hint.kind() as usize] += 1;
            match hint {
                Hint::Appended { file, time_ns } => self.written(file, time_ns),
                Hint::EntryWritten { directory, name } => {
                    self.entry_written(directory, OsStr::from_bytes(&name));
                }
                Hint::Written { file, writer, bytes, last } => self.written_by(file, &writer, bytes, last),
                // Whether it is drained is asked at its end.
                Hint::Closed { file } => self.queue(file),
                Hint::Truncated { file, cut_off_bytes } => self.truncated(file, cut_off_bytes),
                Hint::Moved { file } | Hint::Unlinked { file } => self.renamed(file),
                Hint::Entry { directory, name, change } => self.entry_told(directory, &name, change),
                Hint::DirectoryGone { directory } => self.doubt_directory(directory),
                // What was told before it is not settled first: what was opened for it may have come after what was lost.
                Hint::LookAtEverything => self.hints_lost(),
                Hint::Skipped => self.skipped_told(),
            }
        }
    }

    /// Looks at every file, name and directory: hints of what came since then were lost.
    fn look_at_everything(&mut self, since: Since) {
        self.forget_bearers();
        self.doubt_what_came(since);
        self.skips.is_making_up = true;
        for (key, name) in &mut self.names {
            name.unsure = true;
            self.doubtful.insert(NameId(key));
        }
        let files: Vec<FileId> = self.files.iter().map(|(_, file)| file.id).collect();
        for file in files {
            self.written(file, None);
        }
        let directories: Vec<DirectoryId> = self.directories.iter().map(|(id, _)| id).collect();
        for directory in directories {
            self.check_directory(directory);
            self.expand_again(directory);
        }
        self.look_for_forgotten();
        self.skips.is_making_up = false;
    }

    /// When [`Follower::tick`] wants to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let leaving = self.leaving.front().map(|(at, _)| *at);
        let recheck = self.rechecks.iter().map(|(at, _)| *at).min();
        let ask = self.asks.iter().map(|(at, _)| *at).min();
        let [verdict, mounts] = [self.suspects.verdict_at(), self.mounts.due()];
        [leaving, recheck, ask, verdict, mounts, self.skips.due, self.successions.again_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed: lets files go whose grace time is over, and looks again where a hint came early.
    pub fn tick(&mut self, now: Instant) {
        while self.leaving.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((at, id)) = self.leaving.pop_front() {
                self.leave(id, at);
            }
        }
        let (due, later): (Vec<_>, Vec<_>) = self.rechecks.drain(..).partition(|(at, _)| *at <= now);
        self.rechecks = later;
        for (_, directory) in due {
            self.renew_directory(directory);
        }
        self.ask_again(now);
        self.ask_for_skipped(now);
        self.look_at_skipped(now);
        self.look_at_mounts(now);
        self.judge_suspects(now);
        self.settle();
    }

    /// Looks at what no event reports.
    pub fn look_at_unwatched(&mut self) {
        let files: Vec<FileId> = self.looked.iter().collect();
        for file in files {
            self.written(file, None);
        }
        let unwatched: Vec<_> = self
            .directories
            .iter()
            .filter(|(_, d)| d.is_looked_at())
            .map(|(id, d)| (id, d.names().collect::<Vec<_>>()))
            .collect();
        for (directory, names) in unwatched {
            for file in names.iter().filter_map(|id| self.names.get(id.0)?.bears).collect::<Vec<_>>() {
                self.written(file, None);
            }
            self.doubtful.extend(names);
            self.check_directory(directory);
            self.expand_again(directory);
        }
        self.settle();
    }

    /// Reads what is there now to its end, then stops: nothing that is written later is waited for.
    pub fn stop(&mut self) {
        // Names that nobody told of have to be known before.
        let now = Instant::now();
        self.skips.due = Some(now);
        self.look_at_skipped(now);
        self.settle();
        self.stopping = true;
        self.caught_up = false;
        self.leaving.clear();
        let files: Vec<FileId> = self.files.iter().map(|(_, file)| file.id).collect();
        for id in files {
            if let Some(file) = self.file_mut(id) {
                // Nothing more is told of who is before it.
                file.in_line = false;
            }
            self.finish_here(id);
        }
        // Copies that were made before have been told of then, and no file has to ask for its own.
        let directories = self.directories.iter().map(|(id, _)| id).collect();
        self.catch_up(&directories);
    }
}

/// How many files that were let go are remembered.
const RETIRED: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Where a hint about a directory may have come before the fact, when to look again.
const RECHECK_AFTER: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];
