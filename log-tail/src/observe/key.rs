//! The kernel's own key of an inode, `(s_dev, i_ino)`, which stat(2) does not always show.
//!
//! btrfs subvolumes and overlayfs report made-up device numbers. A watch's line in
//! `/proc/self/fdinfo/FD` prints the inode's own: `inotify wd:N ino:HEX sdev:HEX` (fs/notify/fdinfo.c). On btrfs those two
//! may be those of several files: what stat(2) shows then tells them apart.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use log_tail_common::InodeKey;
use nix::sys::{
    inotify::{AddWatchFlags, InitFlags, Inotify},
    stat::{fstat, major, minor},
    statfs::{BTRFS_SUPER_MAGIC, fstatfs},
};

/// Asks the kernel for inodes' keys, one at a time.
#[derive(Debug)]
pub struct Keys {
    inotify: Inotify,
    fdinfo: String,
    /// Whether the kernel program tells btrfs subvolumes apart.
    with_subvolumes: bool,
}

impl Keys {
    /// # Errors
    /// EMFILE where `fs.inotify.max_user_instances` is spent.
    pub fn new(with_subvolumes: bool) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let fdinfo = format!("/proc/self/fdinfo/{}", inotify.as_fd().as_raw_fd());
        Ok(Self { inotify, fdinfo, with_subvolumes })
    }

    /// The key of an open file or directory.
    ///
    /// # Errors
    /// ENOSPC where `fs.inotify.max_user_watches` is spent; one watch is held for a moment.
    pub fn of(&self, file: BorrowedFd<'_>) -> io::Result<InodeKey> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // The only event asked for is one that comes at most once, so nothing ever queues up.
        let watch = self.inotify.add_watch(path.as_str(), AddWatchFlags::IN_DELETE_SELF)?;
        let key = fs::read_to_string(&self.fdinfo);
        self.inotify.rm_watch(watch)?;
        // Each removed watch leaves an IN_IGNORED behind.
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        let key = parse(&key?).ok_or_else(|| io::Error::other("no inotify line in /proc/self/fdinfo"))?;
        let subvolume = if self.with_subvolumes && is_on_btrfs(file) { subvolume(file)? } else { 0 };
        Ok(InodeKey { subvolume, ..key })
    }

    /// Whether another file or directory may have the same key: of a btrfs filesystem all subvolumes, where numbers are
    /// given out anew, have one, and the kernel program does not tell them apart.
    pub fn may_be_of_two(&self, file: BorrowedFd<'_>) -> bool {
        !self.with_subvolumes && is_on_btrfs(file)
    }
}

fn is_on_btrfs(file: BorrowedFd<'_>) -> bool {
    fstatfs(file).is_ok_and(|statfs| statfs.filesystem_type() == BTRFS_SUPER_MAGIC)
}

/// The device number that stat(2) shows, as the kernel keeps it: each subvolume has its own.
fn subvolume(file: BorrowedFd<'_>) -> io::Result<u32> {
    let dev = fstat(file)?.st_dev;
    u32::try_from(major(dev) << 20 | minor(dev)).map_err(io::Error::other)
}

fn parse(fdinfo: &str) -> Option<InodeKey> {
    let line = fdinfo.lines().find(|line| line.starts_with("inotify "))?;
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
    let ino = u64::from_str_radix(field("ino:")?, 16).ok()?;
    let dev = u32::from_str_radix(field("sdev:")?, 16).ok()?;
    Some(InodeKey { ino, dev, subvolume: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_line_of_a_watch_is_read() {
        let text = "pos:\t0\nflags:\t02004000\nmnt_id:\t15\nino:\t1057\n\
            inotify wd:1 ino:2f0a1 sdev:800010 mask:400 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:a1f0\n";
        assert_eq!(parse(text), Some(InodeKey { ino: 0x2_f0a1, dev: 0x80_0010, subvolume: 0 }));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "pos:\t0\n", "inotify wd:1 ino:zz sdev:1", "inotify wd:1 sdev:1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn on_a_plain_filesystem_the_key_is_what_stat_says() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        let keys = Keys::new(true).unwrap();
        let key = keys.of(file.as_fd()).unwrap();
        assert_eq!(key.ino, file.metadata().unwrap().ino());
        assert_eq!(keys.of(file.as_fd()).unwrap(), key, "and again");
    }
}
