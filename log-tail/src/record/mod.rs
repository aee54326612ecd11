//! What the reader hands on: bytes of one file, in file order, cut only where a line ends or is overlong.
//!
//! A [`Block`] holds many lines on purpose: text output passes it on without looking inside. Whoever needs
//! single records takes them out with [`frame::records`].

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::observe::Writer;

pub mod frame;

/// Which file a block came from, as users and json name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name that is followed, as the user gave it or as a glob matched it. Not always UTF-8.
    pub path: Arc<Path>,
    /// The device as stat(2) shows it in `st_dev`: userspace's `dev_t`, not the kernel's.
    pub dev: u64,
    /// The inode number as stat(2) shows it in `st_ino`.
    pub inode: u64,
    /// Stands for the file as long as something is remembered of it.
    pub number: u64,
}

/// [`Source::dev`] as `MAJOR:MINOR`, as lsblk prints it.
pub fn device(dev: u64) -> String {
    format!("{}:{}", libc::major(dev), libc::minor(dev))
}

/// What the reader hands on.
#[derive(Debug, Clone)]
pub enum Item {
    /// Bytes.
    Block(Block),
    /// Bytes that nobody will ever read.
    Lost(Lost),
    /// Reading went back to here: the file was truncated.
    Back(Reached),
}

/// A place in a file, as what was acknowledged is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// [`Source::number`].
    pub number: u64,
    /// Offset of the next byte to be read.
    pub offset: u64,
    /// Reading went back to here: what comes after it is of another content.
    pub is_back: bool,
}

/// Bytes of one file that nobody can read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The name that is followed.
    pub path: Arc<Path>,
    /// The file; none where nobody could open it.
    pub source: Option<Arc<Source>>,
    /// What became of them.
    pub reason: Reason,
    /// Where in the file the next byte will be read.
    pub offset: u64,
    /// How many; at least so many where that is not exact.
    pub bytes: u64,
    /// Whether nothing else was lost.
    pub exact: bool,
}

/// Why bytes are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They were truncated before they could be read, and no copy holds them.
    Truncated,
    /// Their file was removed before it could be opened, or opened again.
    Removed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Truncated, Self::Removed];

    /// The word for it in json and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Removed => "removed",
        }
    }
}

/// How a block of bytes ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a newline: the block holds whole lines.
    Newline,
    /// In the middle of a line that is longer than `max_line_bytes`: the line goes on in the next block of
    /// this source.
    Piece,
    /// At the end of the file's life, or of the file with `--no-follow`: the last line never got its newline.
    EndOfFile,
}

/// Bytes of one file in file order: whole lines, one piece of one overlong line, or whole lines whose last
/// lacks its newline; `ending` says which.
#[derive(Debug, Clone)]
pub struct Block {
    /// The file the bytes were read from.
    pub source: Arc<Source>,
    /// Where in the file the first byte stands.
    pub offset: u64,
    /// The bytes, exactly as written.
    pub bytes: Bytes,
    /// How the bytes end.
    pub ending: Ending,
    /// Who wrote them.
    pub written: Written,
}

/// Who wrote the bytes of a block, as far as the observer tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Written {
    /// Nobody tells.
    #[default]
    Unknown,
    /// One process wrote all of them.
    By(Arc<Writer>),
    /// More than one process wrote, and it is not known which of them what.
    BySeveral,
}

impl Block {
    /// The first lines, of about so many bytes in all, and what is left. A line is never cut: one that is
    /// longer stays whole.
    #[must_use]
    pub fn split(mut self, bytes: usize) -> (Self, Option<Self>) {
        if self.bytes.len() <= bytes {
            return (self, None);
        }
        let (head, tail) = self.bytes.split_at(bytes);
        let newline = memchr::memrchr(b'\n', head).or_else(|| Some(bytes + memchr::memchr(b'\n', tail)?));
        let Some(cut) = newline.map(|newline| newline + 1).filter(|cut| *cut < self.bytes.len()) else {
            return (self, None);
        };
        let first = self.bytes.split_to(cut);
        let rest = Self { offset: self.offset + cut as u64, ..self.clone() };
        (Self { bytes: first, ending: Ending::Newline, ..self }, Some(rest))
    }

    /// The place behind this block.
    #[must_use]
    pub fn end(&self) -> Reached {
        Reached { number: self.source.number, offset: self.offset + self.bytes.len() as u64, is_back: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: &'static [u8], ending: Ending) -> Block {
        let source = Arc::new(Source { path: Path::new("a").into(), dev: 1, inode: 2, number: 0 });
        Block { source, offset: 100, bytes: Bytes::from_static(bytes), ending, written: Written::Unknown }
    }

    #[test]
    fn a_block_is_split_behind_a_line_and_nothing_is_lost() {
        let (first, rest) = block(b"one\ntwo\nthr", Ending::EndOfFile).split(6);
        let rest = rest.unwrap();
        assert_eq!((&first.bytes[..], first.offset, first.ending), (&b"one\n"[..], 100, Ending::Newline));
        assert_eq!((&rest.bytes[..], rest.offset, rest.ending), (&b"two\nthr"[..], 104, Ending::EndOfFile));
    }

    #[test]
    fn a_long_line_stays_whole() {
        assert!(block(b"a long line without end", Ending::Piece).split(3).1.is_none());
        assert!(block(b"a long line\n", Ending::Newline).split(3).1.is_none());
        let (first, rest) = block(b"a long line\nb\n", Ending::Newline).split(3);
        assert_eq!((&first.bytes[..], &rest.unwrap().bytes[..]), (&b"a long line\n"[..], &b"b\n"[..]));
    }
}
