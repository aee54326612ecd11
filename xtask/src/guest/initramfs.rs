//! The guest's root: an archive (cpio, "newc") that the kernel unpacks into memory at boot.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use cpio::newc::{Builder, ModeFileType};

/// An archive being written. Folders come into being with the first file in them.
pub struct Initramfs {
    to: BufWriter<File>,
    folders: BTreeSet<String>,
    /// Inode numbers must differ, or the kernel takes files for hard links of each other.
    files: u32,
}

impl Initramfs {
    pub fn create(path: &Path) -> Result<Self> {
        let to = File::create(path).with_context(|| format!("could not write {}", path.display()))?;
        Ok(Self { to: BufWriter::new(to), folders: BTreeSet::new(), files: 0 })
    }

    /// Adds a folder and those above it.
    pub fn folder(&mut self, name: &str) -> Result<()> {
        let name = name.trim_matches('/');
        for (end, _) in name.match_indices('/').chain([(name.len(), "")]) {
            let above = &name[..end];
            if !above.is_empty() && self.folders.insert(above.to_owned()) {
                self.entry(above, ModeFileType::Directory, 0o755, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a file with this content.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> Result<()> {
        let name = name.trim_matches('/');
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.folder(folder)?;
        }
        self.entry(name, ModeFileType::Regular, permissions, content)
    }

    /// Adds a file of the host, executable by all.
    pub fn copy(&mut self, name: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
        self.file(name, 0o755, &content)
    }

    pub fn finish(self) -> Result<()> {
        cpio::newc::trailer(self.to)?.flush().context("could not write the guest's files")
    }

    fn entry(&mut self, name: &str, kind: ModeFileType, permissions: u32, content: &[u8]) -> Result<()> {
        let Ok(size) = u32::try_from(content.len()) else {
            bail!("{name} is too large for the guest's memory");
        };
        self.files += 1;
        let builder = Builder::new(name).ino(self.files).nlink(1).mode(permissions).set_mode_file_type(kind);
        let mut writer = builder.write(&mut self.to, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("archive");
        let mut archive = Initramfs::create(&path).unwrap();
        archive.file("/a/b/one", 0o644, b"first").unwrap();
        archive.file("/a/b/two", 0o755, b"").unwrap();
        archive.folder("/a/c/").unwrap();
        archive.finish().unwrap();

        let mut file = File::open(&path).unwrap();
        let mut seen = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(file).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            seen.push((reader.entry().name().to_owned(), reader.entry().mode()));
            file = reader.finish().unwrap();
        }
        let expected = [
            ("a", 0o40755),
            ("a/b", 0o40755),
            ("a/b/one", 0o100_644),
            ("a/b/two", 0o100_755),
            ("a/c", 0o40755),
        ];
        assert_eq!(seen, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }
}
