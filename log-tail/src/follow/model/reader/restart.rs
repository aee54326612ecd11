//! From one run of the reader to the next: what is committed, what dies with it, and what the next one finds.

use super::{Run, Unacknowledged};
use crate::follow::{
    Known,
    model::file::{FileKey, Reach},
};

impl Run {
    pub(super) fn commit(&mut self, left: usize) {
        let Some(follower) = &mut self.follower else { return };
        for (number, start) in follower.take_touched() {
            if let Some(start) = start {
                self.acknowledged.insert(number, start);
            }
            self.changed.insert(number);
        }
        while self.unacknowledged.len() > left {
            let Some(Unacknowledged { reached, lines, epoch }) = self.unacknowledged.pop_front() else {
                break;
            };
            if reached.is_back {
                follower.back_acknowledged(reached.number);
            }
            self.acknowledged.insert(reached.number, reached.offset);
            self.changed.insert(reached.number);
            let of = self.lines_of.entry(reached.number).or_default();
            of.0 = epoch;
            of.1.extend(lines);
        }
        // The copies that are to be known together with the file that they are of.
        self.changed.extend(follower.take_touched().into_iter().map(|(number, _)| number));
        for number in std::mem::take(&mut self.changed) {
            let Some(offset) = self.acknowledged.get(&number).copied() else { continue };
            let Some(known) = follower.checkpoint(number, offset) else { continue };
            if known.finished {
                self.acknowledged.remove(&number);
            }
            let (epoch, lines) = self.lines_of.remove(&number).unwrap_or((u32::MAX, Vec::new()));
            for (key, epoch) in lines {
                let line = &mut self.world.ledger.lines[key];
                // What was acknowledged of a content that is no more does not count.
                line.committed |= self.world.files[line.file].epoch == epoch;
            }
            if let Some(file) = self.world.by_inode(known.identity.inode) {
                let file = &mut self.world.files[file];
                let epoch = if epoch == u32::MAX {
                    file.committed.map_or(file.epoch, |(epoch, _)| epoch)
                } else {
                    epoch
                };
                file.committed = Some((epoch, known.offset));
            }
            let seen_s = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
            self.store.insert(number, Known { seen_s, ..known });
        }
    }

    pub(super) fn crash(&mut self) {
        let Some(follower) = self.follower.take() else { return };
        self.missed_hints += follower.counts().missed_hints;
        drop(follower);
        let untaken: Vec<_> =
            self.unacknowledged.drain(..).flat_map(|unacknowledged| unacknowledged.lines).collect();
        self.acknowledged.clear();
        self.changed.clear();
        self.lines_of.clear();
        let world = &mut self.world;
        world.up = false;
        let lines = 0..world.ledger.lines.len();
        let uncommitted: Vec<_> = lines
            .filter(|key| !world.ledger.lines[*key].committed && world.ledger.lines[*key].came > 0)
            .collect();
        world.ledger.allow_again(uncommitted.into_iter());
        for file in &mut world.files {
            file.copied = false;
            file.ends.clear();
            let committed =
                file.committed.filter(|(epoch, _)| *epoch == file.epoch).map(|(_, offset)| offset);
            file.marks.retain(|mark| *mark <= committed.unwrap_or(0));
            if file.cut || committed.is_none() {
                // The next reader knows less of how far this is what was read.
                let mark = file.marks.last().copied().unwrap_or(0);
                let again = file.lines.iter().copied().filter(|line| world.ledger.lines[*line].end > mark);
                world.ledger.allow_again(again.collect::<Vec<_>>().into_iter());
            }
        }
        // Beside a file that nobody knows, a copy is just another file.
        let is_known = |file: FileKey| {
            let file = &world.files[file];
            !file.uncopied && self.store.values().any(|known| known.identity.inode == file.inode)
        };
        // What was committed is known by more than a copy that was made later holds.
        let cut =
            (0..world.ledger.lines.len()).filter(|key| world.files[world.ledger.lines[*key].file].uncopied);
        world.ledger.allow_again(cut.collect::<Vec<_>>().into_iter());
        // Nobody took them: as long as they lie somewhere, they must come again.
        for (key, epoch) in untaken {
            let line = &world.ledger.lines[key];
            let file = &world.files[line.file];
            let lies_there = file.epoch == epoch && file.lines.contains(&key);
            let is_held = line.held_by.is_some_and(|copy| world.is_generation(copy)) && is_known(line.file);
            if lies_there || is_held {
                world.ledger.lines[key].came = 0;
            }
        }
        let held = (0..world.ledger.lines.len()).filter(|key| {
            let line = &world.ledger.lines[*key];
            line.held_by.is_some() && !is_known(line.file)
        });
        let held: Vec<_> = held.collect();
        world.ledger.excuse(held.into_iter(), "the reader died before it knew the file");
    }

    /// What the new reader can find, and what it cannot.
    pub(super) fn restart_model(&mut self) {
        self.world.listened_to();
        let world = &self.world;
        let is_unread = |file: FileKey| {
            let known =
                self.store.values().rev().find(|known| known.identity.inode == world.files[file].inode);
            known.is_none_or(|known| known.offset == 0)
        };
        let is_beside = |file: FileKey, copy: FileKey| {
            let family = world.files[copy].family;
            !world.files[file].moved && family.is_some_and(|family| world.at(family.name()) == Some(file))
        };
        let astray: Vec<_> = (0..world.ledger.lines.len())
            .filter(|key| {
                let line = &world.ledger.lines[*key];
                line.held_by.is_some_and(|copy| is_unread(line.file) && !is_beside(line.file, copy))
            })
            .collect();
        self.world.ledger.excuse(astray.into_iter(), "nothing tells of which file it is a copy");
        for file in 0..self.world.files.len() {
            if self.world.files[file].copy_of.is_some() {
                continue;
            }
            if self.is_found_again(file) {
                self.world.files[file].reach = Reach::Known;
            } else {
                self.world.lose(file, "its file was nowhere to be found after the crash");
            }
        }
    }

    fn is_found_again(&self, key: FileKey) -> bool {
        let world = &self.world;
        let file = &world.files[key];
        if world.bears_followed(key) {
            return true;
        }
        let Some(family) = file.family else { return false };
        let located = |known: &Known| {
            let name = known.located.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            world.at(name) == Some(key)
        };
        if let Some(known) = self.store.values().rev().find(|known| known.identity.inode == file.inode) {
            let is_family = known.path == world.log_path(family.name());
            return located(known) || (is_family && world.is_generation(key));
        }
        // It came after the last that was committed, if it was not lost already.
        let in_order = || {
            let mut family = world.files.iter().filter(|file| file.moved || file.family == Some(family));
            !family.any(|file| file.unordered)
        };
        file.reach != Reach::Lost
            && world.is_generation(key)
            && in_order()
            && self.store.values().any(|known| known.path == world.log_path(family.name()))
    }
}
