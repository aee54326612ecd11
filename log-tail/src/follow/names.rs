//! Names: which inode bears each, and what becomes of one that lost its last.

use std::{ffi::OsStr, fs, path::Path, sync::Arc};

use smallvec::SmallVec;

use super::{
    Follower, Identity, NotFollowable, Pattern, PatternError, PatternId, Rotation, identity,
    start::Start,
    succession::{Bearer, Place},
};
use crate::observe::{DirectoryId, FileId};

/// An index of a followed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameId(pub usize);

/// Mostly one.
pub type Names = SmallVec<[NameId; 1]>;
/// Mostly one.
pub(super) type Places = SmallVec<[Place; 1]>;

/// A name that is followed.
#[derive(Debug)]
pub(super) struct Name {
    /// As the user gave it, or as a pattern matched it.
    pub path: Arc<Path>,
    /// The file that bears it.
    pub bears: Option<FileId>,
    /// Who bore it before, and the number of that file, because ids are used again.
    pub last_bore: Option<(FileId, u64)>,
    /// Hints were lost: other files may have borne it in between.
    pub unsure: bool,
    /// The inodes that came to it after that one, in their order.
    pub line: Vec<Bearer>,
    /// Given by the user: waited for when it is gone.
    pub explicit: bool,
    /// Reached through a symbolic link: its directory does not hear of writes.
    pub linked: bool,
    /// Where entries that concern it are heard.
    pub places: Places,
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
        let found = self.look_at(id, Some(self.settings.start));
        if let (Err(error), Some(name)) = (&found, self.names.get_mut(id.0)) {
            name.said = Some(error.to_string());
        }
        found
    }

    /// Follows everything that was added: to be called once all names and patterns are.
    pub fn begin(&mut self) {
        self.settle();
        // There is no earlier time: both the last one and the one before are now.
        self.all_is_asked_for();
        self.all_is_asked_for();
        self.skips.sure = self.told_by_now();
        self.report_missed();
    }

    /// Follows every file that matches a pattern, now and later. Returns how many do now.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn add_pattern(&mut self, pattern: &Path) -> Result<usize, PatternError> {
        let before = self.names.len();
        let id = PatternId(self.patterns.len());
        self.patterns.push(Pattern::new(pattern)?);
        self.expand_base(id, Some(self.settings.start));
        for path in self.remembered_matches(id) {
            // Rotated while nobody was looking, and not made again yet.
            let name = self.insert_name(&path, false);
            let _ = self.look_at(name, Some(Start::FromByte(1)));
            self.doubtful.insert(name);
        }
        Ok(self.names.len() - before)
    }

    pub(super) fn insert_name(&mut self, path: &Path, explicit: bool) -> NameId {
        let path: Arc<Path> = path.into();
        let name = Name {
            path: Arc::clone(&path),
            bears: None,
            last_bore: None,
            unsure: self.skips.is_making_up,
            line: Vec::new(),
            explicit,
            linked: false,
            places: Places::new(),
            said: None,
        };
        let id = NameId(self.names.insert(name));
        self.by_path.insert(path, id);
        self.place(id);
        id
    }

    /// A hint says that there may be something to read in whatever bears this entry's name.
    pub(super) fn entry_written(&mut self, directory: DirectoryId, name: &OsStr) {
        let Some(entry) = self.directories.get(directory).and_then(|found| found.entries.get(name)) else {
            return;
        };
        match entry.bearer {
            Some(Bearer::File(file)) => self.written(file, None),
            Some(Bearer::Copy(_)) => {}
            Some(Bearer::Comer(_)) | None => {
                let bear = entry.names.iter().filter_map(|id| self.names.get(id.0)?.bears);
                for file in bear.collect::<Vec<_>>() {
                    self.written(file, None);
                }
            }
        }
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
            if !self.advance(*id) {
                continue;
            }
            if let Err(error) = self.look_at(*id, None) {
                self.say_of(*id, &error);
            }
        }
        for id in doubtful {
            // What comes to it again has to wait for a file that bore it, as long as that is followed.
            let idle = |name: &Name| {
                !name.explicit
                    && name.bears.is_none()
                    && !name.unsure
                    && name.line.is_empty()
                    && !self.successions.earlier.contains_key(&id)
                    && !name.last_bore.is_some_and(|last| self.is_followed(last))
            };
            if self.names.get(id.0).is_some_and(idle) {
                let name = self.names.remove(id.0);
                self.by_path.remove(&name.path);
                self.unplace(id, name.places);
            }
        }
    }

    /// Looks at the names that patterns matched and nothing bore any more: something may have, untold.
    pub(super) fn look_for_forgotten(&mut self) {
        let paths = self.retired.iter().map(|(_, file)| &file.path);
        let is_forgotten = |path: &&Arc<Path>| {
            !self.by_path.contains_key(&***path) && self.patterns.iter().any(|pattern| pattern.matches(path))
        };
        let forgotten: Vec<_> = paths.filter(is_forgotten).cloned().collect();
        for path in forgotten {
            if !self.by_path.contains_key(&*path) {
                let name = self.insert_name(&path, false);
                self.doubtful.insert(name);
            }
        }
    }

    /// Says why a name cannot be followed, once.
    pub(super) fn say_of(&mut self, id: NameId, error: &NotFollowable) {
        let Some(name) = self.names.get_mut(id.0) else { return };
        let text = error.to_string();
        let worth_saying = name.explicit || !matches!(error, NotFollowable::Missing(_));
        if worth_saying && name.said.as_ref() != Some(&text) {
            name.said = Some(text.clone());
            self.notice(text);
        }
    }

    /// Finds out which inode bears the name. `start`: where to start in it, when following starts; later,
    /// it is one that came, and is read from its beginning.
    pub(super) fn look_at(&mut self, id: NameId, start: Option<Start>) -> Result<(), NotFollowable> {
        let Some(name) = self.names.get(id.0) else { return Ok(()) };
        let (path, bears) = (name.path.clone(), name.bears);
        let linked = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
        if linked || linked != name.linked {
            // Before it is looked at: what changes from now on is heard where it points to now.
            self.place(id);
        }
        let resumed = start.is_some() && bears.is_none() && self.resume(id);
        let start = if resumed { Some(Start::FromByte(1)) } else { start };
        let known = bears.and_then(|file| self.file(file)).map(|file| file.identity);
        let metadata = match identity::look(&path) {
            Ok(metadata) => metadata,
            // Says nothing about the file: never to be read as "deleted".
            Err(error @ (NotFollowable::Descriptors { .. } | NotFollowable::System { .. })) => {
                return Err(error);
            }
            Err(error) => {
                self.bears_no_more(id);
                return Err(error);
            }
        };
        let unsure = self.names.get_mut(id.0).is_some_and(|name| std::mem::take(&mut name.unsure));
        let mut is_known =
            |file| known == Some(Identity::of(&metadata)) || self.is_copied_up(file, &path, &metadata);
        let file = bears.filter(|file| is_known(*file));
        if unsure {
            self.make_up_for_lost_hints(id, Some(Identity::of(&metadata)));
        }
        if let Some(file) = file {
            self.settle_in(id, file);
            return Ok(());
        }
        // Where another name expects it, it is read from where that one says.
        if (start.is_none() || resumed || self.is_expected_elsewhere(id)) && self.expect_comer(id) {
            self.seen_at(id, Identity::of(&metadata));
            return Ok(());
        }
        let (open, metadata) = self.open(&path)?;
        let file = self.take_up(&path, open, &metadata, start.unwrap_or(Start::FromByte(1)), linked, None)?;
        if let Some(name) = self.names.get_mut(id.0) {
            name.line.push(Bearer::File(file));
        }
        self.advance(id);
        self.settle_in(id, file);
        Ok(())
    }

    /// The name was looked at, and there is nothing.
    fn bears_no_more(&mut self, id: NameId) {
        let Some(name) = self.names.get_mut(id.0) else { return };
        if std::mem::take(&mut name.unsure) {
            self.make_up_for_lost_hints(id, None);
        }
        // Some may have borne it all the same since its last bearer did.
        if self.advance(id) && self.names.get(id.0).is_some_and(|name| name.bears.is_some()) {
            self.rotated(Rotation::Unlink);
            self.bear(id, None);
        }
    }

    /// The name was looked at, and its entry bears this file.
    fn settle_in(&mut self, id: NameId, file: FileId) {
        let Some(place) = self.names.get(id.0).and_then(|name| name.places.last().cloned()) else { return };
        self.copied_again(id, Bearer::File(file));
        let entry = self.directories.get_mut(place.0).and_then(|found| found.entries.get_mut(&place.1));
        if let Some(entry) = entry.filter(|entry| entry.bearer.is_none()) {
            entry.bearer = Some(Bearer::File(file));
            if let Some(file) = self.file_mut(file) {
                file.place = Some(place);
            }
        }
    }

    /// The file that bears the name, or did last, as long as that is followed.
    pub(super) fn last_bearer(&self, id: NameId) -> Option<FileId> {
        let name = self.names.get(id.0)?;
        name.bears.or_else(|| name.last_bore.filter(|last| self.is_followed(*last)).map(|(file, _)| file))
    }

    /// Whether the file of this number is followed still: ids are used again.
    pub(super) fn is_followed(&self, (file, number): (FileId, u64)) -> bool {
        self.file(file).is_some_and(|file| file.source.number == number)
    }

    pub(super) fn bear(&mut self, id: NameId, file: Option<FileId>) {
        let Some(name) = self.names.get_mut(id.0) else { return };
        if file.is_some() {
            name.said = None;
        }
        let before = std::mem::replace(&mut name.bears, file);
        if let Some(old) = before.and_then(|old| self.files.get(old.0 as usize)) {
            name.last_bore = Some((old.id, old.source.number));
        }
        let goes_on = self.observer.is_some() && !self.stopping;
        if let Some(file) = file.and_then(|file| self.file_mut(file)) {
            file.names.push(id);
            if goes_on && file.stream.is_none() {
                // It may have lost its last name before, and have been about to be let go.
                file.finish = false;
                if let Some(passing) = file.passing.where_there() {
                    passing.leaves_at = None;
                }
            }
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
    pub(super) fn retire_nameless(&mut self) {
        for id in std::mem::take(&mut self.nameless) {
            let Some(file) = self.file(id).filter(|file| file.names.is_empty()) else { continue };
            let is_stream = file.stream.is_some();
            // One that stands in line will bear that name once those before it are known.
            if self.is_in_line(id) {
                continue;
            }
            if !is_stream {
                // Its directory will not hear of it under a name that is followed.
                self.watch(id, true);
            }
            self.leave_later(id);
            self.written(id, None);
        }
    }
}
