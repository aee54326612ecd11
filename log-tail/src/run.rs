//! The event loop: waits for hints, room in the output, signals and time, and moves blocks from the
//! follower to the output. One thread; nothing in it blocks but reading files, and the moment that it waits where lines
//! come fast (`pace`).

mod pace;
mod start;
mod sweeps;

use std::{
    hint, io,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use tokio::{
    io::unix::AsyncFd,
    signal::unix::Signal,
    sync::{mpsc, oneshot},
    task::yield_now,
    time::{MissedTickBehavior, interval_at, sleep_until},
};

use self::{pace::Pace, sweeps::Sweeps};
use crate::{
    cli::Settings,
    follow::{Follower, processor_time},
    observe::{Hint, Readiness, mounts::Mounts, stat},
    output::{
        Format, Queue,
        stdout::{Flushed, Stdout},
    },
    record::{Block, Item, Reached, Reason},
    say::say,
    serve::metrics::{Metrics, RotationKind},
    state::Progress,
};

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Well,
    /// Some of what was asked for could not be done; standard error says what.
    WithTrouble,
}

/// Bytes that may wait for the output before reading stops.
const OUTPUT_BYTES: usize = 256 << 10;
/// How long hints are taken after a signal: the ring is drained in a fraction of that.
const LAST_HINTS: Duration = Duration::from_secs(1);
/// Blocks taken before hints, signals and timers get their turn.
const BLOCKS_A_TURN: usize = 64;

/// Follows what the settings say until a signal, or with `--no-follow` until everything is read.
///
/// # Errors
/// Where nothing can be followed, the backend asked for is not to be had, or the output fails.
pub fn run(settings: &Settings) -> anyhow::Result<Ended> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(async { Loop::start(settings)?.run().await })
}

#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own; any may hold with any")]
struct Loop {
    follower: Follower,
    /// Readable when the observer has hints. None with `--no-follow`.
    readiness: Option<AsyncFd<Readiness>>,
    /// None with `--no-follow`, and where there is no proc(5).
    mounts: Option<Mounts>,
    format: Box<dyn Format>,
    queue: Queue,
    stdout: Stdout,
    blocked: bool,
    /// What is left of a block that was taken apart.
    rest: Option<Block>,
    /// Bytes of a block that are put into the format at once.
    part_bytes: usize,
    /// What is acknowledged, where that is to be remembered.
    progress: Option<Progress>,
    metrics: Arc<Metrics>,
    scrapes: mpsc::Receiver<oneshot::Sender<String>>,
    signals: [Signal; 2],
    sweeps: Sweeps,
    hints: Vec<Hint>,
    /// The observer may have more to say without being readable again.
    undrained: bool,
    pace: Pace,
    /// Kernel times of the writes whose bytes wait for the output.
    waiting_ns: Vec<u64>,
    stopping: bool,
    trouble: bool,
}

impl Loop {
    async fn run(mut self) -> anyhow::Result<Ended> {
        let ended = self.follow().await;
        self.acknowledge();
        if let Some(progress) = self.progress.take() {
            progress.finish(&mut self.follower)?;
        }
        ended
    }

    async fn follow(&mut self) -> anyhow::Result<Ended> {
        let every = self.sweeps.every();
        let mut sweep = interval_at(tokio::time::Instant::now() + every, every);
        let mut looking = interval_at(tokio::time::Instant::now() + stat::INTERVAL, stat::INTERVAL);
        for interval in [&mut sweep, &mut looking] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            if self.move_blocks()? == Flushed::Closed {
                return Ok(self.ended());
            }
            let busy = !self.blocked && (self.rest.is_some() || self.follower.has_ready());
            if self.stopping && !busy && self.queue.is_empty() {
                return Ok(self.ended());
            }
            let was_told = !busy && self.stay_awake()?;
            let deadline = self.follower.next_deadline();
            let commit_at = self.progress.as_ref().map(Progress::due);
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                biased;
                _ = interrupt.recv() => self.stop()?,
                _ = terminate.recv() => self.stop()?,
                Some(reply) = self.scrapes.recv() => {
                    let page = self.page();
                    // The client may have gone.
                    let _ = reply.send(page);
                }
                result = readable(self.readiness.as_ref(), self.undrained), if !self.stopping => {
                    result.context("waiting for hints")?;
                    if !self.undrained {
                        self.metrics.wakeups.add(1);
                        if !busy {
                            thread::sleep(self.pace.woken(Instant::now()));
                        }
                    }
                    self.drain()?;
                }
                result = changed(self.mounts.as_ref()), if !self.stopping => {
                    result.context("waiting for mounts")?;
                    self.follower.mounts_changed(Instant::now());
                }
                result = self.stdout.writable(), if self.blocked => {
                    result.context("waiting for standard output")?;
                    self.blocked = false;
                }
                () = self.stdout.closed() => return Ok(self.ended()),
                () = until(deadline) => {
                    // What was told while this thread had to wait is no news, and not missing.
                    if !self.stopping {
                        self.drain()?;
                    }
                    if self.stopping || !self.undrained {
                        self.follower.tick(Instant::now());
                    }
                }
                () = until(commit_at) => self.commit(),
                _ = sweep.tick(), if !self.stopping => self.sweep(),
                _ = looking.tick(), if !self.stopping && self.follower.looks_every_second() => {
                    self.follower.look_at_unwatched();
                }
                // Not merely ready: the runtime has to look at descriptors and signals now and then.
                () = yield_now(), if busy || was_told => {}
            }
            self.say_notices();
        }
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        if !self.sweeps.is_due(now) {
            return self.follower.tidy(now);
        }
        let began = processor_time();
        self.follower.sweep(now);
        self.sweeps.done(now, processor_time().saturating_sub(began));
    }

    fn commit(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.tick(&mut self.follower);
            while let Some(trouble) = progress.take_trouble() {
                say(trouble);
            }
        }
    }

    /// What has left is acknowledged.
    fn acknowledge(&mut self) {
        let Some(progress) = &mut self.progress else { return };
        // Before what was read of a file comes where that began.
        progress.take_touched(&mut self.follower);
        while let Some(reached) = self.queue.take_acknowledged() {
            progress.acknowledge(reached, &mut self.follower);
        }
    }

    /// With `--low-latency`, looks for hints for a while without going to sleep. Whether there were some.
    fn stay_awake(&mut self) -> anyhow::Result<bool> {
        self.pace.done(Instant::now());
        let Some(until) = self.pace.awake_until().filter(|_| !self.blocked && !self.stopping) else {
            return Ok(false);
        };
        loop {
            self.take_hints()?;
            let now = Instant::now();
            if !self.hints.is_empty() {
                self.pace.woken(now);
                self.follow_hints();
                return Ok(true);
            }
            if now >= until {
                return Ok(false);
            }
            hint::spin_loop();
        }
    }

    /// Takes the hints that wait, boundedly many, and makes something of them.
    fn drain(&mut self) -> anyhow::Result<()> {
        self.take_hints()?;
        if let Some(observer) = self.follower.observer() {
            observer.log();
        }
        self.follow_hints();
        Ok(())
    }

    fn take_hints(&mut self) -> anyhow::Result<()> {
        if let Some(observer) = self.follower.observer() {
            self.undrained = observer.drain(&mut self.hints).context("reading hints")?;
        }
        Ok(())
    }

    fn follow_hints(&mut self) {
        self.follower.take(&mut self.hints);
        if let Some(progress) = &mut self.progress {
            // What comes while the output takes nothing is to be known to the next run, too.
            progress.take_touched(&mut self.follower);
        }
    }

    /// Reads and writes until nothing is left to read, the output has no room, or others want their turn.
    fn move_blocks(&mut self) -> anyhow::Result<Flushed> {
        for _ in 0..BLOCKS_A_TURN {
            if self.blocked {
                return Ok(Flushed::WouldBlock);
            }
            let item = self.rest.take().map(Item::Block).or_else(|| self.follower.next_item());
            let idle = item.is_none();
            match item {
                Some(Item::Block(block)) => {
                    let (part, rest) = block.split(self.part_bytes);
                    self.rest = rest;
                    self.encode(&part);
                }
                Some(Item::Lost(lost)) => self.format.lost(&lost, SystemTime::now(), &mut self.queue),
                Some(Item::Back(reached)) => self.mark(reached),
                None => {}
            }
            self.waiting_ns.extend(self.follower.take_answered());
            if idle || self.queue.len() >= OUTPUT_BYTES {
                match self.stdout.flush(&mut self.queue).context("writing to standard output")? {
                    Flushed::Everything => self.delivered(),
                    Flushed::WouldBlock => self.blocked = true,
                    Flushed::Closed => return Ok(Flushed::Closed),
                }
                self.acknowledge();
            }
            if idle {
                break;
            }
        }
        Ok(Flushed::Everything)
    }

    fn encode(&mut self, block: &Block) {
        self.metrics.read_bytes.add(block.bytes.len() as u64);
        self.metrics.read_lines.add(memchr::memchr_iter(b'\n', &block.bytes).count() as u64);
        self.format.encode(block, SystemTime::now(), &mut self.queue);
        self.mark(block.end());
    }

    /// Everything of a file up to here is on its way out.
    fn mark(&mut self, reached: Reached) {
        if self.progress.is_some() {
            self.queue.mark(reached);
        }
    }

    fn delivered(&mut self) {
        if self.waiting_ns.is_empty() {
            return;
        }
        let now = monotonic();
        for written_ns in self.waiting_ns.drain(..) {
            self.metrics.delivered_after(now.saturating_sub(Duration::from_nanos(written_ns)));
        }
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        if self.stopping {
            stop_at_once();
        }
        // What was told until now may concern files that are not known yet; and more is told meanwhile.
        let deadline = Instant::now() + LAST_HINTS;
        loop {
            self.drain()?;
            if !self.undrained || Instant::now() >= deadline {
                break;
            }
        }
        self.stopping = true;
        self.follower.stop();
        Ok(())
    }

    fn say_notices(&mut self) {
        for notice in self.follower.take_notices() {
            say(notice);
        }
    }

    fn ended(&self) -> Ended {
        // A signal ends it well whatever was refused at the start: that was said then.
        if self.trouble && self.readiness.is_none() { Ended::WithTrouble } else { Ended::Well }
    }

    fn page(&mut self) -> String {
        let counts = self.follower.counts();
        self.metrics.missed_hints.set(counts.missed_hints);
        self.metrics.sweeps.set(counts.sweeps);
        for (kind, hints) in counts.hints() {
            self.metrics.hints(kind).set(hints);
        }
        self.metrics.lost_bytes(Reason::Truncated).set(counts.lost_bytes);
        self.metrics.lost_bytes(Reason::Removed).set(counts.missed_bytes);
        self.metrics.missed_files.set(counts.missed_files);
        self.metrics.rotations(RotationKind::Replace).set(counts.replaced);
        self.metrics.rotations(RotationKind::Unlink).set(counts.unlinked);
        self.metrics.rotations(RotationKind::Truncate).set(counts.truncated);
        self.metrics.files.set(self.follower.file_count() as u64);
        self.metrics.lag_bytes.set(self.follower.lag_bytes() + self.queue.len() as u64);
        if let Some(progress) = &self.progress {
            self.metrics.set_commits(progress.counters());
        }
        if let Some(events) = self.follower.observer().and_then(|observer| observer.events()) {
            self.metrics.set_kernel_events(events);
        }
        if let Some(skipped) = self.follower.observer().and_then(|observer| observer.skipped_count()) {
            self.metrics.skipped_events.set(skipped);
        }
        if let Some(observer) = self.follower.observer() {
            self.metrics.set_costs(&observer.costs());
        }
        self.metrics.encode()
    }
}

/// Asked to stop twice: whoever asks does not want to wait for a slow reader of our output.
pub fn stop_at_once() -> ! {
    say("stopped before everything was written");
    std::process::exit(1);
}

/// Waits for whoever has more to tell, unless it has not told everything yet.
pub async fn readable(readiness: Option<&AsyncFd<Readiness>>, undrained: bool) -> io::Result<()> {
    match readiness {
        Some(_) if undrained => Ok(()),
        // Forgotten before the observer is drained to its end: what comes from now on makes it readable anew.
        Some(readiness) => {
            readiness.readable().await?.clear_ready();
            Ok(())
        }
        None => std::future::pending().await,
    }
}

async fn changed(mounts: Option<&Mounts>) -> io::Result<()> {
    match mounts {
        Some(mounts) => mounts.changed().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
