//! Events as the kernel program tells them: each one, with its place and who did it.
//!
//! The kernel program knows inodes; here they get their names. What is created in an observed directory, or moved into
//! it, is observed from that moment on, without us. Of those that are not wanted nothing is shown.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use log_tail_common::InodeKey;
use nix::time::{ClockId, clock_gettime};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Because, Event, Inode, Line, Missing, Operation, Source,
    paths::Paths,
    renames::Renames,
    wanted::{Wanted, opened},
};
use crate::{
    observe::{
        ebpf::{events::Events, load::Attached},
        event::{self, Deed, Kind, Name, Way},
        key::Keys,
        writer::Writers,
    },
    say::say,
};

/// Events taken before they are printed.
const EVENTS_A_DRAIN: usize = 4096;

/// How often the kernel is asked for what it did not tell.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// A reader that waits is woken inside the kernel program, and takes the processor from it there. So where that makes
/// the kernel skip programs, it waits no more than once in this time.
const SETTLING: Duration = Duration::from_millis(5);

/// The kernel program, and what its inodes are called.
pub struct ThroughEbpf {
    events: Events,
    keys: Keys,
    writers: Writers,
    wanted: Wanted,
    paths: Paths,
    /// Those in which names are told.
    directories: FxHashMap<InodeKey, PathBuf>,
    /// All that lie in one of them: of what is removed it is not told what it was.
    subdirectories: FxHashSet<PathBuf>,
    renames: Renames,
    missing: u64,
    without_room: u64,
    /// Inodes that can be observed.
    room: u32,
    asked: Instant,
    unseen: Vec<String>,
}

/// What to add to `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
struct Clock {
    now: SystemTime,
    monotonic: Duration,
}

impl Clock {
    fn new() -> io::Result<Self> {
        Ok(Self { monotonic: clock_gettime(ClockId::CLOCK_MONOTONIC)?.into(), now: SystemTime::now() })
    }

    fn time(self, monotonic_ns: u64) -> SystemTime {
        self.now - self.monotonic.saturating_sub(Duration::from_nanos(monotonic_ns))
    }
}

/// The inode that bears this name, whatever it is, without opening it for anything.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)
}

impl ThroughEbpf {
    /// Observes what is wanted.
    ///
    /// # Errors
    /// A directory cannot be opened, or there is no room for so many.
    pub fn new(events: Events, wanted: Wanted, room: u32) -> anyhow::Result<Self> {
        let mut source = Self {
            unseen: events.hooks().iter().filter_map(Attached::unseen).collect(),
            asked: Instant::now(),
            events,
            keys: Keys::new().context("asking for inodes' numbers")?,
            writers: Writers::new(),
            wanted,
            paths: Paths::default(),
            directories: FxHashMap::default(),
            subdirectories: FxHashSet::default(),
            renames: Renames::default(),
            missing: 0,
            without_room: 0,
            room,
        };
        for root in source.wanted.roots() {
            source.take_up(&root)?;
        }
        // A name may be a symbolic link: it is the file that is meant.
        let names: Vec<PathBuf> = source.wanted.names().map(Path::to_owned).collect();
        for name in names.into_iter().filter(|name| name.exists()) {
            source.observe(&name).with_context(|| format!("cannot observe '{}'", name.display()))?;
        }
        // What was skipped before all of it was observed.
        source.events.skipped();
        Ok(source)
    }

    fn observe(&mut self, path: &Path) -> io::Result<InodeKey> {
        let key = self.keys.of(open(path)?.as_fd())?;
        self.events.observe(key)?;
        self.paths.name(key, path.to_owned());
        Ok(key)
    }

    /// Observes a directory, and what is wanted in it and below.
    fn take_up(&mut self, directory: &Path) -> anyhow::Result<()> {
        let cannot = || format!("cannot observe '{}'", opened(directory).display());
        let file = open(opened(directory)).with_context(cannot)?;
        let key = self.keys.of(file.as_fd()).with_context(cannot)?;
        self.events.observe(key).with_context(cannot)?;
        self.directories.insert(key, directory.to_owned());
        for entry in fs::read_dir(opened(directory)).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = directory.join(entry.file_name());
            let kind = entry.file_type().with_context(cannot)?;
            if kind.is_dir() {
                self.subdirectories.insert(path.clone());
            }
            let taken = if kind.is_dir() && self.wanted.leads_through(&path) {
                self.take_up(&path)
            } else if kind.is_file() && self.wanted.is(&path) {
                self.observe(&path)
                    .map(|_| ())
                    .with_context(|| format!("cannot observe '{}'", path.display()))
            } else {
                continue;
            };
            match taken {
                // Gone since it was listed.
                Err(error) if is_not_found(&error) => {}
                taken => taken?,
            }
        }
        Ok(())
    }

    /// What is shown of an event, if anything is.
    fn shown(&mut self, event: event::Event, time: SystemTime) -> Option<Event> {
        let event::Event { deed, inode, size_before, size_after, writer, .. } = event;
        let thread = writer.tid;
        let mut shown = Event {
            time,
            operation: Operation::Write,
            path: None,
            from: None,
            inode: (inode.ino != 0).then(|| inode_of(inode)),
            bytes: None,
            size_before,
            size_after: None,
            mode: None,
            writer: Some(self.writers.of(&writer)),
        };
        if let Deed::Bytes { .. } | Deed::Fallocate { .. } | Deed::Truncate = &deed {
            shown.size_after = Some(size_after);
            shown.path = self.paths.of(inode).cloned();
            // Without a name it is one that was not wanted, or whose name was not told for want of room.
            if shown.path.is_none() && (self.missing == 0 || self.paths.is_ignored(inode)) {
                return None;
            }
        }
        match deed {
            Deed::Bytes { by, bytes } => {
                shown.operation = match by {
                    Way::Write => Operation::Write,
                    Way::Splice => Operation::Splice,
                    Way::Copy => Operation::Copy,
                    Way::Reflink => Operation::Reflink,
                };
                shown.bytes = bytes;
            }
            Deed::Fallocate { mode, bytes } => {
                shown.operation = Operation::Fallocate;
                (shown.bytes, shown.mode) = (Some(bytes), Some(mode));
            }
            Deed::Truncate => shown.operation = Operation::Truncate,
            Deed::Came { name, kind, links } => {
                shown.operation = match kind {
                    Kind::Directory => Operation::Mkdir,
                    Kind::Symlink => Operation::Symlink,
                    Kind::File | Kind::Other if links > 1 => Operation::Link,
                    Kind::File | Kind::Other => Operation::Create,
                };
                shown.path = Some(self.came(inode, kind, name)?);
            }
            Deed::MovedFrom { name } => {
                let path = self.path_in(name)?;
                self.renames.begin(thread, inode, path);
                return None;
            }
            Deed::MovedTo { name, kind } => {
                shown.operation = Operation::Rename;
                let from = self.renames.end(thread, inode);
                if let Some(from) = &from {
                    self.subdirectories.remove(from);
                }
                let was_wanted = from.as_deref().is_some_and(|from| self.wanted.is(from));
                let path = self.path_in(name.clone())?;
                self.came(inode, kind, name).or_else(|| was_wanted.then(|| path.clone()))?;
                (shown.path, shown.from) = (Some(path), from);
            }
            Deed::MovedAway => {
                shown.operation = Operation::Rename;
                shown.from = self.renames.end(thread, inode);
                if !shown.from.as_deref().is_some_and(|from| self.wanted.is(from)) {
                    return None;
                }
            }
            Deed::Went { name } => {
                let path = self.path_in(name)?;
                let is_directory = self.subdirectories.remove(&path);
                shown.operation = if is_directory { Operation::Rmdir } else { Operation::Unlink };
                let gone = self.paths.unlink(&path);
                let is_wanted = self.wanted.is(&path) || (is_directory && self.wanted.leads_through(&path));
                if gone.is_none() && !is_wanted {
                    return None;
                }
                shown.inode = gone.map(inode_of);
                shown.path = Some(path);
            }
            Deed::Freed => {
                self.paths.forget(inode);
                self.directories.remove(&inode);
                return None;
            }
        }
        Some(shown)
    }

    fn path_in(&self, Name { directory, name }: Name) -> Option<PathBuf> {
        Some(self.directories.get(&directory)?.join(name))
    }

    /// An inode has a new name in an observed directory, and the kernel program observes it by now. Gives its path
    /// where that is wanted, or where the inode was wanted before.
    fn came(&mut self, inode: InodeKey, kind: Kind, name: Name) -> Option<PathBuf> {
        let Some(path) = self.path_in(name) else {
            self.ignore(inode);
            return None;
        };
        let is_wanted = self.wanted.is(&path);
        if kind == Kind::Directory {
            self.subdirectories.insert(path.clone());
            self.directories.remove(&inode);
            // Gone by now, or not to be opened: then nothing is to be seen in it either.
            if !self.wanted.leads_through(&path) || self.take_up(&path).is_err() {
                self.ignore(inode);
            }
            return (is_wanted || self.wanted.leads_through(&path)).then_some(path);
        }
        if is_wanted || self.paths.of(inode).is_some() {
            self.paths.name(inode, path.clone());
            return Some(path);
        }
        self.ignore(inode);
        None
    }

    fn ignore(&mut self, inode: InodeKey) {
        self.events.ignore(inode);
        self.paths.ignore(inode);
    }

    /// Appends what is shown of the next event; its time, if there was one.
    fn take(&mut self, clock: Clock, lines: &mut Vec<Line>) -> anyhow::Result<Option<SystemTime>> {
        let Some(event) = self.events.next().context("reading the ring")? else {
            self.note_missing(self.events.missing(), SystemTime::now(), lines);
            return Ok(None);
        };
        let time = clock.time(event.time_ns);
        self.note_missing(event.missing, time, lines);
        lines.extend(self.shown(event, time).map(Line::Event));
        Ok(Some(time))
    }

    /// Events that found no room, told so late as by the next one that did.
    fn note_missing(&mut self, missing: u64, time: SystemTime, lines: &mut Vec<Line>) {
        if missing > self.missing {
            let events = missing - self.missing;
            self.missing = missing;
            lines.push(Line::Missing(Missing { time, events, because: Because::RingFull }));
        }
    }

    fn note_untold(&mut self, lines: &mut Vec<Line>) {
        self.asked = Instant::now();
        let without_room = self.events.inodes_without_room();
        if without_room > self.without_room {
            self.without_room = without_room;
            say(format_args!(
                "there is room for {} files and directories; what is done to {without_room} more is not shown. \
                 Observe fewer, or restart",
                self.room
            ));
        }
        let events = self.events.skipped();
        if events > 0 {
            let time = SystemTime::now();
            lines.push(Line::Missing(Missing { time, events, because: Because::Skipped }));
        }
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn inode_of(InodeKey { ino, dev, .. }: InodeKey) -> Inode {
    Inode { major: dev >> 20, minor: dev & 0xf_ffff, number: ino }
}

impl Source for ThroughEbpf {
    fn readiness(&self) -> BorrowedFd<'_> {
        self.events.readiness()
    }

    fn drain(&mut self, lines: &mut Vec<Line>) -> anyhow::Result<bool> {
        let clock = Clock::new().context("asking for the time")?;
        for _ in 0..EVENTS_A_DRAIN {
            if self.take(clock, lines)?.is_none() {
                if self.asked.elapsed() >= ASKED_EVERY {
                    self.note_untold(lines);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn what(&self) -> String {
        let unseen = match self.unseen.as_slice() {
            [] => String::new(),
            unseen => format!("; not seen on this kernel: {}", unseen.join(", ")),
        };
        format!("{} (backend: ebpf){unseen}", what(self.paths.len(), self.directories.len()))
    }

    fn end(&mut self, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let clock = Clock::new().context("asking for the time")?;
        while let Some(time) = self.take(clock, lines)?
            && time <= clock.now
        {}
        self.note_untold(lines);
        Ok(())
    }

    fn settle(&self) {
        if self.events.may_be_skipped() {
            thread::sleep(SETTLING);
        }
    }
}

/// So many files and directories, in words.
pub fn what(files: usize, directories: usize) -> String {
    let files_plural = if files == 1 { "" } else { "s" };
    let directories_plural = if directories == 1 { "y" } else { "ies" };
    format!("{files} file{files_plural} in {directories} director{directories_plural}")
}
