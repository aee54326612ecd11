//! Looking, for files whose writes no event reports: network filesystems, FUSE, and what the limits left over.
//!
//! The only place where log-tail polls. It is said aloud when a file is followed this way.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    time::Duration,
};

use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    statfs::{FsType, fstatfs},
};

use super::{Answer, Backend, DirectoryId, FileId, Hint, Interest, ObserveError, Observer, Reach};

/// How long a change may go unseen.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Filesystems that other hosts, or a process behind FUSE, write to without this kernel's knowing:
/// their magic numbers from include/uapi/linux/magic.h and fs/*/super.c.
const REMOTE: [(u32, &str); 11] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0bd0_0bd0, "lustre"),
];

/// The name of the file's filesystem, if writes to it may go unseen by this kernel.
///
/// # Errors
/// fstatfs(2)'s.
pub fn unseen_filesystem(file: BorrowedFd<'_>) -> io::Result<Option<&'static str>> {
    Ok(remote_name(fstatfs(file)?.filesystem_type()))
}

fn remote_name(magic: FsType) -> Option<&'static str> {
    // Magic numbers are 32 bits wide; the member that carries them is signed and as wide as a long.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the low 32 bits are the number"
    )]
    let magic = magic.0 as u32;
    REMOTE.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// The observer that says nothing: where there is no kernel program and no inotify either, everything is
/// looked at.
#[derive(Debug)]
pub struct Looking {
    /// Never readable.
    silent: EventFd,
}

impl Looking {
    /// # Errors
    /// EMFILE.
    pub fn new() -> io::Result<Self> {
        Ok(Self { silent: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)? })
    }
}

impl Observer for Looking {
    fn backend(&self) -> Backend {
        Backend::Stat
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.silent.as_fd()
    }

    fn follow_file(&mut self, _: FileId, _: BorrowedFd<'_>, _: Reach) -> Result<(), ObserveError> {
        Err(ObserveError::Looking)
    }

    fn leave_file(&mut self, _: FileId) {}

    fn follow_directory(
        &mut self,
        _: DirectoryId,
        _: &Path,
        _: BorrowedFd<'_>,
        _: Interest,
    ) -> Result<(), ObserveError> {
        Err(ObserveError::Looking)
    }

    fn leave_directory(&mut self, _: DirectoryId) {}

    fn answer(&mut self, _: FileId, _: u64) -> Answer {
        Answer::default()
    }

    fn drain(&mut self, _: &mut Vec<Hint>) -> io::Result<bool> {
        Ok(false)
    }
}

/// The files to look at.
#[derive(Debug, Default)]
pub struct Looked {
    files: BTreeSet<FileId>,
}

impl Looked {
    /// Looks at this file from now on.
    pub fn add(&mut self, id: FileId) {
        self.files.insert(id);
    }

    /// No longer looks at it.
    pub fn remove(&mut self, id: FileId) {
        self.files.remove(&id);
    }

    /// Whether there is anything to look at.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether this file is looked at.
    pub fn contains(&self, id: FileId) -> bool {
        self.files.contains(&id)
    }

    /// The files to look at.
    pub fn iter(&self) -> impl Iterator<Item = FileId> + '_ {
        self.files.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nfs_and_fuse_are_recognised_and_ext4_is_not() {
        assert_eq!(remote_name(FsType(0x6969)), Some("nfs"));
        assert_eq!(remote_name(FsType(0x6573_5546)), Some("fuse"));
        assert_eq!(remote_name(FsType(0xff53_4d42)), Some("cifs"));
        assert_eq!(remote_name(FsType(0xef53)), None);
    }
}
