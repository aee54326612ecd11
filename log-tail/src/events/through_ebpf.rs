//! Events as the kernel program tells them: each one, with its place and who did it.
//!
//! The kernel program knows inodes; here they get their names. What is created in an observed directory, or moved into
//! it, is observed from that moment on, without us. Of those that are not wanted nothing is shown.

mod naming;

use std::{
    collections::BTreeSet,
    io, mem,
    os::fd::BorrowedFd,
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use log_tail_common::{InodeKey, observed_since};
use nix::time::{ClockId, clock_gettime};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    ASKED_EVERY, Because, Event, Inode, Line, Missing, Operation, Source, names::Names, renames::Renames,
    wanted::Wanted,
};
use crate::{
    observe::{
        ebpf::{events::Events, load::Attached},
        event::{self, Deed, Kind, Way},
        key::Keys,
        writer::Writers,
    },
    say::say,
};

/// Events taken before they are printed.
const EVENTS_A_DRAIN: usize = 4096;

/// How often names are found out anew, at most.
const LOOKED_EVERY: Duration = Duration::from_secs(1);

/// A reader that waits is woken inside the kernel program, and takes the processor from it there. So where that makes
/// the kernel skip programs, it waits no more than once in this time.
const SETTLING: Duration = Duration::from_millis(5);
/// How often the ring is looked at before nothing more is waited for.
const TRIES: u32 = 5;

/// The kernel program, and what its inodes are called.
pub struct ThroughEbpf {
    events: Events,
    keys: Keys,
    writers: Writers,
    names: Names,
    renames: Renames,
    missing: u64,
    /// Names may have changed of which nothing was told.
    is_stale: bool,
    looked_again: Option<Instant>,
    without_room: u64,
    /// Those that were not observed any more when names were found out anew: that was not told, or waits in the ring
    /// behind what was done to them before.
    unobserved: Vec<InodeKey>,
    /// Those that came and are not wanted.
    ignored: FxHashSet<InodeKey>,
    /// Events of files that are neither: it was not told what those are called.
    unnamed: u64,
    /// Renames that have begun and of which the end was not told: that is not said yet.
    unended: u64,
    /// The directories that were named.
    roots: FxHashMap<InodeKey, PathBuf>,
    /// Inodes that can be observed.
    room: u32,
    asked: Instant,
    unseen: Vec<String>,
    /// Filesystems on which others write that this kernel does not hear of.
    unseen_by: BTreeSet<&'static str>,
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

impl ThroughEbpf {
    /// Observes what is wanted.
    ///
    /// # Errors
    /// A directory cannot be opened, or there is no room for so many.
    pub fn new(events: Events, wanted: Wanted, room: u32) -> anyhow::Result<Self> {
        let mut source = Self {
            unseen: events.hooks().iter().filter_map(Attached::unseen).collect(),
            asked: Instant::now(),
            keys: events.keys().context("asking for inodes' numbers")?,
            events,
            writers: Writers::new(),
            names: Names::new(wanted),
            renames: Renames::default(),
            missing: 0,
            is_stale: false,
            looked_again: None,
            without_room: 0,
            unobserved: Vec::new(),
            ignored: FxHashSet::default(),
            unnamed: 0,
            unended: 0,
            unseen_by: BTreeSet::new(),
            roots: FxHashMap::default(),
            room,
        };
        source.take_up_all(|taken| taken)?;
        // What was skipped before all of it was observed.
        source.events.skipped();
        Ok(source)
    }

    /// What is shown of an event, if anything is.
    fn shown(&mut self, event: event::Event, time: SystemTime) -> Option<Event> {
        let event::Event { deed, inode, size_before, size_after, writer, time_ns, .. } = event;
        let since = observed_since(time_ns);
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
            if !self.names.files.has(inode) {
                self.unnamed += u64::from(!self.ignored.contains(&inode));
                return None;
            }
            shown.path = self.names.files.of(inode).cloned();
            shown.size_after = Some(size_after);
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
                let path = self.names.path_of(&name);
                if shown.operation == Operation::Create {
                    // Of one that had this number before it may be missing that it was removed.
                    self.names.files.forget(inode);
                }
                shown.path = Some(self.came(inode, kind, path, since, None)?);
            }
            Deed::MovedFrom { name } => {
                let path = self.names.path_of(&name)?;
                self.renames.begin(thread, inode, path);
                return None;
            }
            Deed::MovedTo { name, kind } => return self.moved_to(shown, inode, kind, &name, since, thread),
            Deed::MovedAway => {
                shown.operation = Operation::Rename;
                let from = self.renames.end(thread, inode);
                if !from.as_ref().is_some_and(|from| from.is_done) {
                    self.left(inode, from.as_ref().map(|from| from.path.as_path()));
                }
                self.unended += self.renames.take_unended(thread);
                shown.from = Some(from.map(|from| from.path).filter(|from| self.names.wanted.is(from))?);
            }
            Deed::Went { name } => {
                let path = self.names.path_of(&name)?;
                let is_directory = self.names.remove_subdirectory(&path);
                shown.operation = if is_directory { Operation::Rmdir } else { Operation::Unlink };
                let gone = self.names.files.unlink(&path);
                let wanted = &self.names.wanted;
                let is_wanted = wanted.is(&path) || (is_directory && wanted.leads_through(&path));
                if gone.is_none() && !is_wanted {
                    return None;
                }
                shown.inode = gone.map(inode_of);
                shown.path = Some(path);
            }
            Deed::Freed => {
                self.names.files.forget(inode);
                self.ignored.remove(&inode);
                self.directory_gone(inode, "removed");
                return None;
            }
        }
        Some(shown)
    }

    /// A rename gave the inode this name: what is shown of it.
    fn moved_to(
        &mut self,
        mut shown: Event,
        inode: InodeKey,
        kind: Kind,
        name: &event::Name,
        since: u32,
        thread: u32,
    ) -> Option<Event> {
        shown.operation = Operation::Rename;
        let path = self.names.path_of(name);
        let from = self.renames.end(thread, inode);
        let mut taken = from.as_ref().filter(|from| !from.is_done).map(|from| from.path.clone());
        shown.from = from.map(|from| from.path);
        if let Some(path) = &path
            && let Some(other) = self.renames.exchanged(thread, path)
        {
            self.exchanged(taken.take().as_deref(), other, path);
        }
        let came = self.came(inode, kind, path.clone(), since, taken.as_deref());
        self.unended += self.renames.take_unended(thread);
        let was_wanted = shown.from.as_deref().is_some_and(|from| self.names.wanted.is(from));
        if path.is_none() && was_wanted {
            // It went where nobody observes, or not yet.
            return Some(shown);
        }
        shown.path = came.or(path.filter(|_| was_wanted));
        shown.path.is_some().then_some(shown)
    }

    /// Appends what is shown of the next event; its time by `CLOCK_MONOTONIC`, if there was one.
    fn take(&mut self, clock: Clock, lines: &mut Vec<Line>) -> anyhow::Result<Option<u64>> {
        let Some(event) = self.events.next().context("reading the ring")? else {
            self.note_missing(self.events.missing(), SystemTime::now(), lines);
            return Ok(None);
        };
        let time_ns = event.time_ns;
        let time = clock.time(time_ns);
        self.note_missing(event.missing, time, lines);
        lines.extend(self.shown(event, time).map(Line::Event));
        Ok(Some(time_ns))
    }

    /// Events that found no room, told so late as by the next one that did.
    fn note_missing(&mut self, missing: u64, time: SystemTime, lines: &mut Vec<Line>) {
        if missing > self.missing {
            let events = missing - self.missing;
            self.missing = missing;
            self.is_stale = true;
            lines.push(Line::Missing(Missing { time, events, because: Because::RingFull }));
        }
    }

    /// Now and then: what was not told, and what is called what since then. `is_drained`: all that waited was taken.
    fn ask(&mut self, lines: &mut Vec<Line>, is_drained: bool) {
        if self.asked.elapsed() >= ASKED_EVERY {
            self.note_untold(lines);
            self.look_at_roots();
        }
        if is_drained && self.looked_again.is_some_and(|last| last.elapsed() >= LOOKED_EVERY) {
            self.forget_unobserved();
        }
        // While it overflows on and on, that would take the time to read the ring.
        if self.is_stale && self.looked_again.is_none_or(|last| last.elapsed() >= LOOKED_EVERY) {
            self.look_again();
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
        let skipped = self.events.skipped() + mem::take(&mut self.unended);
        // Names may be among them, and what is done to a file whose name is not known is not shown.
        self.is_stale |= skipped > 0;
        let unnamed = mem::take(&mut self.unnamed);
        for (events, because) in [(skipped, Because::Skipped), (unnamed, Because::NameLost)] {
            if events > 0 {
                lines.push(Line::Missing(Missing { time: SystemTime::now(), events, because }));
            }
        }
    }
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
                self.ask(lines, true);
                return Ok(false);
            }
        }
        self.ask(lines, false);
        Ok(true)
    }

    fn what(&self) -> String {
        let unseen = match self.unseen.as_slice() {
            [] => String::new(),
            unseen => format!("; not seen on this kernel: {}", unseen.join(", ")),
        };
        let others: String = self.unseen_by.iter().fold(String::new(), |said, filesystem| {
            said + &format!("; what is done to files on {filesystem} behind this kernel is not seen")
        });
        format!("{} (backend: ebpf){unseen}{others}", what(self.names.files.len(), self.names.directories()))
    }

    fn end(&mut self, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let clock = Clock::new().context("asking for the time")?;
        let until = u64::try_from(clock.monotonic.as_nanos()).unwrap_or(u64::MAX);
        let mut quiet = 0;
        while quiet < TRIES {
            match self.take(clock, lines)? {
                Some(time_ns) if time_ns > until => break,
                Some(_) => quiet = 0,
                // That, or an event is being written at this moment, and others are behind it.
                None => {
                    quiet += 1;
                    thread::sleep(SETTLING);
                }
            }
        }
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
