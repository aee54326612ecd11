//! The kernel's own key of an inode, `(s_dev, i_ino)`, which stat(2) does not always show.
//!
//! btrfs subvolumes and overlayfs report made-up device numbers. A watch's line in
//! `/proc/self/fdinfo/FD` prints the inode's own: `inotify wd:N ino:HEX sdev:HEX` (fs/notify/fdinfo.c).

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use log_tail_common::InodeKey;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Asks the kernel for inodes' keys, one at a time.
#[derive(Debug)]
pub struct Keys {
    inotify: Inotify,
    fdinfo: String,
}

impl Keys {
    /// # Errors
    /// EMFILE where `fs.inotify.max_user_instances` is spent.
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let fdinfo = format!("/proc/self/fdinfo/{}", inotify.as_fd().as_raw_fd());
        Ok(Self { inotify, fdinfo })
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
        parse(&key?).ok_or_else(|| io::Error::other("no inotify line in /proc/self/fdinfo"))
    }
}

fn parse(fdinfo: &str) -> Option<InodeKey> {
    let line = fdinfo.lines().find(|line| line.starts_with("inotify "))?;
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
    let ino = u64::from_str_radix(field("ino:")?, 16).ok()?;
    let dev = u32::from_str_radix(field("sdev:")?, 16).ok()?;
    Some(InodeKey { ino, dev, zero: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_line_of_a_watch_is_read() {
        let text = "pos:\t0\nflags:\t02004000\nmnt_id:\t15\nino:\t1057\n\
            inotify wd:1 ino:2f0a1 sdev:800010 mask:400 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:a1f0\n";
        assert_eq!(parse(text), Some(InodeKey { ino: 0x2_f0a1, dev: 0x80_0010, zero: 0 }));
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
        let keys = Keys::new().unwrap();
        let key = keys.of(file.as_fd()).unwrap();
        assert_eq!(key.ino, file.metadata().unwrap().ino());
        assert_eq!(keys.of(file.as_fd()).unwrap(), key, "and again");
    }
}
