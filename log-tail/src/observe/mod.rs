//! Who says that something changed: one small trait, an implementation for each way of knowing.
//!
//! An observer only hints. Nothing it says is believed about bytes: a hint makes the reader look, and
//! the reader reads to the end of the file. So a hint may come twice, late, or for nothing, and an
//! observer that lost some says [`Hint::LookAtEverything`].

pub mod cgroup;
pub mod ebpf;
pub mod event;
pub mod inotify;
pub mod key;
pub mod mounts;
pub mod probe;
pub mod stat;
pub mod writer;

use std::{
    ffi::OsString,
    fmt, io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use tokio::io::{Interest as Readable, unix::AsyncFd};

pub use self::writer::{Claim, Writer};

/// A followed file: an index that is used again once the file has been let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A followed directory: an index that is used again once the directory has been let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirectoryId(pub u32);

/// What an observer says. Ids may be stale: a hint can be on its way while its file is let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// There may be new bytes. `time_ns`: when the first of them was written, `CLOCK_MONOTONIC`, where known.
    Appended { file: FileId, time_ns: Option<u64> },
    /// Who wrote these bytes of the file. `last`: what else became certain meanwhile. It says only that; whether there
    /// is something to read, [`Hint::Appended`] does.
    Written { file: FileId, writer: Arc<Writer>, bytes: Range<u64>, last: Option<Claim> },
    /// Nobody has the file open for writing any more: see [`Observer::tell_close`].
    Closed { file: FileId },
    /// The file with this name in this directory may have new bytes. The name shares its memory with others: it may come
    /// with every write.
    EntryWritten { directory: DirectoryId, name: Bytes },
    /// The file was truncated. `cut_off_bytes`: see [`Answer::cut_off_bytes`]; 0 where nobody knows.
    Truncated { file: FileId, cut_off_bytes: u64 },
    /// The file bears another name.
    Moved { file: FileId },
    /// A name of the file is about to be removed.
    Unlinked { file: FileId },
    /// Something became of a name in this directory; an empty name stands for any.
    Entry { directory: DirectoryId, name: OsString, change: Change },
    /// The directory was moved or removed, or is about to be.
    DirectoryGone { directory: DirectoryId },
    /// Hints were lost: look at every file and every name.
    LookAtEverything,
    /// The kernel may not have told everything: [`Observer::skipped`] says whether.
    Skipped,
}

/// What became of a name in a followed directory. The changes of one directory come in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is a new name of some inode: created, or linked.
    Came,
    /// A rename takes it from its inode. Where that goes to a followed directory, a [`Change::MovedTo`]
    /// with the same cookie follows.
    MovedFrom(Cookie),
    /// A rename gave it to an inode, perhaps in place of another.
    MovedTo(Cookie, Option<Held>),
    /// It was removed.
    Went(Option<Held>),
    /// Nobody knows: it has to be looked at.
    Unknown,
}

/// What a regular file held when it lost its last name, where somebody tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its size.
    pub bytes: u64,
    /// Somebody had it open for writing: it may grow still.
    pub is_least: bool,
}

/// What the two ends of one rename have in common. Used again once both have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(pub u64);

/// Hints as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintKind {
    /// There may be new bytes.
    Append,
    /// Truncated.
    Truncate,
    /// Bears another name.
    Move,
    /// A name is about to go.
    Unlink,
    /// Something became of a directory's entry.
    Entry,
    /// Hints were lost.
    Overflow,
    /// The kernel may have skipped the kernel program.
    Skipped,
    /// Who wrote.
    Written,
    /// The last writer closed the file.
    Close,
}

impl HintKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Append,
        Self::Truncate,
        Self::Move,
        Self::Unlink,
        Self::Entry,
        Self::Overflow,
        Self::Skipped,
        Self::Written,
        Self::Close,
    ];

    /// The word for it in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Truncate => "truncate",
            Self::Move => "move",
            Self::Unlink => "unlink",
            Self::Entry => "entry",
            Self::Overflow => "overflow",
            Self::Skipped => "skipped",
            Self::Written => "written",
            Self::Close => "close",
        }
    }
}

impl Hint {
    /// What it is counted as.
    pub fn kind(&self) -> HintKind {
        match self {
            Self::Appended { .. } | Self::EntryWritten { .. } => HintKind::Append,
            Self::Truncated { .. } => HintKind::Truncate,
            Self::Moved { .. } => HintKind::Move,
            Self::Unlinked { .. } => HintKind::Unlink,
            Self::Entry { .. } | Self::DirectoryGone { .. } => HintKind::Entry,
            Self::LookAtEverything => HintKind::Overflow,
            Self::Skipped => HintKind::Skipped,
            Self::Written { .. } => HintKind::Written,
            Self::Closed { .. } => HintKind::Close,
        }
    }
}

/// The ways of knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Our kernel program.
    Ebpf,
    /// inotify watches on directories.
    Inotify,
    /// Looking every second, for filesystems whose writes this kernel does not see.
    Stat,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ebpf => "ebpf",
            Self::Inotify => "inotify",
            Self::Stat => "stat",
        })
    }
}

/// Why an observer cannot watch something.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A limit of this system is spent.
    #[error("{what}: {source}; raise {limit} (now {value})")]
    Limit { what: String, limit: &'static str, value: String, source: io::Error },
    /// The system refused.
    #[error("cannot watch '{}': {source}", path.display())]
    System { path: PathBuf, source: io::Error },
    /// There is nothing that could say anything: that was said once, at the start.
    #[error("no event tells")]
    Looking,
    /// More files than the kernel program was given room for.
    #[error(
        "the kernel program has room for {capacity} files and directories; restart log-tail to give it more"
    )]
    Full { capacity: u32 },
}

/// How a file can be written to without its followed directory hearing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every writer comes through the followed directory.
    ThroughDirectory,
    /// It has other names, or has left its directory: the inode itself has to be watched.
    Alone,
}

/// What is to be known of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Which names come and go in it.
    Entries,
    /// Also which of its files are written to.
    Writes,
}

/// One way of knowing that something changed.
pub trait Observer {
    /// Which way this is.
    fn backend(&self) -> Backend;

    /// Readable when [`Observer::drain`] has something to say.
    fn readiness(&self) -> BorrowedFd<'_>;

    /// Starts hints about a file's bytes, or changes how they are had. What was written before this
    /// returns may go without a hint: read after it, not before.
    ///
    /// # Errors
    /// A spent limit, or the system's refusal. The caller looks at the file by stat instead.
    fn follow_file(&mut self, id: FileId, file: BorrowedFd<'_>, reach: Reach) -> Result<(), ObserveError>;

    /// Ends hints about a file.
    fn leave_file(&mut self, id: FileId);

    /// Starts hints about the names in a directory, or more of them.
    ///
    /// # Errors
    /// As for [`Observer::follow_file`].
    fn follow_directory(
        &mut self,
        id: DirectoryId,
        path: &Path,
        directory: BorrowedFd<'_>,
        interest: Interest,
    ) -> Result<(), ObserveError>;

    /// Ends hints about the names in a directory.
    fn leave_directory(&mut self, id: DirectoryId);

    /// To be called before a file is read, `near` this offset: what is written from now on brings a new hint.
    fn answer(&mut self, id: FileId, near: u64) -> Answer;

    /// Whether every truncation is told, with its sizes: then nothing else is taken for one.
    fn tells_truncations(&self) -> bool {
        false
    }

    /// Whether what it tells of this file or directory may be about another, which it knows by the same numbers.
    fn may_mistake(&self, _: BorrowedFd<'_>) -> bool {
        false
    }

    /// Has the next [`Hint::Closed`] of the file told. `false` where the observer cannot.
    fn tell_close(&mut self, _: FileId) -> bool {
        false
    }

    /// Whether it tells who writes.
    fn tells_writers(&self) -> bool {
        false
    }

    /// Which bytes one process wrote last, where the observer tells who writes: of those near this offset.
    fn claim(&self, _: FileId, _near: u64) -> Option<Claim> {
        None
    }

    /// What the kernel skipped since this was last asked. To be asked after [`Hint::Skipped`], which does not
    /// come again before.
    fn skipped(&mut self) -> Skipped {
        Skipped::Nothing
    }

    /// Events that the kernel skipped since the start, where the observer knows.
    fn skipped_count(&self) -> Option<u64> {
        None
    }

    /// Whether the file was truncated since the last [`Observer::answer`]: what was read since may be
    /// another content's.
    fn truncated_since(&self, _: FileId) -> bool {
        false
    }

    /// Whether the file is being truncated at this moment, so that its size may be a new one already, and nothing has
    /// been told.
    fn is_being_truncated(&self, _: FileId) -> bool {
        false
    }

    /// Appends the hints that wait, boundedly many. `true` where more may wait.
    ///
    /// # Errors
    /// The system's, from reading the descriptor.
    fn drain(&mut self, hints: &mut Vec<Hint>) -> io::Result<bool>;

    /// Whether a hint is being made at this moment, and keeps back those that were made after it.
    fn is_telling(&self) -> bool {
        false
    }

    /// What became of the kernel's events, where the observer knows.
    fn events(&self) -> Option<log_tail_common::Counters> {
        None
    }

    /// What the kernel program took since the start, hook by hook; empty where that is not measured.
    fn costs(&self) -> Vec<ebpf::cost::Cost> {
        Vec::new()
    }

    /// Passes on what the kernel program logged about itself.
    fn log(&mut self) {}
}

/// Which events the kernel did not tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// None.
    Nothing,
    /// Bytes were written to some file.
    Writes,
    /// Names may have changed, files may have been truncated.
    Anything,
}

/// What the kernel noted about a file, since the last answer unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// A hint had been given, or is on its way.
    pub rung: bool,
    /// The smallest size, in bytes, the file was truncated to; `None` where it was not, or nobody knows.
    pub truncated_to: Option<u64>,
    /// Bytes that truncations cut off since the file was followed, all of them together.
    pub cut_off_bytes: u64,
    /// Bytes that were cut out of it, so that what follows them moved toward the front.
    pub collapsed_bytes: u64,
    /// Which bytes one process wrote last.
    pub written: Option<Claim>,
    /// More than one process wrote, and it is not told which of them what.
    pub by_several: bool,
}

/// Lets tokio's `AsyncFd` wait on a descriptor: for an observer, one that it goes on owning.
#[derive(Debug)]
pub struct Readiness(OwnedFd);

impl Readiness {
    /// As [`Readiness::readable`], of the observer's descriptor.
    ///
    /// # Errors
    /// EMFILE.
    pub fn of(observer: &dyn Observer) -> io::Result<AsyncFd<Self>> {
        Self::readable(observer.readiness())
    }

    /// Duplicates the descriptor, and has the running tokio runtime wait on it.
    ///
    /// # Errors
    /// EMFILE.
    pub fn readable(descriptor: BorrowedFd<'_>) -> io::Result<AsyncFd<Self>> {
        Self::wait_on(descriptor.try_clone_to_owned()?, Readable::READABLE)
    }

    fn wait_on(descriptor: OwnedFd, interest: Readable) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is owned by the value, and nothing takes it out, replaces or closes it.
        let registered = unsafe { AsyncFd::register_with_interest(Self(descriptor), interest) };
        registered.map_err(|refused| refused.into_parts().1)
    }
}

impl std::os::fd::AsRawFd for Readiness {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
