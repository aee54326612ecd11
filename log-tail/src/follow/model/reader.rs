//! The reader under test: a real follower with a real observer, its event loop, its output and its state.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroUsize,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    file::{FileKey, Reach},
    ledger::{LineKey, shorten},
    operation::{Log, Operation},
    world::World,
};
use crate::{
    follow::{FollowSettings, Follower, Known, Start},
    observe::inotify::InotifyObserver,
    record::{Block, Ending, Item, Reached},
};

/// What was handed on and is not acknowledged yet.
#[derive(Debug)]
struct Unacknowledged {
    reached: Reached,
    /// Each with the epoch of its file.
    lines: Vec<(LineKey, u32)>,
    epoch: u32,
}

/// What went wrong, as a sentence.
pub type Verdict = Result<(), String>;

/// The model and what it is compared with.
#[derive(Debug)]
pub struct Run {
    pub world: World,
    pattern: bool,
    follower: Option<Follower>,
    unacknowledged: VecDeque<Unacknowledged>,
    acknowledged: BTreeMap<u64, u64>,
    changed: BTreeSet<u64>,
    /// Lines of each number that will be committed with it.
    lines_of: BTreeMap<u64, (u32, Vec<(LineKey, u32)>)>,
    /// What is committed.
    store: BTreeMap<u64, Known>,
    missed_hints: u64,
}

impl Run {
    pub fn new(pattern: bool) -> Self {
        let mut run = Self {
            world: World::new(),
            pattern,
            follower: None,
            unacknowledged: VecDeque::new(),
            acknowledged: BTreeMap::new(),
            changed: BTreeSet::new(),
            lines_of: BTreeMap::new(),
            store: BTreeMap::new(),
            missed_hints: 0,
        };
        run.start();
        run
    }

    pub fn perform(&mut self, operation: Operation) -> Verdict {
        match operation {
            Operation::Look(items) => self.look(usize::from(items)),
            Operation::LookAll => self.look(usize::MAX),
            Operation::Wait => {
                self.look(0)?;
                self.wait();
                Ok(())
            }
            Operation::Commit(unacknowledged) => {
                self.commit(usize::from(unacknowledged));
                Ok(())
            }
            Operation::Crash => {
                self.crash();
                Ok(())
            }
            other => {
                self.world.perform(other);
                Ok(())
            }
        }
    }

    fn start(&mut self) -> &mut Follower {
        let settings = FollowSettings {
            start: Start::FromByte(1),
            max_line_bytes: NonZeroUsize::new(1 << 20).unwrap(),
            // Never over while a schedule runs, unless `Wait` says so.
            rotate_wait: Duration::from_secs(600),
        };
        let mut follower = Follower::new(settings, Some(Box::new(InotifyObserver::new().unwrap())));
        let next_number = self.store.keys().last().map_or(0, |number| number + 1);
        self.restart_model();
        follower.remember(self.store.values().cloned().collect(), next_number);
        if self.pattern {
            follower.add_pattern(&self.world.log_path("*.log")).unwrap();
        } else {
            for log in Log::ALL {
                let _ = follower.add_name(&self.world.log_path(log.name()));
            }
        }
        follower.begin();
        self.follower.insert(follower)
    }

    /// What the new reader can find, and what it cannot.
    fn restart_model(&mut self) {
        self.world.listened_to();
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

    fn look(&mut self, items: usize) -> Verdict {
        if self.follower.is_none() {
            self.start();
        }
        let follower = self.follower.as_mut().unwrap();
        let mut hints = Vec::new();
        while follower.observer().unwrap().drain(&mut hints).unwrap() {}
        follower.take(&mut hints);
        if follower.next_deadline().is_some_and(|at| at <= Instant::now()) {
            follower.tick(Instant::now());
        }
        self.world.taken();
        if items > 0 {
            // Not every file has its turn unless all is read.
            self.world.truncations_seen(items == usize::MAX);
        }
        for _ in 0..items {
            let Some(item) = self.follower.as_mut().unwrap().next_item() else { break };
            match item {
                Item::Block(block) => self.receive(&block)?,
                Item::Lost(_) => {}
                Item::Back(reached) => self.go_back(reached),
            }
        }
        Ok(())
    }

    fn wait(&mut self) {
        if let Some(follower) = &mut self.follower
            && let Some(deadline) = follower.next_deadline()
        {
            follower.tick(deadline.max(Instant::now()));
            self.world.truncations_seen(false);
        }
    }

    fn go_back(&mut self, reached: Reached) {
        self.unacknowledged.push_back(Unacknowledged { reached, lines: Vec::new(), epoch: u32::MAX });
    }

    fn receive(&mut self, block: &Block) -> Verdict {
        let Some(file) = self.world.by_inode(block.source.inode) else {
            return Err(format!("a block of an inode that never was: {block:?}"));
        };
        let mut lines = Vec::new();
        // A copy goes on where its original was truncated.
        let written = self.world.files[file].copy_of.unwrap_or(file);
        for piece in block.bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut text = self.world.files[written].fragment.clone();
            let whole = piece.ends_with(b"\n");
            let ledger = &self.world.ledger;
            let is = |text: &[u8]| if whole { ledger.find(text).is_some() } else { ledger.was_tail(text) };
            if is(piece) {
                text = piece.to_vec();
            } else {
                text.extend(piece);
            }
            if !is(&text) {
                return Err(format!("torn: {:?}", shorten(&String::from_utf8_lossy(&text))));
            }
            if whole {
                lines.extend(ledger.find(&text));
            } else if block.ending == Ending::EndOfFile {
                self.world.files[written].fragment = text;
            } else {
                return Err(format!("a block ends within a line: {block:?}"));
            }
        }
        for line in &lines {
            self.came(*line)?;
        }
        let found = &mut self.world.files[file];
        if block.ending == Ending::Newline {
            found.marks.push(block.end().offset);
            let newlines = memchr::memchr_iter(b'\n', &block.bytes);
            found.ends.extend(newlines.map(|newline| block.offset + newline as u64 + 1));
        }
        let epoch = found.epoch;
        let epoch_of = |line: LineKey| self.world.files[self.world.ledger.lines[line].file].epoch;
        let lines = lines.into_iter().map(|line| (line, epoch_of(line))).collect();
        self.unacknowledged.push_back(Unacknowledged { reached: block.end(), lines, epoch });
        Ok(())
    }

    fn came(&mut self, key: LineKey) -> Verdict {
        let line = &mut self.world.ledger.lines[key];
        line.came += 1;
        if line.came > line.may_come {
            return Err(format!("repeated: {}", self.world.ledger.show(key)));
        }
        if line.came > 1 || line.excused.is_some() {
            return Ok(());
        }
        let file = line.file;
        if let Some(earlier) = self.world.ledger.due_of(file).find(|earlier| *earlier < key) {
            let ledger = &self.world.ledger;
            return Err(format!("{} came before {} of its file", ledger.show(key), ledger.show(earlier)));
        }
        self.check_predecessors(key, file, LineKey::MAX, &mut BTreeSet::new())
    }

    fn check_predecessors(
        &self,
        line: LineKey,
        file: FileKey,
        before: LineKey,
        seen: &mut BTreeSet<FileKey>,
    ) -> Verdict {
        let world = &self.world;
        for predecessor in &world.files[file].predecessors {
            let (earlier, before) = (predecessor.file, before.min(predecessor.before));
            if world.files[earlier].unordered || world.files[file].unordered || !seen.insert(earlier) {
                continue;
            }
            let is_over = !world.bears_followed(earlier);
            let mut due = world.ledger.due_of(earlier);
            if let Some(due) = due.find(|due| is_over || *due < before) {
                let ledger = &world.ledger;
                return Err(format!(
                    "{} came before {} of the file before",
                    ledger.show(line),
                    ledger.show(due)
                ));
            }
            if is_over && world.files[earlier].reach == Reach::Known && world.has_writer(earlier) {
                return Err(format!(
                    "{} came while a writer held on to the file before",
                    world.ledger.show(line)
                ));
            }
            self.check_predecessors(line, earlier, before, seen)?;
        }
        Ok(())
    }

    fn commit(&mut self, left: usize) {
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

    fn crash(&mut self) {
        let Some(follower) = self.follower.take() else { return };
        self.missed_hints += follower.counts().missed_hints;
        drop(follower);
        self.unacknowledged.clear();
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
        let held: Vec<_> =
            (0..world.ledger.lines.len()).filter(|key| world.ledger.lines[*key].held_by.is_some()).collect();
        world.ledger.excuse(held.into_iter(), "the reader died before it had read the copy");
    }

    /// Everything is let go and read to its end; then all must have come.
    pub fn finish(&mut self) -> Verdict {
        self.world.close_all();
        let began = Instant::now();
        loop {
            self.look(usize::MAX)?;
            let follower = self.follower.as_mut().unwrap();
            if follower.next_deadline().is_none() && !follower.has_ready() {
                break;
            }
            if began.elapsed() > Duration::from_secs(5) {
                return Err(format!("no end of deadlines: {:?}", follower.next_deadline()));
            }
            self.wait();
            if began.elapsed() > Duration::from_millis(20) {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if let Some(lost) = self.world.ledger.lines.iter().position(super::ledger::Line::is_due) {
            return Err(format!("lost: {}", self.world.ledger.show(lost)));
        }
        let follower = self.follower.as_mut().unwrap();
        follower.sweep(Instant::now());
        if let Some(at) = follower.next_deadline() {
            follower.tick(at);
        }
        let missed_hints = self.missed_hints + follower.counts().missed_hints;
        if missed_hints > 0 {
            return Err(format!("{missed_hints} hints were missed"));
        }
        let live: BTreeSet<_> = Log::ALL.iter().filter_map(|log| self.world.at(log.name())).collect();
        let (files, open) = (follower.file_count(), follower.descriptors.open_files());
        if files != live.len() || open > files {
            return Err(format!("{files} files are followed and {open} open; {} bear a name", live.len()));
        }
        Ok(())
    }
}

/// Where the reader writes its own words in a failure.
pub fn notices(run: &mut Run) -> Vec<String> {
    let notices = run.follower.as_mut().map(Follower::take_notices).unwrap_or_default();
    let home = run.world.log_path("");
    let home = Path::new(&home).display().to_string();
    notices.into_iter().map(|notice| notice.0.replace(&home, "")).collect()
}
