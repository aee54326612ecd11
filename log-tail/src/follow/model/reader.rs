//! The reader under test: a real follower with a real observer, its event loop, its output and its state.

mod restart;

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
