//! The directories in which something is to be heard: what is expected to happen in each.

use std::{ffi::OsString, path::PathBuf};

use rustc_hash::FxHashMap;
use slab::Slab;

use super::{identity::Identity, names::NameId};
use crate::observe::DirectoryId;

/// An index of a followed pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PatternId(pub usize);

/// Who waits for a directory that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A name whose directory is missing.
    Name(NameId),
    /// A pattern whose base is missing.
    Pattern(PatternId),
}

/// A directory in which something is to be heard.
#[derive(Debug)]
pub struct Directory {
    /// As it was opened.
    pub path: PathBuf,
    /// The inode that bore the path when it was opened.
    pub identity: Identity,
    /// Names in it that are followed.
    pub names: FxHashMap<OsString, Vec<NameId>>,
    /// Patterns its entries are matched against, each with the depth it is at here.
    pub patterns: Vec<(PatternId, usize)>,
    /// Who waits for a directory below this one.
    pub waiting: Vec<Waiting>,
    /// The observer could not watch it: its names are looked at every second instead.
    pub unwatched: bool,
}

impl Directory {
    /// Whether nothing is expected in it any more.
    pub fn is_idle(&self) -> bool {
        self.names.is_empty() && self.patterns.is_empty() && self.waiting.is_empty()
    }
}

/// All of them, by id and by path.
#[derive(Debug, Default)]
pub struct Directories {
    slab: Slab<Directory>,
    by_path: FxHashMap<PathBuf, DirectoryId>,
}

fn id(key: usize) -> DirectoryId {
    DirectoryId(u32::try_from(key).unwrap_or(u32::MAX))
}

impl Directories {
    /// The directory followed by this path.
    pub fn by_path(&self, path: &std::path::Path) -> Option<DirectoryId> {
        self.by_path.get(path).copied()
    }

    /// Adds one.
    pub fn insert(&mut self, path: PathBuf, identity: Identity) -> DirectoryId {
        let id = id(self.slab.insert(Directory {
            path: path.clone(),
            identity,
            names: FxHashMap::default(),
            patterns: Vec::new(),
            waiting: Vec::new(),
            unwatched: false,
        }));
        self.by_path.insert(path, id);
        id
    }

    /// Removes one.
    pub fn remove(&mut self, id: DirectoryId) -> Option<Directory> {
        let directory = self.slab.try_remove(id.0 as usize)?;
        self.by_path.remove(&directory.path);
        Some(directory)
    }

    /// `None` for an id that is stale.
    pub fn get(&self, id: DirectoryId) -> Option<&Directory> {
        self.slab.get(id.0 as usize)
    }

    /// `None` for an id that is stale.
    pub fn get_mut(&mut self, id: DirectoryId) -> Option<&mut Directory> {
        self.slab.get_mut(id.0 as usize)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (DirectoryId, &Directory)> {
        self.slab.iter().map(|(key, directory)| (id(key), directory))
    }
}
