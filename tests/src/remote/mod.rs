//! Files that somebody writes to without this kernel's knowing: a process behind FUSE, a host behind NFS. Both serve
//! one directory that lies in this process's memory, over the kernel's own filesystems.

pub mod fuse;
pub mod nfs;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// The directory itself, by its number.
const ROOT: u64 = 1;

/// A directory of files in memory: whoever has a copy of it writes to the same files.
#[derive(Clone, Debug)]
pub struct Share(Arc<Mutex<Directory>>);

#[derive(Debug)]
struct Directory {
    files: BTreeMap<u64, Served>,
    /// When a name came or went: whoever has names cached goes by that.
    modified: SystemTime,
}

#[derive(Clone, Debug)]
struct Served {
    name: String,
    bytes: Vec<u8>,
    modified: SystemTime,
}

impl Default for Share {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Directory { files: BTreeMap::new(), modified: SystemTime::now() })))
    }
}

impl Share {
    fn lock(&self) -> MutexGuard<'_, Directory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends, and makes the file where it is missing.
    pub fn append(&self, name: &str, bytes: &str) {
        let mut directory = self.lock();
        let Directory { files, modified } = &mut *directory;
        let now = SystemTime::now();
        if let Some(file) = files.values_mut().find(|file| file.name == name) {
            file.bytes.extend_from_slice(bytes.as_bytes());
            file.modified = now;
        } else {
            let number = files.keys().last().map_or(ROOT, |last| *last) + 1;
            files.insert(number, Served { name: name.to_owned(), bytes: bytes.into(), modified: now });
            *modified = now;
        }
    }

    /// Gives a file another content.
    pub fn replace(&self, name: &str, bytes: &str) {
        for file in self.lock().files.values_mut().filter(|file| file.name == name) {
            (file.bytes, file.modified) = (bytes.into(), SystemTime::now());
        }
    }

    /// Gives a file another name.
    pub fn rename(&self, from: &str, to: &str) {
        let mut directory = self.lock();
        for file in directory.files.values_mut().filter(|file| file.name == from) {
            to.clone_into(&mut file.name);
        }
        directory.modified = SystemTime::now();
    }

    fn number_of(&self, name: &[u8]) -> Option<u64> {
        let directory = self.lock();
        directory.files.iter().find(|(_, file)| file.name.as_bytes() == name).map(|(number, _)| *number)
    }

    fn get(&self, number: u64) -> Option<Served> {
        self.lock().files.get(&number).cloned()
    }

    fn modified(&self) -> SystemTime {
        self.lock().modified
    }

    fn all(&self) -> Vec<(u64, Served)> {
        self.lock().files.iter().map(|(number, file)| (*number, file.clone())).collect()
    }
}

impl Served {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What there is from `offset` on, so many bytes at most; and whether that is all.
    fn read(&self, offset: u64, count: u32) -> (&[u8], bool) {
        let from = usize::try_from(offset).map_or(self.bytes.len(), |from| from.min(self.bytes.len()));
        let to = (from + count as usize).min(self.bytes.len());
        (&self.bytes[from..to], to == self.bytes.len())
    }
}
