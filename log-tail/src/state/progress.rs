//! From acknowledgements to checkpoints: what the output has taken is committed, and never more.
//!
//! How far each file is acknowledged is kept here; what else is remembered of it the follower knows, and is
//! asked only when a commit is due.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Checkpoint, CheckpointId,
    keeper::{self, Counters, Keeper, identity_of},
    store::{CommitError, OpenError, Store},
};
use crate::{
    follow::{Follower, Known, Print},
    record::Reached,
};

/// How often it is noted that files which nobody writes to still exist.
const SEEN_EVERY: Duration = Duration::from_secs(60 * 60);

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No thread to commit.
    #[error("starting the thread that writes checkpoints: {0}")]
    Thread(io::Error),
}

/// How far each file is acknowledged, on its way to the store.
#[derive(Debug)]
pub struct Progress {
    keeper: Keeper,
    acknowledged: FxHashMap<u64, u64>,
    changed: FxHashSet<u64>,
    /// No sooner than this are changes handed to the keeper.
    next: Instant,
    seen_next: Instant,
}

impl Progress {
    /// Opens the store, and tells the follower what is in it. Also returns what has to be said. `output`: what is to be
    /// made durable before it is acknowledged.
    ///
    /// # Errors
    /// [`StateError`]: in use by another process, not permitted, no room.
    pub fn start(
        dir: &Path,
        retention: Duration,
        output: Option<File>,
        follower: &mut Follower,
    ) -> Result<(Self, Option<String>), StateError> {
        let mut opened = Store::open(dir)?;
        let said = opened.moved_aside.as_ref().map(ToString::to_string);
        let next_id = opened.store.next_id();
        let (mut keeper, checkpoints) =
            Keeper::start(opened, retention, output).map_err(StateError::Thread)?;
        let now_s = now_s();
        for (id, checkpoint) in &checkpoints {
            if checkpoint.seen_s != now_s && keeper::is_there(checkpoint) {
                keeper.note(*id, Checkpoint { seen_s: now_s, ..checkpoint.clone() });
            }
        }
        follower.remember(checkpoints.into_iter().map(known).collect(), next_id.0);
        let now = Instant::now();
        let progress = Self {
            keeper,
            acknowledged: FxHashMap::default(),
            changed: FxHashSet::default(),
            next: now,
            seen_next: now + SEEN_EVERY,
        };
        Ok((progress, said))
    }

    /// The output has taken everything of a file up to here.
    pub fn acknowledge(&mut self, mark: Reached, follower: &mut Follower) {
        self.acknowledged.insert(mark.number, mark.offset);
        self.changed.insert(mark.number);
        if mark.is_back {
            follower.back_acknowledged(mark.number);
            // The copies that are to be known together with it.
            self.take_touched(follower);
        }
    }

    /// When [`Progress::tick`] wants to be called.
    pub fn due(&self) -> Instant {
        let keeper = self.keeper.due().into_iter();
        let changes = (!self.changed.is_empty()).then_some(self.next).into_iter();
        keeper.chain(changes).min().unwrap_or(self.seen_next).min(self.seen_next)
    }

    /// Commits what is due.
    pub fn tick(&mut self, follower: &mut Follower) {
        let now = Instant::now();
        if now >= self.seen_next {
            self.seen_next = now + SEEN_EVERY;
            self.changed.extend(follower.numbers());
        }
        if now >= self.next {
            self.next = now + keeper::INTERVAL;
            self.note_changes(follower);
        }
        self.keeper.commit();
    }

    /// Commits which files are followed and where each starts, and waits for it: whoever is told that they are
    /// followed may rely on that, whatever happens next.
    pub fn register(&mut self, follower: &mut Follower) {
        self.note_changes(follower);
        self.keeper.commit_now();
    }

    /// Has the files noted that are new, or bear another name.
    pub fn take_touched(&mut self, follower: &mut Follower) {
        for (number, start) in follower.take_touched() {
            if let Some(start) = start {
                self.acknowledged.insert(number, start);
            }
            self.changed.insert(number);
        }
    }

    fn note_changes(&mut self, follower: &mut Follower) {
        // A file and its copies are known together.
        self.take_touched(follower);
        let seen_s = now_s();
        for number in self.changed.drain() {
            let Some(offset) = self.acknowledged.get(&number).copied() else { continue };
            let Some(known) = follower.checkpoint(number, offset) else { continue };
            if known.finished {
                self.acknowledged.remove(&number);
            }
            self.keeper.note(CheckpointId(number), checkpoint(known, seen_s));
        }
    }

    /// A sentence to say: commits fail, or work again.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.keeper.take_trouble()
    }

    /// Numbers for metrics.
    pub fn counters(&self) -> Counters {
        self.keeper.counters()
    }

    /// Commits everything that was acknowledged, and waits for it.
    ///
    /// # Errors
    /// Where that failed: the next run repeats what was not committed.
    pub fn finish(mut self, follower: &mut Follower) -> Result<(), CommitError> {
        self.note_changes(follower);
        self.keeper.finish()
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn known((CheckpointId(number), checkpoint): (CheckpointId, Checkpoint)) -> Known {
    let identity = identity_of(&checkpoint);
    let Checkpoint {
        path,
        located,
        device: _,
        inode: _,
        generation,
        born_ns: _,
        offset,
        prints,
        seen_s,
        looked_ns,
        copy_of,
        finished,
    } = checkpoint;
    Known {
        number,
        path,
        located,
        identity,
        generation,
        offset,
        print: Print::from_marks(prints),
        seen_s,
        looked_ns,
        copy_of: copy_of.map(|CheckpointId(id)| id),
        finished,
    }
}

fn checkpoint(known: Known, seen_s: u64) -> Checkpoint {
    let Known {
        number: _,
        path,
        located,
        identity,
        generation,
        offset,
        print,
        seen_s: _,
        looked_ns,
        copy_of,
        finished,
    } = known;
    Checkpoint {
        path,
        located,
        device: identity.device,
        inode: identity.inode,
        generation,
        born_ns: (identity.born_ns != 0).then_some(identity.born_ns),
        offset,
        prints: print.marks().to_vec(),
        seen_s,
        looked_ns,
        copy_of: copy_of.map(CheckpointId),
        finished,
    }
}
