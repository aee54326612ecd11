//! Earlier generations of a name: files that are read before the one that bears it now, because they hold
//! what was not read when it was rotated away, copied or compressed.

use std::{
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    Follower, Identity, NameId,
    directories::Entry,
    files::FollowedFile,
    reader::Position,
    siblings::{self, Content, Found, Sibling},
    succession::{Bearer, Place},
};
use crate::{observe::FileId, record::Source};

impl Follower {
    /// Has what copies of a truncated file hold of its rest read before the file itself. Gives the position
    /// back where there is no copy.
    pub(super) fn read_copies(&mut self, id: FileId, before: Position) -> Option<Position> {
        let Some(name) = self.file(id).map(|file| file.source.path.clone()) else { return Some(before) };
        let mut found = self.copies_since(id);
        let was_read = |(_, copy): &(u64, Found)| copy.content.is_of(&before.print, before.read_to());
        let first = if before.read_to() == 0 { Some(0) } else { found.iter().position(was_read) };
        let mut copies = Vec::new();
        let mut position = Some(before);
        match first {
            Some(first) => {
                self.forget_copies(id, found.last().map_or(0, |(number, _)| *number));
                copies.extend(found.drain(first..).map(|(_, copy)| copy));
            }
            // It was made before its directory was listened to, or that is not listened to.
            None => copies.extend(
                position.as_ref().and_then(|before| self.older_copies(id, before)).into_iter().flatten(),
            ),
        }
        if copies.is_empty() {
            return position;
        }
        let mut last = None;
        for found in copies {
            let Some(position) = position.take().or_else(|| Some(Position::at(0))) else { break };
            let start = position.read_to();
            let found = match found.skipped_to(start) {
                Ok(found) => found,
                Err(error) => {
                    self.notice(error);
                    continue;
                }
            };
            let Some(copy) = self.add_generation(&name, found, position, None) else { continue };
            if let Some(file) = self.file_mut(copy) {
                file.copy_of = Some((id, start));
            }
            self.finish_at_end(copy);
            if let Some(last) = last {
                self.read_before(last, copy);
            }
            last = Some(copy);
        }
        if let Some(last) = last {
            self.read_before(last, id);
        }
        None
    }

    /// The files that may be copies of what was truncated, in the order in which they came. Not those that are
    /// followed, and not copies of what the file holds now.
    fn copies_since(&mut self, id: FileId) -> Vec<(u64, Found)> {
        let mut copies: Vec<(u64, Sibling)> = Vec::new();
        for (number, path) in self.copy_places(id) {
            match Sibling::at(&path) {
                Ok(Some(sibling)) => match copies.last_mut().filter(|(last, _)| *last == number) {
                    // Both there: the compressor has not finished.
                    Some((_, other)) if other.compressed.is_some() => *other = sibling,
                    Some(_) => {}
                    None => copies.push((number, sibling)),
                },
                Ok(None) => {}
                Err(error) => self.notice(error),
            }
        }
        let mut found = Vec::new();
        for (number, sibling) in copies {
            if let Some(copy) = self.opened_from_start(&[sibling]).0.pop()
                && !self.is_of_present(id, &copy.content)
            {
                found.push((number, copy));
            }
        }
        found
    }

    /// The entry beside which copies of a file are made: that of the followed name which it bears or bore. It may
    /// have been renamed or removed since the copy was made.
    fn beside(&self, id: FileId) -> Option<Place> {
        let file = self.file(id)?;
        let name = self.by_path.get(&file.source.path).and_then(|name| self.names.get(name.0));
        let place = name.and_then(|name| name.places.last().cloned());
        place.or_else(|| Some((file.place.as_ref()?.0, file.source.path.file_name()?.to_owned())))
    }

    /// Where files are that came beside a followed one under the names of its generations.
    fn copy_places(&self, id: FileId) -> Vec<(u64, PathBuf)> {
        let Some((directory, original)) = self.beside(id) else { return Vec::new() };
        let Some(directory) = self.directories.get(directory) else { return Vec::new() };
        let mut copies: Vec<(u64, PathBuf)> = directory
            .entries
            .iter()
            .filter_map(|(name, entry)| match entry.bearer {
                Some(Bearer::Copy(number)) if siblings::is_generation(name, &original) => {
                    Some((number, directory.path.join(name)))
                }
                _ => None,
            })
            .collect();
        copies.sort_unstable();
        copies
    }

    /// What came up to this one belongs to contents that have been seen to.
    pub(super) fn forget_copies(&mut self, id: FileId, up_to: u64) {
        let Some((directory, original)) = self.beside(id) else { return };
        let Some(directory) = self.directories.get_mut(directory) else { return };
        let seen = |name: &OsString, entry: &Entry| {
            matches!(entry.bearer, Some(Bearer::Copy(number)) if number <= up_to)
                && siblings::is_generation(name, &original)
        };
        directory.entries.retain(|name, entry| {
            if seen(name, entry) {
                entry.bearer = None;
            }
            !entry.is_idle()
        });
    }

    /// A truncation took nothing that had not been read: the copies made before it are of no use.
    pub(super) fn pass_over_copies(&mut self, id: FileId) {
        if let Some((number, _)) = self.copies_since(id).last() {
            self.forget_copies(id, *number);
        }
    }

    /// Whether the content begins as the file does now: it is no copy of what was truncated.
    fn is_of_present(&mut self, id: FileId, content: &Content) -> bool {
        let Some(file) = self.files.get_mut(id.0 as usize) else { return false };
        let Ok(present) = self.descriptors.get(id, &mut file.path, file.identity) else { return false };
        content.begins(present).unwrap_or(false)
    }

    /// Copies that were there before their directory was listened to, by their times.
    fn older_copies(&mut self, id: FileId, before: &Position) -> Option<Vec<Found>> {
        let path = self.file(id)?.path.clone();
        let known = |identity: Identity| self.by_identity.contains_key(&identity);
        let found = match siblings::find(&path, &before.print, before.read_to(), &known) {
            Ok(found) => found?,
            Err(error) => {
                self.notice(error);
                return None;
            }
        };
        let siblings = siblings::rotated(&path).unwrap_or_default();
        let newer = siblings::newer_than(&siblings, &found.sibling);
        // Where the file itself was renamed since, those that came later are no copies of it.
        let itself = self.file(id)?.identity;
        let newer: Vec<Sibling> =
            newer.iter().take_while(|sibling| sibling.identity != itself).cloned().collect();
        let mut copies = vec![found];
        for copy in self.opened_from_start(&newer).0 {
            if !self.is_of_present(id, &copy.content) {
                copies.push(copy);
            }
        }
        Some(copies)
    }

    /// Hints were lost, and a name bears another file: those that bore it in between are among its siblings.
    pub(super) fn make_up_for_lost_hints(&mut self, id: NameId) {
        let Some(name) = self.names.get(id.0) else { return };
        let (path, last_bore) = (name.path.clone(), name.bears.or(name.last_bore.map(|(file, _)| file)));
        let Some(last) = last_bore.and_then(|id| self.file(id)).map(|file| file.identity) else { return };
        let siblings = match siblings::rotated(&path) {
            Ok(siblings) => siblings,
            Err(error) => return self.notice(error),
        };
        let Some(last) = siblings.iter().position(|sibling| sibling.identity == last) else { return };
        let mut line = Vec::new();
        for sibling in &siblings[last + 1..] {
            if let Some(known) = self.by_identity.get(&sibling.identity) {
                line.push(Bearer::File(*known));
            } else if let Some(found) = self.opened_from_start(std::slice::from_ref(sibling)).0.pop() {
                line.extend(self.add_generation(&path, found, Position::at(0), None).map(Bearer::File));
            }
        }
        if let Some(name) = self.names.get_mut(id.0) {
            // What was known to stand in line already, in its place.
            name.line.retain(|bearer| !line.contains(bearer));
            line.append(&mut name.line);
            name.line = line;
        }
    }

    /// Those of them that are not followed already, opened; and whether one was missed because its name had
    /// moved on since they were listed.
    pub(super) fn opened_from_start(&mut self, siblings: &[Sibling]) -> (Vec<Found>, bool) {
        let (mut generations, mut moved) = (Vec::new(), false);
        for sibling in siblings {
            if self.by_identity.contains_key(&sibling.identity) {
                continue;
            }
            match siblings::from_start(sibling) {
                Ok(Some(content)) => generations.push(Found { sibling: sibling.clone(), content }),
                Ok(None) => moved = true,
                Err(error) if error.kind() == ErrorKind::NotFound => moved = true,
                Err(error) => self.notice(error),
            }
        }
        (generations, moved)
    }

    /// Follows an earlier generation of a name. A plain one is followed like any file that lost its name;
    /// a compressed one until it has been read to its end.
    pub(super) fn add_generation(
        &mut self,
        path: &Path,
        found: Found,
        position: Position,
        number: Option<u64>,
    ) -> Option<FileId> {
        let Found { sibling, content } = found;
        let number = number.unwrap_or_else(|| self.next_number());
        match content {
            Content::Plain(file) => {
                let metadata = file.metadata().ok()?;
                let id = self.insert_file(path, file, &metadata, position, number);
                self.file_mut(id)?.path = sibling.path;
                Some(id)
            }
            Content::Compressed(decoder) => {
                let Identity { device, inode, .. } = sibling.identity;
                let source = Source { path: path.to_owned(), dev: device, inode, number };
                let id = self.next_file();
                let mut file = FollowedFile::new(id, source, sibling.identity, position);
                file.path = sibling.path;
                file.finish = true;
                file.stream = Some(Box::new(decoder));
                self.insert(file);
                Some(id)
            }
        }
    }
}
