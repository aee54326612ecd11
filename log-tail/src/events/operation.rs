//! What can be done to a file, in the words of `--op`.

use clap::ValueEnum;
use serde::Serialize;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Bytes were written
    Write,
    /// Bytes came out of a pipe, or of another file by sendfile
    Splice,
    /// The filesystem copied bytes of another file
    Copy,
    /// Another file's bytes are shared
    Reflink,
    /// Room was made, or taken away
    Fallocate,
    /// The size was set
    Truncate,
    /// A new file, or another inode that is no directory
    Create,
    /// A new directory
    Mkdir,
    /// A new symbolic link
    Symlink,
    /// A further name of a file
    Link,
    /// Another name, or another directory
    Rename,
    /// A name was removed
    Unlink,
    /// A directory was removed
    Rmdir,
}

impl Operation {
    /// Whether it puts bytes into the file.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Splice | Self::Copy | Self::Reflink)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Splice => "splice",
            Self::Copy => "copy",
            Self::Reflink => "reflink",
            Self::Fallocate => "fallocate",
            Self::Truncate => "truncate",
            Self::Create => "create",
            Self::Mkdir => "mkdir",
            Self::Symlink => "symlink",
            Self::Link => "link",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
        }
    }
}
