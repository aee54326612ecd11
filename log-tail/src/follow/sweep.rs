//! The smoke detector: now and then, look whether anything changed that no hint told of.
//!
//! A change seen here is not yet a missed hint: its hint may be on its way, since the size of a file grows
//! before the write that grew it returns. Only what is still unread, and still unhinted, a moment later counts;
//! and while a file goes on growing, the write may go on, for a while.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    Follower, Identity, NameId, directories::Directory, files::FollowedFile, identity, truncation::WORD_TAKES,
};
use crate::observe::{DirectoryId, FileId};

/// How long a hint may take.
const GRACE: Duration = Duration::from_secs(1);
/// So many files are kept open although nobody writes to them: what is written to one of those can be read however soon
/// after that it is removed.
const IDLE: usize = 1024;
/// How often a file that has grown since it was looked at is given that time again.
const ROUNDS: u8 = 10;

/// What was found changed at the last sweep, without a hint so far.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    files: FxHashMap<FileId, Grown>,
    names: Vec<NameId>,
    /// Directories whose path came to mean another.
    directories: Vec<DirectoryId>,
    /// Files that a pattern matches and that are not followed.
    matches: Vec<PathBuf>,
    verdict_at: Option<Instant>,
}

/// A file with bytes that no hint told of.
#[derive(Clone, Copy, Debug)]
struct Grown {
    /// When it was last looked at.
    size: u64,
    /// How often it will be given more time.
    rounds: u8,
}

impl Suspects {
    /// When they are to be judged.
    pub fn verdict_at(&self) -> Option<Instant> {
        self.verdict_at
    }

    /// A hint came for the file.
    pub fn clear(&mut self, id: FileId) {
        if self.verdict_at.is_some() {
            self.files.remove(&id);
        }
    }
}

impl Follower {
    /// Lets go of what is not needed, and takes what was told so far for certain. It looks at no file.
    pub fn tidy(&mut self, now: Instant) {
        // So that not everything that came since the start is in doubt when hints are lost once.
        self.skips.due = Some(now);
        self.look_at_skipped(now);
        self.all_is_asked_for();
        self.descriptors.close_idle(IDLE);
        self.settle();
    }

    /// Looks at the size of every file and the inode of every name.
    pub fn sweep(&mut self, now: Instant) {
        self.tidy(now);
        self.counts.sweeps += 1;
        if self.suspects.verdict_at.is_some() {
            // Sweeps closer together than the grace must not put the verdict off for ever.
            return;
        }
        let mut grown = FxHashMap::default();
        self.suspects.names = self.changed_names(|file, size| {
            if self.has_grown(file, size) {
                grown.insert(file.id, Grown { size, rounds: ROUNDS });
            }
        });
        // Those that bear no followed name, or are known by another.
        for (_, file) in self.files.iter().filter(|(_, file)| !self.is_known_by_name(file)) {
            let there = identity::look(&file.path).ok();
            let size = there.filter(|it| Identity::of(it) == file.identity).map(|it| it.len());
            if let Some(size) = size.filter(|size| self.has_grown(file, *size)) {
                grown.insert(file.id, Grown { size, rounds: ROUNDS });
            }
        }
        self.suspects.files = grown;
        self.look_at_zeros();
        self.suspects.directories = self.changed_directories();
        self.suspects.matches = self.unfollowed_matches();
        let Suspects { files, names, directories, matches, .. } = &self.suspects;
        if !(files.is_empty() && names.is_empty() && directories.is_empty() && matches.is_empty()) {
            self.suspects.verdict_at = Some(now + GRACE);
        }
        self.settle();
    }

    /// Whether the file, being of this size, holds what nobody told of.
    fn has_grown(&self, file: &FollowedFile, size: u64) -> bool {
        !file.queued
            && file.waits_for == 0
            && !self.looked.contains(file.id)
            && size != file.position.looked_to()
    }

    /// Whether the path by which it is known is a followed name that it bears.
    fn is_known_by_name(&self, file: &FollowedFile) -> bool {
        let name = self.by_path.get(&file.path).and_then(|id| self.names.get(id.0));
        name.is_some_and(|name| name.bears == Some(file.id))
    }

    /// Has zeros at an end read once more: stores into mapped memory take their place without a hint, and the size stays
    /// the same.
    fn look_at_zeros(&mut self) {
        let ends_with_zeros = |file: &FollowedFile| file.position.looked_to() > file.position.read_to();
        let files = self.files.iter().map(|(_, file)| file);
        let files = files.filter(|file| ends_with_zeros(file) && !self.suspects.files.contains_key(&file.id));
        for id in files.map(|file| file.id).collect::<Vec<_>>() {
            self.queue(id);
        }
    }

    /// Those that bear another inode than is known. Of the others, `unchanged` is told the sizes of their files in bytes.
    pub(super) fn changed_names(&self, mut unchanged: impl FnMut(&FollowedFile, u64)) -> Vec<NameId> {
        let mut changed = |name: &super::Name| {
            let Some(file) = name.bears.and_then(|id| self.file(id)) else {
                // What nobody may read is looked at, and not followed.
                return identity::open(&name.path).is_ok();
            };
            match identity::look(&name.path) {
                Ok(there) if Identity::of(&there) == file.identity => {
                    unchanged(file, there.len());
                    false
                }
                _ => true,
            }
        };
        self.names.iter().filter(|(_, name)| changed(name)).map(|(key, _)| NameId(key)).collect()
    }

    /// Those whose path means another directory now.
    pub(super) fn changed_directories(&self) -> Vec<DirectoryId> {
        let changed = |directory: &Directory| {
            let bears = fs::metadata(&directory.path).map(|metadata| Identity::of(&metadata));
            bears.ok() != Some(directory.identity) && !directory.is_looked_at()
        };
        self.directories.iter().filter(|(_, directory)| changed(directory)).map(|(id, _)| id).collect()
    }

    /// In directories where that should have been heard of.
    fn unfollowed_matches(&self) -> Vec<PathBuf> {
        let mut unfollowed = Vec::new();
        for (_, directory) in self.directories.iter().filter(|(_, directory)| !directory.is_looked_at()) {
            if directory.patterns.is_empty() {
                continue;
            }
            let entries = fs::read_dir(&directory.path).into_iter().flatten().flatten();
            let paths = entries.filter_map(|entry| self.unfollowed_match(directory, &entry.file_name()));
            unfollowed.extend(paths.filter(|path| identity::look(path).is_ok()));
        }
        unfollowed
    }

    /// Counts what no hint has told by now, and looks at it.
    pub(super) fn judge_suspects(&mut self, now: Instant) {
        if self.suspects.verdict_at.is_none_or(|at| now < at) {
            return;
        }
        self.suspects.verdict_at = None;
        if self.skips.due.is_some() {
            // It has been told that hints are missing, and every file will be looked at.
            self.suspects = Suspects::default();
            return;
        }
        for (id, grown) in std::mem::take(&mut self.suspects.files) {
            let Some(file) = self.file(id) else { continue };
            let there = identity::look(&file.path).ok();
            let there = there.filter(|metadata| Identity::of(metadata) == file.identity);
            let size = there.map_or(grown.size, |metadata| metadata.len());
            if file.queued || file.position.looked_to() == size {
                continue;
            }
            if size > grown.size && grown.rounds > 0 {
                self.suspects.files.insert(id, Grown { size, rounds: grown.rounds - 1 });
                self.suspects.verdict_at = Some(now + GRACE);
                continue;
            }
            self.counts.missed_hints += 1;
            self.written(id, None);
            if let Some(file) = self.file_mut(id) {
                // Nobody will tell either why it is another.
                file.passing.untold_since = now.checked_sub(WORD_TAKES);
            }
        }
        let suspected = std::mem::take(&mut self.suspects.names);
        for id in still_there(suspected, || self.changed_names(|_, _| {})) {
            self.counts.missed_hints += 1;
            self.doubtful.insert(id);
        }
        let suspected = std::mem::take(&mut self.suspects.directories);
        for id in still_there(suspected, || self.changed_directories()) {
            self.counts.missed_hints += 1;
            self.renew_directory(id);
        }
        let suspected = std::mem::take(&mut self.suspects.matches);
        for path in still_there(suspected, || self.unfollowed_matches()) {
            self.counts.missed_hints += 1;
            let name = self.insert_name(&path, false);
            self.doubtful.insert(name);
        }
    }
}

/// Those of the suspects that are found once more. Where there are none, nothing is looked at.
fn still_there<T: PartialEq>(mut suspects: Vec<T>, find: impl FnOnce() -> Vec<T>) -> Vec<T> {
    if !suspects.is_empty() {
        let found = find();
        suspects.retain(|suspect| found.contains(suspect));
    }
    suspects
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, num::NonZeroUsize};

    use super::*;
    use crate::{
        follow::{FollowSettings, Start},
        observe::inotify::InotifyObserver,
    };

    /// Whoever does not read the hints has not been told.
    #[test]
    fn what_no_hint_told_is_counted_once_the_file_grows_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut file = fs::File::create(&path).unwrap();
        let settings = FollowSettings {
            start: Start::FromByte(1),
            max_line_bytes: NonZeroUsize::new(1024).unwrap(),
            rotate_wait: Duration::ZERO,
        };
        let mut follower = Follower::new(settings, Some(Box::new(InotifyObserver::new().unwrap())));
        follower.add_name(&path).unwrap();
        follower.begin();
        assert!(follower.next_item().is_none());
        let judge = |follower: &mut Follower| {
            let at = follower.next_deadline().expect("there is a suspect");
            follower.tick(at);
            follower.counts().missed_hints
        };
        file.write_all(b"one\n").unwrap();
        follower.sweep(Instant::now());
        for _ in 0..3 {
            file.write_all(b"more\n").unwrap();
            assert_eq!(judge(&mut follower), 0, "a write may be going on");
        }
        assert_eq!(judge(&mut follower), 1);
        assert!(follower.next_item().is_some(), "it is read all the same");
        assert!(follower.next_item().is_none());
        file.write_all(b"ever on\n").unwrap();
        follower.sweep(Instant::now());
        for _ in 0..ROUNDS {
            file.write_all(b"more\n").unwrap();
            assert_eq!(judge(&mut follower), 1);
        }
        file.write_all(b"more\n").unwrap();
        assert_eq!(judge(&mut follower), 2, "but not for ever");
    }
}
