//! Open descriptors, few and warm: opened when a file is read, closed when others need the room.
//!
//! A process may have fewer descriptors than it follows files. Those read longest ago are closed first,
//! and opened again by their present name, which is checked to bear the same inode still.

use std::{
    fs::{self, File},
    io,
    num::NonZeroUsize,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use lru::LruCache;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::identity::{self, Identity, NotFollowable};
use crate::observe::FileId;

/// Kept free for connections to the metrics, directories that are looked at, and whatever libraries open.
const RESERVED: u64 = 64;
/// Those of standard streams and of the observer, where nobody tells how many they are: the kernel program has two for
/// each of its hooks.
const MOSTLY_IN_USE: usize = 96;
/// More warm descriptors than this speed nothing up.
const MOST: u64 = 16_384;

/// The open files, the one read longest ago first to go.
#[derive(Debug)]
pub struct Descriptors {
    open: LruCache<FileId, File, FxBuildHasher>,
    /// Of files that no known name bears any more: closed, they could not be opened again.
    kept: FxHashMap<FileId, File>,
    /// Of files that something was read from since idle ones were closed last.
    warm: FxHashSet<FileId>,
    room: NonZeroUsize,
}

impl Descriptors {
    /// Takes as many descriptors as the process may have, and does not yet: the soft limit is raised to the hard one.
    pub fn new() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, hard)| {
            if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
        });
        let in_use = fs::read_dir("/proc/self/fd").map_or(MOSTLY_IN_USE, Iterator::count);
        Self::with_room_for(limit.saturating_sub(RESERVED + in_use as u64).clamp(16, MOST))
    }

    fn with_room_for(files: u64) -> Self {
        let room = usize::try_from(files).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
        Self {
            open: LruCache::with_hasher(room, FxBuildHasher),
            kept: FxHashMap::default(),
            warm: FxHashSet::default(),
            room,
        }
    }

    /// Keeps an open file.
    pub fn keep(&mut self, id: FileId, file: File) {
        self.open.push(id, file);
    }

    /// Something was read from it.
    pub fn warm(&mut self, id: FileId) {
        self.warm.insert(id);
    }

    /// Closes those that nothing was read from since this was last done, where more than `most` are open. They are opened
    /// again when they are written to.
    pub fn close_idle(&mut self, most: usize) {
        let warm = std::mem::take(&mut self.warm);
        if self.open.len() <= most {
            return;
        }
        let idle: Vec<FileId> = self.open.iter().map(|(id, _)| *id).filter(|id| !warm.contains(id)).collect();
        for id in idle {
            self.open.pop(&id);
        }
    }

    /// The file's descriptor must not be closed to make room: no name is known to open it by again. Where
    /// all room is taken by such files, it may be closed all the same.
    pub fn hold_on(&mut self, id: FileId) {
        if self.kept.len() + 1 < self.room.get()
            && let Some(file) = self.open.pop(&id)
        {
            self.kept.insert(id, file);
            self.resize();
        }
    }

    /// A name is known again: it may be closed to make room.
    pub fn let_loose(&mut self, id: FileId) {
        if let Some(file) = self.kept.remove(&id) {
            self.resize();
            self.open.push(id, file);
        }
    }

    fn resize(&mut self) {
        let left = NonZeroUsize::new(self.room.get() - self.kept.len()).unwrap_or(NonZeroUsize::MIN);
        self.open.resize(left);
    }

    /// Closes a file's descriptor.
    pub fn close(&mut self, id: FileId) {
        if self.kept.remove(&id).is_some() {
            self.resize();
        }
        self.open.pop(&id);
    }

    /// The file's descriptor, where it is open.
    pub fn peek(&self, id: FileId) -> Option<&File> {
        self.kept.get(&id).or_else(|| self.open.peek(&id))
    }

    /// How many are open.
    #[cfg(test)]
    pub fn open_files(&self) -> usize {
        self.open.len() + self.kept.len()
    }

    /// Makes room after the system said that there is none: closes the older half.
    pub fn make_room(&mut self) {
        for _ in 0..self.open.len().div_ceil(2) {
            self.open.pop_lru();
        }
    }

    /// The file's descriptor, opened again where it was closed. `path` is corrected where the file was
    /// renamed within its directory meanwhile.
    ///
    /// # Errors
    /// [`NotFollowable`], where no name that could be found bears the inode.
    pub fn get(
        &mut self,
        id: FileId,
        path: &mut Arc<Path>,
        identity: Identity,
    ) -> Result<&File, NotFollowable> {
        if self.kept.contains_key(&id) {
            // Looked up twice: the borrow checker does not see that the other way returns.
            return self.kept.get(&id).ok_or_else(|| NotFollowable::Missing(path.to_path_buf()));
        }
        if !self.open.contains(&id) {
            let file = match open_as(path, identity) {
                Err(NotFollowable::Descriptors { .. }) => {
                    self.make_room();
                    open_as(path, identity)
                }
                other => other,
            };
            let file = match file {
                Err(NotFollowable::Missing(missing)) => {
                    let found = find_sibling(path, identity).ok_or(NotFollowable::Missing(missing))?;
                    *path = found.into();
                    open_as(path, identity)?
                }
                other => other?,
            };
            self.open.push(id, file);
        }
        self.open.get(&id).ok_or_else(|| NotFollowable::System {
            path: path.to_path_buf(),
            source: io::Error::other("no room for a descriptor"),
        })
    }
}

fn open_as(path: &Path, identity: Identity) -> Result<File, NotFollowable> {
    let (file, metadata) = identity::open(path)?;
    if Identity::of(&metadata) == identity { Ok(file) } else { Err(NotFollowable::Missing(path.to_owned())) }
}

/// The name that the inode bears now in the directory it was in.
fn find_sibling(path: &Path, identity: Identity) -> Option<PathBuf> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::read_dir(directory)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.ino() == identity.inode)
        .map(|entry| entry.path())
        .find(|path| fs::symlink_metadata(path).is_ok_and(|metadata| Identity::of(&metadata) == identity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn made(path: &Path) -> Identity {
        let mut file = File::create(path).unwrap();
        file.write_all(path.file_name().unwrap().as_encoded_bytes()).unwrap();
        Identity::of(&file.metadata().unwrap())
    }

    #[test]
    fn more_files_than_descriptors_are_opened_again_by_identity() {
        let dir = tempfile::tempdir().unwrap();
        let mut descriptors = Descriptors::with_room_for(2);
        let mut files: Vec<_> = (0..5)
            .map(|n| {
                let path: Arc<Path> = dir.path().join(n.to_string()).into();
                let identity = made(&path);
                (FileId(n), path, identity)
            })
            .collect();
        for _ in 0..2 {
            for (id, path, identity) in &mut files {
                let mut text = String::new();
                descriptors.get(*id, path, *identity).unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text, id.0.to_string());
            }
            assert_eq!(descriptors.open_files(), 2);
        }
    }

    #[test]
    fn of_many_only_those_that_were_read_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut descriptors = Descriptors::with_room_for(9);
        for n in 0..5 {
            let mut path: Arc<Path> = dir.path().join(n.to_string()).into();
            let identity = made(&path);
            descriptors.get(FileId(n), &mut path, identity).unwrap();
        }
        descriptors.warm(FileId(3));
        descriptors.close_idle(5);
        assert_eq!(descriptors.open_files(), 5, "few enough");
        descriptors.warm(FileId(2));
        descriptors.close_idle(4);
        assert_eq!((descriptors.open_files(), descriptors.peek(FileId(2)).is_some()), (1, true));
    }

    #[test]
    fn a_file_that_has_no_name_any_more_stays_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut descriptors = Descriptors::with_room_for(3);
        let mut gone: Arc<Path> = dir.path().join("gone").into();
        let identity = made(&gone);
        descriptors.get(FileId(9), &mut gone, identity).unwrap();
        descriptors.hold_on(FileId(9));
        fs::remove_file(&gone).unwrap();
        for n in 0..5 {
            let mut path: Arc<Path> = dir.path().join(n.to_string()).into();
            let identity = made(&path);
            descriptors.get(FileId(n), &mut path, identity).unwrap();
        }
        descriptors.get(FileId(9), &mut gone, identity).unwrap();
        descriptors.close(FileId(9));
        assert!(descriptors.get(FileId(9), &mut gone, identity).is_err());
    }

    #[test]
    fn a_file_renamed_while_closed_is_found_by_its_present_name() {
        let dir = tempfile::tempdir().unwrap();
        let renamed = dir.path().join("app.log.1");
        let mut path: Arc<Path> = dir.path().join("app.log").into();
        let identity = made(&path);
        fs::rename(&path, &renamed).unwrap();
        let other = made(&path);
        let mut descriptors = Descriptors::with_room_for(2);
        descriptors.get(FileId(1), &mut path, identity).unwrap();
        assert_eq!(*path, *renamed);
        let mut gone: Arc<Path> = dir.path().join("gone").into();
        assert!(descriptors.get(FileId(2), &mut gone, Identity { inode: other.inode + 1, ..other }).is_err());
    }
}
