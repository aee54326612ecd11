//! The directory behind FUSE.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, Request,
    spawn_mount,
};

use super::{ROOT, Share};

/// Serves it, mounted there until what is returned is dropped.
///
/// # Errors
/// What this machine does not allow of it.
pub fn serve(share: &Share, at: &Path) -> io::Result<BackgroundSession> {
    spawn_mount(InMemory(share.clone()), at, &Config::default())
}

struct InMemory(Share);

impl InMemory {
    fn attributes(&self, number: u64) -> Option<FileAttr> {
        let (kind, perm, size, time) = if number == ROOT {
            (FileType::Directory, 0o755, 0, self.0.modified())
        } else {
            let file = self.0.get(number)?;
            (FileType::RegularFile, 0o644, file.size(), file.modified)
        };
        Some(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for InMemory {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // As libfuse does: what the kernel has cached of a file goes when that has grown.
        let unsupported = |_| io::Error::other("the kernel cannot drop what it has cached of a file");
        config.add_capabilities(InitFlags::FUSE_AUTO_INVAL_DATA).map_err(unsupported)
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.number_of(name.as_bytes()).and_then(|number| self.attributes(number));
        match found {
            Some(attributes) => reply.entry(&Duration::ZERO, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode.0) {
            Some(attributes) => reply.attr(&Duration::ZERO, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.get(inode.0) {
            Some(file) => reply.data(file.read(offset, size).0),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        for (place, (number, file)) in (1..).zip(self.0.all()) {
            if place > offset && reply.add(INodeNo(number), place, FileType::RegularFile, file.name) {
                break;
            }
        }
        reply.ok();
    }
}
