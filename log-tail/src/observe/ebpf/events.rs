//! The kernel program where it tells every single event: which inodes are observed, and what the ring holds of them.

use std::{
    ffi::OsString,
    io,
    mem::offset_of,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::ffi::OsStringExt as _,
    },
};

use aya::maps::{Array, HashMap, MapData, RingBuf};
use log_tail_common::{
    Event as Record, HINT_EVENT, HINT_NAMED_EVENT, InodeKey, MISSING_CROWDED, MISSING_ENDS, MISSING_INODES,
    MISSING_NO_ROOM, NAME_MAX, NamedEvent, OBSERVED, OPERATION_CAME, OPERATION_COPY, OPERATION_FALLOCATE,
    OPERATION_FREED, OPERATION_MOVED_AWAY, OPERATION_MOVED_FROM, OPERATION_MOVED_TO, OPERATION_REFLINK,
    OPERATION_SPLICE, OPERATION_TRUNCATE, OPERATION_WENT, OPERATION_WRITE,
};

use super::{
    load::{self, Attached, LoadError, LoadOptions},
    preempt,
    ring::{u32_at, u64_at, writer_at},
};
use crate::observe::{
    event::{Deed, Event, Kind, Name, Way},
    key::Keys,
};

/// The running kernel program.
pub struct Events {
    /// Holds programs and links: the kernel program ends with it.
    _ebpf: aya::Ebpf,
    hooks: Vec<Attached>,
    tells_subvolumes: bool,
    observed: HashMap<MapData, InodeKey, u32>,
    ignored: HashMap<MapData, InodeKey, u32>,
    missing: Array<MapData, u64>,
    ring: RingBuf<MapData>,
    skipped: Skipped,
}

/// What was known of the events that the kernel skipped when they were last asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Skipped {
    crowded: u64,
    alone: u64,
    all_times: u64,
    ends: u64,
}

impl Events {
    /// Loads the kernel program.
    ///
    /// # Errors
    /// [`LoadError`] says what this kernel refused.
    pub fn new(options: LoadOptions) -> Result<Self, LoadError> {
        let mut loaded = load::load(options)?;
        Ok(Self {
            observed: loaded.take("FOLLOWED")?,
            ignored: loaded.take("IGNORED")?,
            missing: loaded.take("MISSING")?,
            ring: loaded.take("HINTS")?,
            skipped: Skipped::default(),
            tells_subvolumes: loaded.tells_subvolumes,
            hooks: loaded.hooks,
            _ebpf: loaded.ebpf,
        })
    }

    /// Every hook, with what became of it.
    pub fn hooks(&self) -> &[Attached] {
        &self.hooks
    }

    /// Whether the kernel may skip programs, so that several stand on one function.
    pub fn may_be_skipped(&self) -> bool {
        self.hooks.iter().filter(|attached| attached.hook.is_attached_many_times()).count() > 2
    }

    /// The numbers that inodes are observed by.
    ///
    /// # Errors
    /// As [`Keys::new`].
    pub fn keys(&self) -> io::Result<Keys> {
        Keys::new(self.tells_subvolumes)
    }

    /// Whether none of those is missing: one function takes so many programs of all tools together.
    fn are_all_attached(&self) -> bool {
        let mut many_times = self.hooks.iter().filter(|attached| attached.hook.is_attached_many_times());
        many_times.all(|attached| attached.program.is_some())
    }

    /// Readable when there are events.
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// What is done to this inode is told from now on; of a directory, also what becomes of the names in it, and what
    /// is done to inodes that get such a name.
    ///
    /// # Errors
    /// ENOSPC or E2BIG where there is no room for another one.
    pub fn observe(&mut self, inode: InodeKey) -> io::Result<()> {
        self.observed.insert(inode, OBSERVED, 0).map_err(io::Error::other)
    }

    /// Whether what is done to this inode is told.
    pub fn observes(&self, inode: InodeKey) -> bool {
        self.observed.get(&inode, 0).is_ok()
    }

    /// What is done to this inode is not told any more, unless it got another name in an observed directory since
    /// then: [`observed_since`](log_tail_common::observed_since).
    pub fn ignore(&mut self, inode: InodeKey, since: u32) {
        // Where there is no room, it is told, and left out here.
        let _ = self.ignored.insert(inode, since, 0);
    }

    /// What is done to this inode is not told any more.
    pub fn forget(&mut self, inode: InodeKey) {
        let _ = self.observed.remove(&inode);
    }

    /// The next one, if there is one.
    ///
    /// # Errors
    /// A record that is none.
    pub fn next(&mut self) -> io::Result<Option<Event>> {
        let Some(item) = self.ring.next() else { return Ok(None) };
        let unknown = || {
            io::Error::other(format!(
                "the kernel program sent {} bytes that are no event: {item:?}",
                item.len()
            ))
        };
        decode(&item).ok_or_else(unknown).map(Some)
    }

    /// Events that found no room in the ring, since the start.
    pub fn missing(&self) -> u64 {
        self.missing.get(&MISSING_NO_ROOM, 0).unwrap_or(0)
    }

    /// Inodes that found no room since the start: what is done to them is not told.
    pub fn inodes_without_room(&self) -> u64 {
        self.missing.get(&MISSING_INODES, 0).unwrap_or(0)
    }

    /// Events that the kernel skipped since this was last asked, at most.
    pub fn skipped(&mut self) -> u64 {
        // Before the counts are read: what is skipped from now on is told by the next one.
        let [crowded, ends] =
            [MISSING_CROWDED, MISSING_ENDS].map(|kind| self.missing.get(&kind, 0).unwrap_or(0));
        let (alone, all_times) = self.misses();
        let before = self.skipped;
        // Where a count cannot be read just now, it is what it was.
        let (alone, all_times) = (alone.max(before.alone), all_times.max(before.all_times));
        self.skipped = Skipped { crowded, alone, all_times, ends: ends.max(before.ends) };
        // Where none was to be skipped, one program stands on each function, and nobody counts who waits.
        let none = self.may_be_skipped() && crowded == before.crowded && self.are_all_attached();
        let writes = if none { 0 } else { all_times - before.all_times };
        alone - before.alone + writes + (self.skipped.ends - before.ends)
    }

    /// How often programs that stand alone were skipped; and of those that stand on one function many times, the one
    /// that was least.
    fn misses(&self) -> (u64, u64) {
        let misses = |attached: &Attached| attached.program.and_then(preempt::misses).unwrap_or(0);
        let many_times = |attached: &&Attached| attached.hook.is_attached_many_times();
        let alone = |attached: &&Attached| !many_times(attached) && attached.hook.tells_events();
        let alone = self.hooks.iter().filter(alone).map(misses).sum::<u64>();
        // Of equal programs, all have to be skipped.
        let mut least: Vec<(&str, u64)> = Vec::new();
        for attached in self.hooks.iter().filter(many_times).filter(|attached| attached.program.is_some()) {
            let (function, misses) = (attached.hook.function, misses(attached));
            match least.iter_mut().find(|(found, _)| *found == function) {
                Some((_, least)) => *least = misses.min(*least),
                None => least.push((function, misses)),
            }
        }
        (alone, least.iter().map(|(_, misses)| misses).sum())
    }
}

fn decode(bytes: &[u8]) -> Option<Event> {
    let word = |offset| u64_at(bytes, offset);
    let half = |offset| u32_at(bytes, offset);
    let is_named = match half(offset_of!(Record, kind))? {
        HINT_EVENT => false,
        HINT_NAMED_EVENT => true,
        _ => return None,
    };
    let name = || if is_named { name_in(bytes) } else { None };
    let (from, to) = (word(offset_of!(Record, span.from))?, word(offset_of!(Record, span.to))?);
    let detail = half(offset_of!(Record, detail))?;
    let bytes_by = |by| Deed::Bytes { by, bytes: (from < to).then_some(from..to) };
    let kind = Kind::of_mode(detail);
    let deed = match half(offset_of!(Record, operation))? {
        OPERATION_WRITE => bytes_by(Way::Write),
        OPERATION_SPLICE => bytes_by(Way::Splice),
        OPERATION_COPY => bytes_by(Way::Copy),
        OPERATION_REFLINK => bytes_by(Way::Reflink),
        OPERATION_FALLOCATE => Deed::Fallocate { mode: detail, bytes: from..to },
        OPERATION_TRUNCATE => Deed::Truncate,
        OPERATION_CAME => Deed::Came { name: name()?, kind, links: half(offset_of!(Record, links))? },
        OPERATION_MOVED_FROM => Deed::MovedFrom { name: name()? },
        OPERATION_MOVED_TO => Deed::MovedTo { name: name()?, kind },
        OPERATION_MOVED_AWAY => Deed::MovedAway,
        OPERATION_WENT => Deed::Went { name: name()? },
        OPERATION_FREED => Deed::Freed,
        _ => return None,
    };
    Some(Event {
        time_ns: word(offset_of!(Record, time_ns))?,
        deed,
        inode: key_at(bytes, offset_of!(Record, inode))?,
        size_before: word(offset_of!(Record, size_before_plus_one))?.checked_sub(1),
        size_after: word(offset_of!(Record, size_after))?,
        missing: word(offset_of!(Record, missing))?,
        writer: writer_at(bytes, offset_of!(Record, writer))?,
    })
}

fn name_in(bytes: &[u8]) -> Option<Name> {
    let length = usize::try_from(u64_at(bytes, offset_of!(NamedEvent, name_length))?).ok()?.min(NAME_MAX);
    let start = offset_of!(NamedEvent, name);
    let name = OsString::from_vec(bytes.get(start..start + length)?.to_vec());
    Some(Name { directory: key_at(bytes, offset_of!(NamedEvent, directory))?, name })
}

fn key_at(bytes: &[u8], at: usize) -> Option<InodeKey> {
    let bytes = bytes.get(at..)?;
    let ino = u64_at(bytes, offset_of!(InodeKey, ino))?;
    let number = |member| u32_at(bytes, member);
    Some(InodeKey {
        ino,
        dev: number(offset_of!(InodeKey, dev))?,
        subvolume: number(offset_of!(InodeKey, subvolume))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record as the kernel program lays it out, and the name behind it.
    fn record(kind: u32, operation: u32, detail: u32, name: Option<&[u8]>) -> Vec<u8> {
        let words = [9, 42, 7, 100, 120, 101, 120, 3].map(u64::to_ne_bytes).concat();
        let mut bytes = [&kind.to_ne_bytes()[..], &operation.to_ne_bytes(), &words].concat();
        bytes.extend([detail, 1, 7, 8, 9, 0].map(u32::to_ne_bytes).concat());
        bytes.extend(77_u64.to_ne_bytes());
        bytes.extend(b"logger\0\0\0\0\0\0\0\0\0\0");
        if let Some(name) = name {
            bytes.extend([5, 7, name.len() as u64].map(u64::to_ne_bytes).concat());
            bytes.extend(name);
            bytes.resize(size_of::<NamedEvent>(), 0);
        }
        bytes
    }

    #[test]
    fn a_write_says_where_and_who() {
        let event = decode(&record(HINT_EVENT, OPERATION_WRITE, 0, None)).unwrap();
        assert_eq!(event.deed, Deed::Bytes { by: Way::Write, bytes: Some(100..120) });
        assert_eq!((event.time_ns, event.inode), (9, InodeKey { ino: 42, dev: 7, subvolume: 0 }));
        assert_eq!((event.size_before, event.size_after, event.missing), (Some(100), 120, 3));
        assert_eq!((event.writer.pid, event.writer.tid, event.writer.uid), (7, 8, 9));
        assert_eq!((event.writer.cgroup, &event.writer.comm[..6]), (77, &b"logger"[..]));
    }

    #[test]
    fn a_name_comes_with_its_directory() {
        let bytes = record(HINT_NAMED_EVENT, OPERATION_CAME, libc::S_IFREG | 0o644, Some(b"a.log"));
        let name = Name { directory: InodeKey { ino: 5, dev: 7, subvolume: 0 }, name: "a.log".into() };
        let came = Deed::Came { name, kind: Kind::File, links: 1 };
        assert_eq!(decode(&bytes).unwrap().deed, came);
        assert_eq!(decode(&record(HINT_EVENT, OPERATION_CAME, 0, None)), None, "a name is needed");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500), operation in 0_u32..14) {
            let _ = decode(&bytes);
            let head = record(HINT_NAMED_EVENT, operation, 0, None);
            let _ = decode(&[&head[..], &bytes].concat());
        }
    }
}
