//! Earlier generations of a name: files that are read before the one that bears it now, because they hold
//! what was not read when it was rotated away, copied or compressed.

use std::{io::ErrorKind, path::Path};

use super::{
    Follower, Identity, NameId,
    copies::Copies,
    files::FollowedFile,
    reader::Position,
    siblings::{self, Content, Found, Sibling},
    succession::Bearer,
};
use crate::{observe::FileId, record::Source};

impl Follower {
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
                let file = self.file_mut(id)?;
                file.path = sibling.path;
                file.copies = Copies::NONE;
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
