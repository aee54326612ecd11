//! The event loop's side of the store: collects checkpoints and has them committed by a thread of their own.
//!
//! A commit waits for the disk, and following must not. [`Keeper::note`] is cheap and keeps the latest of each
//! file; [`Keeper::due`] says when to call [`Keeper::commit`], which hands over what was collected and returns at
//! once. What could not be committed comes back and is tried again: nothing that was noted is ever let go.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::PathBuf,
    sync::mpsc::{self, Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    follow::Identity,
    state::{
        Checkpoint, CheckpointId,
        image::Changes,
        store::{CommitError, Opened, Store},
    },
};

/// The shortest time between two commits: what a crash may repeat.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// How long to wait after a commit that failed.
const RETRY: Duration = Duration::from_secs(1);

/// How often entries past their retention are looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(60 * 60);

/// What metrics say about the commits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commits that reached the disk.
    pub commits: u64,
    /// Commits that did not.
    pub failures: u64,
    /// When the last one reached the disk. Its age grows while nothing is noted, too.
    pub last_commit: Option<Instant>,
}

/// Collects checkpoints and has them committed.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    next_id: u64,
    /// Noted, and not handed over yet.
    pending: Changes,
    /// Whether the thread has a batch.
    is_committing: bool,
    /// No commit before this, and no look at what became of one.
    next: Instant,
    counters: Counters,
    is_failing: bool,
    troubles: VecDeque<String>,
    batches: Sender<Changes>,
    outcomes: Receiver<Outcome>,
    thread: JoinHandle<Store>,
}

/// What became of a batch: when it was durable, or the batch.
type Outcome = Result<Instant, (Changes, CommitError)>;

impl Keeper {
    /// Starts the thread, and drops what is past its `retention`: checkpoints of files that are not there, and were
    /// last seen so much earlier than the one seen last. Also hourly from then on. Measured so, neither a clock that was set nor a machine
    /// that was off for long makes a file look forgotten; the caller notes `seen_s` of *all* files that still
    /// exist at a time.
    ///
    /// `output`: where what is acknowledged was written, if that has to be made durable first.
    ///
    /// Returns what is left beside it.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn start(
        opened: Opened,
        retention: Duration,
        output: Option<File>,
    ) -> io::Result<(Self, Vec<(CheckpointId, Checkpoint)>)> {
        let Opened { mut store, mut checkpoints, moved_aside: _ } = opened;
        let pending = expired(&store, retention);
        checkpoints.retain(|(id, _)| !pending.contains_key(id));
        let CheckpointId(next_id) = store.next_id();
        let dir = store.dir().to_owned();
        let (batches, received) = mpsc::channel();
        let (report, outcomes) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || work(store, retention, output.as_ref(), &received, &report))?;
        let keeper = Self {
            dir,
            next_id,
            pending,
            is_committing: false,
            next: Instant::now(),
            counters: Counters::default(),
            is_failing: false,
            troubles: VecDeque::new(),
            batches,
            outcomes,
            thread,
        };
        Ok((keeper, checkpoints))
    }

    /// An id for a file that has no checkpoint yet.
    pub fn next_id(&mut self) -> CheckpointId {
        let id = CheckpointId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        id
    }

    /// Remembers how far a file is acknowledged now.
    pub fn note(&mut self, id: CheckpointId, checkpoint: Checkpoint) {
        self.pending.insert(id, Some(checkpoint));
    }

    /// Remembers that a file need not be known any more.
    pub fn forget(&mut self, id: CheckpointId) {
        self.pending.insert(id, None);
    }

    /// When to call [`Self::commit`] next: in the past where at once, `None` where not before the next note.
    pub fn due(&self) -> Option<Instant> {
        (self.is_committing || !self.pending.is_empty()).then_some(self.next)
    }

    /// Hands over what was noted, if the thread is idle and it is time. Never waits.
    pub fn commit(&mut self) {
        let now = Instant::now();
        match self.outcomes.try_recv() {
            Ok(outcome) => self.settle(outcome, now),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => self.thread_is_gone(),
        }
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        if !self.is_committing && !self.pending.is_empty() {
            self.hand_over();
        }
    }

    /// Commits what was noted, and waits for it. What could not be committed is tried again like any other batch.
    pub fn commit_now(&mut self) {
        if !self.is_committing && !self.pending.is_empty() {
            self.hand_over();
        }
        if self.is_committing {
            match self.outcomes.recv() {
                Ok(outcome) => self.settle(outcome, Instant::now()),
                Err(RecvError) => self.thread_is_gone(),
            }
        }
    }

    /// A sentence to say: once when commits begin to fail, once when they succeed again.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.troubles.pop_front()
    }

    /// Numbers for metrics.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Commits what is left, and waits for it.
    ///
    /// # Errors
    /// Where that failed: the next run repeats what was not committed.
    pub fn finish(mut self) -> Result<(), CommitError> {
        // The first outcome may be of a batch that failed before; the second is of all there is.
        let mut failure = None;
        for _ in 0..2 {
            if !self.is_committing && !self.pending.is_empty() {
                self.hand_over();
            }
            if self.is_committing
                && let Ok(outcome) = self.outcomes.recv()
            {
                self.is_committing = false;
                failure = match outcome {
                    Ok(_) => None,
                    Err((batch, error)) => {
                        self.merge_back(batch);
                        Some(error)
                    }
                };
            }
        }
        let Self { dir, pending, is_committing, batches, thread, .. } = self;
        if failure.is_none() && (is_committing || !pending.is_empty()) {
            failure = Some(CommitError::without_thread(dir));
        }
        drop(batches);
        // The store is closed before this returns, and its lock let go.
        drop(thread.join());
        failure.map_or(Ok(()), Err)
    }

    fn hand_over(&mut self) {
        match self.batches.send(std::mem::take(&mut self.pending)) {
            Ok(()) => self.is_committing = true,
            Err(mpsc::SendError(batch)) => {
                self.pending = batch;
                self.thread_is_gone();
            }
        }
    }

    fn settle(&mut self, outcome: Outcome, now: Instant) {
        self.is_committing = false;
        match outcome {
            Ok(at) => {
                self.counters.commits += 1;
                self.counters.last_commit = Some(at);
                if std::mem::take(&mut self.is_failing) {
                    self.troubles
                        .push_back(format!("checkpoints are written to '{}' again", self.dir.display()));
                }
            }
            Err((batch, error)) => {
                self.counters.failures += 1;
                self.merge_back(batch);
                self.next = now + RETRY;
                if !std::mem::replace(&mut self.is_failing, true) {
                    self.troubles.push_back(format!(
                        "{error}; following goes on, and so do the attempts; a restart before one succeeds \
                         repeats what came out since the last"
                    ));
                }
            }
        }
    }

    /// What was noted since the batch was handed over is newer.
    fn merge_back(&mut self, mut batch: Changes) {
        batch.append(&mut self.pending);
        self.pending = batch;
    }

    /// Cannot happen while `work` has no panic in it; if it has, following goes on.
    fn thread_is_gone(&mut self) {
        self.is_committing = false;
        self.next = Instant::now() + RETRY;
        if !std::mem::replace(&mut self.is_failing, true) {
            self.counters.failures += 1;
            let error = CommitError::without_thread(self.dir.clone());
            self.troubles.push_back(format!(
                "{error}; following goes on without, and a restart repeats what came out since"
            ));
        }
    }
}

/// The thread: commits what comes, and looks for what is past its retention, until nobody sends any more.
fn work(
    mut store: Store,
    retention: Duration,
    output: Option<&File>,
    batches: &Receiver<Changes>,
    report: &Sender<Outcome>,
) -> Store {
    let mut next_look = Instant::now() + RETENTION_EVERY;
    loop {
        match batches.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
            Ok(batch) => {
                // What it acknowledges is to outlast what it says, whenever the power goes.
                let durable = output.map_or(Ok(()), File::sync_data);
                let durable = durable.map_err(|error| CommitError::of_output(store.dir().to_owned(), &error));
                let outcome = match durable.and_then(|()| store.commit(&batch)) {
                    Ok(()) => Ok(Instant::now()),
                    Err(error) => Err((batch, error)),
                };
                if report.send(outcome).is_err() {
                    return store;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return store,
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + RETENTION_EVERY;
            let old = expired(&store, retention);
            if !old.is_empty() {
                // If it fails, the next look finds them again.
                let _ = store.commit(&old);
            }
        }
    }
}

/// To forget whatever was last seen longer than `retention` before the one seen last.
fn expired(store: &Store, retention: Duration) -> Changes {
    let last_seen = store.checkpoints().map(|(_, checkpoint)| checkpoint.seen_s).max().unwrap_or(0);
    let keep_from = last_seen.saturating_sub(retention.as_secs());
    store
        .checkpoints()
        .filter(|(_, checkpoint)| checkpoint.seen_s < keep_from && !is_there(checkpoint))
        .map(|(id, _)| (id, None))
        .collect()
}

/// By which the file is known.
pub fn identity_of(checkpoint: &Checkpoint) -> Identity {
    Identity { device: checkpoint.device, inode: checkpoint.inode, born_ns: checkpoint.born_ns.unwrap_or(0) }
}

/// Whether its file exists, where it was last found or under the name that is followed.
pub fn is_there(checkpoint: &Checkpoint) -> bool {
    [&checkpoint.located, &checkpoint.path].into_iter().any(|path| {
        std::fs::metadata(path).is_ok_and(|metadata| Identity::of(&metadata) == identity_of(checkpoint))
    })
}

#[cfg(test)]
mod tests;
