//! Every way into a file, each done for real: what a writer can do, and the bytes that are to come out of it.

mod asynchronous;
mod btrfs;
mod mapped;
pub mod measure;
mod names;
pub mod places;
mod sizes;
mod system_calls;

pub use btrfs::subvolume;

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const LOG: &str = "app.log";
/// What most of them write, and what those write that write twice.
const LINE: &[u8] = b"a line\n";
const ANOTHER: &[u8] = b"another line\n";
/// Blocks that `O_DIRECT` can write: every filesystem's is this large or smaller.
pub const BLOCK: usize = 4096;

/// Something that can be done to a followed file.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// As the table calls it.
    pub name: &'static str,
    /// Each does something, and gives the bytes that are to come out of it before the next one follows.
    pub acts: &'static [Act],
}

/// Something that is done once.
pub type Act = fn(&Site) -> io::Result<Vec<u8>>;

/// All of them.
pub fn all() -> Vec<Way> {
    [system_calls::WAYS, asynchronous::WAYS, sizes::WAYS, mapped::WAYS, names::WAYS].concat()
}

impl Way {
    /// The name of the directory in which it is done.
    fn folder(self) -> String {
        self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }
}

/// Where something is done: a directory of its own, in it a followed file of one block.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    followed: PathBuf,
}

impl Site {
    /// Makes the directory and the file.
    ///
    /// # Errors
    /// The system's.
    pub fn make(dir: &Path) -> io::Result<()> {
        std::fs::create_dir(dir)?;
        std::fs::write(dir.join(LOG), block('-'))
    }

    /// One that was made, as the writer and as the follower sees it.
    #[must_use]
    pub fn at(dir: PathBuf, followed: PathBuf) -> Self {
        Self { dir, followed }
    }

    /// The directory, as the writer sees it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that is written.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// The same one, as the follower sees it.
    #[must_use]
    pub fn followed_log(&self) -> PathBuf {
        self.followed.join(LOG)
    }

    fn open(&self, flags: i32) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(self.log())
    }

    fn append(&self) -> io::Result<File> {
        OpenOptions::new().append(true).open(self.log())
    }

    /// A file beside it that holds these bytes, open for reading.
    fn source(&self, bytes: &[u8]) -> io::Result<File> {
        let path = self.dir.join("source");
        std::fs::write(&path, bytes)?;
        File::open(path)
    }

    fn end(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(self.log())?.len())
    }
}

/// A line of one block.
fn block(of: char) -> Vec<u8> {
    let mut line = of.to_string().repeat(BLOCK - 1);
    line.push('\n');
    line.into_bytes()
}

/// A block where `O_DIRECT` takes it from: at an address that is a multiple of its size.
#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

impl Aligned {
    fn line(of: char) -> Box<Self> {
        let mut aligned = Box::new(Self([0; BLOCK]));
        aligned.0.copy_from_slice(&block(of));
        aligned
    }
}

/// What a function of libc returned, or why it failed.
fn checked(returned: impl TryInto<usize>) -> io::Result<usize> {
    returned.try_into().map_err(|_| io::Error::last_os_error())
}

fn short(wanted: usize, done: usize) -> io::Result<()> {
    if wanted == done {
        Ok(())
    } else {
        Err(io::Error::other(format!("{done} of {wanted} bytes were written")))
    }
}
