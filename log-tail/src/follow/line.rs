//! Lines: the inodes that came to a name after the one that bears it, in their order, and how each takes its turn.

use std::sync::Arc;

use super::{
    Follower, Identity, NameId, Rotation,
    directories::Directory,
    succession::{Bearer, ComerId, Earlier, KnownBy},
};
use crate::{observe::FileId, record::Source};

impl Follower {
    /// Whether a file stands in a name's line behind an inode that is still to be opened.
    pub(super) fn is_in_line(&self, id: FileId) -> bool {
        !self.successions.comers.is_empty()
            && self.names.iter().any(|(_, name)| name.line.contains(&Bearer::File(id)))
    }

    /// The name bears this inode after those that it bore before.
    pub(super) fn line_up(&mut self, id: NameId, bearer: Bearer) {
        self.copied_again(id, bearer);
        let Some(name) = self.names.get_mut(id.0) else { return };
        name.line.push(bearer);
        self.doubtful.insert(id);
        if let Bearer::Comer(ComerId(comer)) = bearer
            && let Some(comer) = self.successions.comers.get_mut(comer)
        {
            comer.names.push(id);
        }
    }

    /// Has the name taken up again what it bears at its place now, if anything: the hints did not tell.
    pub(super) fn expect_comer(&mut self, id: NameId) -> bool {
        let Some(name) = self.names.get(id.0) else { return false };
        if self.has_comers(id) {
            return true;
        }
        let Some((directory, entry)) = name.places.last().cloned() else { return false };
        if self.directories.get(directory).is_none_or(Directory::is_looked_at) {
            return false;
        }
        let bearer = self.directories.get(directory).and_then(|found| found.entries.get(&entry)?.bearer);
        if let Some(comer @ Bearer::Comer(_)) = bearer {
            // By another name for the same entry.
            self.line_up(id, comer);
            return true;
        }
        let comer = self.new_comer(KnownBy::Nothing);
        self.line_up(id, comer);
        if let Some(directory) = self.directories.get_mut(directory) {
            let before = directory.entries.entry(entry.clone()).or_default().bearer.replace(comer);
            if let Some(before) = before {
                self.set_place(before, None);
            }
        }
        self.set_place(comer, Some((directory, entry)));
        true
    }

    /// Whether another name's line holds what bears this name's entry, still to be opened.
    pub(super) fn is_expected_elsewhere(&self, id: NameId) -> bool {
        let place = self.names.get(id.0).and_then(|name| name.places.last());
        let bearer =
            place.and_then(|(directory, entry)| self.directories.get(*directory)?.entries.get(entry)?.bearer);
        matches!(bearer, Some(Bearer::Comer(_)))
    }

    /// It was looked whether what is expected at the name is there, and this is.
    pub(super) fn seen_at(&mut self, id: NameId, identity: Identity) {
        for ComerId(comer) in self.comers_of(id).collect::<Vec<_>>() {
            if let Some(comer) = self.successions.comers.get_mut(comer)
                && comer.known_by == KnownBy::Nothing
            {
                comer.known_by = KnownBy::Sight(identity);
            }
        }
    }

    /// Those in the name's line that are still to be opened.
    pub(super) fn comers_of(&self, id: NameId) -> impl Iterator<Item = ComerId> {
        let line = self.names.get(id.0).map(|name| name.line.as_slice()).unwrap_or_default();
        line.iter().filter_map(|bearer| if let Bearer::Comer(comer) = bearer { Some(*comer) } else { None })
    }

    /// Whether some in the name's line are still to be opened.
    pub(super) fn has_comers(&self, id: NameId) -> bool {
        self.comers_of(id).next().is_some()
    }

    /// Has the name's files follow each other as far as they are known. `false` where some are not yet.
    pub(super) fn advance(&mut self, id: NameId) -> bool {
        if !self.successions.earlier.is_empty() && self.successions.earlier.contains_key(&id) {
            if self.has_comers(id) {
                return false;
            }
            self.line_up_earlier(id);
        }
        let Some(name) = self.names.get_mut(id.0) else { return true };
        let known = name.line.iter().take_while(|bearer| matches!(bearer, Bearer::File(_))).count();
        let files: Vec<FileId> = name
            .line
            .drain(..known)
            .filter_map(|bearer| if let Bearer::File(file) = bearer { Some(file) } else { None })
            .filter(|file| self.files.contains(file.0 as usize))
            .collect();
        let settled = name.line.is_empty();
        let path = name.path.display().to_string();
        let mut replaced = 0;
        for file in files {
            if self.file_mut(file).is_some_and(|file| std::mem::replace(&mut file.in_line, false)) {
                self.queue(file);
            }
            let Some(name) = self.names.get(id.0) else { break };
            let (old, said) = (name.bears, name.said.is_some());
            if old == Some(file) {
                continue;
            }
            let before = self.last_bearer(id);
            if let Some(before) = before.filter(|before| *before != file) {
                self.read_before(before, file);
            }
            if old.is_some() {
                self.rotated(Rotation::Replace);
                replaced += 1;
            } else if said {
                self.notice(format_args!("'{path}' has appeared; following it"));
            }
            self.bear(id, Some(file));
        }
        match replaced {
            0 => {}
            1 => self.notice(format_args!("'{path}' has been replaced; following the new file")),
            n => {
                self.notice(format_args!(
                    "'{path}' has been replaced {n} times; following each file in turn"
                ));
            }
        }
        settled
    }

    /// A listing says that the name bore these files, oldest first, before those in its line.
    ///
    /// What is read from a directory while its names change may lack some of them, and hold some of which hints are
    /// on their way. Those are taken first, and what they tell of is where they say.
    pub(super) fn bore_earlier(&mut self, id: NameId, files: Vec<Earlier>) {
        for earlier in files.iter().filter(|earlier| earlier.is_new) {
            if let Some(file) = self.file_mut(earlier.file) {
                file.in_line = true;
            }
        }
        if !files.is_empty() {
            self.successions.earlier.entry(id).or_default().extend(files);
            self.doubtful.insert(id);
        }
    }

    /// What came to these names, told of with this number, is this file. Whether a listing of theirs has it, too.
    pub(super) fn told_of_as(&mut self, id: FileId, number: u64, names: &[NameId]) -> bool {
        let (mut is_listed, mut is_new) = (false, false);
        for name in names {
            let Some(files) = self.successions.earlier.get_mut(name) else { continue };
            files.retain(|earlier| {
                let is_it = earlier.file == id;
                is_listed |= is_it;
                is_new |= is_it && earlier.is_new;
                !is_it
            });
        }
        if is_new {
            self.renumber(id, number);
        }
        is_listed
    }

    /// It did not come when its number says. One of which something has been read is known by its number.
    fn renumber(&mut self, id: FileId, number: u64) {
        let Some(file) = self.file_mut(id).filter(|file| file.position.handed_on() == 0) else { return };
        let before = file.source.number;
        file.source = Arc::new(Source { number, ..Source::clone(&file.source) });
        if self.memory.is_kept {
            self.by_number.remove(&before);
            self.by_number.insert(number, id);
            for (touched, _) in self.memory.touched.iter_mut().filter(|(touched, _)| *touched == before) {
                *touched = number;
            }
        }
    }

    /// Puts what bore the name earlier in front of those in its line.
    pub(super) fn line_up_earlier(&mut self, id: NameId) {
        let Some(files) = self.successions.earlier.remove(&id) else { return };
        let Some(name) = self.names.get_mut(id.0) else { return };
        let mut line: Vec<_> = files.iter().map(|earlier| Bearer::File(earlier.file)).collect();
        // What was known to stand in line already, in its place.
        name.line.retain(|bearer| !line.contains(bearer));
        line.append(&mut name.line);
        name.line = line;
    }
}
