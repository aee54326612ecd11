//! What log-tail counts about itself, in the format `OpenMetrics`.
//!
//! Promises: every name, help text and label that a user can graph stands in this file; a series is there
//! from the start, at zero, so that a rate never misses its first event. Counting takes a shared reference
//! and never waits for a scrape.
//!
//! There is no series per file: their number is the user's, and a log directory makes new ones every day.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use log_tail_common::Counters;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::{
    observe::{Backend, HintKind, ebpf::cost::Cost},
    record::Reason,
    state,
};

/// Upper bounds of the delivery histogram: 1 µs, 2 µs, ... 8.4 s.
const DELIVERY_BUCKETS: u16 = 24;

/// What becomes of the kernel's events.
const EVENT_OUTCOMES: [&str; 4] = ["seen", "submitted", "coalesced", "dropped"];

/// What becomes of a commit of the state.
const COMMIT_OUTCOMES: [&str; 2] = ["durable", "failed"];

/// How a name came to mean another inode, or an inode another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationKind {
    /// The name bears another inode now.
    Replace,
    /// The inode was truncated.
    Truncate,
    /// The name is gone.
    Unlink,
}

impl RotationKind {
    const ALL: [Self; 3] = [Self::Replace, Self::Truncate, Self::Unlink];

    fn word(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Truncate => "truncate",
            Self::Unlink => "unlink",
        }
    }
}

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Total(Counter);

impl Total {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.inc_by(n);
    }

    /// Takes over a number that is counted elsewhere. A smaller one than before says that the counting began
    /// anew, as when the kernel program is loaded again; Prometheus understands that as a restart.
    pub fn set(&self, total: u64) {
        self.0.inner().store(total, Ordering::Relaxed);
    }
}

/// A number that comes and goes.
#[derive(Clone, Debug, Default)]
pub struct Level(Gauge<u64, AtomicU64>);

impl Level {
    /// The number is this one now.
    pub fn set(&self, value: u64) {
        self.0.set(value);
    }
}

/// Totals of one thing that differ in one label.
#[derive(Clone, Debug)]
struct Labelled {
    label: &'static str,
    family: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Labelled {
    fn new(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Self {
        let labelled = Self { label, family: Family::default() };
        for value in values {
            labelled.of(value);
        }
        labelled
    }

    fn of(&self, value: &'static str) -> Total {
        Total(self.family.get_or_create_owned(&[(self.label, value)]))
    }
}

/// All counters and gauges, and the page that shows them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Bytes read from followed files.
    pub read_bytes: Total,
    /// Lines handed to the output.
    pub read_lines: Total,
    /// Returns from waiting for the observer.
    pub wakeups: Total,
    /// Changes that the sweep found and no hint had told. Anything but 0 is a bug, in log-tail or the kernel.
    pub missed_hints: Total,
    /// Events that the kernel skipped the kernel program for.
    pub skipped_events: Total,
    /// Files that bore a followed name and were gone before they could be opened.
    pub missed_files: Total,
    /// Sweeps over all followed files.
    pub sweeps: Total,
    /// Followed files.
    pub files: Level,
    /// Bytes in followed files that are still to be read.
    pub lag_bytes: Level,
    commit_age: Level,
    commits: Labelled,
    hints: Labelled,
    lost_bytes: Labelled,
    kernel_events: Labelled,
    rotations: Labelled,
    hook_runs: Family<HookLabels, Counter>,
    hook_run_time: Family<HookLabels, Counter<f64, AtomicU64>>,
    write_to_deliver: Histogram,
    backend: BackendInfo,
}

/// The kernel function, and by what a program is attached to it.
type HookLabels = [(&'static str, &'static str); 2];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("log_tail"),
            read_bytes: Total::default(),
            read_lines: Total::default(),
            wakeups: Total::default(),
            missed_hints: Total::default(),
            skipped_events: Total::default(),
            missed_files: Total::default(),
            sweeps: Total::default(),
            files: Level::default(),
            lag_bytes: Level::default(),
            commit_age: Level::default(),
            commits: Labelled::new("outcome", COMMIT_OUTCOMES),
            hints: Labelled::new("kind", HintKind::ALL.map(HintKind::word)),
            lost_bytes: Labelled::new("reason", Reason::ALL.map(Reason::word)),
            kernel_events: Labelled::new("outcome", EVENT_OUTCOMES),
            rotations: Labelled::new("kind", RotationKind::ALL.map(RotationKind::word)),
            hook_runs: Family::default(),
            hook_run_time: Family::default(),
            write_to_deliver: Histogram::new(exponential_buckets(1e-6, 2.0, DELIVERY_BUCKETS)),
            backend: BackendInfo::default(),
        };
        metrics.register();
        metrics
    }

    /// The registry appends units, `_total` and `_info` to names, and a full stop to help texts.
    fn register(&mut self) {
        let Self {
            registry,
            read_bytes,
            read_lines,
            wakeups,
            missed_hints,
            skipped_events: _,
            lost_bytes,
            missed_files,
            sweeps,
            files,
            lag_bytes,
            commit_age: _,
            commits: _,
            hints,
            kernel_events: _,
            rotations,
            hook_runs: _,
            hook_run_time: _,
            write_to_deliver,
            backend,
        } = self;
        registry.register(
            "build",
            "Which log-tail this is",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(backend.clone()));
        let bytes_read = "Bytes read from followed files";
        registry.register_with_unit("read", bytes_read, Unit::Bytes, read_bytes.0.clone());
        registry.register("read_lines", "Lines handed to the output", read_lines.0.clone());
        registry.register(
            "files",
            "Files that are followed: those that bear a followed name, and those that bore one and are still to be \
             read to their end",
            files.0.clone(),
        );
        registry.register_with_unit(
            "lag",
            "Bytes in followed files that are still to be read",
            Unit::Bytes,
            lag_bytes.0.clone(),
        );
        registry.register_with_unit(
            "write_to_deliver",
            "Seconds from the kernel's time of the first write since a file was last read to the moment its bytes \
             were handed to the output. Only the ebpf backend knows the former",
            Unit::Seconds,
            write_to_deliver.clone(),
        );
        registry.register("wakeups", "Times that log-tail waited and was woken", wakeups.0.clone());
        registry.register(
            "hints",
            "What the backend said, by kind: a file may have grown (append), was truncated, moved or unlinked, a \
             directory's entry changed, hints were lost and everything was looked at (overflow), the kernel may have \
             skipped some (skipped), it was told who wrote (written), or a rotated file's last writer closed it (close)",
            hints.family.clone(),
        );
        registry.register(
            "rotations",
            "Rotations of followed files, by kind: its name was given to another file \
             (replace), it was truncated, or its name was removed (unlink)",
            rotations.family.clone(),
        );
        registry.register(
            "missed_hints",
            "Changes that the sweep found although no hint had told of them. Nothing was lost, but it came late, \
             and a hook is missing: please report it",
            missed_hints.0.clone(),
        );
        registry.register_with_unit(
            "lost",
            "Bytes of followed files that nobody can read any more, by reason: truncated before they were read, and \
             in no copy; or removed with their file before that could be opened. At least so many; exact with the \
             ebpf backend, but on btrfs before Linux 5.11. Other backends do not know what a removed file held",
            Unit::Bytes,
            lost_bytes.family.clone(),
        );
        registry.register(
            "missed_files",
            "Files that bore a followed name and were removed before they could be opened. How much is lost with them \
             only the ebpf backend knows",
            missed_files.0.clone(),
        );
        registry.register(
            "sweeps",
            "Sweeps that looked at the size of every followed file",
            sweeps.0.clone(),
        );
        self.register_state();
        self.register_kernel();
    }

    /// How what was acknowledged is kept.
    fn register_state(&mut self) {
        let Self { registry, commits, commit_age, .. } = self;
        registry.register(
            "state_commits",
            "Commits of the state, by outcome: durable, or failed and to be tried again, as when the disk is full. Only \
             with --state-dir",
            commits.family.clone(),
        );
        registry.register_with_unit(
            "state_commit_age",
            "Seconds since the last commit that was durable: a crash repeats what came out since. It grows while \
             nothing comes out, too",
            Unit::Seconds,
            commit_age.0.clone(),
        );
    }

    /// What the kernel program did, and what it costs.
    fn register_kernel(&mut self) {
        let Self { registry, kernel_events, skipped_events, hook_runs, hook_run_time, .. } = self;
        registry.register(
            "kernel_events",
            "Events of followed files in the kernel program, by outcome. Those seen are the sum of the others: \
             submitted to the ring, coalesced with a hint on its way, or dropped because the ring was full, after \
             which everything is looked at. Only the ebpf backend has any",
            kernel_events.family.clone(),
        );
        registry.register(
            "kernel_events_skipped",
            "Events, of any file on this machine, that the kernel did not run the kernel program for, because another \
             task was preempted inside it on that processor. Followed files are looked at after them. Only the ebpf \
             backend has any, on preemptible kernels",
            skipped_events.0.clone(),
        );
        registry.register(
            "hook_runs",
            "Runs of the kernel program, by kernel function and by what it is attached with (fentry: before it, fexit: \
             after it, tp_btf: at the tracepoint). Only with the ebpf backend and --measure-cost",
            hook_runs.clone(),
        );
        registry.register_with_unit(
            "hook_run_time",
            "How long those runs took, all together",
            Unit::Seconds,
            hook_run_time.clone(),
        );
    }

    /// The hints of one kind, where they are counted elsewhere.
    #[must_use]
    pub fn hints(&self, kind: HintKind) -> Total {
        self.hints.of(kind.word())
    }

    /// The rotations of one kind, where they are counted elsewhere.
    #[must_use]
    pub fn rotations(&self, kind: RotationKind) -> Total {
        self.rotations.of(kind.word())
    }

    /// The bytes that are lost for one reason, where they are counted elsewhere.
    #[must_use]
    pub fn lost_bytes(&self, reason: Reason) -> Total {
        self.lost_bytes.of(reason.word())
    }

    /// How often the state was committed, and when last.
    pub fn set_commits(&self, counters: state::Counters) {
        let state::Counters { commits, failures, last_commit } = counters;
        for (outcome, total) in COMMIT_OUTCOMES.into_iter().zip([commits, failures]) {
            self.commits.of(outcome).set(total);
        }
        self.commit_age.set(last_commit.map_or(0, |at| at.elapsed().as_secs()));
    }

    /// The kernel program's counters, summed over all CPUs.
    pub fn set_kernel_events(&self, totals: Counters) {
        let Counters { seen, submitted, coalesced, dropped } = totals;
        for (outcome, total) in EVENT_OUTCOMES.into_iter().zip([seen, submitted, coalesced, dropped]) {
            self.kernel_events.of(outcome).set(total);
        }
    }

    /// What the kernel program took, where that is measured.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds far below 2^53")]
    pub fn set_costs(&self, costs: &[Cost]) {
        for Cost { function, attached_by, calls, nanoseconds } in costs {
            let labels = [("hook", *function), ("by", *attached_by)];
            Total(self.hook_runs.get_or_create_owned(&labels)).set(*calls);
            let seconds = *nanoseconds as f64 / 1e9;
            self.hook_run_time
                .get_or_create_owned(&labels)
                .inner()
                .store(seconds.to_bits(), Ordering::Relaxed);
        }
    }

    /// Bytes were handed to the output, so long after the kernel saw the first of them written.
    pub fn delivered_after(&self, since_write: Duration) {
        self.write_to_deliver.observe(since_write.as_secs_f64());
    }

    /// Which backend observes, from now on.
    pub fn set_backend(&self, backend: Backend) {
        *self.backend.0.write().unwrap_or_else(PoisonError::into_inner) = Some(backend);
    }

    /// The page, in the text format of `OpenMetrics`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut page = String::new();
        // Writing to a String does not fail. If it did, the page would lack its last line, `# EOF`, and every
        // parser of the format would refuse it as cut short.
        let _: fmt::Result = text::encode(&mut page, &self.registry);
        page
    }
}

/// `log_tail_backend_info`: of the type `info` although the value may change once, when eBPF cannot go on.
#[derive(Clone, Debug, Default)]
struct BackendInfo(Arc<RwLock<Option<Backend>>>);

impl Collector for BackendInfo {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(backend) = *self.0.read().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        let info = Info::new([("backend", backend.to_string())]);
        info.encode(encoder.encode_descriptor(
            "backend",
            "How log-tail learns of changes: by its kernel program (ebpf), by inotify, or by looking (stat).",
            None,
            info.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests;
