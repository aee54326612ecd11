//! Many files that nobody writes to: what they take while nothing happens, and what becomes of it as they become more.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    Curve, Measured, Plan,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
    process::{Taken, inotify_watches, seconds_since},
};
use crate::{backend::Backend, place::Place, run::LogTail};

/// Files, in folders of a thousand.
const FILES: usize = 100_000;
const FILES_QUICK: usize = 5000;
const IDLE: Duration = Duration::from_secs(60);
const IDLE_QUICK: Duration = Duration::from_secs(5);

/// So often that there are some while it is idle; and so rarely that there are none. At a sweep it closes what nobody
/// writes to.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_QUICK: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Numbers of files that the curves go over.
const GROWTH: [usize; 4] = [1000, 10_000, 100_000, 1_000_000];

/// Events of which the cost is measured, each of another file.
const EVENTS: usize = 1000;

/// What so many files take.
struct Taking {
    started_s: f64,
    memory_kib: f64,
    descriptors: f64,
    watches: f64,
    event_us: f64,
    ended_s: f64,
    idle: Idle,
}

/// What it takes while nothing is written.
struct Idle {
    /// Of the processors.
    cpu_s: f64,
    wakeups: u64,
}

/// One run: each takes minutes, and what it counts hardly differs.
#[expect(clippy::cast_precision_loss, reason = "far fewer files than 2^52")]
pub fn measure(plan: Plan) -> Result<Measured> {
    let (count, idle, sweep) =
        if plan.is_quick { (FILES_QUICK, IDLE_QUICK, SWEEP_QUICK) } else { (FILES, IDLE, SWEEP) };
    let mut measured = Measured::default();
    for backend in backends(plan) {
        let few = take(backend, 1, Duration::ZERO, Some(NEVER))?;
        let many = take(backend, count, idle, None)?;
        let unswept = take(backend, count, idle, Some(NEVER))?;
        let swept = take(backend, count, idle, Some(sweep))?;
        let mut add = |what: &str, unit, value| {
            let case = format!("log-tail, {}, {count} idle files: {what}", backend.word());
            let figure = Figure { values: vec![value], ..Figure::new(case, unit) };
            measured.figures.push(figure.clone());
            figure
        };
        let at_most = |figure: &Figure, limit| Goal::of(figure, Limit::AtMost(limit));
        let a_file = (many.memory_kib - few.memory_kib) / count as f64;
        let sweeps = idle.as_secs_f64() / sweep.as_secs_f64();
        // Through inotify a directory has one.
        let watches = if matches!(backend, Backend::Inotify) { 0.01 } else { 0.0 };
        let goals = [
            at_most(&add("started", "s", many.started_s), 3.0),
            at_most(&add("memory a file", "KiB", a_file), 1.0),
            at_most(&add("processors' time", "%", many.idle.cpu_s / idle.as_secs_f64() * 100.0), 0.1),
            at_most(&add("woken, but for sweeps", "times", unswept.idle.wakeups as f64), 0.0).binding(),
            at_most(&add("descriptors", "descriptors", swept.descriptors), 64.0).binding(),
            at_most(&add("inotify watches", "a file", many.watches / count as f64), watches).binding(),
        ];
        add("a sweep", "ms of the processors", swept.idle.cpu_s / sweeps * 1e3);
        add("ended", "s", many.ended_s);
        measured.goals.extend(goals);
    }
    Ok(measured)
}

/// The curves.
#[expect(clippy::cast_precision_loss, reason = "far fewer files than 2^52")]
pub fn growth(plan: Plan) -> Result<Measured> {
    let mut measured = Measured::default();
    let counts = if plan.is_quick { &GROWTH[..2] } else { &GROWTH[..] };
    for backend in backends(plan) {
        let (mut memory, mut events, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for &count in counts {
            eprintln!("bench: {count} files, {}", backend.word());
            let taking = take(backend, count, Duration::ZERO, Some(NEVER))?;
            let figure = |what: &str, unit, value| Figure {
                values: vec![value],
                ..Figure::new(format!("log-tail, {}, {count} files: {what}", backend.word()), unit)
            };
            measured.figures.extend([
                figure("memory", "MiB", taking.memory_kib / 1024.0),
                figure("an event", "µs of the processors", taking.event_us),
                figure("started", "s", taking.started_s),
                figure("ended", "s", taking.ended_s),
            ]);
            memory.push((count as f64, taking.memory_kib / 1024.0));
            events.push((count as f64, taking.event_us));
            starts.push((count as f64, taking.started_s));
        }
        let word = backend.word();
        measured.curves.extend([
            Curve { title: "memory by files", x: "files", y: "MiB", name: word, points: memory },
            Curve {
                title: "one event by files",
                x: "files",
                y: "µs of the processors",
                name: word,
                points: events,
            },
            Curve { title: "start by files", x: "files", y: "s", name: word, points: starts },
        ]);
    }
    Ok(measured)
}

fn backends(plan: Plan) -> Vec<Backend> {
    if plan.has_ebpf { vec![Backend::Inotify, Backend::Ebpf] } else { vec![Backend::Inotify] }
}

/// Follows so many files, sweeping that often where it is said, for so long while nothing is written; then writes to some.
#[expect(clippy::cast_precision_loss, reason = "far fewer events than 2^52")]
fn take(backend: Backend, count: usize, idle: Duration, sweep: Option<Duration>) -> Result<Taking> {
    let place = Place::new();
    let paths = content::files(place.dir(), count)?;
    let began = std::time::Instant::now();
    let sweep = sweep.map(|sweep| format!("--sweep={}s", sweep.as_secs()));
    let log_tail = LogTail::through(backend).unheard().args(["-q", "-n", "0"]).args(sweep);
    let mut log_tail = log_tail.arg(place.path("*/*.log")).follow();
    let started_s = seconds_since(began);
    let mut stdout = log_tail.take_stdout();
    let pid = log_tail.pid().as_raw().unsigned_abs();
    let was = at_rest(pid)?;
    thread::sleep(idle);
    let before = Taken::by(pid)?;
    let idle = Idle { cpu_s: before.cpu_s - was.cpu_s, wakeups: before.sleeps - was.sleeps };
    let watches = inotify_watches(pid)?;
    let mut line = vec![0; LINE_BYTES];
    let step = (count / EVENTS).max(1);
    let mut events = 0;
    for path in paths.iter().step_by(step).take(EVENTS) {
        std::fs::OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, content::line(7).as_bytes()))
            .with_context(|| format!("writing to {}", path.display()))?;
        std::io::Read::read_exact(&mut stdout, &mut line).context("reading a line")?;
        events += 1;
    }
    let after = Taken::by(pid)?;
    let event_us = (after.cpu_s - before.cpu_s) * 1e6 / f64::from(events);
    let ending = std::time::Instant::now();
    log_tail.terminate();
    let ended_s = seconds_since(ending);
    Ok(Taking {
        started_s,
        memory_kib: before.memory_kib as f64,
        descriptors: before.descriptors as f64,
        watches: watches as f64,
        event_us,
        ended_s,
        idle,
    })
}

/// What it had taken when it had done what it does after it has started: then it takes nothing for a while.
fn at_rest(pid: u32) -> Result<Taken> {
    let mut was = Taken::by(pid)?;
    for _ in 0..60 {
        thread::sleep(Duration::from_millis(500));
        let now = Taken::by(pid)?;
        if now.sleeps == was.sleeps && now.cpu_s <= was.cpu_s {
            return Ok(now);
        }
        was = now;
    }
    bail!("log-tail does not come to rest: 30 s after its start it goes on taking time")
}
