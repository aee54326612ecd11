//! The event loop: waits for events, room in the output and signals, and moves lines from the source to the output.
//!
//! A signal ends it however much is being done: what was done until then is still shown. A second one does not wait
//! for whoever reads that.

use std::{io, mem};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::yield_now,
    time::interval,
};

use super::{ASKED_EVERY, Because, Filter, Line, Missing, Source, filter::Asked, show::Show, source};
use crate::{
    cli::Observe,
    observe::Readiness,
    output::{
        Queue,
        stdout::{Flushed, Stdout},
    },
    run::{Ended, readable, stop_at_once},
    say::say,
};

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
    let mut stdout = Stdout::new().context("writing to standard output")?;
    let mut source = source(settings)?;
    let readiness = Readiness::readable(source.readiness()).context("waiting for events")?;
    say(format_args!("observing {}", source.what()));
    let mut shown = Shown::new(settings);
    let mut queue = Queue::default();
    let (mut undrained, mut stopping) = (false, false);
    // What was lost may be just what would have told of more.
    let mut ticks = interval(ASKED_EVERY);
    loop {
        let flushed = stdout.flush(&mut queue).context("writing to standard output")?;
        if flushed == Flushed::Closed {
            return Ok(Ended::Well);
        }
        // What is not taken meanwhile waits in the ring, or is counted as missing.
        let blocked = flushed == Flushed::WouldBlock;
        if stopping && !blocked {
            shown.say_totals();
            return Ok(Ended::Well);
        }
        tokio::select! {
            biased;
            _ = interrupt.recv() => shown.stop(source.as_mut(), &mut stopping)?,
            _ = terminate.recv() => shown.stop(source.as_mut(), &mut stopping)?,
            result = stdout.writable(), if blocked => result.context("waiting for standard output")?,
            () = stdout.closed() => return Ok(Ended::Well),
            result = readable(Some(&readiness), undrained), if !blocked && !stopping => {
                result.context("waiting for events")?;
                if !undrained {
                    source.settle();
                }
                undrained = source.drain(&mut shown.lines)?;
            }
            _ = ticks.tick(), if !blocked && !stopping => undrained = source.drain(&mut shown.lines)?,
        }
        shown.encode(&mut queue).context("writing to standard output")?;
        if undrained {
            // The runtime has to look at signals now and then.
            yield_now().await;
        }
    }
}

/// What is shown, and how much of it there was.
struct Shown<'a> {
    filter: &'a Filter,
    show: Show,
    lines: Vec<Line>,
    events: u64,
    ring_full: u64,
    skipped: u64,
    name_lost: u64,
    /// Events of cgroups that nobody can name any more.
    unknown: u64,
}

impl<'a> Shown<'a> {
    fn new(settings: &'a Observe) -> Self {
        Self {
            filter: &settings.filter,
            show: settings.format,
            lines: Vec::new(),
            events: 0,
            ring_full: 0,
            skipped: 0,
            name_lost: 0,
            unknown: 0,
        }
    }

    fn stop(&mut self, source: &mut dyn Source, stopping: &mut bool) -> anyhow::Result<()> {
        if mem::replace(stopping, true) {
            stop_at_once();
        }
        source.end(&mut self.lines)
    }

    fn encode(&mut self, queue: &mut Queue) -> io::Result<()> {
        let mut text = Vec::new();
        for line in self.lines.drain(..) {
            match &line {
                Line::Event(event) => match self.filter.asks_for(event) {
                    Asked::Yes => self.events += 1,
                    Asked::No => continue,
                    Asked::Unknown => {
                        self.unknown += 1;
                        continue;
                    }
                },
                Line::Missing(Missing { events, because: Because::RingFull, .. }) => {
                    self.ring_full += events;
                }
                Line::Missing(Missing { events, because: Because::Skipped, .. }) => self.skipped += events,
                Line::Missing(Missing { events, because: Because::NameLost, .. }) => {
                    self.name_lost += events;
                }
                Line::Missing(_) => {}
            }
            self.show.write(&line, &mut text)?;
        }
        queue.push(text.into());
        Ok(())
    }

    fn say_totals(&self) {
        let Self { events, ring_full, skipped, name_lost, unknown, .. } = self;
        say(format_args!(
            "{events} events shown; {ring_full} found no room in the ring; the kernel skipped {}{skipped}",
            if *skipped == 0 { "" } else { "at most " }
        ));
        if *name_lost > 0 {
            say(format_args!(
                "at most {name_lost} more were done to files whose names are among what is missing"
            ));
        }
        if *unknown > 0 {
            say(format_args!(
                "{unknown} more were done in cgroups that were gone before they could be looked up: --cgroup leaves \
                 those out"
            ));
        }
    }
}
