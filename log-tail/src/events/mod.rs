//! `log-tail observe`: a line for every single event, as it happens. Nothing is coalesced and nothing is read: it shows
//! what is done to files, not what they hold.
//!
//! Where events are missing, the stream says so at that place: those that found no room in the ring are counted
//! exactly, those that the kernel skipped at most. inotify tells less, and what it cannot tell is said at the start.

mod filter;
mod operation;
mod paths;
mod renames;
mod show;
mod through_ebpf;
mod through_inotify;
mod wanted;

use std::{
    io::{self, BufWriter, Write as _},
    ops::Range,
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

pub use self::{filter::Filter, operation::Operation};
use self::{show::Show, through_ebpf::ThroughEbpf, through_inotify::ThroughInotify, wanted::Wanted};
use crate::{
    choose,
    cli::{Backend, Observe, OutputFormat},
    observe::{
        Readiness, Writer,
        ebpf::load::{LoadOptions, Telling},
    },
    run::Ended,
    say::say,
};

/// Bytes that wait for standard output.
const OUTPUT_BYTES: usize = 64 << 10;

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Event(Event),
    Missing(Missing),
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    time: SystemTime,
    operation: Operation,
    /// `None` where it is not known, or not in an observed directory any more.
    path: Option<PathBuf>,
    /// Of a rename: what it was called.
    from: Option<PathBuf>,
    /// The inode, as the kernel numbers it.
    inode: Option<Inode>,
    /// Which bytes.
    bytes: Option<Range<u64>>,
    size_before: Option<u64>,
    size_after: Option<u64>,
    /// fallocate's.
    mode: Option<u32>,
    writer: Option<Arc<Writer>>,
}

/// A number on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    major: u32,
    minor: u32,
    number: u64,
}

/// Events that are not shown, for nobody told of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Missing {
    time: SystemTime,
    events: u64,
    because: Because,
}

/// Why nobody told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    /// The ring was full: exactly so many.
    RingFull,
    /// The kernel skipped the kernel program: at most so many.
    Skipped,
    /// inotify's queue was full: nobody knows how many.
    QueueFull,
}

/// Where events come from.
trait Source {
    /// Readable when there are some.
    fn readiness(&self) -> BorrowedFd<'_>;

    /// Appends those that wait, boundedly many. `true` where more may wait.
    fn drain(&mut self, lines: &mut Vec<Line>) -> anyhow::Result<bool>;

    /// What is observed, for the first line on standard error.
    fn what(&self) -> String;

    /// Called after it was readable, and before it is drained.
    fn settle(&self) {}

    /// Called when it is not read any more: appends what is to be said of what nobody told.
    fn end(&mut self, _: &mut Vec<Line>) {}
}

/// Shows events until a signal, or until nobody reads them.
///
/// # Errors
/// Where something cannot be observed, the backend asked for is not to be had, or the output fails.
pub fn run(settings: &Observe) -> anyhow::Result<Ended> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(observe(settings))
}

async fn observe(settings: &Observe) -> anyhow::Result<Ended> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut source = source(settings)?;
    let readiness = Readiness::readable(source.readiness()).context("waiting for events")?;
    say(format_args!("observing {}", source.what()));
    let mut shown = Shown::new(settings);
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            ready = readiness.readable() => {
                ready.context("waiting for events")?.clear_ready();
                source.settle();
                if shown.all_of(source.as_mut())? == Reader::Gone {
                    return Ok(Ended::Well);
                }
            }
        }
    }
    shown.all_of(source.as_mut())?;
    source.end(&mut shown.lines);
    shown.print().and_then(|()| shown.stdout.flush()).context("writing to standard output")?;
    shown.say_totals();
    Ok(Ended::Well)
}

fn source(settings: &Observe) -> anyhow::Result<Box<dyn Source>> {
    let wanted = Wanted::new(&settings.names)?;
    if settings.backend == Backend::Inotify {
        return through_inotify(settings, wanted, None);
    }
    let room = choose::room(settings.names.len());
    let options = LoadOptions { ring_bytes: settings.ring_bytes, ..LoadOptions::new(room, Telling::Events) };
    match crate::observe::ebpf::events::Events::new(options) {
        Ok(events) => Ok(Box::new(ThroughEbpf::new(events, wanted, room)?)),
        Err(error) if settings.backend == Backend::Ebpf => {
            Err(error).context("the eBPF backend is not available here ('log-tail doctor' tells why)")
        }
        Err(error) => through_inotify(settings, wanted, Some(&error.to_string())),
    }
}

fn through_inotify(
    settings: &Observe,
    wanted: Wanted,
    because: Option<&str>,
) -> anyhow::Result<Box<dyn Source>> {
    if let Some(option) = settings.filter.needs_writer() {
        let why = because.map(|why| format!(", and eBPF is not available here: {why}")).unwrap_or_default();
        anyhow::bail!("{option} needs eBPF: inotify does not tell who does something{why}");
    }
    Ok(Box::new(ThroughInotify::new(wanted, because)?))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    There,
    Gone,
}

/// What is printed, and how much of it there was.
struct Shown<'a> {
    filter: &'a Filter,
    show: Show,
    stdout: BufWriter<io::Stdout>,
    lines: Vec<Line>,
    events: u64,
    ring_full: u64,
    skipped: u64,
}

impl<'a> Shown<'a> {
    fn new(settings: &'a Observe) -> Self {
        Self {
            filter: &settings.filter,
            show: match settings.format {
                OutputFormat::Text => Show::Text,
                OutputFormat::Json => Show::Json,
            },
            stdout: BufWriter::with_capacity(OUTPUT_BYTES, io::stdout()),
            lines: Vec::new(),
            events: 0,
            ring_full: 0,
            skipped: 0,
        }
    }

    fn all_of(&mut self, source: &mut dyn Source) -> anyhow::Result<Reader> {
        loop {
            let more = source.drain(&mut self.lines)?;
            let printed = self.print();
            let printed = if more { printed } else { printed.and_then(|()| self.stdout.flush()) };
            match printed {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Reader::Gone),
                result => result.context("writing to standard output")?,
            }
            if !more {
                return Ok(Reader::There);
            }
        }
    }

    fn print(&mut self) -> io::Result<()> {
        for line in self.lines.drain(..) {
            match &line {
                Line::Event(event) if !self.filter.keeps(event) => continue,
                Line::Event(_) => self.events += 1,
                Line::Missing(Missing { events, because: Because::RingFull, .. }) => {
                    self.ring_full += events;
                }
                Line::Missing(Missing { events, because: Because::Skipped, .. }) => self.skipped += events,
                Line::Missing(_) => {}
            }
            self.show.write(&line, &mut self.stdout)?;
        }
        Ok(())
    }

    fn say_totals(&self) {
        let Self { events, ring_full, skipped, .. } = self;
        say(format_args!(
            "{events} events shown; {ring_full} found no room in the ring; the kernel skipped {}{skipped}",
            if *skipped == 0 { "" } else { "at most " }
        ));
    }
}
