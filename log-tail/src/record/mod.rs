//! What the reader hands on: bytes of one file, in file order, cut only where a line ends or is overlong.
//!
//! A [`Block`] holds many lines on purpose: text output passes it on without looking inside. Whoever needs
//! single records takes them out with [`frame::records`].

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub mod frame;

/// Which file a block came from, as users and json name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name that is followed, as the user gave it or as a glob matched it. Not always UTF-8.
    pub path: PathBuf,
    /// The device as stat(2) shows it in `st_dev`: userspace's `dev_t`, not the kernel's.
    pub dev: u64,
    /// The inode number as stat(2) shows it in `st_ino`.
    pub inode: u64,
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
}

impl Block {
    /// Where in the file the byte after this block stands.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}
