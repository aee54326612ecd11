//! From before a line is written until it comes out: one line at a time, with a pause after each.
//!
//! Beside log-tail stands the least that anybody can do with inotify, a loop of two reads and a write; and beside that
//! what it takes to wake a thread at all.

use std::{
    fs::{self, File, OpenOptions},
    hint,
    io::{ErrorKind, Read as _, Write as _, pipe},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        eventfd::{EfdFlags, EventFd},
        inotify::{AddWatchFlags, InitFlags, Inotify},
    },
    unistd::Pid,
};

use super::{
    Measured, Plan,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
};
use crate::{backend::Backend, place::Place, run::LogTail};

const LINES: u64 = 2000;
const LINES_QUICK: u64 = 300;
const PAUSE: Duration = Duration::from_millis(1);
/// A line that has not come out by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let all = sched_getaffinity(Pid::from_raw(0)).context("asking for this thread's processors")?;
    let apart = Apart::among(&all, plan);
    let (mut medians, mut slowest) = (of_ways("p50"), of_ways("p99"));
    let lines = if plan.is_quick { LINES_QUICK } else { LINES };
    for _ in 0..plan.runs {
        for (at, way) in ways.iter().enumerate() {
            let micros = run(*way, lines, apart).with_context(|| way.case())?;
            let run = Figure { values: micros, ..Figure::new("", "µs") };
            medians[at].values.push(run.median());
            slowest[at].values.push(run.quantile(0.99));
        }
    }
    sched_setaffinity(Pid::from_raw(0), &all).context("going back to all processors")?;
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
fn run(way: Through, lines: u64, apart: Option<Apart>) -> Result<Vec<f64>> {
    run_on(apart.map(|it| it.follower))?;
    match way {
        Through::Eventfd => ping(lines, apart),
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
            let micros = one_by_one(file, reader, lines, false, apart)?;
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
            let mut running = log_tail.follow();
            let stdout = running.take_stdout();
            let lines = if is_cold { lines / 100 } else { lines };
            let micros = one_by_one(file, stdout, lines, is_cold, apart)?;
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

/// Where who runs. Whoever writes looks for what comes out without sleeping, because to be woken takes as long as much of
/// what is measured; so it has a processor of its own, and whoever follows has another one.
#[derive(Debug, Clone, Copy)]
struct Apart {
    writer: usize,
    follower: usize,
}

impl Apart {
    /// `None` where there is but one processor, and where they are emulated in turns: there the writer sleeps.
    fn among(all: &CpuSet, plan: Plan) -> Option<Self> {
        let mut allowed = (0..CpuSet::count()).filter(|&number| all.is_set(number) == Ok(true));
        let apart = Self { writer: allowed.next()?, follower: allowed.next()? };
        (!plan.is_emulated).then_some(apart)
    }
}

/// From now on this thread runs on this processor, and so does whatever it starts.
fn run_on(processor: Option<usize>) -> Result<()> {
    let Some(number) = processor else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(number)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("moving to processor {number}"))
}

/// Writes one line after the other, each when the one before has come out.
fn one_by_one(
    mut file: File,
    from: impl Into<OwnedFd>,
    lines: u64,
    is_cold: bool,
    apart: Option<Apart>,
) -> Result<Vec<f64>> {
    run_on(apart.map(|it| it.writer))?;
    let mut from = File::from(from.into());
    fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("setting O_NONBLOCK on a pipe")?;
    let mut micros = Vec::new();
    let mut buffer = [0; LINE_BYTES];
    for number in 0..lines {
        thread::sleep(PAUSE);
        if is_cold {
            // As after an hour in which others used the memory: 3 drops pages, names and inodes.
            fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
        }
        let line = content::line(number);
        let (began, mut came) = (Instant::now(), 0);
        file.write_all(line.as_bytes())?;
        while came < LINE_BYTES {
            match from.read(&mut buffer[came..]) {
                Ok(0) => bail!("the follower has ended"),
                Ok(read) => came += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ensure!(began.elapsed() < PATIENCE, "a line does not come out");
                    if apart.is_none() {
                        let mut pipe = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                        poll(&mut pipe, PollTimeout::try_from(PATIENCE)?)?;
                    } else {
                        hint::spin_loop();
                    }
                }
                Err(error) => return Err(error).context("reading what comes out"),
            }
        }
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    ensure!(!micros.is_empty(), "no line was written");
    Ok(micros)
}

fn ping(times: u64, apart: Option<Apart>) -> Result<Vec<f64>> {
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
    run_on(apart.map(|it| it.writer))?;
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
