//! A guest's disks: a file each, with an empty filesystem that the guest mounts on `/NAME`.

use std::{fs::File, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::process;

/// More than any test writes; the files are sparse.
const MIB: u64 = 2048;

/// What can be on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl Filesystem {
    /// As mount(8) and the guest's folder call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The program that makes one, its package, and what it is told.
    fn maker(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Ext4 => ("mke2fs", "e2fsprogs", &["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1"]),
            Self::Xfs => ("mkfs.xfs", "xfsprogs", &["-q"]),
            Self::Btrfs => ("mkfs.btrfs", "btrfs-progs", &["-q"]),
        }
    }

    /// The program and the package that are needed here.
    pub fn needs(self) -> (&'static str, &'static str) {
        let (program, package, _) = self.maker();
        (program, package)
    }

    /// The kernel's modules that it needs, where they are not compiled in.
    pub fn modules(self) -> &'static [&'static str] {
        match self {
            // The guest's own disk, always there.
            Self::Ext4 => &[],
            Self::Xfs => &["xfs"],
            Self::Btrfs => &["btrfs"],
        }
    }

    /// Those that it asks for by another name, and that only some kernels have.
    pub fn wishes(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 | Self::Xfs => &[],
            // `crc32c`, on 6.18.
            Self::Btrfs => &["crc32c_cryptoapi"],
        }
    }

    /// Makes one in a sparse file.
    pub fn make(self, path: &Path) -> Result<()> {
        let (program, package, arguments) = self.maker();
        File::create(path)
            .and_then(|file| file.set_len(MIB << 20))
            .with_context(|| format!("could not make a disk for the guest's /{}", self.name()))?;
        process::output(Command::new(process::need(program, package)?).args(arguments).arg(path))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_made_and_takes_little_room() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        Filesystem::Ext4.make(&path).expect("mke2fs");
        let metadata = path.metadata().expect("the file");
        assert_eq!(metadata.len(), MIB << 20);
        assert!(metadata.blocks() * 512 < 256 << 20, "{} blocks", metadata.blocks());
    }
}
