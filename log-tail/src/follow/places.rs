//! Places: the directories in which names and patterns are to be heard of, as they come, go and are replaced.
//!
//! A directory is watched before what is in it is looked at, so that nothing comes to be unheard in between.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{
    Follower, Identity, NameId, PatternId, RECHECK_AFTER, Waiting, directories::Directory, identity,
    names::Places, route::route, start::Start, succession::Place,
};
use crate::observe::{DirectoryId, Interest, ObserveError, stat};

impl Follower {
    /// Has the name's directory watched, and its target's where it is a symbolic link; or, where the
    /// directory is missing, the nearest one there is. What is watched already goes on being watched.
    pub(super) fn place(&mut self, id: NameId) {
        if self.observer.is_none() {
            return;
        }
        let Some(name) = self.names.get_mut(id.0) else { return };
        let path = name.path.clone();
        name.linked = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
        let before = std::mem::take(&mut name.places);
        let mut places = Places::new();
        for place in if name.linked { links_of(&path) } else { vec![path.to_path_buf()] } {
            let Some(entry) = place.file_name().map(Arc::from) else { continue };
            if let Some(directory) = self.parent_or_wait(&place, Waiting::Name(id)) {
                self.hear_writes(directory);
                places.push((directory, entry));
            }
        }
        for (directory, entry) in &places {
            if let Some(found) = self.directories.get_mut(*directory) {
                let entry = found.entries.entry(entry.clone()).or_default();
                if !entry.names.contains(&id) {
                    entry.names.push(id);
                }
            }
        }
        self.unplace(id, before.into_iter().filter(|place| !places.contains(place)));
        if let Some(name) = self.names.get_mut(id.0) {
            name.places = places;
        }
    }

    pub(super) fn unplace(&mut self, id: NameId, places: impl IntoIterator<Item = Place>) {
        for (directory, entry) in places {
            let Some(found) = self.directories.get_mut(directory) else { continue };
            if let Some(entry) = found.entries.get_mut(&entry) {
                entry.names.retain(|other| *other != id);
            }
            found.forget_idle(&entry);
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
        self.lead_to(id, path);
        let remote = stat::unseen_filesystem(open.as_fd()).unwrap_or(None);
        let shares_key = self.may_mistake(&open);
        if let Some(directory) = self.directories.get_mut(id) {
            directory.remote = remote.is_some();
            directory.shares_key = shares_key;
        }
        if let Some(filesystem) = remote {
            let path = path.display();
            self.notice(format_args!(
                "'{path}' is on {filesystem}, which other hosts can write to unseen; looking at it every second"
            ));
        }
        self.watch_directory(id, path);
        Ok(id)
    }

    /// Has every entry heard of through which a directory's path is reached: it may come to mean another.
    fn lead_to(&mut self, id: DirectoryId, path: &Path) {
        for (parent, entry) in route(path) {
            if parent == path {
                continue;
            }
            let entry: Arc<OsStr> = entry.into();
            // Where it cannot be listened to, the sweep will notice.
            let Ok(parent) = self.directory(&parent) else { continue };
            if let Some(directory) = self.directories.get_mut(parent) {
                let leads_to = &mut directory.entries.entry(entry.clone()).or_default().leads_to;
                if !leads_to.contains(&id) {
                    leads_to.push(id);
                }
            }
            if let Some(directory) = self.directories.get_mut(id) {
                directory.through.push((parent, entry));
            }
        }
    }

    fn renew_route(&mut self, id: DirectoryId, path: &Path) {
        let Some(directory) = self.directories.get_mut(id) else { return };
        let mut left = std::mem::take(&mut directory.through);
        self.lead_to(id, path);
        if let Some(directory) = self.directories.get(id) {
            left.retain(|place| !directory.through.contains(place));
        }
        self.leave_route(id, left);
    }

    /// The observer is to tell of writes to the files in a directory too.
    fn hear_writes(&mut self, id: DirectoryId) {
        let Some(directory) = self.directories.get_mut(id).filter(|directory| !directory.hears_writes) else {
            return;
        };
        directory.hears_writes = true;
        let path = directory.path.clone();
        self.watch_directory(id, &path);
    }

    fn watch_directory(&mut self, id: DirectoryId, path: &Path) {
        let Some(directory) = self.directories.get(id) else { return };
        let interest = if directory.hears_writes { Interest::Writes } else { Interest::Entries };
        let watched = open_directory(path).ok().zip(self.observer.as_mut());
        if let Some((open, observer)) = watched
            && let Err(error) = observer.follow_directory(id, path, open.as_fd(), interest)
        {
            self.look_at_directory_instead(id, &error);
        }
    }

    fn look_at_directory_instead(&mut self, id: DirectoryId, trouble: &ObserveError) {
        let Some(directory) = self.directories.get_mut(id) else { return };
        // One that is only on the way is left to the sweep.
        if !directory.hears_writes && directory.patterns.is_empty() {
            return;
        }
        if !std::mem::replace(&mut directory.unwatched, true) && !matches!(trouble, ObserveError::Looking) {
            self.notice(format_args!("{trouble}; looking at it every second"));
        }
    }

    pub(super) fn drop_idle(&mut self, id: DirectoryId) {
        if !self.directories.get(id).is_some_and(Directory::is_idle) {
            return;
        }
        let gone = self.directories.remove(id);
        if let Some(observer) = self.observer.as_mut() {
            observer.leave_directory(id);
        }
        self.leave_route(id, gone.map(|gone| gone.through).unwrap_or_default());
    }

    fn leave_route(&mut self, id: DirectoryId, through: Vec<Place>) {
        for (parent, entry) in through {
            let Some(directory) = self.directories.get_mut(parent) else { continue };
            if let Some(leads_to) =
                directory.entries.get_mut(&entry).and_then(|entry| entry.leads_to.where_there())
            {
                leads_to.retain(|other| *other != id);
            }
            directory.forget_idle(&entry);
            self.drop_idle(parent);
        }
    }

    /// A name in a directory came, went, or bears another inode.
    pub(super) fn entry_changed(&mut self, id: DirectoryId, name: &OsStr) {
        let Some(directory) = self.directories.get_mut(id) else { return };
        if name.is_empty() {
            self.doubtful.extend(directory.names());
            self.expand_again(id);
            return;
        }
        let entry = directory.entries.get(name);
        self.doubtful.extend(entry.into_iter().flat_map(|entry| &entry.names));
        let leads_to = entry.map(|entry| entry.leads_to.to_vec()).unwrap_or_default();
        let waiting = std::mem::take(&mut directory.waiting);
        let patterns = directory.patterns.clone();
        let path = directory.path.join(name);
        for waiting in waiting {
            self.try_again(waiting);
        }
        for directory in leads_to {
            self.doubt_directory(directory);
        }
        for (pattern, depth) in patterns {
            self.match_entry(pattern, depth, &path, None);
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
        self.doubtful.extend(directory.names());
        self.renew_route(id, &path);
        self.watch_directory(id, &path);
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
            Waiting::Pattern(pattern) => self.expand_base(pattern, None),
        }
    }

    /// Follows the directory's path to whatever bears it now.
    pub(super) fn check_directory(&mut self, id: DirectoryId) {
        let Some(directory) = self.directories.get(id) else { return };
        if fs::metadata(&directory.path).is_ok_and(|metadata| Identity::of(&metadata) == directory.identity) {
            return;
        }
        let bearers: Vec<_> = directory.entries.values().filter_map(|entry| entry.bearer).collect();
        for bearer in bearers {
            self.set_place(bearer, None);
        }
        let Some(gone) = self.directories.remove(id) else { return };
        if let Some(observer) = self.observer.as_mut() {
            observer.leave_directory(id);
        }
        // Everything that is reached through it may be another now.
        let below: Vec<DirectoryId> =
            gone.entries.values().flat_map(|entry| entry.leads_to.iter()).copied().collect();
        self.leave_route(id, gone.through.clone());
        for directory in below {
            self.doubt_directory(directory);
        }
        for name in gone.names() {
            self.replace_name(name);
        }
        for (pattern, _) in gone.patterns {
            self.expand_base(pattern, None);
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
            self.match_entries(pattern, depth, &path, None);
        }
    }

    pub(super) fn expand_base(&mut self, id: PatternId, start: Option<Start>) {
        let base = self.patterns[id.0].base().to_owned();
        let base = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base };
        self.expand(id, 0, &base, start);
    }

    fn expand(&mut self, id: PatternId, depth: usize, path: &Path, start: Option<Start>) {
        if self.observer.is_some() {
            let Some(directory) = self.parent_or_wait(&path.join("*"), Waiting::Pattern(id)) else { return };
            self.hear_writes(directory);
            if let Some(directory) = self.directories.get_mut(directory)
                && !directory.patterns.contains(&(id, depth))
            {
                directory.patterns.push((id, depth));
            }
        }
        self.match_entries(id, depth, path, start);
    }

    fn match_entries(&mut self, id: PatternId, depth: usize, path: &Path, start: Option<Start>) {
        let mut entries: Vec<OsString> = fs::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .collect();
        entries.sort_unstable();
        for entry in entries {
            self.match_entry(id, depth, &path.join(entry), start);
        }
    }

    /// Follows what has come to a name that a pattern matches, whether it still bears it or not.
    pub(super) fn follow_match(&mut self, id: DirectoryId, name: &OsStr) {
        let unfollowed =
            self.directories.get(id).and_then(|directory| self.unfollowed_match(directory, name));
        if let Some(path) = unfollowed {
            self.insert_name(&path, false);
        }
    }

    /// The path of an entry that a pattern matches and that is not followed.
    pub(super) fn unfollowed_match(&self, directory: &Directory, name: &OsStr) -> Option<PathBuf> {
        let matches = |(id, depth): &(PatternId, usize)| self.patterns[id.0].meaning(*depth, name).file;
        if !directory.patterns.iter().any(matches) {
            return None;
        }
        let path = as_written(&directory.path.join(name)).to_owned();
        (!self.by_path.contains_key(path.as_path())).then_some(path)
    }

    /// `start`: where to start in it, when following starts; later, files are read from their beginning.
    fn match_entry(&mut self, id: PatternId, depth: usize, path: &Path, start: Option<Start>) {
        let Some(name) = path.file_name() else { return };
        let meaning = self.patterns[id.0].meaning(depth, name);
        if !meaning.enter.is_empty() && fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            for depth in meaning.enter {
                self.expand(id, depth, path, start);
            }
        }
        let path = as_written(path);
        if !meaning.file || identity::look(path).is_err() {
            return;
        }
        let name = match self.by_path.get(path).copied() {
            // Told of while another one was resumed, and not resumed itself.
            Some(name) if start.is_some() && self.memory.by_path.contains_key(path) => name,
            Some(_) => return,
            None => self.insert_name(path, false),
        };
        match start.map(|start| self.look_at(name, Some(start))) {
            None => {
                self.doubtful.insert(name);
            }
            Some(Err(error)) => self.notice(error),
            Some(Ok(())) => {}
        }
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).open(path)
}

/// A symbolic link, every link it leads to, and in the end what they point to, whether that is there or not.
fn links_of(link: &Path) -> Vec<PathBuf> {
    let entries = route(link).into_iter().map(|(directory, name)| directory.join(name));
    let mut links: Vec<PathBuf> = entries.collect();
    let last = links.pop();
    links.retain(|entry| fs::symlink_metadata(entry).is_ok_and(|metadata| metadata.is_symlink()));
    links.extend(last);
    links
}

/// The user wrote `*.log`, not `./*.log`.
pub(super) fn as_written(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

/// The directory a path lies in; `.` for a bare name.
fn parent_of(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(path))
}

fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
