//! Names: where each is to be heard of, and which inode bears it.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{
    Follower, Identity, NotFollowable, Pattern, PatternError, PatternId, RECHECK_AFTER, Rotation, Waiting,
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

    fn insert_name(&mut self, path: &Path, explicit: bool) -> NameId {
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

    /// Has the name's directory watched, and its target's where it is a symbolic link; or, where the
    /// directory is missing, the nearest one there is. What is watched already goes on being watched.
    fn place(&mut self, id: NameId) {
        if self.observer.is_none() {
            return;
        }
        let Some(name) = self.names.get_mut(id.0) else { return };
        let path = name.path.clone();
        name.linked = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
        let target = if name.linked { target_of(&path) } else { None };
        let before = std::mem::take(&mut name.places);
        let mut places = Vec::with_capacity(1);
        for place in [Some(path), target].into_iter().flatten() {
            let Some(entry) = place.file_name().map(OsStr::to_owned) else { continue };
            if let Some(directory) = self.parent_or_wait(&place, Waiting::Name(id)) {
                places.push((directory, entry));
            }
        }
        for (directory, entry) in &places {
            if let Some(found) = self.directories.get_mut(*directory) {
                let names = found.names.entry(entry.clone()).or_default();
                if !names.contains(&id) {
                    names.push(id);
                }
            }
        }
        self.unplace(id, before.into_iter().filter(|place| !places.contains(place)).collect());
        if let Some(name) = self.names.get_mut(id.0) {
            name.places = places;
        }
    }

    fn unplace(&mut self, id: NameId, places: Vec<(DirectoryId, OsString)>) {
        for (directory, entry) in places {
            let Some(found) = self.directories.get_mut(directory) else { continue };
            if let Some(names) = found.names.get_mut(&entry) {
                names.retain(|other| *other != id);
                if names.is_empty() {
                    found.names.remove(&entry);
                }
            }
            self.drop_idle(directory);
        }
    }

    /// The directory `path` lies in, watched; or, where it is missing, `waiting` is told of the next one on
    /// the way to it.
    fn parent_or_wait(&mut self, path: &Path, waiting: Waiting) -> Option<DirectoryId> {
        let parent = parent_of(path);
        let nearest = || parent.ancestors().map(or_here).find(|ancestor| ancestor.is_dir());
        while let Some(found) = nearest() {
            let directory = self.directory(found).ok()?;
            if found == parent {
                return Some(directory);
            }
            if let Some(directory) = self.directories.get_mut(directory)
                && !directory.waiting.contains(&waiting)
            {
                directory.waiting.push(waiting);
            }
            // What was made below it before it was watched is not told.
            if nearest() == Some(found) {
                break;
            }
        }
        None
    }

    /// The directory with this path, watched.
    fn directory(&mut self, path: &Path) -> io::Result<DirectoryId> {
        if let Some(id) = self.directories.by_path(path) {
            return Ok(id);
        }
        let open = open_directory(path)?;
        let identity = Identity::of(&open.metadata()?);
        let id = self.directories.insert(path.to_owned(), identity);
        let remote = stat::unseen_filesystem(open.as_fd()).unwrap_or(None);
        let watched =
            self.observer.as_mut().map(|observer| observer.follow_directory(id, path, open.as_fd()));
        let trouble = match (watched, remote) {
            (Some(Err(error)), _) => Some(error.to_string()),
            (_, Some(filesystem)) => Some(format!(
                "'{}' is on {filesystem}, which other hosts can write to unseen",
                path.display()
            )),
            _ => None,
        };
        if let Some(trouble) = trouble {
            self.notice(format_args!("{trouble}; looking at it every second"));
            if let Some(directory) = self.directories.get_mut(id) {
                directory.unwatched = true;
            }
        }
        Ok(id)
    }

    fn drop_idle(&mut self, id: DirectoryId) {
        if self.directories.get(id).is_some_and(super::directories::Directory::is_idle) {
            self.directories.remove(id);
            if let Some(observer) = self.observer.as_mut() {
                observer.leave_directory(id);
            }
        }
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

    /// A name in a directory came, went, or bears another inode.
    pub(super) fn entry_changed(&mut self, id: DirectoryId, name: &OsStr) {
        let Some(directory) = self.directories.get_mut(id) else { return };
        if name.is_empty() {
            self.doubtful.extend(directory.names.values().flatten());
            self.expand_again(id);
            return;
        }
        self.doubtful.extend(directory.names.get(name).into_iter().flatten());
        let waiting = std::mem::take(&mut directory.waiting);
        let patterns = directory.patterns.clone();
        let path = directory.path.join(name);
        for waiting in waiting {
            self.try_again(waiting);
        }
        for (pattern, depth) in patterns {
            self.match_entry(pattern, depth, &path, Start::FromByte(1));
        }
        self.drop_idle(id);
    }

    /// Listens for the name where it is to be heard now, and looks at it.
    fn replace_name(&mut self, id: NameId) {
        self.place(id);
        self.doubtful.insert(id);
    }

    /// A directory was moved or removed, or soon will be.
    pub(super) fn doubt_directory(&mut self, id: DirectoryId) {
        let now = Instant::now();
        self.rechecks.extend(RECHECK_AFTER.map(|after| (now + after, id)));
        self.renew_directory(id);
    }

    /// Watches the directory anew, whatever it seems to be: one that was removed and made again may have
    /// its old inode number, and the watch of the old one ended with it.
    pub(super) fn renew_directory(&mut self, id: DirectoryId) {
        self.check_directory(id);
        let Some(directory) = self.directories.get(id) else { return };
        let path = directory.path.clone();
        self.doubtful.extend(directory.names.values().flatten());
        let watched = open_directory(&path).ok().zip(self.observer.as_mut());
        if let Some((open, observer)) = watched
            && let Err(error) = observer.follow_directory(id, &path, open.as_fd())
        {
            self.notice(error);
        }
        self.expand_again(id);
        for waiting in
            self.directories.get_mut(id).map(|found| std::mem::take(&mut found.waiting)).unwrap_or_default()
        {
            self.try_again(waiting);
        }
    }

    /// Somebody waited for a directory that may be there now.
    fn try_again(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Name(name) => self.replace_name(name),
            Waiting::Pattern(pattern) => self.expand_base(pattern, Start::FromByte(1)),
        }
    }

    /// Follows the directory's path to whatever bears it now.
    pub(super) fn check_directory(&mut self, id: DirectoryId) {
        let Some(directory) = self.directories.get(id) else { return };
        if fs::metadata(&directory.path).is_ok_and(|metadata| Identity::of(&metadata) == directory.identity) {
            return;
        }
        let Some(gone) = self.directories.remove(id) else { return };
        if let Some(observer) = self.observer.as_mut() {
            observer.leave_directory(id);
        }
        for name in gone.names.into_values().flatten() {
            self.replace_name(name);
        }
        for (pattern, _) in gone.patterns {
            self.expand_base(pattern, Start::FromByte(1));
        }
        for waiting in gone.waiting {
            self.try_again(waiting);
        }
    }

    /// Matches everything in the directory again, where a pattern reaches it.
    pub(super) fn expand_again(&mut self, id: DirectoryId) {
        let Some(directory) = self.directories.get(id) else { return };
        let (path, patterns) = (directory.path.clone(), directory.patterns.clone());
        for (pattern, depth) in patterns {
            self.match_entries(pattern, depth, &path, Start::FromByte(1));
        }
    }

    fn expand_base(&mut self, id: PatternId, start: Start) {
        let base = self.patterns[id.0].base().to_owned();
        let base = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base };
        self.expand(id, 0, &base, start);
    }

    fn expand(&mut self, id: PatternId, depth: usize, path: &Path, start: Start) {
        if self.observer.is_some() {
            let Some(directory) = self.parent_or_wait(&path.join("*"), Waiting::Pattern(id)) else { return };
            if let Some(directory) = self.directories.get_mut(directory)
                && !directory.patterns.contains(&(id, depth))
            {
                directory.patterns.push((id, depth));
            }
        }
        self.match_entries(id, depth, path, start);
    }

    fn match_entries(&mut self, id: PatternId, depth: usize, path: &Path, start: Start) {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| path.join(entry.file_name()))
            .collect();
        entries.sort_unstable();
        for entry in entries {
            self.match_entry(id, depth, &entry, start);
        }
    }

    fn match_entry(&mut self, id: PatternId, depth: usize, path: &Path, start: Start) {
        let Some(name) = path.file_name() else { return };
        let meaning = self.patterns[id.0].meaning(depth, name);
        if !meaning.enter.is_empty() && fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            for depth in meaning.enter {
                self.expand(id, depth, path, start);
            }
        }
        // The user wrote `*.log`, not `./*.log`.
        let path = path.strip_prefix(".").unwrap_or(path);
        if !meaning.file || self.by_path.contains_key(path) || identity::look(path).is_err() {
            return;
        }
        let name = self.insert_name(path, false);
        if let Err(error) = self.look_at(name, start) {
            self.notice(error);
        }
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

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).open(path)
}

/// What a symbolic link points to, whether it is there or not.
fn target_of(link: &Path) -> Option<PathBuf> {
    fs::canonicalize(link).ok().or_else(|| Some(parent_of(link).join(fs::read_link(link).ok()?)))
}

/// The directory a path lies in; `.` for a bare name.
fn parent_of(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(path))
}

fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
