//! `log-tail observe`: a line for every single event, as it happens. Nothing is coalesced and nothing is read: it shows
//! what is done to files, not what they hold.
//!
//! Where events are missing, the stream says so at that place: those that found no room in the ring are counted
//! exactly, those that the kernel skipped at most. inotify tells less, and what it cannot tell is said at the start.

mod filter;
mod names;
mod operation;
mod paths;
mod renames;
mod run;
mod show;
mod through_ebpf;
mod through_inotify;
mod wanted;

use std::{
    ops::Range,
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};

pub use self::{filter::Filter, operation::Operation, run::run, show::Show};
use self::{through_ebpf::ThroughEbpf, through_inotify::ThroughInotify, wanted::Wanted};
use crate::{
    choose,
    cli::{Backend, Observe},
    observe::{
        Writer, cgroup,
        ebpf::load::{LoadOptions, Telling},
    },
};

/// How often the kernel is asked for what it did not tell.
const ASKED_EVERY: Duration = Duration::from_secs(1);

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
    /// They were told, but not what the file is called: that was among what is missing. At most so many, for nobody
    /// may want the file.
    NameLost,
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

    /// Appends what was done until now, however much is done meanwhile, and what is to be said of what nobody told.
    fn end(&mut self, lines: &mut Vec<Line>) -> anyhow::Result<()>;
}

fn source(settings: &Observe) -> anyhow::Result<Box<dyn Source>> {
    let wanted = Wanted::new(&settings.names)?;
    if settings.backend == Backend::Inotify {
        return through_inotify(settings, wanted, None);
    }
    let room = choose::room(settings.names.len());
    let options = LoadOptions { ring_bytes: settings.ring_bytes, ..LoadOptions::new(room, Telling::Events) };
    match crate::observe::ebpf::events::Events::new(options) {
        Ok(_) if !settings.filter.cgroups.is_empty() && !cgroup::is_mounted() => {
            bail!("--cgroup needs the cgroup2 hierarchy to be mounted: mount -t cgroup2 none /sys/fs/cgroup")
        }
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
