//! Events as inotify tells them, where the kernel refuses the kernel program: which file, and no more.
//!
//! Who did it, at which offset and when, inotify does not know. Equal events that follow each other closely come as
//! one, a truncation looks like a write but where the size has shrunk by the time it is asked for, and only what is
//! done under a name in an observed directory is told.

use std::{
    fs,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent},
};
use rustc_hash::FxHashMap;

use super::{
    Because, Event, Inode, Line, Missing, Operation, Source,
    through_ebpf::what,
    wanted::{Wanted, opened},
};
use crate::observe::inotify::{explain, limit};

/// What the kernel sets `fs.inotify.max_queued_events` to.
const MAX_QUEUED_EVENTS: u64 = 16384;

/// Watches and what they stand for.
pub struct ThroughInotify {
    inotify: Inotify,
    /// One may be reached by several names.
    directories: FxHashMap<i32, Vec<PathBuf>>,
    wanted: Wanted,
    /// What each file was when it was last looked at.
    files: FxHashMap<PathBuf, Seen>,
    /// Where renames come from, by their cookie.
    moved: FxHashMap<u32, PathBuf>,
    because: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    size: u64,
    inode: Inode,
}

impl Seen {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let dev = metadata.dev();
        let inode = Inode { major: libc::major(dev), minor: libc::minor(dev), number: metadata.ino() };
        Some(Self { size: metadata.size(), inode })
    }
}

impl ThroughInotify {
    /// Watches what is wanted. `because`: why not through eBPF, where that was tried.
    ///
    /// # Errors
    /// A limit of inotify's is spent, or a directory cannot be watched.
    pub fn new(wanted: Wanted, because: Option<&str>) -> anyhow::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|errno| explain(errno, Path::new("/")))?;
        let mut source = Self {
            inotify,
            directories: FxHashMap::default(),
            wanted,
            files: FxHashMap::default(),
            moved: FxHashMap::default(),
            because: because.map(str::to_owned),
        };
        for root in source.wanted.roots() {
            source.take_up(&root)?;
        }
        Ok(source)
    }

    fn take_up(&mut self, directory: &Path) -> anyhow::Result<()> {
        let mask = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ONLYDIR;
        let watch = self.inotify.add_watch(opened(directory), mask);
        let watch = watch.map_err(|errno| explain(errno, opened(directory)))?;
        let names = self.directories.entry(watch.as_raw()).or_default();
        if !names.iter().any(|name| name == directory) {
            names.push(directory.to_owned());
        }
        // What cannot be listed is gone: nothing is to be seen in it.
        for entry in fs::read_dir(opened(directory)).into_iter().flatten().flatten() {
            let path = directory.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && self.wanted.leads_through(&path) {
                self.take_up(&path)?;
            } else if self.wanted.is(&path)
                && let Some(seen) = Seen::of(&path)
            {
                self.files.insert(path, seen);
            }
        }
        Ok(())
    }

    fn shown(&mut self, told: &InotifyEvent) -> Option<Event> {
        let InotifyEvent { wd, mask, cookie, name } = told;
        if mask.contains(AddWatchFlags::IN_IGNORED) {
            self.directories.remove(&wd.as_raw());
            return None;
        }
        let path = self.wanted.choose(self.directories.get(&wd.as_raw())?, name.as_ref()?)?;
        let is_directory = mask.contains(AddWatchFlags::IN_ISDIR);
        let leads_on = is_directory && self.wanted.leads_through(&path);
        if mask.contains(AddWatchFlags::IN_MOVED_FROM) {
            self.moved.insert(*cookie, path);
            return None;
        }
        let is_moved = mask.contains(AddWatchFlags::IN_MOVED_TO);
        let from = is_moved.then(|| self.moved.remove(cookie)).flatten();
        let was_wanted = from.as_deref().is_some_and(|from| self.wanted.is(from));
        if !self.wanted.is(&path) && !leads_on && !was_wanted {
            return None;
        }
        let before = self.files.remove(from.as_ref().unwrap_or(&path));
        let seen = Seen::of(&path);
        let operation = if is_moved {
            Operation::Rename
        } else if mask.contains(AddWatchFlags::IN_DELETE) {
            if is_directory { Operation::Rmdir } else { Operation::Unlink }
        } else if mask.contains(AddWatchFlags::IN_CREATE) {
            created(&path, is_directory)
        } else if before.zip(seen).is_some_and(|(before, now)| now.size < before.size) {
            Operation::Truncate
        } else {
            Operation::Write
        };
        if leads_on && seen.is_some() {
            // Gone again, or a spent limit: then what is done in it is not seen.
            let _ = self.take_up(&path);
        }
        let has_sizes = matches!(operation, Operation::Write | Operation::Truncate);
        // Seen so late that it had been written to already, its size before is not known.
        let has_changed = before.zip(seen).is_none_or(|(before, now)| before.size != now.size);
        if let Some(seen) = seen {
            self.files.insert(path.clone(), seen);
        }
        Some(Event {
            time: SystemTime::now(),
            operation,
            path: Some(path),
            from,
            inode: seen.or(before).map(|seen| seen.inode),
            bytes: None,
            size_before: before.filter(|_| has_sizes && has_changed).map(|seen| seen.size),
            size_after: seen.filter(|_| has_sizes).map(|seen| seen.size),
            mode: None,
            writer: None,
        })
    }

    /// Appends what is shown of those that are read at once; how many they were, `None` where none waits.
    fn take(&mut self, lines: &mut Vec<Line>) -> anyhow::Result<Option<u64>> {
        let told = match self.inotify.read_events() {
            Err(Errno::EAGAIN) => {
                lines.extend(self.moved_away().into_iter().map(Line::Event));
                return Ok(None);
            }
            Err(Errno::EINTR) => return Ok(Some(0)),
            told => told.context("reading inotify's events")?,
        };
        for event in &told {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                let time = SystemTime::now();
                lines.push(Line::Missing(Missing { time, events: 0, because: Because::QueueFull }));
            } else {
                lines.extend(self.shown(event).map(Line::Event));
            }
        }
        Ok(Some(told.len() as u64))
    }

    /// Of a rename, the second half comes with the first or never.
    fn moved_away(&mut self) -> Vec<Event> {
        let wanted = &self.wanted;
        let gone = self.moved.drain().map(|(_, from)| from).filter(|from| wanted.is(from));
        let event = |from: PathBuf| Event {
            time: SystemTime::now(),
            operation: Operation::Rename,
            path: None,
            inode: None,
            from: Some(from),
            bytes: None,
            size_before: None,
            size_after: None,
            mode: None,
            writer: None,
        };
        gone.map(event).collect()
    }
}

/// What kind of thing was created under this name, as far as it is still there.
fn created(path: &Path, is_directory: bool) -> Operation {
    match fs::symlink_metadata(path) {
        _ if is_directory => Operation::Mkdir,
        Ok(metadata) if metadata.is_symlink() => Operation::Symlink,
        Ok(metadata) if metadata.nlink() > 1 => Operation::Link,
        _ => Operation::Create,
    }
}

impl Source for ThroughInotify {
    fn readiness(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    fn drain(&mut self, lines: &mut Vec<Line>) -> anyhow::Result<bool> {
        Ok(self.take(lines)?.is_some())
    }

    fn end(&mut self, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        // No more than this wait; those behind were not done until now.
        let mut waiting = limit("fs.inotify.max_queued_events").unwrap_or(MAX_QUEUED_EVENTS);
        while let Some(taken) = self.take(lines)?
            && waiting > 0
        {
            waiting = waiting.saturating_sub(taken);
        }
        Ok(())
    }

    fn what(&self) -> String {
        let because = self.because.as_deref().map(|why| format!("; ebpf: {why}")).unwrap_or_default();
        format!(
            "{} (backend: inotify{because}). inotify does not tell who does something, at which offset, and how \
             often: several writes may be one line, and a truncation may look like a write",
            what(self.files.len(), self.directories.len())
        )
    }
}
