//! What the observed inodes are called, as far as what was told of names says. It asks the system nothing.

use std::path::{Path, PathBuf};

use log_tail_common::InodeKey;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    paths::{Paths, Relocated},
    wanted::Wanted,
};
use crate::observe::event::Name;

/// The names in observed directories.
#[derive(Debug)]
pub struct Names {
    pub wanted: Wanted,
    pub files: Paths,
    /// Those in which names are told. One may be reached by several names.
    directories: FxHashMap<InodeKey, Vec<PathBuf>>,
    /// All that lie in one of them: of what is removed it is not told what it was.
    subdirectories: FxHashSet<PathBuf>,
}

impl Names {
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            files: Paths::default(),
            directories: FxHashMap::default(),
            subdirectories: FxHashSet::default(),
        }
    }

    /// Nothing is certain any more of who bears which name.
    pub fn forget_names(&mut self) {
        self.files.forget_names();
        self.directories.clear();
        self.subdirectories.clear();
    }

    /// The directory is called so. `false` where that was known.
    pub fn name_directory(&mut self, inode: InodeKey, path: &Path) -> bool {
        let names = self.directories.entry(inode).or_default();
        let is_new = !names.iter().any(|known| known == path);
        if is_new {
            names.push(path.to_owned());
        }
        is_new
    }

    /// The directory that is called so.
    pub fn directory_at(&self, path: &Path) -> Option<InodeKey> {
        let is_it = |names: &&Vec<PathBuf>| names.iter().any(|name| name == path);
        self.directories.iter().find(|(_, names)| is_it(names)).map(|(inode, _)| *inode)
    }

    pub fn directories(&self) -> usize {
        self.directories.len()
    }

    /// A directory lies in an observed one.
    pub fn add_subdirectory(&mut self, path: PathBuf) {
        self.subdirectories.insert(path);
    }

    /// What is there is no directory now, or nothing. Whether it was one.
    pub fn remove_subdirectory(&mut self, path: &Path) -> bool {
        self.subdirectories.remove(path)
    }

    /// The name in full: that which is wanted, where the directory is reached by several.
    pub fn path_of(&self, Name { directory, name }: &Name) -> Option<PathBuf> {
        self.wanted.choose(self.directories.get(directory)?, name)
    }

    /// The directory is no more, or went where nobody observes: what it was called.
    pub fn forget_directory(&mut self, inode: InodeKey) -> Vec<PathBuf> {
        let paths = self.directories.remove(&inode).unwrap_or_default();
        for path in &paths {
            // Told to be removed, it is not among them any more. A rename may have put another one in its place.
            if self.subdirectories.contains(path) && self.directory_at(path).is_none() {
                self.subdirectories.remove(path);
            }
        }
        paths
    }

    /// The directory and all below it are called something else now, or `None`: are where nobody observes. Gives the
    /// directories in which nothing is to be seen any more.
    pub fn move_directory(&mut self, from: &Path, to: Option<&Path>) -> Vec<InodeKey> {
        self.relocate(|path| {
            let below = path.strip_prefix(from).ok()?;
            Some(to.map_or(Relocated::Away, |to| Relocated::To(joined(to, below))))
        })
    }

    /// Each of the two bears the other one's name now, and so does all below them. Gives what [`Self::move_directory`]
    /// gives.
    pub fn exchange(&mut self, one: &Path, other: &Path) -> Vec<InodeKey> {
        self.relocate(|path| {
            let of_one = path.strip_prefix(one).map(|below| joined(other, below));
            let relocated = of_one.or_else(|_| path.strip_prefix(other).map(|below| joined(one, below)));
            relocated.ok().map(Relocated::To)
        })
    }

    fn relocate(&mut self, to: impl Fn(&Path) -> Option<Relocated>) -> Vec<InodeKey> {
        let mut left = Vec::new();
        self.directories.retain(|inode, paths| {
            let moving: Vec<_> = paths.extract_if(.., |path| to(path).is_some()).collect();
            let arrive = moving.iter().filter_map(|path| arrived(to(path)?));
            paths.extend(arrive.filter(|path| self.wanted.leads_through(path)));
            if paths.is_empty() {
                left.push(*inode);
            }
            !paths.is_empty()
        });
        let below: Vec<PathBuf> = self.subdirectories.extract_if(|path| to(path).is_some()).collect();
        self.subdirectories.extend(below.iter().filter_map(|path| arrived(to(path)?)));
        let wanted = &self.wanted;
        self.files.relocate(|path| {
            let path = arrived(to(path)?).filter(|path| wanted.is(path));
            Some(path.map_or(Relocated::Away, Relocated::To))
        });
        left
    }
}

fn arrived(relocated: Relocated) -> Option<PathBuf> {
    match relocated {
        Relocated::To(path) => Some(path),
        Relocated::Away => None,
    }
}

/// As [`Path::join`], but without a slash at the end where nothing lies below.
fn joined(directory: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { directory.to_owned() } else { directory.join(below) }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn inode(ino: u64) -> InodeKey {
        InodeKey { ino, dev: 1, subvolume: 0 }
    }

    fn name(directory: u64, name: &str) -> Name {
        Name { directory: inode(directory), name: OsString::from(name) }
    }

    fn names(wanted: &[String]) -> Names {
        let wanted: Vec<OsString> = wanted.iter().map(OsString::from).collect();
        Names::new(Wanted::new(&wanted).unwrap())
    }

    /// "a" and "b" in here, with the numbers 2 and 3.
    fn two_directories(place: &Path) -> Names {
        let mut names = names(&[place.join("*/x.log").display().to_string()]);
        for (ino, directory) in [(2, "a"), (3, "b")] {
            names.name_directory(inode(ino), &place.join(directory));
            names.add_subdirectory(place.join(directory));
        }
        names
    }

    #[test]
    fn of_two_ways_to_a_directory_the_one_to_what_is_wanted_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        std::os::unix::fs::symlink(place.path(), path("link")).unwrap();
        let mut names =
            names(&[path("a.log").display().to_string(), path("link/b.log").display().to_string()]);
        assert!(names.name_directory(inode(1), place.path()));
        assert!(names.name_directory(inode(1), &path("link")));
        assert!(!names.name_directory(inode(1), &path("link")));
        assert_eq!(names.path_of(&name(1, "a.log")), Some(path("a.log")));
        assert_eq!(names.path_of(&name(1, "b.log")), Some(path("link/b.log")));
        assert_eq!(names.path_of(&name(2, "b.log")), None);
    }

    #[test]
    fn a_directory_that_took_the_place_of_another_stays_when_that_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let mut names = two_directories(place.path());
        assert_eq!(names.move_directory(&path("a"), Some(&path("b"))), []);
        assert_eq!(names.forget_directory(inode(3)), [path("b")]);
        assert_eq!(names.path_of(&name(2, "new")), Some(path("b/new")));
        assert!(names.remove_subdirectory(&path("b")), "it is there to be removed");
    }

    #[test]
    fn two_directories_exchange_what_is_below_them() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let mut names = two_directories(place.path());
        for (ino, directory) in [(2, "a"), (3, "b")] {
            names.files.name(inode(ino + 10), path(directory).join("x.log"));
        }
        assert_eq!(names.exchange(&path("a"), &path("b")), []);
        assert_eq!(names.path_of(&name(2, "new")), Some(path("b/new")));
        assert_eq!(names.path_of(&name(3, "new")), Some(path("a/new")));
        assert_eq!(names.files.of(inode(12)), Some(&path("b/x.log")));
        assert_eq!(names.files.of(inode(13)), Some(&path("a/x.log")));
    }

    #[test]
    fn a_directory_takes_what_is_below_it_along_as_far_as_that_is_wanted() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let mut names = names(&[path("*/x.log").display().to_string()]);
        names.name_directory(inode(1), place.path());
        names.name_directory(inode(2), &path("b"));
        names.add_subdirectory(path("b"));
        names.files.name(inode(3), path("b/x.log"));
        assert_eq!(names.move_directory(&path("b"), Some(&path("c"))), []);
        assert_eq!(names.path_of(&name(2, "x.log")), Some(path("c/x.log")));
        assert_eq!(names.files.of(inode(3)), Some(&path("c/x.log")));
        assert_eq!(
            (names.remove_subdirectory(&path("b")), names.remove_subdirectory(&path("c"))),
            (false, true)
        );
        assert_eq!(names.move_directory(&path("c"), None), [inode(2)]);
        assert_eq!((names.files.of(inode(3)), names.directories()), (None, 1));
    }
}
