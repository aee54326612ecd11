//! Earlier generations of a name: files that are read before the one that bears it now, because they hold
//! what was not read when it was rotated away, copied or compressed.

use std::{
    fs::{File, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Follower, Identity, NameId, NotFollowable, Retired, Rotation,
    compressed::{Kind, Packed},
    copies::Copies,
    files::FollowedFile,
    identity,
    print::Print,
    reader::Position,
    siblings::{self, Content, Found, Listed, Sibling},
    stream::Stream,
    succession::Earlier,
};
use crate::{observe::FileId, record::Source};

/// How soon to list a directory again in which files were being renamed all the while.
const LIST_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// But not before so many times the time has gone by that it took.
const LISTS_A_PART_OF: u32 = 10;

/// A file that bore a name, and how far it was read.
struct LastRead {
    number: u64,
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
        if let Some(at) = siblings.iter().position(is_it).or_else(|| siblings.iter().position(is_its)) {
            return siblings[at + 1..].iter().collect();
        }
        let came_after = |sibling: &&Sibling| match (sibling.identity.born_ns, self.identity.born_ns) {
            (born, before) if born > 0 && before > 0 && sibling.compressed.is_none() => born > before,
            _ => self.modified_ns.is_some_and(|modified| sibling.modified_ns > modified),
        };
        siblings.iter().filter(came_after).collect()
    }
}

/// What a compressed file was compressed from.
enum Origin {
    Followed(FileId),
    /// What was read of it, and its number.
    LetGo {
        position: Position,
        number: u64,
    },
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
        let began = Instant::now();
        let (mut files, is_all) = self.untold(&path, seen.filter(|_| bears_it));
        if !is_all && let Some(name) = self.names.get_mut(id.0) {
            name.unsure = true;
            self.successions.unsure.push(id);
            // Listing takes a small part of the time at most.
            let now = Instant::now();
            self.successions.unsure_until = Some(now + LIST_AGAIN_AFTER.max((now - began) * LISTS_A_PART_OF));
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
            let listed = match Listed::of(path) {
                Ok(listed) => listed,
                Err(error) => {
                    // Looked at again it would be the same, but for want of descriptors.
                    let is_spent = identity::is_spent(&error);
                    if is_spent {
                        self.descriptors.make_room();
                    } else {
                        self.notice(error);
                    }
                    is_all = !is_spent;
                    break;
                }
            };
            let (since, siblings) = (self.skips.unsure.born_ns, &listed.siblings);
            let newer = last.as_ref().map_or_else(
                || {
                    siblings
                        .iter()
                        .filter(|sibling| match sibling.compressed {
                            // Its birth is not its content's.
                            Some(_) => sibling.modified_ns >= since,
                            None => sibling.born_ns.is_some_and(|born| born >= since),
                        })
                        .collect()
                },
                |last| last.newer(siblings),
            );
            // What was born after it is its copy, or came after it: of that the hints tell.
            let is_later = |sibling: &Sibling| {
                sibling.compressed.is_none()
                    && bears
                        .is_some_and(|bears| bears.born_ns > 0 && sibling.identity.born_ns > bears.born_ns)
            };
            files.clear();
            // Of one file there is one that it was compressed to.
            let mut origins: Vec<u64> = last.iter().map(|last| last.number).collect();
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
                let known = self.let_go_before(&found).map(|it| (it.read_to, it.print.clone(), it.number));
                let is_read = known.as_ref().is_some_and(|(read_to, ..)| found.content.ends_at(*read_to));
                let origin = match &found.content {
                    Content::Compressed(packed) if known.is_none() => {
                        self.compressed_from(path, packed, &|number| !origins.contains(&number))
                    }
                    _ => None,
                };
                match origin {
                    Some(Origin::Followed(file)) => {
                        files.push(Earlier { file, is_new: found_now.contains(&file) });
                        origins.extend(self.file(file).map(|file| file.source.number));
                        continue;
                    }
                    Some(Origin::LetGo { number, .. }) => {
                        origins.push(number);
                        continue;
                    }
                    None if is_read => continue,
                    None => {}
                }
                let (position, number) = known.map_or((Position::at(0), None), |(read_to, print, number)| {
                    (Position::known(read_to, print), Some(number))
                });
                if let Some(file) = self.add_generation(path, found, position, number) {
                    files.push(Earlier { file, is_new: true });
                    found_now.push(file);
                }
            }
            // Where names moved on, one may have been passed by, or taken for another.
            is_all &= listed.stands();
            if is_all {
                break;
            }
        }
        // Those that the last listing has no more came before the others.
        let is_listed = |file: &FileId| files.iter().any(|listed| listed.file == *file);
        let gone = found_now.into_iter().filter(|file| !is_listed(file));
        let mut all: Vec<Earlier> = gone.map(|file| Earlier { file, is_new: true }).collect();
        all.append(&mut files);
        (all, is_all)
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
            let (number, print, read_to) = (it.number, it.print.clone(), it.read_to);
            return Some(LastRead { number, identity: *identity, print, read_to, modified_ns: None });
        }
        let (_, id) = followed?;
        let file = self.files.get_mut(id.0 as usize)?;
        let descriptor = self.descriptors.get(id, &mut file.path, file.identity);
        let modified_ns =
            descriptor.ok().and_then(|file| file.metadata().ok()).map(|it| siblings::modified_ns(&it));
        let (print, read_to) = (file.position.print.clone(), file.position.handed_on());
        Some(LastRead { number: file.source.number, identity: file.identity, print, read_to, modified_ns })
    }

    /// What was known of it when it was let go in this run, if it holds that still.
    pub(super) fn let_go_before(&self, Found { sibling, content }: &Found) -> Option<&Retired> {
        self.retired.peek(&sibling.identity).filter(|it| content.is_of(&it.print, it.read_to))
    }

    /// Follows what a file that came to this name was compressed to, or goes on with that file itself; and whether it is
    /// the former. `was_told`: a hint told that it came.
    ///
    /// # Errors
    /// It cannot be read, or is not compressed.
    pub(super) fn unpack(
        &mut self,
        path: &Path,
        file: File,
        at: &Path,
        metadata: &Metadata,
        number: u64,
        was_told: bool,
    ) -> Result<(FileId, bool), NotFollowable> {
        let identity = Identity::of(metadata);
        if let Some(known) = self.by_identity.get(&identity) {
            return Ok((*known, true));
        }
        let error = |source| NotFollowable::System { path: at.to_owned(), source };
        let kind = Kind::of(&file).map_err(error)?;
        let kind = kind.ok_or_else(|| error(io::Error::other("it is not compressed, as its name says")))?;
        let packed = Packed { file, kind, path: at.to_owned() };
        // What was only expected at the name may be any that was found there. Where hints had been lost, it may have been
        // found before it was told of.
        let from = if was_told { self.skips.doubted_from(Instant::now()) } else { Some(0) };
        let origin = from.and_then(|from| self.compressed_from(path, &packed, &|it| it >= from));
        let position = match origin {
            Some(Origin::Followed(id)) => return Ok((id, false)),
            Some(Origin::LetGo { position, .. }) => position,
            None => Position::at(0),
        };
        Ok((self.add_packed(path, packed, identity, position, number), true))
    }

    /// The file from which this was compressed, if it is followed, or was in this run: of those whose numbers `may_be`.
    fn compressed_from(
        &mut self,
        path: &Path,
        packed: &Packed,
        may_be: &dyn Fn(u64) -> bool,
    ) -> Option<Origin> {
        // That of most others is another: one look rules them out.
        let head = packed.head().ok().filter(|head| !head.is_empty())?;
        // It may have been written to after it was compressed; and what is longer than all that was read is not all of it.
        let is_its = |print: &Print, read_to: u64, may_be_longer: bool| {
            let first = print.first().map(|first| first.end);
            let length =
                || packed.length_to(read_to).ok().filter(|length| may_be_longer || *length <= read_to);
            print.may_begin(&head)
                && length().is_some_and(|length| {
                    first.is_some_and(|first| first <= length) && packed.is_of(print, length.min(read_to))
                })
        };
        let followed = self.files.iter().map(|(_, file)| file).filter(|file| may_be(file.source.number));
        // Of those that were not read yet nothing is known but what they are.
        let followed = followed.filter(|file| file.position.handed_on() > 0 || *file.source.path == *path);
        let followed: Vec<FileId> = followed.map(|file| file.id).collect();
        let followed = followed.into_iter().find(|id| {
            let Some(position) = self.file(*id).map(|file| &file.position) else { return false };
            let read_to = position.handed_on();
            if read_to > 0 && !is_its(&position.print, read_to, true) {
                return false;
            }
            // A compressor removes it.
            self.present(*id).is_some_and(|file| {
                file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
                    && (read_to > 0 || siblings::begins(&head, file).unwrap_or(false))
            })
        });
        let let_go = || {
            let mut retired = self.retired.iter().map(|(_, it)| it).filter(|it| may_be(it.number));
            let it = retired.find(|it| is_its(&it.print, it.read_to, false))?;
            Some(Origin::LetGo { position: Position::known(it.read_to, it.print.clone()), number: it.number })
        };
        followed.map(Origin::Followed).or_else(let_go)
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
                Err(error) if identity::is_spent(&error) => {
                    self.descriptors.make_room();
                    moved = true;
                }
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
                Some(self.add_packed(path, packed, sibling.identity, position, number))
            }
        }
    }

    fn add_packed(
        &mut self,
        path: &Path,
        packed: Packed,
        identity: Identity,
        position: Position,
        number: u64,
    ) -> FileId {
        let Identity { device, inode, .. } = identity;
        let source = Source { path: self.shared_path(path), dev: device, inode, number };
        let id = self.next_file();
        let mut file = FollowedFile::new(id, source, identity, position);
        file.path = packed.path.into();
        file.finish = true;
        file.stream = Some(Stream::new(packed.kind));
        self.insert(file);
        self.descriptors.keep(id, packed.file);
        id
    }
}

#[cfg(test)]
mod tests;
