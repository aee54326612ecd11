//! From before a line is written until it comes out: one line at a time, with a pause after each.
//!
//! Beside log-tail stands the least that anybody can do with inotify, a loop of two reads and a write; and beside that
//! what it takes to wake a thread at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _, pipe},
    path::Path,
    process::ChildStdout,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{
    Measured, Plan,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
};
use crate::{
    backend::Backend,
    place::Place,
    run::{LogTail, Running},
};

const LINES: u64 = 2000;
const LINES_QUICK: u64 = 300;
const PAUSE: Duration = Duration::from_millis(1);

/// Files that are followed beside the one that is written to, and idle.
const IDLE_FILES: usize = 10_000;

/// Who hands on what is written.
#[derive(Debug, Clone, Copy)]
enum Through {
    Eventfd,
    Loop,
    LogTail(Followed),
}

/// How log-tail follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Followed {
    backend: Backend,
    idle_files: usize,
    is_cold: bool,
    is_eager: bool,
}

impl Followed {
    /// As nobody asked for anything else.
    fn through(backend: Backend) -> Self {
        Self { backend, idle_files: 0, is_cold: false, is_eager: false }
    }
}

impl Through {
    fn case(self) -> String {
        match self {
            Self::Eventfd => "eventfd from thread to thread".to_owned(),
            Self::Loop => "inotify and read in a loop".to_owned(),
            Self::LogTail(Followed { backend, idle_files, is_cold, is_eager }) => {
                let beside =
                    if idle_files > 0 { format!(", {idle_files} idle files beside") } else { String::new() };
                let cold = if is_cold { ", caches dropped" } else { "" };
                let eager = if is_eager { ", --low-latency" } else { "" };
                format!("log-tail, {}{eager}{beside}{cold}", backend.word())
            }
        }
    }
}

/// Measures every way in turn, so many times: of each run the median, and what one line of a hundred exceeds.
pub fn measure(plan: Plan) -> Result<Measured> {
    let mut backends = vec![Backend::Inotify];
    if plan.has_ebpf {
        backends.push(Backend::Ebpf);
    }
    let mut ways = vec![Through::Eventfd, Through::Loop];
    let log_tail = |change: fn(Followed) -> Followed| {
        backends.iter().map(move |&backend| Through::LogTail(change(Followed::through(backend))))
    };
    ways.extend(log_tail(|it| it));
    ways.extend(log_tail(|it| Followed { is_eager: true, ..it }));
    if !plan.is_quick {
        ways.extend(log_tail(|it| Followed { idle_files: IDLE_FILES, ..it }));
        ways.extend(log_tail(|it| Followed { is_cold: true, ..it }));
    }
    let of_ways = |what: &str| -> Vec<Figure> {
        ways.iter().map(|way| Figure::new(format!("{}: {what}", way.case()), "µs")).collect()
    };
    let (mut medians, mut slowest) = (of_ways("p50"), of_ways("p99"));
    let lines = if plan.is_quick { LINES_QUICK } else { LINES };
    for _ in 0..plan.runs {
        for (at, way) in ways.iter().enumerate() {
            let micros = run(*way, lines).with_context(|| way.case())?;
            let run = Figure { values: micros, ..Figure::new("", "µs") };
            medians[at].values.push(run.median());
            slowest[at].values.push(run.quantile(0.99));
        }
    }
    let at = |wanted: Followed| {
        ways.iter().position(|way| matches!(way, Through::LogTail(followed) if *followed == wanted))
    };
    let mut goals = Vec::new();
    if let Some(inotify) = at(Followed::through(Backend::Inotify)) {
        goals.push(Goal::ratio(&medians[inotify], &medians[1], Limit::AtMost(1.3)));
        if let Some(ebpf) = at(Followed::through(Backend::Ebpf)) {
            goals.push(Goal::ratio(&medians[ebpf], &medians[inotify], Limit::AtMost(1.3)));
        }
        for &backend in &backends {
            if let Some(eager) = at(Followed { is_eager: true, ..Followed::through(backend) }) {
                goals.push(Goal::ratio(&medians[eager], &medians[inotify], Limit::AtMost(0.7)));
                goals.push(Goal::ratio(&slowest[eager], &slowest[inotify], Limit::AtMost(0.3)));
            }
        }
    }
    medians.extend(slowest);
    Ok(Measured { figures: medians, goals, curves: Vec::new() })
}

/// Microseconds that each line took.
fn run(way: Through, lines: u64) -> Result<Vec<f64>> {
    match way {
        Through::Eventfd => ping(lines),
        Through::Loop => {
            let place = Place::new();
            let path = place.path("app.log");
            let file = appended(&path)?;
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
            inotify.add_watch(&path, AddWatchFlags::IN_MODIFY)?;
            let mut log = File::open(&path)?;
            let (reader, mut writer) = pipe()?;
            let follower = thread::spawn(move || -> Result<()> {
                let mut buffer = vec![0; 64 << 10];
                for _ in 0..lines {
                    let mut read = 0;
                    while read == 0 {
                        inotify.read_events()?;
                        read = log.read(&mut buffer)?;
                    }
                    writer.write_all(&buffer[..read])?;
                }
                Ok(())
            });
            let micros = one_by_one(file, reader, lines, false)?;
            follower.join().expect("a thread that ends")?;
            Ok(micros)
        }
        Through::LogTail(Followed { backend, idle_files, is_cold, is_eager }) => {
            let place = Place::new();
            content::files(&place.path("idle"), idle_files)?;
            let path = place.path("app.log");
            let file = appended(&path)?;
            let log_tail = LogTail::through(backend).unheard().args(["-q", "-n", "0"]).arg(&path);
            let log_tail = if is_eager { log_tail.arg("--low-latency") } else { log_tail };
            let log_tail = if idle_files > 0 { log_tail.arg(place.path("idle/*/*.log")) } else { log_tail };
            let mut running: Running = log_tail.follow();
            let stdout: ChildStdout = running.take_stdout();
            let lines = if is_cold { lines / 100 } else { lines };
            let micros = one_by_one(file, stdout, lines, is_cold)?;
            running.terminate();
            Ok(micros)
        }
    }
}

fn appended(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("making {}", path.display()))
}

/// Writes one line after the other, each when the one before has come out.
fn one_by_one(
    mut file: File,
    mut from: impl std::io::Read + Send + 'static,
    lines: u64,
    is_cold: bool,
) -> Result<Vec<f64>> {
    let (arrived, arrivals) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut buffer = [0; LINE_BYTES];
        while from.read_exact(&mut buffer).is_ok() && arrived.send(Instant::now()).is_ok() {}
    });
    let mut micros = Vec::new();
    for number in 0..lines {
        thread::sleep(PAUSE);
        if is_cold {
            // As after an hour in which others used the memory: 3 drops pages, names and inodes.
            fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
        }
        let line = content::line(number);
        let began = Instant::now();
        file.write_all(line.as_bytes())?;
        let arrived =
            arrivals.recv_timeout(Duration::from_secs(60)).context("a line that does not come out")?;
        micros.push((arrived - began).as_secs_f64() * 1e6);
    }
    drop(arrivals);
    // It ends with the next line, or with the follower.
    file.write_all(content::line(0).as_bytes())?;
    drop(reader);
    ensure!(!micros.is_empty(), "no line was written");
    Ok(micros)
}

fn ping(times: u64) -> Result<Vec<f64>> {
    let ping = std::sync::Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
    let pinged = std::sync::Arc::clone(&ping);
    let (arrived, arrivals) = mpsc::channel();
    let reader = thread::spawn(move || {
        for _ in 0..times {
            if pinged.read().is_err() || arrived.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    let mut micros = Vec::new();
    for _ in 0..times {
        thread::sleep(PAUSE);
        let began = Instant::now();
        ping.write(1)?;
        micros.push((arrivals.recv().context("a ping that does not arrive")? - began).as_secs_f64() * 1e6);
    }
    reader.join().expect("a thread that ends");
    Ok(micros)
}
