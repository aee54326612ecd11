//! The directories in which something is to be heard: what is expected to happen in each.

use std::{ffi::OsStr, path::PathBuf, sync::Arc};

use rustc_hash::FxHashMap;
use slab::Slab;

use super::{
    identity::Identity,
    names::{NameId, Names},
    rare::Rare,
    succession::{Bearer, Place},
};
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

/// A name in a directory.
#[derive(Debug, Default)]
pub struct Entry {
    /// The followed names that are reached through it.
    pub names: Names,
    /// The inode that bears it, where that is followed.
    pub bearer: Option<Bearer>,
    /// The followed directories that are reached through it.
    pub leads_to: Rare<Vec<DirectoryId>>,
}

impl Entry {
    /// Whether it means nothing any more.
    pub fn is_idle(&self) -> bool {
        self.bearer.is_none() && self.is_unfollowed()
    }

    /// Whether nothing that is followed is reached through it, and nothing that is followed bears it.
    fn is_unfollowed(&self) -> bool {
        self.names.is_empty()
            && matches!(self.bearer, None | Some(Bearer::Copy(_)))
            && self.leads_to.is_empty()
    }
}

/// A directory in which something is to be heard.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is true of it or not, whatever the others are")]
pub struct Directory {
    /// As it was opened.
    pub path: PathBuf,
    /// The inode that bore the path when it was opened.
    pub identity: Identity,
    /// Names in it that are followed, and those that followed inodes bear now.
    pub entries: FxHashMap<Arc<OsStr>, Entry>,
    /// The entries through which its path is reached.
    pub through: Vec<Place>,
    /// The observer tells of writes in it too, not only of its entries.
    pub hears_writes: bool,
    /// Patterns its entries are matched against, each with the depth it is at here.
    pub patterns: Vec<(PatternId, usize)>,
    /// Who waits for a directory below this one.
    pub waiting: Vec<Waiting>,
    /// Other hosts may write to it unseen.
    pub remote: bool,
    /// The kernel program may take another directory for it: what it tells of names may be about that one.
    pub shares_key: bool,
    /// The observer could not watch it: its names are looked at every second instead.
    pub unwatched: bool,
}

impl Directory {
    /// Whether nothing is expected in it any more.
    pub fn is_idle(&self) -> bool {
        self.patterns.is_empty() && self.waiting.is_empty() && self.entries.values().all(Entry::is_unfollowed)
    }
}

impl Directory {
    /// Whether no event tells all that happens in it.
    pub fn is_looked_at(&self) -> bool {
        self.unwatched || self.remote
    }

    /// The followed names that are reached through its entries.
    pub fn names(&self) -> impl Iterator<Item = NameId> {
        self.entries.values().flat_map(|entry| &entry.names).copied()
    }

    /// The name of an entry, in the memory that is shared with others where there is one.
    pub fn entry_name(&self, name: &OsStr) -> Arc<OsStr> {
        self.entries.get_key_value(name).map_or_else(|| name.into(), |(known, _)| Arc::clone(known))
    }

    /// Forgets an entry that means nothing any more.
    pub fn forget_idle(&mut self, name: &OsStr) {
        if self.entries.get(name).is_some_and(Entry::is_idle) {
            self.entries.remove(name);
        }
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
            entries: FxHashMap::default(),
            through: Vec::new(),
            hears_writes: false,
            patterns: Vec::new(),
            waiting: Vec::new(),
            remote: false,
            shares_key: false,
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

    /// All of them, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Directory> {
        self.slab.iter_mut().map(|(_, directory)| directory)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (DirectoryId, &Directory)> {
        self.slab.iter().map(|(key, directory)| (id(key), directory))
    }
}
