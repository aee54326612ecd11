//! Overlays: the first write to a file of a lower layer copies it to the upper one (Documentation/filesystems/
//! overlayfs.rst, "Non-directories"). It keeps device and inode number, and has another time of birth.

use std::{
    fs::{File, Metadata},
    os::fd::AsFd,
    path::Path,
};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};

use super::{Follower, Identity, identity};
use crate::observe::FileId;

impl Follower {
    /// Whether the name bears this file still, which was copied up since it was last looked at.
    pub(super) fn is_copied_up(&mut self, id: FileId, path: &Path, metadata: &Metadata) -> bool {
        let now = Identity::of(metadata);
        self.file(id).is_some_and(|file| differ_by_birth(file.identity, now))
            && identity::open(path).is_ok_and(|(open, _)| self.was_copied_up(id, &open, now))
    }

    /// The file that this one was before it was copied up.
    pub(super) fn before_copied_up(&mut self, open: &File, now: Identity) -> Option<FileId> {
        if !is_overlay(open) {
            return None;
        }
        let mut files = self.files.iter();
        let id = files.find(|(_, file)| differ_by_birth(file.identity, now)).map(|(_, file)| file.id)?;
        self.was_copied_up(id, open, now).then_some(id)
    }

    /// Whether the open file is this one after it was copied up. It is known by what it is now from then on.
    fn was_copied_up(&mut self, id: FileId, open: &File, now: Identity) -> bool {
        let Some(file) = self.files.get(id.0 as usize) else { return false };
        let before = file.identity;
        let is_it = || match self.descriptors.peek(id) {
            // Opened before, and through the overlay: what is known of it is what it is now.
            Some(ours) => ours.metadata().is_ok_and(|ours| Identity::of(&ours) == now),
            None => file.position.is_in(open),
        };
        if !is_overlay(open) || !is_it() {
            return false;
        }
        self.by_identity.remove(&before);
        self.by_identity.insert(now, id);
        if let Some(file) = self.file_mut(id) {
            file.identity = now;
        }
        true
    }
}

fn differ_by_birth(before: Identity, now: Identity) -> bool {
    now != before && (now.device, now.inode) == (before.device, before.inode)
}

fn is_overlay(open: impl AsFd) -> bool {
    fstatfs(open).is_ok_and(|statfs| statfs.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
}
