//! By which name each observed file is known.

use std::path::{Path, PathBuf};

use log_tail_common::InodeKey;
use rustc_hash::{FxHashMap, FxHashSet};

/// The files that are observed, and those that are not although their directory is.
#[derive(Debug, Default)]
pub struct Paths {
    by_inode: FxHashMap<InodeKey, PathBuf>,
    by_path: FxHashMap<PathBuf, InodeKey>,
    ignored: FxHashSet<InodeKey>,
}

impl Paths {
    /// The file bears this name now. Of several names, the last one it was given.
    pub fn name(&mut self, inode: InodeKey, path: PathBuf) {
        self.ignored.remove(&inode);
        if let Some(before) = self.by_inode.insert(inode, path.clone()) {
            self.by_path.remove(&before);
        }
        self.by_path.insert(path, inode);
    }

    /// The file is not observed.
    pub fn ignore(&mut self, inode: InodeKey) {
        self.ignored.insert(inode);
    }

    /// Whether it is not observed.
    pub fn is_ignored(&self, inode: InodeKey) -> bool {
        self.ignored.contains(&inode)
    }

    /// The name was removed. The file may still be written to, and is known by the name that it had.
    pub fn unlink(&mut self, path: &Path) -> Option<InodeKey> {
        self.by_path.remove(path)
    }

    /// The inode is no more.
    pub fn forget(&mut self, inode: InodeKey) {
        self.ignored.remove(&inode);
        if let Some(path) = self.by_inode.remove(&inode)
            && self.by_path.get(&path) == Some(&inode)
        {
            self.by_path.remove(&path);
        }
    }

    /// What the file is called.
    pub fn of(&self, inode: InodeKey) -> Option<&PathBuf> {
        self.by_inode.get(&inode)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_inode.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(ino: u64) -> InodeKey {
        InodeKey { ino, dev: 1, zero: 0 }
    }

    #[test]
    fn a_file_is_known_by_its_last_name_until_it_is_no_more() {
        let mut paths = Paths::default();
        paths.name(inode(1), "a".into());
        paths.name(inode(1), "a.1".into());
        paths.name(inode(2), "a".into());
        assert_eq!(paths.of(inode(1)), Some(&"a.1".into()));
        assert_eq!(paths.unlink(Path::new("a")), Some(inode(2)));
        assert_eq!(paths.unlink(Path::new("a")), None);
        assert_eq!(paths.of(inode(2)), Some(&"a".into()), "somebody may have it open");
        paths.forget(inode(2));
        assert_eq!((paths.of(inode(2)), paths.len()), (None, 1));
    }

    #[test]
    fn the_next_file_of_a_name_is_another_one() {
        let mut paths = Paths::default();
        paths.name(inode(1), "a".into());
        paths.name(inode(2), "a".into());
        paths.forget(inode(1));
        assert_eq!(paths.unlink(Path::new("a")), Some(inode(2)));
    }

    #[test]
    fn what_is_ignored_is_so_until_it_is_named() {
        let mut paths = Paths::default();
        paths.ignore(inode(1));
        assert!(paths.is_ignored(inode(1)));
        paths.name(inode(1), "a".into());
        assert!(!paths.is_ignored(inode(1)));
    }
}
