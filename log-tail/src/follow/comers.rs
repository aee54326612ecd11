//! Comers: inodes that came to a followed name are opened for certain, whatever is renamed meanwhile.
//!
//! # Why what is opened is what was meant
//! Between the last hint that was read and the moment a name is opened, it may have come to another inode.
//! So a name is opened first; then its directory is listed, which waits for whoever is changing it (each
//! change, and the hint of it, are made under the directory's lock); then all hints are read, also those
//! that another one, which is being made on another processor, keeps back. If none of them is about that
//! name, it bore the same inode all the while. Otherwise it is opened anew.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustc_hash::FxHashSet;

use super::{
    Follower, Identity, NameId, NotFollowable, Rotation,
    identity::is_spent,
    missed::Missed,
    start::Start,
    succession::{Bearer, ComerId, KnownBy, Opened, Stray},
};
use crate::observe::DirectoryId;

/// How many are opened at once: each takes a descriptor until it is certain what it is.
const OPEN_AT_ONCE: usize = 16;
/// How often names are opened anew before other work gets its turn.
const ROUNDS: usize = 8;
/// How long what is not certain is left alone.
const AGAIN_AFTER: Duration = Duration::from_millis(1);
/// How long the second end of a rename may take to be told. Without it, the inode went out of sight.
const OUT_OF_SIGHT_AFTER: Duration = Duration::from_secs(1);
/// Drains of the observer in one round.
const DRAINS: usize = 64;

impl Follower {
    /// Opens every inode that came to a followed name, and has it follow those that were there before.
    pub(super) fn settle(&mut self) {
        if !self.successions.moving.is_empty() {
            let now = Instant::now();
            self.successions.moving.retain(|_, (_, since)| now.duration_since(*since) < OUT_OF_SIGHT_AFTER);
        }
        if self.successions.unsure_until.take_if(|until| *until <= Instant::now()).is_some() {
            self.doubtful.extend(std::mem::take(&mut self.successions.unsure));
        }
        let mut rounds = 0;
        while rounds < ROUNDS {
            self.look_at_doubtful();
            if self.successions.comers.is_empty() {
                break;
            }
            let directories = self.open_comers();
            self.catch_up(&directories);
            // While there is progress it goes on.
            rounds += usize::from(self.take_in() == 0);
        }
        // What is not certain by now is not waited for.
        for id in self.successions.earlier.keys().copied().collect::<Vec<_>>() {
            self.line_up_earlier(id);
            self.doubtful.insert(id);
        }
        self.look_at_doubtful();
        let is_left = !self.successions.comers.is_empty();
        self.successions.again_at =
            if is_left { Some(Instant::now() + AGAIN_AFTER) } else { self.successions.unsure_until };
        self.retire_nameless();
    }

    /// Opens what the hints say bears each comer. Returns the directories these are in.
    fn open_comers(&mut self) -> FxHashSet<DirectoryId> {
        let mut directories = FxHashSet::default();
        let keys = self.successions.in_order();
        let has_place =
            |key: &usize| self.successions.comers.get(*key).is_some_and(|comer| comer.place.is_some());
        let placed: Vec<usize> = keys.into_iter().filter(has_place).take(OPEN_AT_ONCE).collect();
        for key in placed {
            let Some(comer) = self.successions.comers.get(key) else { continue };
            let (place, changes, is_packed) = (comer.place.clone(), comer.changes, comer.is_packed);
            let opened = place.as_ref().and_then(|place| self.path_of(place)).map(|path| self.open(&path));
            directories.extend(place.map(|(directory, _)| directory));
            let Some(comer) = self.successions.comers.get_mut(key) else { continue };
            let before = match opened {
                Some(Ok((file, metadata))) => {
                    comer.opened.replace(Opened { file, metadata, is_packed, changes })
                }
                Some(Err(NotFollowable::Missing(_))) => {
                    comer.missing = Some(changes);
                    comer.opened.take()
                }
                Some(Err(NotFollowable::Descriptors { .. })) | None => comer.opened.take(),
                Some(Err(error)) => {
                    self.refuse_comer(ComerId(key), &error);
                    continue;
                }
            };
            let stray = Stray::of(before, &comer.names);
            self.successions.strays.extend(stray);
        }
        directories
    }

    /// Takes all hints there are, those of changes that are being made included.
    pub(super) fn catch_up(&mut self, directories: &FxHashSet<DirectoryId>) {
        let mut certain = true;
        for id in directories {
            let Some(directory) = self.directories.get(*id) else { continue };
            // What it gives does not matter: the kernel lists a directory under its lock.
            let listed = fs::read_dir(&directory.path).map(|mut entries| entries.next().is_some());
            if listed.is_err_and(|error| is_spent(&error)) {
                certain = false;
                self.descriptors.make_room();
            }
        }
        if self.take_told() && certain {
            return;
        }
        // There may be more to come: nothing is certain.
        for (_, comer) in &mut self.successions.comers {
            comer.changes += 1;
        }
    }

    /// Notes all hints there are. `false` where there may be more.
    pub(super) fn take_told(&mut self) -> bool {
        let mut hints = Vec::new();
        for _ in 0..DRAINS {
            let Some(observer) = self.observer.as_mut() else { return true };
            // The event loop meets an error too, and says so.
            let Ok(more) = observer.drain(&mut hints) else { return false };
            let is_all = !more && !observer.is_telling();
            if !hints.is_empty() {
                self.apply(&mut hints);
                // Whoever asked may not be about to settle it.
                self.successions.again_at.get_or_insert_with(Instant::now);
            }
            if is_all {
                return true;
            }
            if !more {
                // Whoever tells may wait for this processor.
                thread::yield_now();
            }
        }
        false
    }

    /// It cannot be followed as it is, and will be looked at when it changes.
    fn refuse_comer(&mut self, comer: ComerId, error: &NotFollowable) {
        let names = self.successions.comers.get(comer.0).map(|comer| comer.names.clone()).unwrap_or_default();
        self.drop_comer(comer);
        for id in names {
            if !self.advance(id) {
                continue;
            }
            // To look at it at once would be to expect the same again.
            self.doubtful.remove(&id);
            if self.names.get(id.0).is_some_and(|name| name.bears.is_some()) {
                self.rotated(Rotation::Replace);
                self.bear(id, None);
            }
            self.say_of(id, error);
        }
    }

    /// Follows what was opened for certain, and what can be nothing else. Returns how many that were.
    fn take_in(&mut self) -> usize {
        let mut followed = 0;
        let keys = self.successions.in_order();
        let moving: FxHashSet<ComerId> = self
            .successions
            .moving
            .values()
            .filter_map(|(bearer, _)| if let Bearer::Comer(comer) = bearer { Some(*comer) } else { None })
            .collect();
        let mut gone = Vec::new();
        for key in keys {
            let Some(comer) = self.successions.comers.get_mut(key) else { continue };
            let certain = comer.opened.as_ref().is_some_and(|opened| opened.changes == comer.changes);
            if certain && let Some(opened) = comer.opened.take() {
                self.become_file(ComerId(key), opened);
                followed += 1;
            } else if (comer.place.is_none() && !moving.contains(&ComerId(key)))
                || comer.missing == Some(comer.changes)
            {
                let stray = Stray::of(comer.opened.take(), &comer.names);
                self.successions.strays.extend(stray);
                gone.push(ComerId(key));
            }
        }
        // What bore a name when it was opened, and belongs to nobody whose name is known, belongs to one
        // of those that came to the same name and have none any more; both are in their order.
        let strays = std::mem::take(&mut self.successions.strays);
        let pending = self.names_of_others(&gone);
        let is_pending = |names: &[NameId]| names.iter().any(|name| pending.contains(name));
        for stray in strays {
            if self.by_identity.contains_key(&Identity::of(&stray.opened.metadata)) {
                continue;
            }
            if is_pending(&stray.names) {
                // It may still turn out to be one of those.
                if self.successions.strays.len() < OPEN_AT_ONCE {
                    self.successions.strays.push(stray);
                }
                continue;
            }
            let comers = &self.successions.comers;
            let names_of = |key: &ComerId| comers.get(key.0).map_or(&[][..], |comer| &comer.names);
            let is_its = |key: &ComerId| names_of(key).iter().any(|name| stray.names.contains(name));
            if let Some(at) = gone.iter().position(is_its) {
                self.become_file(gone.remove(at), stray.opened);
                followed += 1;
            }
        }
        let mut missed = Missed::default();
        for ComerId(key) in gone {
            let Some(comer) = self.successions.comers.get(key) else { continue };
            if !is_pending(&comer.names) {
                let was_there = match comer.known_by {
                    KnownBy::Nothing => false,
                    // A hint that was on its way told of it a second time.
                    KnownBy::Sight(identity) => {
                        !self.by_identity.contains_key(&identity) && !self.retired.contains(&identity)
                    }
                    KnownBy::Hint => true,
                };
                if was_there {
                    self.miss_comer(key, &mut missed);
                }
                self.drop_comer(ComerId(key));
            }
        }
        self.say_missed(missed);
        followed
    }

    /// The names to which others than these came, which may still be found.
    fn names_of_others(&self, gone: &[ComerId]) -> FxHashSet<NameId> {
        let gone: FxHashSet<ComerId> = gone.iter().copied().collect();
        let others = self.successions.comers.iter().filter(|(key, _)| !gone.contains(&ComerId(*key)));
        others.flat_map(|(_, comer)| comer.names.iter().copied()).collect()
    }

    /// A comer turns out to be this file.
    fn become_file(&mut self, ComerId(key): ComerId, opened: Opened) {
        let comer = ComerId(key);
        let Opened { file, metadata, is_packed, .. } = opened;
        let Some(found) = self.successions.comers.get(key) else { return };
        let (mut place, mut names, number) = (found.place.clone(), found.names.clone(), found.number);
        let (copies, was_told) = (found.copies, found.known_by == KnownBy::Hint);
        names.retain(|id| self.names.get(id.0).is_some_and(|name| name.line.contains(&Bearer::Comer(comer))));
        let Some(name) = names.first().and_then(|id| self.names.get(id.0)) else {
            self.drop_comer(comer);
            return;
        };
        let (path, linked) = (name.path.clone(), name.linked);
        let mut is_new = !self.by_identity.contains_key(&Identity::of(&metadata));
        let taken = if is_packed {
            let at = place.as_ref().and_then(|place| self.path_of(place));
            let at = at.unwrap_or_else(|| path.to_path_buf());
            self.unpack(&path, file, &at, &metadata, number, was_told).map(|(id, is_it)| {
                if !is_it {
                    // The file itself is followed, wherever it is.
                    is_new = false;
                    if let Some((directory, entry)) = place.take() {
                        self.is_old_copy(directory, &entry);
                    }
                }
                id
            })
        } else {
            self.take_up(&path, file, &metadata, Start::FromByte(1), linked, Some(number))
        };
        match taken {
            Ok(id) => {
                let is_known = !is_new && !self.told_of_as(id, number, &names);
                if let Some(file) = self.file_mut(id) {
                    // Until it is known after which file it is read.
                    file.in_line |= is_new;
                    if file.copies.is_none() && file.stream.is_none() {
                        file.copies = copies;
                    }
                    if is_new && was_told && file.identity.born_ns != 0 {
                        // Its copies are those that were made since it was.
                        file.looked_ns = file.looked_ns.min(file.identity.born_ns);
                    }
                }
                let followed_as = self.file(id).map(|file| file.source.path.clone());
                for id_of_name in names {
                    if let Some(name) = self.names.get_mut(id_of_name.0) {
                        let bears_it = place.as_ref().is_some_and(|place| name.places.contains(place));
                        if is_known && !bears_it && followed_as.as_ref() == Some(&name.path) {
                            // It had its turn when it was found there, before it was told of.
                            name.line.retain(|bearer| *bearer != Bearer::Comer(comer));
                        }
                        for bearer in &mut name.line {
                            if *bearer == Bearer::Comer(comer) {
                                *bearer = Bearer::File(id);
                            }
                        }
                    }
                    self.doubtful.insert(id_of_name);
                }
                self.successions.comers.try_remove(key);
                if let Some((directory, entry)) = &place
                    && let Some(entry) = self
                        .directories
                        .get_mut(*directory)
                        .and_then(|directory| directory.entries.get_mut(entry))
                {
                    entry.bearer = Some(Bearer::File(id));
                }
                if place.is_some() {
                    self.set_place(Bearer::File(id), place);
                }
            }
            Err(error) => {
                self.notice(error);
                self.drop_comer(comer);
            }
        }
    }

    fn drop_comer(&mut self, comer: ComerId) {
        let Some(gone) = self.successions.comers.try_remove(comer.0) else { return };
        if let Some((directory, entry)) = gone.place
            && let Some(directory) = self.directories.get_mut(directory)
            && let Some(found) = directory.entries.get_mut(&entry)
            && found.bearer == Some(Bearer::Comer(comer))
        {
            found.bearer = None;
            directory.forget_idle(&entry);
        }
        for id in gone.names {
            if let Some(name) = self.names.get_mut(id.0) {
                name.line.retain(|bearer| *bearer != Bearer::Comer(comer));
                self.doubtful.insert(id);
            }
        }
    }
}
