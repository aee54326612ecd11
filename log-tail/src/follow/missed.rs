//! Missed files: those that bore a followed name, and were gone before they could be opened.
//!
//! The kernel program tells what a file held when it lost its name, so what is lost with one is counted to the byte.
//! inotify does not: then it is known that there was one, and no more.

use std::{ffi::OsStr, fs::File, path::Path, sync::Arc};

use super::{
    Follower,
    succession::{Bearer, ComerId},
    taking::may_share_key,
};
use crate::{
    observe::{DirectoryId, FileId, Held},
    record::{Item, Lost, Reason},
};

impl Follower {
    /// What bears this name loses it now, and holds so much.
    pub(super) fn note_held(&mut self, directory: DirectoryId, name: &OsStr, held: Option<Held>) {
        let entry = self.directories.get(directory).and_then(|directory| directory.entries.get(name));
        let bearer = entry.and_then(|entry| entry.bearer);
        match bearer.filter(|_| held.is_some()) {
            Some(Bearer::Comer(ComerId(comer))) => {
                if let Some(comer) = self.successions.comers.get_mut(comer) {
                    comer.held = held;
                }
            }
            // What is open can be read whatever becomes of its names.
            Some(Bearer::File(id)) if self.descriptors.peek(id).is_none() => {
                if let Some(file) = self.file_mut(id) {
                    file.passing.held = held;
                }
            }
            Some(Bearer::File(_) | Bearer::Copy(_)) | None => {}
        }
    }

    /// An inode that came to a followed name is nowhere.
    pub(super) fn missed_comer(&mut self, comer: usize) {
        let Some(comer) = self.successions.comers.get(comer) else { return };
        let name = comer.names.first().and_then(|id| self.names.get(id.0));
        let Some(path) = name.map(|name| Arc::clone(&name.path)) else { return };
        let held = comer.held.filter(|_| is_certain(&path));
        // An empty one takes nothing with it.
        if held == Some(Held { bytes: 0, is_least: false }) {
            return;
        }
        self.counts.missed_files += 1;
        self.notice(format_args!(
            "a file that bore '{}' was removed before it could be opened: {}",
            path.display(),
            what_is_lost(held)
        ));
        self.missed_bytes(path, None, 0, held);
    }

    /// A file without a name was closed, and there is no other way to it.
    pub(super) fn missed_rest(&mut self, id: FileId) {
        let Some(file) = self.file(id) else { return };
        let read_to = file.position.read_to();
        let held = file
            .passing
            .held
            .filter(|_| is_certain(&file.source.path))
            .map(|held| Held { bytes: held.bytes.saturating_sub(read_to), ..held });
        let (path, of) = (Arc::clone(&file.source.path), (file.source.dev, file.source.inode));
        self.counts.missed_files += 1;
        self.notice(format_args!(
            "a file that bore '{}' was removed while its descriptor was closed to make room for others: {}; raise the \
             limit of open files (ulimit -n)",
            path.display(),
            what_is_lost(held)
        ));
        self.missed_bytes(path, Some(of), read_to, held);
    }

    fn missed_bytes(&mut self, path: Arc<Path>, file: Option<(u64, u64)>, offset: u64, held: Option<Held>) {
        // Nothing is said of bytes where not even the least is known.
        let Some(Held { bytes, is_least }) = held else { return };
        self.counts.missed_bytes += bytes;
        let lost = Lost { path, file, reason: Reason::Removed, offset, bytes, exact: !is_least };
        self.outbox.push_back(Item::Lost(lost));
    }
}

/// Whether what is told of the names beside this one is about them.
fn is_certain(path: &Path) -> bool {
    path.parent()
        .and_then(|parent| File::open(parent).ok())
        .is_some_and(|directory| !may_share_key(directory))
}

fn what_is_lost(held: Option<Held>) -> String {
    match held {
        Some(Held { bytes, is_least: false }) => format!("{bytes} bytes are lost"),
        Some(Held { bytes, is_least: true }) => format!("at least {bytes} bytes are lost"),
        None => "what was unread of it is lost".to_owned(),
    }
}
