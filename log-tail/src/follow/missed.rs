//! Missed files: those that bore a followed name, and were gone before they could be opened.
//!
//! The kernel program tells what a file held when its last name went, so what is lost with one is counted to the byte.
//! inotify does not: then it is known that there was one, and no more.

use std::{ffi::OsStr, path::Path, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    Follower,
    succession::{Bearer, Comer, ComerId},
};
use crate::{
    observe::{DirectoryId, FileId, Held},
    record::{Item, Lost, Reason, Source},
};

/// What is known of files of which nobody tells what they held.
const UNTOLD: Held = Held { bytes: 0, is_least: true };
/// All of it can be had.
const NOTHING: Held = Held { bytes: 0, is_least: false };

/// What each name's missed files held, all together.
pub(super) type Missed = FxHashMap<Arc<Path>, Held>;

impl Follower {
    /// What bears this name loses it now, and its last one if it is told what it holds.
    pub(super) fn note_held(&mut self, directory: DirectoryId, name: &OsStr, held: Option<Held>) {
        let Some(found) = self.directories.get(directory) else { return };
        let held = held.filter(|_| !found.shares_key);
        match found.entries.get(name).and_then(|entry| entry.bearer) {
            Some(Bearer::Comer(ComerId(key))) => {
                let held = held.filter(|_| !self.has_copies(key));
                if let Some(comer) = self.successions.comers.get_mut(key) {
                    // What it was compressed to has another size.
                    comer.held = held.filter(|_| !comer.is_packed);
                }
            }
            // What is open can be read whatever becomes of its names.
            Some(Bearer::File(id)) if held.is_some() && self.descriptors.peek(id).is_none() => {
                if let Some(file) = self.file_mut(id).filter(|file| file.stream.is_none()) {
                    file.passing.held = held;
                }
            }
            Some(Bearer::File(_) | Bearer::Copy(_)) | None => {}
        }
    }

    /// Whether something came beside a comer that may hold what it held.
    fn has_copies(&self, comer: usize) -> bool {
        let Some(Comer { place: Some((directory, _)), copies, .. }) = self.successions.comers.get(comer)
        else {
            return false;
        };
        let entries = self.directories.get(*directory).into_iter().flat_map(|found| found.entries.values());
        let mut bearers = entries.filter_map(|entry| entry.bearer);
        bearers.any(|bearer| matches!(bearer, Bearer::Copy(number) if copies.contains(number)))
    }

    /// An inode that came to a followed name is nowhere.
    pub(super) fn miss_comer(&mut self, comer: usize, missed: &mut Missed) {
        self.counts.missed_files += 1;
        let Some(comer) = self.successions.comers.get(comer) else { return };
        let name = comer.names.first().and_then(|id| self.names.get(id.0));
        if let Some(path) = name.map(|name| Arc::clone(&name.path)) {
            let held = comer.held.unwrap_or(UNTOLD);
            let all = missed.entry(path).or_insert(NOTHING);
            *all = Held { bytes: all.bytes + held.bytes, is_least: all.is_least || held.is_least };
        }
    }

    /// Says what was missed, once for each name.
    pub(super) fn say_missed(&mut self, missed: Missed) {
        for (path, held) in missed.into_iter().filter(|(_, held)| *held != NOTHING) {
            let (shown, lost) = (path.display(), what_is_lost(held));
            self.notice(format_args!("what bore '{shown}' was gone before it could be opened: {lost}"));
            self.lose_with_file(path, None, 0, held);
        }
    }

    /// A file without a name was closed, and there is no other way to it.
    pub(super) fn miss_rest(&mut self, id: FileId) {
        let Some(file) = self.file(id) else { return };
        let (source, read_to) = (Arc::clone(&file.source), file.position.read_to());
        let held = file.passing.held.unwrap_or(UNTOLD);
        let held = Held { bytes: held.bytes.saturating_sub(read_to), ..held };
        if held == NOTHING {
            return;
        }
        self.counts.missed_files += 1;
        self.notice(format_args!(
            "a file that bore '{}' was removed while its descriptor was closed to make room for others: {}; raise the \
             limit of open files (ulimit -n)",
            source.path.display(),
            what_is_lost(held)
        ));
        self.lose_with_file(Arc::clone(&source.path), Some(source), read_to, held);
    }

    fn lose_with_file(&mut self, path: Arc<Path>, source: Option<Arc<Source>>, offset: u64, held: Held) {
        let Held { bytes, is_least } = held;
        if bytes == 0 {
            // Nobody knows of any.
            return;
        }
        self.counts.missed_bytes += bytes;
        let lost = Lost { path, source, reason: Reason::Removed, offset, bytes, exact: !is_least };
        self.outbox.push_back(Item::Lost(lost));
    }
}

fn what_is_lost(held: Held) -> String {
    match held {
        UNTOLD => "what was unread of it does not come out".to_owned(),
        Held { bytes, is_least: false } => format!("{bytes} bytes are lost"),
        Held { bytes, is_least: true } => format!("at least {bytes} bytes are lost"),
    }
}
