//! By which names each observed file is known.

use std::path::{Path, PathBuf};

use log_tail_common::InodeKey;
use rustc_hash::FxHashMap;

/// What became of a path when directories were renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relocated {
    /// It is this one now.
    To(PathBuf),
    /// It lies where nobody observes.
    Away,
}

/// The files that are observed.
#[derive(Debug, Default)]
pub struct Paths {
    by_inode: FxHashMap<InodeKey, Names>,
    by_path: FxHashMap<PathBuf, InodeKey>,
}

/// A file's names.
#[derive(Debug, Default)]
struct Names {
    /// Those that it bears, the last one it was given at the end.
    borne: Vec<PathBuf>,
    /// The one that it bore last, where it bears none, and is nowhere else now.
    last: Option<PathBuf>,
}

impl Paths {
    /// The file bears this name now, besides those that it has.
    pub fn name(&mut self, inode: InodeKey, path: PathBuf) {
        if self.by_path.get(&path) != Some(&inode) {
            self.unlink(&path);
        }
        let names = self.by_inode.entry(inode).or_default();
        names.borne.retain(|other| *other != path);
        names.borne.push(path.clone());
        self.by_path.insert(path, inode);
    }

    /// The name was removed. The file may still be written to, and is known by the name that it had.
    pub fn unlink(&mut self, path: &Path) -> Option<InodeKey> {
        self.take(path, Some(path.to_owned()))
    }

    /// A rename took the name from this inode.
    pub fn move_away(&mut self, inode: InodeKey, path: &Path) {
        // With RENAME_EXCHANGE it may be another's by now.
        if self.by_path.get(path) == Some(&inode) {
            self.take(path, None);
        }
    }

    /// Nothing is certain any more of who bears which name: files are known by the names that they had.
    pub fn forget_names(&mut self) {
        self.by_path.clear();
        for names in self.by_inode.values_mut() {
            let last = names.borne.pop();
            names.borne.clear();
            names.last = last.or(names.last.take());
        }
    }

    fn take(&mut self, path: &Path, last: Option<PathBuf>) -> Option<InodeKey> {
        let inode = self.by_path.remove(path)?;
        if let Some(names) = self.by_inode.get_mut(&inode) {
            names.borne.retain(|other| other != path);
            names.last = last;
        }
        Some(inode)
    }

    /// Directories are called something else now, or are not observed any more, and so is all below them: `to` says so
    /// of a path, and `None` of those that stay.
    pub fn relocate(&mut self, to: impl Fn(&Path) -> Option<Relocated>) {
        let moving: Vec<_> = self.by_path.keys().filter_map(|path| Some((path.clone(), to(path)?))).collect();
        // All are taken before any is given: two directories may have exchanged their names.
        let taken: Vec<_> =
            moving.into_iter().map(|(path, relocated)| (self.take(&path, None), relocated)).collect();
        for (inode, relocated) in taken {
            if let (Some(inode), Relocated::To(path)) = (inode, relocated) {
                self.name(inode, path);
            }
        }
    }

    /// The inode is no more.
    pub fn forget(&mut self, inode: InodeKey) {
        for path in self.by_inode.remove(&inode).into_iter().flat_map(|names| names.borne) {
            self.by_path.remove(&path);
        }
    }

    /// Those of which this says that they are not observed.
    pub fn unobserved(&self, is_observed: impl Fn(InodeKey) -> bool) -> Vec<InodeKey> {
        self.by_inode.keys().copied().filter(|inode| !is_observed(*inode)).collect()
    }

    /// Whether it is observed.
    pub fn has(&self, inode: InodeKey) -> bool {
        self.by_inode.contains_key(&inode)
    }

    /// What the file is called; `None` where it has only names that are not known.
    pub fn of(&self, inode: InodeKey) -> Option<&PathBuf> {
        let names = self.by_inode.get(&inode)?;
        names.borne.last().or(names.last.as_ref())
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.by_inode.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(ino: u64) -> InodeKey {
        InodeKey { ino, dev: 1, subvolume: 0 }
    }

    fn named(names: &[(u64, &str)]) -> Paths {
        let mut paths = Paths::default();
        for (ino, name) in names {
            paths.name(inode(*ino), name.into());
        }
        paths
    }

    #[test]
    fn an_inode_that_is_no_more_is_forgotten_with_its_names() {
        let mut paths = named(&[(2, "a"), (3, "b")]);
        assert_eq!(paths.unobserved(|it| it == inode(3)), [inode(2)]);
        paths.forget(inode(2));
        assert_eq!((paths.has(inode(2)), paths.has(inode(3))), (false, true));
        assert_eq!(paths.unlink(Path::new("a")), None);
    }

    #[test]
    fn a_removed_file_is_known_by_the_name_that_it_had_until_it_is_no_more() {
        let mut paths = named(&[(2, "a")]);
        assert_eq!(paths.unlink(Path::new("a")), Some(inode(2)));
        assert_eq!(paths.unlink(Path::new("a")), None);
        assert_eq!(paths.of(inode(2)), Some(&"a".into()), "somebody may have it open");
        paths.forget(inode(2));
        assert_eq!((paths.of(inode(2)), paths.has(inode(2)), paths.len()), (None, false, 0));
    }

    #[test]
    fn of_several_names_it_is_known_by_the_last_one_that_it_still_has() {
        let mut paths = named(&[(1, "a"), (1, "b")]);
        assert_eq!(paths.of(inode(1)), Some(&"b".into()));
        assert_eq!(paths.unlink(Path::new("b")), Some(inode(1)));
        assert_eq!(paths.of(inode(1)), Some(&"a".into()));
    }

    #[test]
    fn the_next_file_of_a_name_is_another_one() {
        let mut paths = named(&[(1, "a"), (2, "a")]);
        assert_eq!(paths.of(inode(1)), Some(&"a".into()), "it was replaced");
        paths.forget(inode(1));
        assert_eq!(paths.unlink(Path::new("a")), Some(inode(2)));
    }

    #[test]
    fn a_file_that_went_elsewhere_stays_observed_and_has_no_name() {
        let mut paths = named(&[(1, "a")]);
        paths.move_away(inode(2), Path::new("a"));
        assert_eq!(paths.of(inode(1)), Some(&"a".into()), "that was another's");
        paths.move_away(inode(1), Path::new("a"));
        assert_eq!((paths.of(inode(1)), paths.has(inode(1))), (None, true));
    }

    #[test]
    fn two_files_exchange_their_names() {
        let mut paths = named(&[(1, "a"), (2, "b")]);
        for (ino, from, to) in [(1, "a", "b"), (2, "b", "a")] {
            paths.move_away(inode(ino), Path::new(from));
            paths.name(inode(ino), to.into());
        }
        assert_eq!((paths.of(inode(1)), paths.of(inode(2))), (Some(&"b".into()), Some(&"a".into())));
    }

    #[test]
    fn names_that_are_forgotten_are_what_files_were_called() {
        let mut paths = named(&[(1, "a"), (2, "b")]);
        paths.forget_names();
        paths.name(inode(2), "c".into());
        assert_eq!((paths.of(inode(1)), paths.of(inode(2))), (Some(&"a".into()), Some(&"c".into())));
        assert_eq!(paths.unlink(Path::new("a")), None);
    }

    #[test]
    fn directories_exchange_what_lies_below_them() {
        let mut paths = named(&[(1, "a/x"), (2, "b/x"), (3, "c")]);
        paths.relocate(|path| {
            let (other, below) = match path.strip_prefix("a") {
                Ok(below) => ("b", below),
                Err(_) => ("a", path.strip_prefix("b").ok()?),
            };
            Some(Relocated::To(Path::new(other).join(below)))
        });
        assert_eq!((paths.of(inode(1)), paths.of(inode(2))), (Some(&"b/x".into()), Some(&"a/x".into())));
        assert_eq!(paths.of(inode(3)), Some(&"c".into()));
    }

    #[test]
    fn what_lies_below_a_directory_goes_where_that_goes() {
        let mut paths = named(&[(1, "d/a"), (2, "d/e/b"), (3, "da")]);
        paths.relocate(|path| {
            let below = path.strip_prefix("d").ok()?;
            let is_wanted = below.starts_with("e");
            Some(if is_wanted { Relocated::To(Path::new("x").join(below)) } else { Relocated::Away })
        });
        assert_eq!(paths.of(inode(2)), Some(&"x/e/b".into()));
        assert_eq!((paths.of(inode(1)), paths.of(inode(3))), (None, Some(&"da".into())));
    }
}
