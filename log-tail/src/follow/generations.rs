//! Earlier generations of a name: files that are read before the one that bears it now, because they hold
//! what was not read when it was rotated away, copied or compressed.

use std::{io::ErrorKind, path::Path};

use super::{
    Follower, Identity, NameId, Retired, Rotation,
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
    /// Hints were lost: files that bore the name and were not told of are among its siblings. `seen`: what was seen
    /// to bear it just now.
    pub(super) fn make_up_for_lost_hints(&mut self, id: NameId, seen: Option<Identity>) {
        let Some(name) = self.names.get(id.0) else { return };
        let path = name.path.clone();
        let last = name.bears.or_else(|| self.last_bearer(id)).and_then(|file| self.file(file));
        let known = last.map(|file| (file.id, file.identity, file.source.number));
        let bears_it = name.bears.is_some() && known.is_some_and(|(_, identity, _)| Some(identity) == seen);
        if bears_it && known.is_some_and(|(.., number)| number < self.skips.unsure.number) {
            // It came when all was told, and is there still.
            return;
        }
        let (mut files, is_all) = self.untold(&path, seen.filter(|_| bears_it));
        if let Some(name) = self.names.get_mut(id.0) {
            name.unsure |= !is_all;
        }
        let Some((last, ..)) = known else { return self.bore_earlier(id, files) };
        let before = files.iter().position(|listed| listed.file == last);
        let later = files.split_off(before.unwrap_or(if bears_it { files.len() } else { 0 }));
        self.bore_before(id, last, &files);
        self.bore_earlier(id, later.into_iter().filter(|listed| listed.file != last).collect());
    }

    /// Some of these are found only now, and bore the name before this file did.
    fn bore_before(&mut self, id: NameId, last: FileId, files: &[Earlier]) {
        let Some(name) = self.names.get(id.0) else { return };
        let (bears, last_bore) = (name.bears, name.last_bore);
        let mut before: Option<Earlier> = None;
        for listed in files.iter().copied().chain([Earlier { file: last, is_new: false }]) {
            if let Some(before) = before.replace(listed)
                && (before.is_new || listed.is_new)
            {
                self.read_before(before.file, listed.file);
            }
            if listed.is_new {
                self.rotated(Rotation::Replace);
                // It lost the name as soon as it had it.
                self.bear(id, Some(listed.file));
            }
        }
        if files.iter().any(|listed| listed.is_new) {
            self.bear(id, bears);
            if let Some(name) = self.names.get_mut(id.0) {
                name.last_bore = last_bore;
            }
        }
    }

    /// The files that bore the name after all that were told of for certain, and are not read yet, as a listing has
    /// them: oldest first; and whether that is all. `bears`: none that came after this one.
    fn untold(&mut self, path: &Path, bears: Option<Identity>) -> (Vec<Earlier>, bool) {
        let last = self.last_sure(path);
        let mut found_now = Vec::new();
        let mut is_all = false;
        let mut files = Vec::new();
        for _ in 0..siblings::TRIES {
            let siblings = match siblings::rotated(path) {
                Ok(siblings) => siblings,
                Err(error) => {
                    self.notice(error);
                    return (Vec::new(), false);
                }
            };
            let since = self.skips.unsure.born_ns;
            let newer = last.as_ref().map_or_else(
                || {
                    siblings
                        .iter()
                        .filter(|sibling| sibling.born_ns.is_some_and(|born| born >= since))
                        .collect()
                },
                |last| last.newer(&siblings),
            );
            // What was born after it is its copy, or came after it: of that the hints tell.
            let is_later = |sibling: &Sibling| {
                sibling.compressed.is_none()
                    && bears
                        .is_some_and(|bears| bears.born_ns > 0 && sibling.identity.born_ns > bears.born_ns)
            };
            files.clear();
            is_all = true;
            for sibling in newer.into_iter().filter(|sibling| !is_later(sibling)) {
                if let Some(file) = self.by_identity.get(&sibling.identity).copied() {
                    files.push(Earlier { file, is_new: found_now.contains(&file) });
                    continue;
                }
                let (mut found, moved) = self.opened_from_start(std::slice::from_ref(sibling));
                let Some(found) = found.pop() else {
                    is_all &= !moved;
                    continue;
                };
                let known = self.let_go_before(&found);
                if known.is_some_and(|it| found.content.ends_at(it.read_to)) {
                    continue;
                }
                let position = |it: &Retired| Position::known(it.read_to, it.print.clone());
                let (position, number) = (known.map_or(Position::at(0), position), known.map(|it| it.number));
                if let Some(file) = self.add_generation(path, found, position, number) {
                    files.push(Earlier { file, is_new: true });
                    found_now.push(file);
                }
            }
            if is_all {
                break;
            }
        }
        (files, is_all)
    }

    /// The last file that bore the name while all was told, whether it is followed still or was let go.
    fn last_sure(&mut self, path: &Path) -> Option<LastRead> {
        let is_sure = |number: u64| number < self.skips.unsure.number;
        let followed = self.files.iter().map(|(_, file)| file);
        let followed = followed.filter(|file| *file.source.path == *path && is_sure(file.source.number));
        let followed =
            followed.max_by_key(|file| file.source.number).map(|file| (file.source.number, file.id));
        let retired = self.retired.iter().filter(|(_, it)| *it.path == *path && is_sure(it.number));
        let retired = retired.max_by_key(|(_, it)| it.number);
        if let Some((identity, it)) =
            retired.filter(|(_, it)| followed.is_none_or(|(number, _)| number < it.number))
        {
            let (print, read_to) = (it.print.clone(), it.read_to);
            return Some(LastRead { identity: *identity, print, read_to, modified_ns: None });
        }
        let (_, id) = followed?;
        let file = self.files.get_mut(id.0 as usize)?;
        let descriptor = self.descriptors.get(id, &mut file.path, file.identity);
        let modified_ns =
            descriptor.ok().and_then(|file| file.metadata().ok()).map(|it| siblings::modified_ns(&it));
        let (print, read_to) = (file.position.print.clone(), file.position.handed_on());
        Some(LastRead { identity: file.identity, print, read_to, modified_ns })
    }

    /// What was known of it when it was let go in this run, if it holds that still.
    pub(super) fn let_go_before(&self, Found { sibling, content }: &Found) -> Option<&Retired> {
        self.retired.peek(&sibling.identity).filter(|it| content.is_of(&it.print, it.read_to))
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
