//! What the kernel program costs: how often and how long each of its programs ran, by the kernel's own statistics.
//!
//! The kernel keeps them while somebody asks for them (`BPF_ENABLE_STATS`, from 5.8), which makes every call of every
//! BPF program on the machine some 20 ns longer; so they are kept for `doctor --cost` and `--measure-cost` only.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};
use serde::Serialize;

use super::{EbpfObserver, fdinfo, hooks::When};
use crate::observe::{FileId, Hint, Observer as _, Reach};

/// How often hints are answered meanwhile, as a reader would.
const ANSWERED_EVERY: Duration = Duration::from_millis(10);

/// What one program took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The kernel function that it is attached to.
    pub function: &'static str,
    /// fentry: before it; fexit: after it; `tp_btf`: at the tracepoint.
    pub attached_by: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// How long it ran, all calls together.
    pub nanoseconds: u64,
}

/// What all of them took.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// Over how long.
    pub seconds: f64,
    /// Each program that is attached, the one that took most first.
    pub hooks: Vec<Cost>,
}

/// Has the kernel keep statistics until what is returned is dropped.
pub(super) fn keep_statistics() -> io::Result<OwnedFd> {
    enable_stats(Stats::RunTime).map_err(io::Error::other)
}

impl EbpfObserver {
    /// Measures what happens on this machine anyway for this long, with these files followed.
    ///
    /// # Errors
    /// A file cannot be opened or followed.
    pub fn cost(&mut self, files: &[PathBuf], time: Duration) -> io::Result<Costs> {
        for (number, path) in (0..).zip(files) {
            let explain = |error| io::Error::other(format!("cannot follow '{}': {error}", path.display()));
            let file = File::open(path).map_err(|error| explain(error.to_string()))?;
            let followed = self.follow_file(FileId(number), file.as_fd(), Reach::ThroughDirectory);
            followed.map_err(|error| explain(error.to_string()))?;
        }
        let (began, before) = (Instant::now(), self.ran());
        let mut hints = Vec::new();
        while began.elapsed() < time {
            thread::sleep(ANSWERED_EVERY.min(time));
            while self.drain(&mut hints)? {}
            for hint in hints.drain(..) {
                if let Hint::Appended { file, .. } = hint {
                    self.answer(file, 0);
                }
            }
        }
        let mut hooks = self.ran();
        let seconds = began.elapsed().as_secs_f64();
        for (cost, before) in hooks.iter_mut().zip(before) {
            cost.calls -= before.calls;
            cost.nanoseconds -= before.nanoseconds;
        }
        hooks.sort_by_key(|cost| std::cmp::Reverse((cost.nanoseconds, cost.calls)));
        Ok(Costs { seconds, hooks })
    }

    /// What each program took since the kernel keeps statistics.
    pub(super) fn ran(&self) -> Vec<Cost> {
        let ran = |attached: &super::load::Attached| {
            let program = attached.program?;
            Some(Cost {
                function: attached.hook.function,
                attached_by: match attached.hook.when {
                    When::Before => "fentry",
                    When::After => "fexit",
                    When::Tracepoint => "tp_btf",
                },
                calls: fdinfo::value(program, "run_cnt").unwrap_or(0),
                nanoseconds: fdinfo::value(program, "run_time_ns").unwrap_or(0),
            })
        };
        self.hooks().iter().filter_map(ran).collect()
    }
}
