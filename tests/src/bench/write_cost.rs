//! What a write takes, by who watches the file; and how much of that is the kernel program itself, by the kernel's own
//! statistics.
//!
//! One thread appends 100 bytes at a time to a file that is in the page cache. What it takes is the time from before
//! the first write to after the last; who watches runs beside it, on another processor if there is one.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};

use super::{
    Measured, Plan,
    figure::Figure,
    floor::EmptyProgram,
    goal::{Goal, Limit},
};
use crate::{
    backend::Backend,
    metrics::Scrape,
    place::Place,
    run::{LogTail, Running},
};

/// Writes of one run.
const WRITES: u32 = 20_000;
/// Bytes of each.
const LINE: [u8; 100] = {
    let mut line = [b'x'; 100];
    line[99] = b'\n';
    line
};

/// Who watches.
#[derive(Debug, Clone, Copy)]
enum Watcher {
    Nobody,
    /// A kernel program that does nothing.
    EmptyProgram,
    /// log-tail follows another file in another directory.
    Elsewhere(Backend),
    Follower(Backend),
}

impl Watcher {
    fn case(self) -> &'static str {
        match self {
            Self::Nobody => "nobody watches",
            Self::EmptyProgram => "an empty kernel program",
            Self::Elsewhere(Backend::Ebpf) => "eBPF, another file is followed",
            Self::Elsewhere(_) => "inotify, another file is followed",
            Self::Follower(Backend::Ebpf) => "eBPF, the file is followed",
            Self::Follower(_) => "inotify, the file is followed",
        }
    }

    /// Starts it.
    fn start(self, place: &Files) -> Result<Watching> {
        let (backend, file) = match self {
            Self::Nobody => return Ok(Watching::Nobody),
            Self::EmptyProgram => return Ok(Watching::Empty(EmptyProgram::attach()?)),
            Self::Elsewhere(backend) => (backend, &place.other),
            Self::Follower(backend) => (backend, &place.log),
        };
        let follower = LogTail::through(backend).into_nothing().args(["-n", "0"]).arg(file).follow();
        Ok(Watching::Follower(follower))
    }
}

/// Whoever watches, at work.
enum Watching {
    Nobody,
    Empty(#[expect(dead_code, reason = "to be dropped")] EmptyProgram),
    Follower(Running),
}

impl Watching {
    fn end(self) {
        if let Self::Follower(running) = self {
            running.terminate();
        }
    }
}

struct Files {
    /// Removed when dropped.
    _place: Place,
    log: PathBuf,
    other: PathBuf,
}

impl Files {
    fn new() -> Result<Self> {
        let place = Place::new();
        let [log, other] = ["logs/app.log", "others/other.log"].map(|name| place.path(name));
        for file in [&log, &other] {
            std::fs::create_dir_all(file.parent().context("a directory")?)?;
            File::create(file)?;
        }
        Ok(Self { _place: place, log, other })
    }
}

/// Measures every case in turn, so many times.
pub fn measure(plan: Plan) -> Result<Measured> {
    let has_ebpf = plan.has_ebpf;
    let mut watchers =
        vec![Watcher::Nobody, Watcher::Elsewhere(Backend::Inotify), Watcher::Follower(Backend::Inotify)];
    if has_ebpf {
        let ebpf =
            [Watcher::EmptyProgram, Watcher::Elsewhere(Backend::Ebpf), Watcher::Follower(Backend::Ebpf)];
        watchers.extend(ebpf);
    }
    let files = Files::new().context("making the files")?;
    let mut figures: Vec<Figure> =
        watchers.iter().map(|watcher| Figure::new(watcher.case(), "ns a write")).collect();
    let mut programs =
        [("eBPF program, another file is followed", false), ("eBPF program, the file is followed", true)]
            .map(|(case, is_followed)| (Figure::new(case, "ns a run of the kernel program"), is_followed));
    for _ in 0..plan.runs {
        for (watcher, figure) in watchers.iter().zip(&mut figures) {
            let watching = watcher.start(&files)?;
            figure
                .values
                .push(write(&files.log).with_context(|| format!("writing while {}", watcher.case()))?);
            watching.end();
        }
        if has_ebpf {
            for (figure, is_followed) in &mut programs {
                figure.values.push(run_time(&files, *is_followed)?);
            }
        }
    }
    let mut goals = Vec::new();
    if let [nobody, _, inotify, empty, elsewhere, ebpf] = figures.as_slice() {
        let beside = |figure: &Figure, other: &Figure, what: &str, most| Goal {
            what: format!("what eBPF adds to a write{what}"),
            value: (figure.median() - nobody.median()) / (other.median() - nobody.median()),
            unit: "×",
            limit: Limit::AtMost(most),
            is_binding: false,
        };
        goals.push(beside(ebpf, inotify, ", beside what inotify adds", 0.8));
        let unfollowed = " to a file that nobody follows, beside what an empty kernel program adds";
        goals.push(beside(elsewhere, empty, unfollowed, 1.5));
    }
    if has_ebpf {
        figures.extend(programs.map(|(figure, _)| figure));
    }
    Ok(Measured { figures, goals, curves: Vec::new() })
}

/// Nanoseconds a write.
#[expect(clippy::cast_precision_loss, reason = "far fewer nanoseconds than 2^52")]
fn write(log: &Path) -> Result<f64> {
    let mut file = OpenOptions::new().append(true).open(log)?;
    file.set_len(0)?;
    let began = Instant::now();
    for _ in 0..WRITES {
        file.write_all(&LINE)?;
    }
    Ok(began.elapsed().as_nanos() as f64 / f64::from(WRITES))
}

/// Nanoseconds that one run of the program behind `vfs_write` takes, by the kernel's statistics: what the kernel itself
/// takes to get there and back is not in it.
fn run_time(files: &Files, is_followed: bool) -> Result<f64> {
    let file = if is_followed { &files.log } else { &files.other };
    let running = LogTail::through(Backend::Ebpf)
        .into_nothing()
        .with_metrics()
        .args(["-n", "0", "--measure-cost"])
        .arg(file)
        .follow();
    let before = running.scrape();
    write(&files.log)?;
    let after = running.scrape();
    running.terminate();
    let grown = |name: &str| {
        let series = format!("{name}{{hook=\"vfs_write\",by=\"fexit\"}}");
        let value =
            |scrape: &Scrape| scrape.find(&series).with_context(|| format!("no {series} among the metrics"));
        Ok::<_, anyhow::Error>(value(&after)? - value(&before)?)
    };
    Ok(grown("log_tail_hook_run_time_seconds_total")? * 1e9 / grown("log_tail_hook_runs_total")?)
}
