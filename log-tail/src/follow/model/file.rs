//! A file of the model: what it holds, and what the reader can have of it.

use super::{ledger::LineKey, operation::Log};

/// An index of a file that was ever made.
pub type FileKey = usize;

/// What the reader can have of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It was told of at most: it will be opened, if it still can be found.
    Told,
    /// The reader has it.
    Known,
    /// Nobody told where it is before it was gone.
    Lost,
}

/// A file came to a name after another.
#[derive(Clone, Copy, Debug)]
pub struct Predecessor {
    pub file: FileKey,
    /// Lines completed before that are before all lines of the file.
    pub before: LineKey,
}

/// A file: an inode, whatever names it bears.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ModelFile {
    pub inode: u64,
    pub content: Vec<u8>,
    /// The rest of a line that was left half.
    pub rest: Vec<u8>,
    /// The lines it holds.
    pub lines: Vec<LineKey>,
    pub reach: Reach,
    /// Made by a copy, which holds lines of this file.
    pub copy_of: Option<FileKey>,
    /// The followed name it bore last.
    pub family: Option<Log>,
    pub predecessors: Vec<Predecessor>,
    /// It came to a name again, or to two: nobody says what is before what.
    pub unordered: bool,
    /// It has borne both followed names.
    pub moved: bool,
    /// It was truncated, with a copy, since the reader last read.
    pub copied: bool,
    /// It was truncated, and not to its beginning, since the reader last read.
    pub cut: bool,
    /// Ends of the blocks that were handed on, and still lie in it.
    pub marks: Vec<u64>,
    /// Ends of the lines that this reader handed on, and that still lie in it.
    pub ends: Vec<u64>,
    /// Truncations.
    pub epoch: u32,
    /// It was truncated without a copy since it was committed, or the copy was removed: nothing tells what it held next.
    pub uncopied: bool,
    /// Up to where it was committed, and in which epoch.
    pub committed: Option<(u32, u64)>,
    /// What was handed on of a line that was never completed.
    pub fragment: Vec<u8>,
}

impl ModelFile {
    /// An empty one, just made.
    pub fn new(inode: u64) -> Self {
        Self {
            inode,
            content: Vec::new(),
            rest: Vec::new(),
            lines: Vec::new(),
            reach: Reach::Told,
            copy_of: None,
            family: None,
            predecessors: Vec::new(),
            unordered: false,
            moved: false,
            copied: false,
            cut: false,
            marks: Vec::new(),
            ends: Vec::new(),
            epoch: 0,
            uncopied: false,
            committed: None,
            fragment: Vec::new(),
        }
    }
}
