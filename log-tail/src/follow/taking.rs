//! Taking up: how an open file comes to be one that is followed, from which position, and how it is watched.

use std::{
    fs::{File, Metadata},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
    sync::Arc,
};

use super::{
    Follower, Identity, NotFollowable,
    files::{FollowedFile, NO_END},
    identity, memory,
    reader::Position,
    start::{Start, start_offset},
    trail::Trail,
};
use crate::{
    observe::{FileId, ObserveError, Observer, Reach, stat},
    record::Source,
};

impl Follower {
    /// Opens a name; where the descriptors are spent, others are closed for it.
    pub(super) fn open(&mut self, path: &Path) -> Result<(File, Metadata), NotFollowable> {
        match identity::open(path) {
            Err(NotFollowable::Descriptors { .. }) => {
                self.descriptors.make_room();
                identity::open(path)
            }
            other => other,
        }
    }

    /// Follows an open file: the one that is followed already, or a new one.
    pub(super) fn take_up(
        &mut self,
        path: &Path,
        descriptor: File,
        metadata: &Metadata,
        start: Start,
        linked: bool,
        number: Option<u64>,
    ) -> Result<FileId, NotFollowable> {
        let identity = Identity::of(metadata);
        let known = self.by_identity.get(&identity).copied();
        if let Some(id) = known.or_else(|| self.before_copied_up(&descriptor, identity)) {
            return Ok(id);
        }
        let offset = start_offset(&descriptor, metadata.len(), start)
            .map_err(|source| NotFollowable::System { path: path.to_owned(), source })?;
        let recalled = self.recall(path, &descriptor, metadata);
        let (position, number) = match (self.retired.pop(&identity), recalled) {
            // It is back: a time of birth is no other inode's, and what was truncated meanwhile is seen to.
            (Some(it), _)
                if identity.born_ns != 0 || it.print.is_of(&descriptor, it.read_to).unwrap_or(false) =>
            {
                (Position::known(it.read_to, it.print), it.number)
            }
            (_, Some(known)) => (Position::known(known.offset, known.print), known.number),
            (_, None) => (Position::at(offset), number.unwrap_or_else(|| self.next_number())),
        };
        let id = self.insert_file(path, descriptor, metadata, position, number);
        self.watch(id, linked || metadata.nlink() > 1);
        Ok(id)
    }

    /// Follows an open file from a position. What was read of it in an earlier run may be no longer there.
    pub(super) fn insert_file(
        &mut self,
        path: &Path,
        descriptor: File,
        metadata: &Metadata,
        position: Position,
        number: u64,
    ) -> FileId {
        let end = (self.observer.is_none() || self.stopping).then_some(metadata.len());
        let source =
            Source { path: self.shared_path(path), dev: metadata.dev(), inode: metadata.ino(), number };
        let id = self.next_file();
        let changed = !position.is_in(&descriptor);
        // What lies in a file that changed is not what was read: its copy would not be known by it.
        let mut position = if changed { position } else { position.primed(&descriptor) };
        let tells = self.observer.as_deref().map(Observer::tells_truncations);
        let shares_key = self.may_mistake(&descriptor);
        if tells == Some(false) || shares_key {
            position.trail = Trail::for_one_of(self.files.len() + 1);
        }
        let file = FollowedFile {
            finish: end.is_some(),
            end: end.unwrap_or(NO_END),
            seen_bytes: metadata.len(),
            looked_ns: memory::now_ns(),
            shares_key,
            generation: if self.memory.is_kept { memory::generation(&descriptor) } else { None },
            ..FollowedFile::new(id, source, Identity::of(metadata), position)
        };
        self.insert(file);
        self.descriptors.keep(id, descriptor);
        if changed {
            self.changed_meanwhile(id, metadata.len());
        }
        id
    }

    /// The path of a name, in the memory that is shared with it.
    pub(super) fn shared_path(&self, path: &Path) -> Arc<Path> {
        self.by_path.get_key_value(path).map_or_else(|| path.into(), |(known, _)| Arc::clone(known))
    }

    /// The id that the file has which is inserted next.
    pub(super) fn next_file(&self) -> FileId {
        FileId(u32::try_from(self.files.vacant_key()).unwrap_or(u32::MAX))
    }

    /// Follows a file.
    pub(super) fn insert(&mut self, file: FollowedFile) {
        let (id, identity, number) = (file.id, file.identity, file.source.number);
        if self.memory.is_kept {
            // Of one that is back, not all that was read before may be acknowledged.
            let is_back = self.memory.departed.contains_key(&number);
            self.memory.touched.push((number, (!is_back).then_some(file.position.handed_on())));
            self.by_number.insert(number, id);
        }
        self.files.insert(file);
        self.by_identity.insert(identity, id);
        self.queue(id);
    }

    /// Has the observer hint at the file's bytes. `alone`: its directory does not hear of all writes.
    pub(super) fn watch(&mut self, id: FileId, alone: bool) {
        let Some(file) = self.files.get_mut(id.0 as usize) else { return };
        let Ok(descriptor) = self.descriptors.get(id, &mut file.path, file.identity) else { return };
        let Some(observer) = self.observer.as_mut() else { return };
        let reach = if alone { Reach::Alone } else { Reach::ThroughDirectory };
        let watched = observer.follow_file(id, descriptor.as_fd(), reach);
        if stat::unseen_filesystem(descriptor.as_fd()).unwrap_or(None).is_some() {
            self.look_every_second(id);
        }
        self.look_instead(id, watched);
    }

    /// Whether what is told of this file or directory may be about another one.
    pub(super) fn may_mistake(&self, open: impl AsFd) -> bool {
        self.observer.as_deref().is_some_and(|observer| observer.may_mistake(open.as_fd()))
    }

    /// Where a file could not be watched, it is looked at every second instead.
    pub(super) fn look_instead(&mut self, id: FileId, watched: Result<(), ObserveError>) {
        if let Err(ObserveError::Looking) = watched {
            self.look_every_second(id);
        } else if let Err(error) = watched {
            self.notice(format_args!("{error}; looking at the file every second instead"));
            self.look_every_second(id);
        }
    }

    /// Looks at it every second. Of its truncations nobody tells: they are known by its content.
    pub(super) fn look_every_second(&mut self, id: FileId) {
        let is_new = self.truncations_are_told(id);
        self.looked.add(id);
        let trail = Trail::for_one_of(self.files.len());
        if let Some(file) = self.file_mut(id).filter(|_| is_new) {
            file.position.trail = trail;
        }
    }
}
