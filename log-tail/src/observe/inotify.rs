//! inotify: what is used where the kernel program is refused.
//!
//! Watches are on directories, one each, and report their children by name, so a hundred thousand files
//! in ten directories are ten watches. A file that its directory does not hear about (it was renamed away,
//! it has hard links elsewhere, it is reached through a symbolic link) gets a watch of its own.
//!
//! Known problems, all of the kernel's: stores into mapped memory and writers on other hosts are never
//! reported, libaio is not reported, and when a truncated file has grown again nothing tells by how much.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use rustc_hash::FxHashMap;

use self::events::{Event, Events};
use super::{
    Answer, Backend, Change, Cookie, DirectoryId, FileId, Hint, Interest, ObserveError, Observer, Reach,
};

mod events;

/// Reads of the descriptor before the loop gets its turn.
const READS_A_DRAIN: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    File(FileId),
    Directory(DirectoryId),
}

/// An inotify instance and what its watches stand for.
#[derive(Debug)]
pub struct InotifyObserver {
    inotify: Inotify,
    events: Events,
    /// A watch belongs to an inode: two ids of one inode share it.
    targets: FxHashMap<i32, Vec<Target>>,
    files: FxHashMap<FileId, WatchDescriptor>,
    directories: FxHashMap<DirectoryId, WatchDescriptor>,
}

impl InotifyObserver {
    /// # Errors
    /// [`ObserveError::Limit`] where the user's inotify instances are spent.
    pub fn new() -> Result<Self, ObserveError> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|errno| explain(errno, Path::new("/proc/self/fd")))?;
        Ok(Self {
            inotify,
            events: Events::new(),
            targets: FxHashMap::default(),
            files: FxHashMap::default(),
            directories: FxHashMap::default(),
        })
    }

    fn watch(
        &mut self,
        of: BorrowedFd<'_>,
        named: &Path,
        mask: AddWatchFlags,
        target: Target,
    ) -> Result<WatchDescriptor, ObserveError> {
        // Through the descriptor, so that it is this inode whatever its name means by now.
        let path = PathBuf::from(format!("/proc/self/fd/{}", of.as_raw_fd()));
        let watch = self
            .inotify
            .add_watch(&path, mask | AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD))
            .map_err(|errno| explain(errno, named))?;
        let targets = self.targets.entry(watch.as_raw()).or_default();
        if !targets.contains(&target) {
            targets.push(target);
        }
        Ok(watch)
    }

    fn leave(&mut self, watch: WatchDescriptor, target: Target) {
        let Some(targets) = self.targets.get_mut(&watch.as_raw()) else { return };
        targets.retain(|other| *other != target);
        if targets.is_empty() {
            self.targets.remove(&watch.as_raw());
            // EINVAL: the kernel has removed the watch itself, with its inode.
            let _ = self.inotify.rm_watch(watch);
        }
    }

    fn translate(&self, event: &Event, hints: &mut Vec<Hint>) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return hints.push(Hint::LookAtEverything);
        }
        // A watch that was just removed may have events queued still.
        let Some(targets) = self.targets.get(&event.watch) else { return };
        for target in targets {
            match *target {
                Target::File(file) => hints.push(Hint::Appended { file, time_ns: None }),
                Target::Directory(directory) => {
                    hints.extend(directory_hint(directory, event));
                }
            }
        }
    }
}

fn directory_hint(directory: DirectoryId, event: &Event) -> Option<Hint> {
    let Event { mask, cookie, name, .. } = event;
    let gone = AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_UNMOUNT
        | AddWatchFlags::IN_IGNORED;
    if mask.intersects(gone) {
        return Some(Hint::DirectoryGone { directory });
    }
    // No name: it is about the directory itself, whose own attributes do not matter here.
    let name = name.clone()?;
    if mask.contains(AddWatchFlags::IN_MODIFY) {
        return Some(Hint::EntryWritten { directory, name });
    }
    let cookie = Cookie((*cookie).into());
    let change = if mask.contains(AddWatchFlags::IN_CREATE) {
        Change::Came
    } else if mask.contains(AddWatchFlags::IN_MOVED_FROM) {
        Change::MovedFrom(cookie)
    } else if mask.contains(AddWatchFlags::IN_MOVED_TO) {
        Change::MovedTo(cookie, None)
    } else if mask.contains(AddWatchFlags::IN_DELETE) {
        Change::Went(None)
    } else {
        Change::Unknown
    };
    Some(Hint::Entry { directory, name: OsString::from_vec(name.into()), change })
}

impl Observer for InotifyObserver {
    fn backend(&self) -> Backend {
        Backend::Inotify
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    fn follow_file(&mut self, id: FileId, file: BorrowedFd<'_>, reach: Reach) -> Result<(), ObserveError> {
        match reach {
            Reach::ThroughDirectory => self.leave_file(id),
            Reach::Alone => {
                let named = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
                let watch = self.watch(file, &named, AddWatchFlags::IN_MODIFY, Target::File(id))?;
                self.files.insert(id, watch);
            }
        }
        Ok(())
    }

    fn leave_file(&mut self, id: FileId) {
        if let Some(watch) = self.files.remove(&id) {
            self.leave(watch, Target::File(id));
        }
    }

    fn follow_directory(
        &mut self,
        id: DirectoryId,
        path: &Path,
        directory: BorrowedFd<'_>,
        interest: Interest,
    ) -> Result<(), ObserveError> {
        let of_files = match interest {
            Interest::Writes => AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ATTRIB,
            // A busy directory on the way to a followed one must not wake anybody.
            Interest::Entries => AddWatchFlags::empty(),
        };
        let mask = of_files
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let watch = self.watch(directory, path, mask, Target::Directory(id))?;
        if let Some(old) = self.directories.insert(id, watch).filter(|old| *old != watch) {
            self.leave(old, Target::Directory(id));
        }
        Ok(())
    }

    fn leave_directory(&mut self, id: DirectoryId) {
        if let Some(watch) = self.directories.remove(&id) {
            self.leave(watch, Target::Directory(id));
        }
    }

    fn answer(&mut self, _: FileId, _: u64) -> Answer {
        // Every write queues an event of its own; the kernel merges only neighbours that nobody has read.
        Answer::default()
    }

    fn drain(&mut self, hints: &mut Vec<Hint>) -> io::Result<bool> {
        for _ in 0..READS_A_DRAIN {
            match self.events.read(&self.inotify) {
                Ok((events, are_all)) => {
                    for event in events {
                        self.translate(&event, hints);
                    }
                    if are_all {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The value of a limit, as sysctl(8) names it.
pub fn limit(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?.trim().parse().ok()
}

/// Why there is no instance, or no watch of this path, and what to do.
pub fn explain(errno: Errno, path: &Path) -> ObserveError {
    let (name, of_namespace, what) = match errno {
        Errno::ENOSPC => (
            "fs.inotify.max_user_watches",
            "user.max_inotify_watches",
            format!("no inotify watch left for '{}'", path.display()),
        ),
        Errno::EMFILE => (
            "fs.inotify.max_user_instances",
            "user.max_inotify_instances",
            "no inotify instance left for this user".to_owned(),
        ),
        _ => return ObserveError::System { path: path.to_owned(), source: errno.into() },
    };
    // The same limit once more for each user namespace: the smaller one is the one that is spent.
    let (name, value) = match (limit(name), limit(of_namespace)) {
        (Some(of_user), Some(here)) if here < of_user => (of_namespace, Some(here)),
        (of_user, _) => (name, of_user),
    };
    let value = value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    ObserveError::Limit { what, limit: name, value, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, io::Write};

    fn drained(observer: &mut InotifyObserver) -> Vec<Hint> {
        let mut hints = Vec::new();
        while observer.drain(&mut hints).unwrap() {}
        hints
    }

    #[test]
    fn a_write_is_told_by_name_and_a_rename_as_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("a")).unwrap();
        let mut observer = InotifyObserver::new().unwrap();
        let directory = DirectoryId(7);
        observer
            .follow_directory(
                directory,
                dir.path(),
                File::open(dir.path()).unwrap().as_fd(),
                Interest::Writes,
            )
            .unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(drained(&mut observer), [Hint::EntryWritten { directory, name: "a".into() }]);
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        let [from, to] = drained(&mut observer).try_into().unwrap();
        let Hint::Entry { change: Change::MovedFrom(cookie), .. } = from else { panic!("{from:?}") };
        assert_eq!(from, Hint::Entry { directory, name: "a".into(), change: Change::MovedFrom(cookie) });
        assert_eq!(to, Hint::Entry { directory, name: "b".into(), change: Change::MovedTo(cookie, None) });
    }

    #[test]
    fn one_drain_takes_all_however_long_their_names_are() {
        for length in [1, 15, 16, 100, 255] {
            let dir = tempfile::tempdir().unwrap();
            let mut observer = InotifyObserver::new().unwrap();
            let opened = File::open(dir.path()).unwrap();
            observer.follow_directory(DirectoryId(7), dir.path(), opened.as_fd(), Interest::Entries).unwrap();
            let name = "x".repeat(length);
            for events in 1..=1500 {
                File::create(dir.path().join(&name)).unwrap();
                fs::remove_file(dir.path().join(&name)).unwrap();
                if events % 300 == 0 {
                    let mut hints = Vec::new();
                    assert!(!observer.drain(&mut hints).unwrap());
                    assert_eq!(hints.len(), 600, "names of {length} bytes");
                }
            }
        }
    }

    #[test]
    fn a_file_of_its_own_is_told_wherever_it_went() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut file = File::create(here.path().join("a")).unwrap();
        let mut observer = InotifyObserver::new().unwrap();
        observer.follow_file(FileId(1), file.as_fd(), Reach::Alone).unwrap();
        fs::hard_link(here.path().join("a"), there.path().join("a")).unwrap();
        fs::remove_file(here.path().join("a")).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(drained(&mut observer), [Hint::Appended { file: FileId(1), time_ns: None }]);
        observer.leave_file(FileId(1));
        file.write_all(b"x").unwrap();
        assert_eq!(drained(&mut observer), []);
    }

    #[test]
    fn a_directory_that_goes_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut observer = InotifyObserver::new().unwrap();
        let directory = DirectoryId(0);
        observer
            .follow_directory(directory, &inner, File::open(&inner).unwrap().as_fd(), Interest::Entries)
            .unwrap();
        fs::remove_dir(&inner).unwrap();
        assert!(drained(&mut observer).contains(&Hint::DirectoryGone { directory }));
    }

    #[test]
    fn a_spent_limit_is_named_with_its_value() {
        let message = explain(Errno::ENOSPC, Path::new("/var/log")).to_string();
        assert!(message.contains("fs.inotify.max_user_watches (now "), "{message}");
        assert!(message.contains("'/var/log'"), "{message}");
    }
}
