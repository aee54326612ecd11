//! Names: which inode bears each, and what becomes of one that lost its last.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Follower, Identity, NotFollowable, Pattern, PatternError, PatternId, Rotation,
    files::FollowedFile,
    identity,
    reader::Position,
    start::{Start, start_offset},
};
use crate::{
    observe::{DirectoryId, FileId, ObserveError, Reach, stat},
    record::Source,
};

/// An index of a followed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameId(pub usize);

/// A name that is followed.
#[derive(Debug)]
pub(super) struct Name {
    /// As the user gave it, or as a pattern matched it.
    pub path: PathBuf,
    /// The file that bears it.
    pub bears: Option<FileId>,
    /// Given by the user: waited for when it is gone.
    pub explicit: bool,
    /// Reached through a symbolic link: its directory does not hear of writes.
    pub linked: bool,
    /// Where entries that concern it are heard.
    pub places: Vec<(DirectoryId, OsString)>,
    /// What was last said about it, so that it is said once.
    pub said: Option<String>,
}

impl Follower {
    /// Follows a name the user gave. What keeps it from being followed now is returned; unless that may
    /// change ([`NotFollowable::may_change`]), the name is not followed.
    ///
    /// # Errors
    /// [`NotFollowable`].
    pub fn add_name(&mut self, path: &Path) -> Result<(), NotFollowable> {
        let state = identity::look(path).map(drop);
        if state.as_ref().is_err_and(|error| !error.may_change()) || self.by_path.contains_key(path) {
            return state;
        }
        if self.observer.is_none() && state.is_err() {
            // Nothing is waited for: there is nobody to say that it has come.
            return state;
        }
        let id = self.insert_name(path, true);
        let found = self.look_at(id, self.settings.start);
        if let (Err(error), Some(name)) = (&found, self.names.get_mut(id.0)) {
            name.said = Some(error.to_string());
        }
        found
    }

    /// Follows every file that matches a pattern, now and later. Returns how many do now.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn add_pattern(&mut self, pattern: &Path) -> Result<usize, PatternError> {
        let before = self.names.len();
        let id = PatternId(self.patterns.len());
        self.patterns.push(Pattern::new(pattern)?);
        self.expand_base(id, self.settings.start);
        Ok(self.names.len() - before)
    }

    pub(super) fn insert_name(&mut self, path: &Path, explicit: bool) -> NameId {
        let name = Name {
            path: path.to_owned(),
            bears: None,
            explicit,
            linked: false,
            places: Vec::new(),
            said: None,
        };
        let id = NameId(self.names.insert(name));
        self.by_path.insert(path.to_owned(), id);
        self.place(id);
        id
    }

    /// The files that bear this entry's name.
    pub(super) fn bearers(&self, directory: DirectoryId, name: &OsStr) -> Vec<FileId> {
        let names = self.directories.get(directory).and_then(|directory| directory.names.get(name));
        names.into_iter().flatten().filter_map(|id| self.names.get(id.0)?.bears).collect()
    }

    /// A file's name changed or is about to go: what is open now stays readable whatever happens.
    pub(super) fn renamed(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(id.0 as usize) else { return };
        let _ = self.descriptors.get(id, &mut file.path, file.identity);
        self.doubtful.extend(&file.names);
        self.written(id, None);
    }

    /// Looks at every name that something was said about.
    pub(super) fn look_at_doubtful(&mut self) {
        let mut doubtful: Vec<NameId> = self.doubtful.drain().collect();
        doubtful.sort_unstable_by_key(|name| name.0);
        for id in &doubtful {
            let Err(error) = self.look_at(*id, Start::FromByte(1)) else { continue };
            let Some(name) = self.names.get_mut(id.0) else { continue };
            let text = error.to_string();
            if name.explicit && name.said.as_ref() != Some(&text) {
                name.said = Some(text.clone());
                self.notice(text);
            }
        }
        for id in doubtful {
            let given_up = self.names.get(id.0).is_some_and(|name| !name.explicit && name.bears.is_none());
            if given_up {
                let name = self.names.remove(id.0);
                self.by_path.remove(&name.path);
                self.unplace(id, name.places);
            }
        }
        self.retire_nameless();
    }

    /// Finds out which inode bears the name, and follows it.
    pub(super) fn look_at(&mut self, id: NameId, start: Start) -> Result<(), NotFollowable> {
        let Some(name) = self.names.get(id.0) else { return Ok(()) };
        let (path, bears) = (name.path.clone(), name.bears);
        let linked = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
        if linked || linked != name.linked {
            // Before it is looked at: what changes from now on is heard where it points to now.
            self.place(id);
        }
        let known = bears.and_then(|file| self.file(file)).map(|file| file.identity);
        let metadata = match identity::look(&path) {
            Ok(metadata) => metadata,
            // Says nothing about the file: never to be read as "deleted".
            Err(error @ (NotFollowable::Descriptors { .. } | NotFollowable::System { .. })) => {
                return Err(error);
            }
            Err(error) => {
                if bears.is_some() {
                    self.rotated(Rotation::Unlink);
                    self.bear(id, None);
                }
                return Err(error);
            }
        };
        if known == Some(Identity::of(&metadata)) {
            return Ok(());
        }
        let file = self.adopt(&path, start, linked)?;
        if let Some(old) = bears.filter(|old| *old != file) {
            self.rotated(Rotation::Replace);
            self.notice(format_args!("'{}' has been replaced; following the new file", path.display()));
            self.read_before(old, file);
        } else if self.names.get(id.0).is_some_and(|name| name.said.is_some()) {
            self.notice(format_args!("'{}' has appeared; following it", path.display()));
        }
        self.bear(id, Some(file));
        Ok(())
    }

    fn bear(&mut self, id: NameId, file: Option<FileId>) {
        let Some(name) = self.names.get_mut(id.0) else { return };
        name.said = None;
        let before = std::mem::replace(&mut name.bears, file);
        if let Some(file) = file.and_then(|file| self.file_mut(file)) {
            file.names.push(id);
        }
        if let Some(old) = before
            && let Some(file) = self.file_mut(old)
        {
            file.names.retain(|other| *other != id);
            if file.names.is_empty() {
                self.nameless.push(old);
            }
        }
    }

    /// Inodes that lost their last name, and were not given another by the same batch, are drained.
    fn retire_nameless(&mut self) {
        for id in std::mem::take(&mut self.nameless) {
            let Some(file) = self.files.get_mut(id.0 as usize).filter(|file| file.names.is_empty()) else {
                continue;
            };
            if let Ok(descriptor) = self.descriptors.get(id, &mut file.path, file.identity)
                && let Some(observer) = self.observer.as_mut()
            {
                // Its directory will not hear of it under a name that is followed.
                let watched = observer.follow_file(id, descriptor.as_fd(), Reach::Alone);
                self.look_instead(id, watched);
            }
            self.leave_later(id);
            self.written(id, None);
        }
    }

    /// The file that bears a path now: the one that is followed already, or a new one.
    fn adopt(&mut self, path: &Path, start: Start, linked: bool) -> Result<FileId, NotFollowable> {
        let (descriptor, metadata) = match identity::open(path) {
            Err(NotFollowable::Descriptors { .. }) => {
                self.descriptors.make_room();
                identity::open(path)?
            }
            other => other?,
        };
        let identity = Identity::of(&metadata);
        if let Some(id) = self.by_identity.get(&identity) {
            return Ok(*id);
        }
        let offset = start_offset(&descriptor, metadata.len(), start)
            .map_err(|source| NotFollowable::System { path: path.to_owned(), source })?;
        let entry = self.files.vacant_entry();
        let id = FileId(u32::try_from(entry.key()).unwrap_or(u32::MAX));
        entry.insert(FollowedFile {
            id,
            source: Arc::new(Source { path: path.to_owned(), dev: metadata.dev(), inode: metadata.ino() }),
            identity,
            path: path.to_owned(),
            position: Position::at(offset),
            names: Vec::new(),
            leaves_at: None,
            untold: false,
            queued: false,
            answered: false,
            before: Vec::new(),
            waits: false,
            finish: self.observer.is_none() || self.stopping,
            end: (self.observer.is_none() || self.stopping).then_some(metadata.len()),
            written_ns: None,
        });
        self.by_identity.insert(identity, id);
        if let Some(observer) = self.observer.as_mut() {
            let reach = if linked || metadata.nlink() > 1 { Reach::Alone } else { Reach::ThroughDirectory };
            let watched = observer.follow_file(id, descriptor.as_fd(), reach);
            self.look_instead(id, watched);
            if stat::unseen_filesystem(descriptor.as_fd()).unwrap_or(None).is_some() {
                self.looked.add(id);
            }
        }
        self.descriptors.keep(id, descriptor);
        self.queue(id);
        Ok(id)
    }

    /// Where a file could not be watched, it is looked at every second instead.
    fn look_instead(&mut self, id: FileId, watched: Result<(), ObserveError>) {
        if let Err(error) = watched {
            self.notice(format_args!("{error}; looking at the file every second instead"));
            self.looked.add(id);
        }
    }
}
