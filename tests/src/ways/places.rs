//! Where it is done: a plain directory of any filesystem, and those through which one file is reached in two ways.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::btrfs;

/// What stands between the writer, the follower and the filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// A btrfs subvolume.
    Subvolume,
    /// A snapshot of a btrfs subvolume: its files have the numbers of those they were taken of.
    Snapshot,
    /// Both go through an overlay.
    Overlay,
    /// Both go through an overlay, and the first write copies the file up from its lower directory.
    CopiedUp,
    /// The writer goes through an overlay, as in a container; the follower looks at its upper directory.
    UpperFollowed,
    /// The follower goes through an overlay; the writer writes to its upper directory.
    UpperWritten,
}

/// A directory with what was mounted in it, until it is dropped.
#[derive(Debug)]
pub struct Place {
    kind: Kind,
    lower: tempfile::TempDir,
    upper: tempfile::TempDir,
}

impl Place {
    /// Makes one in `dir`; what overlays write goes to `upper`.
    ///
    /// # Errors
    /// The system's: the filesystem cannot do it.
    pub fn new(kind: Kind, dir: &Path, upper: &Path) -> io::Result<Self> {
        let within = |dir: &Path| tempfile::Builder::new().prefix("log-tail-ways-").tempdir_in(dir);
        let place = Self { kind, lower: within(dir)?, upper: within(upper)? };
        match kind {
            Kind::Plain => {}
            Kind::Subvolume | Kind::Snapshot => btrfs::subvolume(place.lower.path(), "subvolume")?,
            Kind::Overlay | Kind::CopiedUp | Kind::UpperFollowed | Kind::UpperWritten => {
                fs::create_dir(place.path("lower"))?;
                fs::create_dir(place.path("merged"))?;
                fs::create_dir(place.upper.path().join("upper"))?;
                fs::create_dir(place.upper.path().join("work"))?;
            }
        }
        if kind != Kind::CopiedUp {
            place.mount()?;
        }
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lower.path().join(name)
    }

    /// Where the files are made.
    #[must_use]
    pub fn made(&self) -> PathBuf {
        match self.kind {
            Kind::Snapshot => self.path("subvolume"),
            Kind::CopiedUp => self.path("lower"),
            _ => self.written(),
        }
    }

    /// To be called when they have been made.
    ///
    /// # Errors
    /// The system's.
    pub fn ready(&self) -> io::Result<()> {
        match self.kind {
            Kind::Snapshot => btrfs::snapshot(&self.path("subvolume"), self.lower.path(), "snapshot"),
            Kind::CopiedUp => self.mount(),
            _ => Ok(()),
        }
    }

    /// Where they are written.
    #[must_use]
    pub fn written(&self) -> PathBuf {
        match self.kind {
            Kind::Plain => self.lower.path().to_owned(),
            Kind::Subvolume => self.path("subvolume"),
            Kind::Snapshot => self.path("snapshot"),
            Kind::Overlay | Kind::CopiedUp | Kind::UpperFollowed => self.path("merged"),
            Kind::UpperWritten => self.upper.path().join("upper"),
        }
    }

    /// Where they are followed.
    #[must_use]
    pub fn followed(&self) -> PathBuf {
        match self.kind {
            Kind::UpperFollowed => self.upper.path().join("upper"),
            Kind::UpperWritten => self.path("merged"),
            _ => self.written(),
        }
    }

    fn mount(&self) -> io::Result<()> {
        if !self.path("merged").exists() {
            return Ok(());
        }
        let upper = self.upper.path();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.path("lower").display(),
            upper.join("upper").display(),
            upper.join("work").display()
        );
        let (kind, flags) = (Some("overlay"), MsFlags::empty());
        Ok(mount(kind, &self.path("merged"), kind, flags, Some(options.as_str()))?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nothing is mounted there in most places; what holds subvolumes is removed like all directories.
        let _ = umount2(&self.path("merged"), MntFlags::MNT_DETACH);
    }
}
