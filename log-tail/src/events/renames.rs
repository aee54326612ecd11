//! The two ends of a rename, told one after the other by the thread that does it, made one event.

use std::path::PathBuf;

use log_tail_common::InodeKey;
use rustc_hash::FxHashMap;

/// Renames that have begun, by the thread: each can be inside of two, with `RENAME_EXCHANGE`.
#[derive(Debug, Default)]
pub struct Renames {
    begun: FxHashMap<u32, Vec<(InodeKey, PathBuf)>>,
}

impl Renames {
    /// The thread takes this name from the inode. Of one that was told before it may be that its end was not told.
    pub fn begin(&mut self, thread: u32, inode: InodeKey, from: PathBuf) {
        let begun = self.begun.entry(thread).or_default();
        begun.retain(|(other, _)| *other != inode);
        if begun.len() == 2 {
            begun.remove(0);
        }
        begun.push((inode, from));
    }

    /// The thread has given another name to the inode: the one that it had.
    pub fn end(&mut self, thread: u32, inode: InodeKey) -> Option<PathBuf> {
        let begun = self.begun.get_mut(&thread)?;
        let place = begun.iter().position(|(other, _)| *other == inode)?;
        let (_, from) = begun.swap_remove(place);
        if begun.is_empty() {
            self.begun.remove(&thread);
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(ino: u64) -> InodeKey {
        InodeKey { ino, dev: 1, zero: 0 }
    }

    #[test]
    fn each_end_finds_its_own_beginning() {
        let mut renames = Renames::default();
        renames.begin(1, inode(10), "a".into());
        renames.begin(1, inode(11), "b".into());
        renames.begin(2, inode(12), "c".into());
        assert_eq!(renames.end(1, inode(10)), Some("a".into()));
        assert_eq!(renames.end(1, inode(11)), Some("b".into()));
        assert_eq!(renames.end(1, inode(11)), None);
        assert_eq!(renames.end(3, inode(12)), None);
        assert_eq!(renames.end(2, inode(12)), Some("c".into()));
        assert!(renames.begun.is_empty());
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
