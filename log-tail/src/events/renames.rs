//! The two ends of a rename, told one after the other by the thread that does it, made one event.

use std::path::{Path, PathBuf};

use log_tail_common::InodeKey;
use rustc_hash::FxHashMap;

/// Renames that have begun, by the thread: each can be inside of two, with `RENAME_EXCHANGE`.
#[derive(Debug, Default)]
pub struct Renames {
    begun: FxHashMap<u32, Vec<Begun>>,
}

#[derive(Debug)]
struct Begun {
    inode: InodeKey,
    from: PathBuf,
    /// The other end of an exchange has been told.
    is_done: bool,
}

/// The beginning of a rename.
#[derive(Debug, PartialEq, Eq)]
pub struct From {
    /// The name that was taken from the inode.
    pub path: PathBuf,
    /// It is the second end of an exchange, and what became of both names was told with the first.
    pub is_done: bool,
}

impl Renames {
    /// The thread takes this name from the inode. Of one that was told before it may be that its end was not told.
    pub fn begin(&mut self, thread: u32, inode: InodeKey, from: PathBuf) {
        let begun = self.begun.entry(thread).or_default();
        begun.retain(|other| other.inode != inode);
        if begun.len() == 2 {
            begun.remove(0);
        }
        begun.push(Begun { inode, from, is_done: false });
    }

    /// The thread has given another name to the inode: the one that it had.
    pub fn end(&mut self, thread: u32, inode: InodeKey) -> Option<From> {
        let begun = self.begun.get_mut(&thread)?;
        let place = begun.iter().position(|begun| begun.inode == inode)?;
        let Begun { from, is_done, .. } = begun.swap_remove(place);
        if begun.is_empty() {
            self.begun.remove(&thread);
        }
        Some(From { path: from, is_done })
    }

    /// Renames of the thread's that have begun, and whose end was not told: it has ended another one since.
    pub fn take_unended(&mut self, thread: u32) -> u64 {
        let Some(begun) = self.begun.get_mut(&thread) else { return 0 };
        let unended = begun.extract_if(.., |begun| !begun.is_done).count() as u64;
        if begun.is_empty() {
            self.begun.remove(&thread);
        }
        unended
    }

    /// Nothing is certain any more.
    pub fn forget(&mut self) {
        self.begun.clear();
    }

    /// The inode that the thread took this name from, and is about to give another one.
    pub fn exchanged(&mut self, thread: u32, name: &Path) -> Option<InodeKey> {
        let other = self.begun.get_mut(&thread)?.iter_mut().find(|other| other.from == name)?;
        other.is_done = true;
        Some(other.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(ino: u64) -> InodeKey {
        InodeKey { ino, dev: 1, subvolume: 0 }
    }

    #[test]
    fn each_end_finds_its_own_beginning() {
        let mut renames = Renames::default();
        renames.begin(1, inode(10), "a".into());
        renames.begin(1, inode(11), "b".into());
        renames.begin(2, inode(12), "c".into());
        assert_eq!(renames.end(1, inode(10)), Some(from("a", false)));
        assert_eq!(renames.end(1, inode(11)), Some(from("b", false)));
        assert_eq!(renames.end(1, inode(11)), None);
        assert_eq!(renames.end(3, inode(12)), None);
        assert_eq!(renames.end(2, inode(12)), Some(from("c", false)));
        assert!(renames.begun.is_empty());
    }

    fn from(path: &str, is_done: bool) -> From {
        From { path: path.into(), is_done }
    }

    #[test]
    fn the_second_end_of_an_exchange_is_known_as_such() {
        let mut renames = Renames::default();
        renames.begin(1, inode(10), "a".into());
        renames.begin(1, inode(11), "b".into());
        assert_eq!(renames.end(1, inode(10)), Some(from("a", false)));
        assert_eq!(renames.exchanged(1, Path::new("c")), None);
        assert_eq!(renames.exchanged(1, Path::new("b")), Some(inode(11)));
        assert_eq!(renames.end(1, inode(11)), Some(from("b", true)));
        assert_eq!(renames.exchanged(1, Path::new("a")), None);
    }

    #[test]
    fn a_rename_whose_end_was_not_told_is_counted_at_the_next_one() {
        let mut renames = Renames::default();
        renames.begin(1, inode(10), "a".into());
        renames.begin(1, inode(11), "b".into());
        assert_eq!(renames.end(1, inode(11)), Some(from("b", false)));
        assert_eq!(renames.exchanged(1, Path::new("c")), None);
        assert_eq!((renames.take_unended(1), renames.take_unended(1)), (1, 0));
        renames.begin(1, inode(10), "a".into());
        renames.begin(1, inode(11), "b".into());
        assert_eq!(renames.end(1, inode(10)), Some(from("a", false)));
        assert_eq!(renames.exchanged(1, Path::new("b")), Some(inode(11)));
        assert_eq!(renames.take_unended(1), 0, "an exchange has two ends");
    }

    #[test]
    fn ends_that_were_not_told_do_not_pile_up() {
        let mut renames = Renames::default();
        for ino in 0..10 {
            renames.begin(1, inode(ino), "a".into());
        }
        assert_eq!(renames.begun[&1].len(), 2);
    }
}
