//! Successions: which inodes a name bore one after the other, however fast they followed each other.
//!
//! The observer tells each creation, rename and removal in its order. Applied to the names of a directory
//! in that order, they say where every inode that bore a followed name is to be found *now*, even if it
//! bore the name for a moment only and was renamed twice since.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use rustc_hash::FxHashMap;
use slab::Slab;

use super::{
    Follower, Identity, NameId,
    copies::{Copies, OLD},
    places::as_written,
};
use crate::observe::{Change, Cookie, DirectoryId, FileId, Held};

/// An entry of a followed directory. Its name shares its memory: for each file, several remember it.
pub(super) type Place = (DirectoryId, Arc<OsStr>);

/// An index of an inode that was told of and has not been opened yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ComerId(pub usize);

/// Who bears an entry's name, as far as the hints tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A file that is followed.
    File(FileId),
    /// An inode that is still to be opened.
    Comer(ComerId),
    /// A file named like an earlier generation of a followed name. Numbered as they came: a copy holds what
    /// was there before the next truncation.
    Copy(u64),
}

/// An inode that came to a followed name, and has not been opened yet.
#[derive(Debug)]
pub(super) struct Comer {
    /// The entry that bears it; none where that was removed, or went out of sight.
    pub place: Option<Place>,
    /// How often `place` was told to change: what was opened before is not certain to be this.
    pub changes: u32,
    /// What was opened by its name.
    pub opened: Option<Opened>,
    /// What `changes` was when there was nothing by its name.
    pub missing: Option<u32>,
    /// The names in whose lines it stands.
    pub names: Vec<NameId>,
    /// Stands for the file it will be: given out here, so that the numbers are in the order of coming.
    pub number: u64,
    /// The copies that may be of it.
    pub copies: Copies,
    /// How it is known that there is one.
    pub known_by: KnownBy,
    /// The entry that came beside it, named as it is when it is compressed.
    pub packed: Option<Place>,
    /// It was compressed before anybody opened it: `place` is that entry.
    pub is_packed: bool,
    /// What it held when it lost its last name, where that is told and can be believed.
    pub held: Option<Held>,
}

/// How it is known that an inode came to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownBy {
    /// Nobody knows: it is what the name bears, if it bears anything.
    Nothing,
    /// There was this one when somebody looked.
    Sight(Identity),
    /// A hint.
    Hint,
}

/// What was opened for a comer.
#[derive(Debug)]
pub(super) struct Opened {
    pub file: File,
    pub metadata: Metadata,
    /// What it was compressed to.
    pub is_packed: bool,
    /// How often its place had changed then.
    pub changes: u32,
}

/// What was opened for a comer, and may be another one.
#[derive(Debug)]
pub(super) struct Stray {
    pub opened: Opened,
    /// The names in whose lines the comer stood: it came to one of them too.
    pub names: Vec<NameId>,
}

impl Stray {
    /// What was opened for a comer in the lines of these names.
    pub fn of(opened: Option<Opened>, names: &[NameId]) -> Option<Self> {
        opened.map(|opened| Self { opened, names: names.to_vec() })
    }
}

/// A file of which a listing says that it bore a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    pub file: FileId,
    /// Nobody knew it: its number is that of its place in the listing.
    pub is_new: bool,
}

/// The inodes that are still to be opened, and those that are between two names.
#[derive(Debug, Default)]
pub(super) struct Successions {
    pub comers: Slab<Comer>,
    /// Between the two ends of a rename, since when.
    pub moving: FxHashMap<Cookie, (Bearer, Instant)>,
    /// Opened by a name that had come to another inode by then.
    pub strays: Vec<Stray>,
    /// What listings say a name bore before those in its line, oldest first.
    pub earlier: FxHashMap<NameId, Vec<Earlier>>,
    /// How many copies have come: the number of the last one.
    pub copies: u64,
    /// Names of which not all could be listed, because their files were being renamed.
    pub unsure: Vec<NameId>,
    /// When to list those again; none where there are none.
    pub unsure_until: Option<Instant>,
    /// When what could not be made certain is tried again.
    pub again_at: Option<Instant>,
}

impl Successions {
    /// The comers in the order in which they came.
    pub fn in_order(&self) -> Vec<usize> {
        let mut keys: Vec<(u64, usize)> =
            self.comers.iter().map(|(key, comer)| (comer.number, key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }
}

impl Follower {
    /// Something became of an entry.
    pub(super) fn entry_told(&mut self, id: DirectoryId, name: &OsStr, change: Change) {
        if name.is_empty() {
            self.unsure_of(id);
        } else {
            match change {
                Change::Came if self.is_expected(id, name) => {}
                Change::Came => {
                    let known_by = self.known_by_coming(id, name);
                    self.arrive(id, name, None, known_by);
                }
                Change::MovedFrom(cookie) => {
                    // One that nobody knows was there before, and will be nothing new by its next name.
                    let old = |it: &Self| it.is_generation_in(id, name).then_some(Bearer::Copy(OLD));
                    if let Some(bearer) = self.depart(id, name).or_else(|| old(self)) {
                        self.successions.moving.insert(cookie, (bearer, Instant::now()));
                    }
                }
                Change::MovedTo(cookie, held) => {
                    self.note_held(id, name, held);
                    let moved = self.successions.moving.remove(&cookie);
                    self.arrive(id, name, moved.map(|(bearer, _)| bearer), KnownBy::Hint);
                }
                Change::Went(held) => {
                    self.note_held(id, name, held);
                    self.went(id, name);
                }
                Change::Unknown => {}
            }
        }
        self.entry_changed(id, name);
    }

    /// How it is known that something came to the entry. Nothing comes where something is already: then it is that, which
    /// was found there before it was told of.
    fn known_by_coming(&self, id: DirectoryId, name: &OsStr) -> KnownBy {
        let entry = self.directories.get(id).and_then(|directory| directory.entries.get(name));
        match entry.and_then(|entry| entry.bearer) {
            Some(Bearer::File(file)) => {
                self.file(file).map_or(KnownBy::Hint, |file| KnownBy::Sight(file.identity))
            }
            _ => KnownBy::Hint,
        }
    }

    /// Whether what came to the entry is what was expected there: nothing is made where something is already.
    fn is_expected(&mut self, id: DirectoryId, name: &OsStr) -> bool {
        let entry = self.directories.get(id).and_then(|directory| directory.entries.get(name));
        let Some(Bearer::Comer(ComerId(comer))) = entry.and_then(|entry| entry.bearer) else { return false };
        let Some(comer) = self.successions.comers.get_mut(comer) else { return false };
        let was_expected = std::mem::replace(&mut comer.known_by, KnownBy::Hint) != KnownBy::Hint;
        // What was opened before is not certain to be this.
        comer.changes += u32::from(was_expected);
        was_expected
    }

    /// The entry was removed. What it bore may have been compressed: whoever does that removes it last.
    fn went(&mut self, id: DirectoryId, name: &OsStr) {
        let entry = self.directories.get(id).and_then(|directory| directory.entries.get(name));
        let bearer = entry.and_then(|entry| entry.bearer);
        let packed = match bearer {
            Some(Bearer::Comer(ComerId(comer))) => self.successions.comers.get_mut(comer).and_then(|comer| {
                // What was opened since it came there is itself.
                let is_opened = comer.opened.as_ref().is_some_and(|opened| opened.changes == comer.changes);
                comer.packed.take().filter(|_| !is_opened)
            }),
            _ => None,
        };
        if self.depart(id, name).is_none() {
            self.was_compressed(id, name);
        }
        let Some((bearer @ Bearer::Comer(ComerId(comer)), (id, packed))) = bearer.zip(packed) else { return };
        let entry = self.directories.get_mut(id).and_then(|directory| directory.entries.get_mut(&*packed));
        if let Some(entry) = entry.filter(|entry| matches!(entry.bearer, Some(Bearer::Copy(_)))) {
            entry.bearer = Some(bearer);
            if let Some(comer) = self.successions.comers.get_mut(comer) {
                comer.is_packed = true;
            }
            self.set_place(bearer, Some((id, packed)));
        }
    }

    /// The entry lost its inode.
    fn depart(&mut self, id: DirectoryId, name: &OsStr) -> Option<Bearer> {
        let entry = self.directories.get_mut(id)?.entries.get_mut(name)?;
        let linked = || entry.names.iter().find_map(|id| self.names.get(id.0)?.bears).map(Bearer::File);
        let bearer = entry.bearer.take().or_else(linked)?;
        let is_followed = !entry.names.is_empty();
        self.set_place(bearer, None);
        if is_followed {
            self.copied_no_more(bearer);
        }
        self.directories.get_mut(id)?.forget_idle(name);
        Some(bearer)
    }

    /// The entry bears another inode: this one, or one that nobody knows.
    fn arrive(&mut self, id: DirectoryId, name: &OsStr, bearer: Option<Bearer>, known_by: KnownBy) {
        self.follow_match(id, name);
        let Some(directory) = self.directories.get_mut(id) else { return };
        let names = directory.entries.get(name).map(|entry| entry.names.clone()).unwrap_or_default();
        // What was of no interest by its name before may be by this one.
        let bearer = match bearer.filter(|bearer| names.is_empty() || !matches!(bearer, Bearer::Copy(_))) {
            Some(bearer) => Some(bearer),
            None if names.is_empty() => self.new_copy(id, name),
            None => Some(self.new_comer(known_by)),
        };
        let Some(bearer) = bearer else {
            // Nobody asks for what never had a followed name.
            self.depart(id, name);
            return;
        };
        let Some(directory) = self.directories.get_mut(id) else { return };
        let name = directory.entry_name(name);
        let before = directory.entries.entry(Arc::clone(&name)).or_default().bearer.replace(bearer);
        if let Some(replaced) = before.filter(|before| *before != bearer) {
            self.set_place(replaced, None);
            if !names.is_empty() {
                self.copied_no_more(replaced);
            }
        }
        self.set_place(bearer, Some((id, name)));
        for name in names {
            self.line_up(name, bearer);
        }
    }

    pub(super) fn new_comer(&mut self, known_by: KnownBy) -> Bearer {
        let number = self.next_number();
        let comer = Comer {
            place: None,
            changes: 0,
            opened: None,
            missing: None,
            names: Vec::new(),
            number,
            copies: Copies::after(self.successions.copies),
            known_by,
            packed: None,
            is_packed: false,
            held: None,
        };
        Bearer::Comer(ComerId(self.successions.comers.insert(comer)))
    }

    /// Where a bearer is from now on; nowhere, as far as anybody tells, without a place.
    pub(super) fn set_place(&mut self, bearer: Bearer, place: Option<Place>) {
        match bearer {
            Bearer::File(id) => {
                let path = place.as_ref().and_then(|place| self.path_of(place));
                let Some(file) = self.files.get_mut(id.0 as usize) else { return };
                if place.is_none() {
                    // It may go where nobody finds it: what is open now stays readable.
                    let _ = self.descriptors.get(id, &mut file.path, file.identity);
                    self.descriptors.hold_on(id);
                } else {
                    self.descriptors.let_loose(id);
                }
                if let Some(path) = path.filter(|path| **path != *file.path) {
                    file.path = path.into();
                    if self.memory.is_kept {
                        self.memory.touched.push((file.source.number, None));
                    }
                }
                file.place = place;
            }
            Bearer::Comer(ComerId(comer)) => {
                let Some(comer) = self.successions.comers.get_mut(comer) else { return };
                comer.place = place;
                comer.changes += 1;
            }
            Bearer::Copy(_) => {}
        }
    }

    /// Forgets a file that is let go.
    pub(super) fn forget_file(&mut self, id: FileId, place: Option<Place>) {
        if let Some((directory, name)) = place {
            let old = self.is_generation_in(directory, &name).then_some(Bearer::Copy(OLD));
            if let Some(found) = self.directories.get_mut(directory)
                && let Some(entry) = found.entries.get_mut(&name)
                && entry.bearer == Some(Bearer::File(id))
            {
                entry.bearer = old;
                found.forget_idle(&name);
            }
            self.drop_idle(directory);
        }
        self.successions.moving.retain(|_, (bearer, _)| *bearer != Bearer::File(id));
        for files in self.successions.earlier.values_mut() {
            files.retain(|earlier| earlier.file != id);
        }
        if !self.successions.comers.is_empty() {
            for (_, name) in &mut self.names {
                name.line.retain(|bearer| *bearer != Bearer::File(id));
            }
        }
    }

    pub(super) fn path_of(&self, (directory, name): &Place) -> Option<PathBuf> {
        Some(as_written(&self.directories.get(*directory)?.path.join(&**name)).to_owned())
    }

    /// Nobody knows what became of the names in a directory.
    fn unsure_of(&mut self, id: DirectoryId) {
        for (_, comer) in &mut self.successions.comers {
            comer.changes += u32::from(comer.place.as_ref().is_some_and(|(directory, _)| *directory == id));
        }
    }

    /// Hints were lost: nobody knows any more which entry bears what. What was not opened yet has to be found
    /// another way.
    pub(super) fn forget_bearers(&mut self) {
        for directory in self.directories.iter_mut() {
            directory.entries.retain(|_, entry| {
                entry.bearer = entry.bearer.filter(|bearer| matches!(bearer, Bearer::Copy(_)));
                !entry.is_idle()
            });
        }
        for (_, file) in &mut self.files {
            file.place = None;
        }
        for (_, name) in &mut self.names {
            name.line.retain(|bearer| matches!(bearer, Bearer::File(_)));
        }
        self.successions.comers.clear();
        self.successions.moving.clear();
        self.successions.strays.clear();
    }
}
