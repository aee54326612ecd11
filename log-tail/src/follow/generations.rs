//! Earlier generations of a name: files that are read before the one that bears it now, because they hold
//! what was not read when it was rotated away, copied or compressed.

use std::{io::ErrorKind, path::Path};

use super::{
    Follower, Identity, NameId,
    copies::Copies,
    files::FollowedFile,
    reader::Position,
    siblings::{self, Content, Found, Sibling},
    stream::Stream,
    succession::Bearer,
};
use crate::{observe::FileId, record::Source};

impl Follower {
    /// Hints were lost, and a name bears another file: those that bore it in between are among its siblings.
    pub(super) fn make_up_for_lost_hints(&mut self, id: NameId) {
        let Some(last) = self.last_bearer(id) else { return };
        let Some(path) = self.names.get(id.0).map(|name| name.path.clone()) else { return };
        let siblings = match siblings::rotated(&path) {
            Ok(siblings) => siblings,
            Err(error) => return self.notice(error),
        };
        let mut line = Vec::new();
        for sibling in self.newer_than(last, &siblings) {
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

    /// Those that bore the name after this file did. It need not be among them: it may be compressed, or gone.
    fn newer_than<'a>(&mut self, last: FileId, siblings: &'a [Sibling]) -> Vec<&'a Sibling> {
        let Some(file) = self.files.get_mut(last.0 as usize) else { return Vec::new() };
        let (identity, position) = (file.identity, &file.position);
        let is_it = |sibling: &Sibling| sibling.identity == identity;
        let is_its = |sibling: &Sibling| {
            siblings::is_of(sibling, &position.print, position.handed_on()).unwrap_or(false)
        };
        if let Some(at) = siblings.iter().position(is_it).or_else(|| siblings.iter().rposition(is_its)) {
            return siblings[at + 1..].iter().collect();
        }
        let descriptor = self.descriptors.get(last, &mut file.path, identity);
        let modified =
            descriptor.ok().and_then(|file| file.metadata().ok()).map(|it| siblings::modified_ns(&it));
        let came_after = |sibling: &&Sibling| match (sibling.identity.born_ns, identity.born_ns) {
            (born, before) if born > 0 && before > 0 && sibling.compressed.is_none() => born > before,
            _ => modified.is_some_and(|modified| sibling.modified_ns > modified),
        };
        siblings.iter().filter(came_after).collect()
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
