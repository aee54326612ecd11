//! A single event: what was done to an inode, where, and by whom.

use std::{ffi::OsString, ops::Range};

use log_tail_common::{InodeKey, Writer};

/// What was done, as the kernel program tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When: `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// What.
    pub deed: Deed,
    /// To which inode.
    pub inode: InodeKey,
    /// Its size in bytes when the call began, where that is known.
    pub size_before: Option<u64>,
    /// Its size in bytes when the call ended.
    pub size_after: u64,
    /// Events that had found no room in the ring by then, since the start.
    pub missing: u64,
    /// By whom.
    pub writer: Writer,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Bytes came into the file; which ones, where that is told.
    Bytes { by: Way, bytes: Option<Range<u64>> },
    /// Room was made, or taken away: fallocate's mode, as in `include/uapi/linux/falloc.h`.
    Fallocate { mode: u32, bytes: Range<u64> },
    /// The size was set.
    Truncate,
    /// A name was given to it: created, or linked where it bears another one already.
    Came { name: Name, kind: Kind, links: u32 },
    /// A rename is about to take this name from it.
    MovedFrom { name: Name },
    /// A rename gave it this name.
    MovedTo { name: Name, kind: Kind },
    /// A rename gave it a name in a directory that is not observed.
    MovedAway,
    /// A name was removed. Of which inode is not told.
    Went { name: Name },
    /// It is no more: its number may be another's.
    Freed,
}

/// How bytes come into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a call that writes.
    Write,
    /// Out of a pipe, or of another file by sendfile.
    Splice,
    /// Copied by the filesystem.
    Copy,
    /// Shared with another file.
    Reflink,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The directory's inode.
    pub directory: InodeKey,
    /// Empty where the kernel does not let it be read.
    pub name: OsString,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A socket, a pipe or a device.
    Other,
}

impl Kind {
    /// What `inode.i_mode` says.
    pub fn of_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            _ => Self::Other,
        }
    }
}
