//! Copies that came before anybody listened. A listing has found them, and by now hints may have told of some: of what
//! became of them since, and of others that came after them.

use std::{
    ffi::{OsStr, OsString},
    sync::Arc,
};

use rustc_hash::FxHashSet;

use super::{Copies, OLD};
use crate::{
    follow::{
        Follower,
        directories::Directory,
        reader::Position,
        siblings::{self, Found, Sibling},
        succession::Bearer,
    },
    observe::{DirectoryId, FileId},
};

impl Follower {
    /// These came beside a file before anybody listened, in this order, and are copies of it. They are read when it has its
    /// turn.
    pub(in crate::follow) fn came_before(&mut self, id: FileId, mut copies: Vec<Found>) {
        let Some((place, original)) = self.beside(id) else {
            // Nobody listens.
            return self.read_in_turn(id, copies, Position::at(0));
        };
        let listened = FxHashSet::from_iter([place]);
        // What was told before they were listed is taken now; what is told later is of where they are then.
        for _ in 0..siblings::TRIES {
            self.catch_up(&listened);
            if self.are_there(place, &copies) {
                return self.number_copies(id, place, &original, &copies);
            }
            self.look_where_they_are(id, &mut copies);
        }
        // They are open. What becomes of their names is nothing more that is to be read, unless another has come there.
        if let Some(directory) = self.directories.get_mut(place) {
            for Found { sibling: copy, .. } in &copies {
                let Some(name) = copy.path.file_name() else { continue };
                if now_at(directory, name).is_none_or(|now| now.same_inode(copy)) {
                    bear(directory, name, OLD);
                }
            }
        }
        self.read_in_turn(id, copies, Position::at(0));
    }

    fn are_there(&self, directory: DirectoryId, copies: &[Found]) -> bool {
        let Some(directory) = self.directories.get(directory) else { return false };
        let is_there = |copy: &Sibling| Some(now_at(directory, copy.path.file_name()?)?.same_inode(copy));
        copies.iter().all(|copy| is_there(&copy.sibling) == Some(true))
    }

    fn look_where_they_are(&self, id: FileId, copies: &mut [Found]) {
        let Some(path) = self.file(id).map(|file| &file.source.path) else { return };
        for now in siblings::rotated(path).unwrap_or_default() {
            if let Some(copy) = copies.iter_mut().find(|copy| copy.sibling.same_inode(&now)) {
                copy.sibling = now;
            }
        }
    }

    /// Those that were told of came after those that nobody told of.
    fn number_copies(&mut self, id: FileId, place: DirectoryId, original: &OsStr, copies: &[Found]) {
        let last = self.successions.copies;
        let of_it = self.file(id).map_or(Copies::NONE, |file| file.copies);
        let Some(directory) = self.directories.get_mut(place) else { return };
        let listed = copies.iter().filter_map(|copy| copy.sibling.path.file_name());
        let listed: Vec<Arc<OsStr>> = listed.map(|name| directory.entry_name(name)).collect();
        let is_its = |number: u64| number > OLD && (of_it.is_none() || of_it.contains(number));
        let told = told_of(directory, original, &listed, &is_its);
        for (number, name) in (last + 1..).zip(listed.iter().chain(&told)) {
            bear(directory, name, number);
            self.successions.copies = number;
        }
        if let Some(file) = self.file_mut(id) {
            if file.copies.is_none() {
                file.copies = Copies::after(last);
            }
            (file.truncated, file.lost_is_least) = (true, true);
        }
    }
}

/// The entries that bear copies of what bore this name, of those numbers and not listed, in the order in which they came.
/// What one of either is being compressed to is that one.
fn told_of(
    directory: &Directory,
    original: &OsStr,
    listed: &[Arc<OsStr>],
    is_its: &dyn Fn(u64) -> bool,
) -> Vec<Arc<OsStr>> {
    let number_of = |name: &OsStr| match directory.entries.get(name)?.bearer {
        Some(Bearer::Copy(number)) => Some(number),
        _ => None,
    };
    let is_listed = |name: &OsStr| listed.iter().any(|listed| **listed == *name);
    let is_known = |name: &OsStr| is_listed(name) || number_of(name).is_some();
    let is_packed = |name: &OsStr| {
        siblings::without_suffix(name.as_ref()).is_some_and(|plain| is_known(plain.as_os_str()))
    };
    let names = directory.entries.keys().filter(|name| siblings::is_generation(name, original));
    let mut told: Vec<(u64, &Arc<OsStr>)> = names
        .filter(|name| !is_listed(name) && !is_packed(name))
        .filter_map(|name| Some((number_of(name).filter(|number| is_its(*number))?, name)))
        .collect();
    told.sort_unstable();
    told.into_iter().map(|(_, name)| Arc::clone(name)).collect()
}

fn now_at(directory: &Directory, name: &OsStr) -> Option<Sibling> {
    Sibling::at(&directory.path.join(name)).ok().flatten()
}

/// The entry bears a copy of this number; and so does what that is being compressed to.
fn bear(directory: &mut Directory, name: &OsStr, number: u64) {
    let is_there = |directory: &Directory, name: &OsStr| directory.path.join(name).symlink_metadata().is_ok();
    let packed: Vec<_> = siblings::compressed(name).filter(|name| is_there(directory, name)).collect();
    for name in packed.iter().map(OsString::as_os_str).chain([name]) {
        let entry = directory.entries.entry(directory.entry_name(name)).or_default();
        if matches!(entry.bearer, None | Some(Bearer::Copy(_))) {
            entry.bearer = Some(Bearer::Copy(number));
        }
    }
}
