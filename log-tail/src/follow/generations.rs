//! Earlier generations of a name: files that are read before the one that bears it now, because they hold
//! what was not read when it was rotated away, copied or compressed.

use std::{io::ErrorKind, path::Path};

use super::{
    Follower, Identity, NameId, Rotation,
    copies::Copies,
    files::FollowedFile,
    print::Print,
    reader::Position,
    siblings::{self, Content, Found, Sibling},
    stream::Stream,
    succession::Earlier,
};
use crate::{observe::FileId, record::Source};

/// A file that bore a name, and how far it was read.
struct LastRead {
    identity: Identity,
    print: Print,
    read_to: u64,
    modified_ns: Option<i128>,
}

impl LastRead {
    /// Those that bore the name after this file did. It need not be among them: it may be compressed, or gone.
    fn newer<'a>(&self, siblings: &'a [Sibling]) -> Vec<&'a Sibling> {
        let is_it = |sibling: &Sibling| sibling.identity == self.identity;
        let is_its = |sibling: &Sibling| siblings::is_of(sibling, &self.print, self.read_to).unwrap_or(false);
        if let Some(at) = siblings.iter().position(is_it).or_else(|| siblings.iter().rposition(is_its)) {
            return siblings[at + 1..].iter().collect();
        }
        let came_after = |sibling: &&Sibling| match (sibling.identity.born_ns, self.identity.born_ns) {
            (born, before) if born > 0 && before > 0 && sibling.compressed.is_none() => born > before,
            _ => self.modified_ns.is_some_and(|modified| sibling.modified_ns > modified),
        };
        siblings.iter().filter(came_after).collect()
    }
}

impl Follower {
    /// Hints were lost: files that bore the name and were not told of are among its siblings.
    pub(super) fn make_up_for_lost_hints(&mut self, id: NameId) {
        let Some(name) = self.names.get(id.0) else { return };
        let bears = name.bears.and_then(|file| self.file(file)).map(|file| (file.id, file.source.number));
        let Some(last) = bears.or(name.last_bore) else { return };
        let earlier = self.came_after(id, last);
        self.bore_earlier(id, earlier);
    }

    /// Hints were lost, and the name bears the file that it bore: if that one came lately, others may have come before
    /// it, and after the one that was known then.
    pub(super) fn make_up_before(&mut self, id: NameId, bears: FileId) {
        let Some(file) = self.file(bears).filter(|file| file.source.number >= self.skips.unsure_from) else {
            return;
        };
        let identity = file.identity;
        let Some(last) = self.names.get(id.0).and_then(|name| name.last_bore) else { return };
        let followed = self.files.len();
        let found = self.came_after(id, last);
        if self.files.len() == followed {
            return;
        }
        let is_before =
            |earlier: &Earlier| self.file(earlier.file).is_some_and(|file| file.identity != identity);
        let found: Vec<_> = found.into_iter().take_while(is_before).map(|earlier| earlier.file).collect();
        let mut before = Some(last.0).filter(|_| self.is_followed(last));
        for file in found.into_iter().chain([bears]) {
            if let Some(before) = before.replace(file) {
                self.read_before(before, file);
            }
            self.bear(id, Some(file));
            self.rotated(Rotation::Replace);
        }
    }

    /// The files that bore the name after this one did and are not read yet, as a listing has them: oldest first.
    fn came_after(&mut self, id: NameId, last: (FileId, u64)) -> Vec<Earlier> {
        let Some(path) = self.names.get(id.0).map(|name| name.path.clone()) else { return Vec::new() };
        let Some(last) = self.last_read(last) else { return Vec::new() };
        let siblings = match siblings::rotated(&path) {
            Ok(siblings) => siblings,
            Err(error) => {
                self.notice(error);
                return Vec::new();
            }
        };
        let mut files = Vec::new();
        for sibling in last.newer(&siblings) {
            if let Some(file) = self.by_identity.get(&sibling.identity).copied() {
                files.push(Earlier { file, is_new: false });
                continue;
            }
            let Some(found) = self.opened_from_start(std::slice::from_ref(sibling)).0.pop() else { continue };
            let known = self.known_in_this_run(&found);
            if known.as_ref().is_some_and(|(position, _)| found.content.ends_at(position.read_to())) {
                continue;
            }
            let is_new = known.is_none();
            let (position, number) =
                known.map_or((Position::at(0), None), |(position, number)| (position, Some(number)));
            let file = self.add_generation(&path, found, position, number);
            files.extend(file.map(|file| Earlier { file, is_new }));
        }
        files
    }

    /// How far this file was read, whether it is followed still or was let go.
    fn last_read(&mut self, (last, number): (FileId, u64)) -> Option<LastRead> {
        if self.is_followed((last, number)) {
            let file = self.files.get_mut(last.0 as usize)?;
            let descriptor = self.descriptors.get(last, &mut file.path, file.identity);
            let modified_ns =
                descriptor.ok().and_then(|file| file.metadata().ok()).map(|it| siblings::modified_ns(&it));
            let (print, read_to) = (file.position.print.clone(), file.position.handed_on());
            return Some(LastRead { identity: file.identity, print, read_to, modified_ns });
        }
        let (identity, (read_to, print, _)) = self.retired.iter().find(|(_, (.., it))| *it == number)?;
        Some(LastRead { identity: *identity, print: print.clone(), read_to: *read_to, modified_ns: None })
    }

    /// Where to read on in a file that was let go in this run, and its number.
    fn known_in_this_run(&self, found: &Found) -> Option<(Position, u64)> {
        let (read_to, print, number) = self.retired.peek(&found.sibling.identity)?;
        self.was_let_go(found).then(|| (Position::known(*read_to, print.clone()), *number))
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
                let file = self.file_mut(id)?;
                file.path = sibling.path.into();
                file.copies = Copies::NONE;
                Some(id)
            }
            Content::Compressed(packed) => {
                let Identity { device, inode, .. } = sibling.identity;
                let source = Source { path: self.shared_path(path), dev: device, inode, number };
                let id = self.next_file();
                let mut file = FollowedFile::new(id, source, sibling.identity, position);
                file.path = sibling.path.into();
                file.finish = true;
                file.stream = Some(Stream::new(packed.kind));
                self.insert(file);
                self.descriptors.keep(id, packed.file);
                Some(id)
            }
        }
    }
}

#[cfg(test)]
mod tests;
