//! Many files that nobody writes to: what they take while nothing happens, and what becomes of it as they become more.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Curve, Measured, Plan,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
    process::{Taken, seconds_since},
};
use crate::{backend::Backend, place::Place, run::LogTail};

/// Files, in folders of a thousand.
const FILES: usize = 100_000;
const FILES_QUICK: usize = 5000;
const IDLE: Duration = Duration::from_secs(60);
const IDLE_QUICK: Duration = Duration::from_secs(5);

/// Numbers of files that the curves go over.
const GROWTH: [usize; 4] = [1000, 10_000, 100_000, 1_000_000];

/// Events of which the cost is measured, each of another file.
const EVENTS: usize = 1000;

/// What so many files take.
struct Taking {
    started_s: f64,
    memory_kib: f64,
    descriptors: f64,
    event_us: f64,
    idle: Option<(f64, f64)>,
}

/// One run: each takes minutes, and what it counts hardly differs.
pub fn measure(plan: Plan) -> Result<Measured> {
    let (count, idle) = if plan.is_quick { (FILES_QUICK, IDLE_QUICK) } else { (FILES, IDLE) };
    let mut measured = Measured::default();
    for backend in backends(plan) {
        let few = take(backend, 1, None)?;
        let Taking { started_s, memory_kib, descriptors, idle, .. } = take(backend, count, Some(idle))?;
        let (cpu, sleeps) = idle.context("it was idle")?;
        let figure = |what: &str, unit, value| Figure {
            values: vec![value],
            ..Figure::new(format!("log-tail, {}, {count} idle files: {what}", backend.word()), unit)
        };
        #[expect(clippy::cast_precision_loss, reason = "far fewer files than 2^52")]
        let a_file = (memory_kib - few.memory_kib) / count as f64;
        let figures = [
            figure("started", "s", started_s),
            figure("memory a file", "KiB", a_file),
            figure("processors' time", "%", cpu),
            figure("woken", "times a minute", sleeps),
            figure("descriptors", "descriptors", descriptors),
        ];
        let limits = [3.0, 1.0, 0.1, 0.0, 64.0].map(Limit::AtMost);
        // Besides the sweep, which comes once a minute and wakes it for each file it looks at.
        let goals = figures.iter().zip(limits).filter(|(figure, _)| !figure.case.ends_with("woken"));
        measured.goals.extend(goals.map(|(figure, limit)| Goal::of(figure, limit)));
        measured.figures.extend(figures);
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
            let taking = take(backend, count, None)?;
            let figure = |what: &str, unit, value| Figure {
                values: vec![value],
                ..Figure::new(format!("log-tail, {}, {count} files: {what}", backend.word()), unit)
            };
            measured.figures.extend([
                figure("memory", "MiB", taking.memory_kib / 1024.0),
                figure("an event", "µs of the processors", taking.event_us),
                figure("started", "s", taking.started_s),
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

/// Follows so many files, for so long while nothing is written; then writes to some.
#[expect(clippy::cast_precision_loss, reason = "far fewer events than 2^52")]
fn take(backend: Backend, count: usize, idle: Option<Duration>) -> Result<Taking> {
    let place = Place::new();
    let paths = content::files(place.dir(), count)?;
    let began = std::time::Instant::now();
    let mut log_tail =
        LogTail::through(backend).unheard().args(["-q", "-n", "0"]).arg(place.path("*/*.log")).follow();
    let started_s = seconds_since(began);
    let mut stdout = log_tail.take_stdout();
    let pid = log_tail.pid().as_raw().unsigned_abs();
    // What it does after it has started is done.
    thread::sleep(Duration::from_secs(1));
    let before = Taken::by(pid)?;
    let idle = idle
        .map(|idle| {
            thread::sleep(idle);
            let after = Taken::by(pid)?;
            let cpu = (after.cpu_s - before.cpu_s) / idle.as_secs_f64() * 100.0;
            let sleeps = (after.sleeps - before.sleeps) as f64 / idle.as_secs_f64() * 60.0;
            Ok::<_, anyhow::Error>((cpu, sleeps))
        })
        .transpose()?;
    let before = Taken::by(pid)?;
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
    log_tail.terminate();
    Ok(Taking {
        started_s,
        memory_kib: before.memory_kib as f64,
        descriptors: before.descriptors as f64,
        event_us,
        idle,
    })
}
