//! Programs that follow files, started beside each other: log-tail, and what people use.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::process::Taken;
use crate::{
    place::Place,
    torture::subject::{FLUENT_BIT, LogTail, Order, Rsyslog, Subject, Tail, VECTOR},
};

/// Who has delivered nothing for so long has lost the rest.
const PATIENCE: Duration = Duration::from_secs(10);

/// log-tail through this backend, and after it those of the others that are here.
pub fn all(backend: &'static str) -> Result<Vec<Box<dyn Subject>>> {
    let others: [Box<dyn Subject>; 4] =
        [Box::new(Tail), Box::new(Rsyslog), Box::new(FLUENT_BIT), Box::new(VECTOR)];
    let mut here: Vec<Box<dyn Subject>> = vec![Box::new(LogTail::new(backend)?)];
    for other in others {
        match other.lacks() {
            Some(why) => eprintln!("bench: without {}: {why}", other.name()),
            None => here.push(other),
        }
    }
    Ok(here)
}

/// One of them, at work. It is ended when this is dropped.
pub struct Rival {
    name: &'static str,
    is_ours: bool,
    child: Child,
    delivered: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
    /// For its own files.
    _home: Place,
}

impl Rival {
    /// Starts it on these files, from their beginnings; `glob` matches them all. What it says is left out.
    pub fn start(subject: &dyn Subject, names: Vec<PathBuf>, glob: Option<PathBuf>) -> Result<Self> {
        let home = Place::new();
        let order = Order { names, glob, home: home.dir().to_owned(), ..Order::default() };
        let mut command = subject.command(&order)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("starting {}", subject.name()))?;
        let mut stdout = child.stdout.take().context("a pipe")?;
        let delivered = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&delivered);
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                counted.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        let (name, is_ours) = (subject.name(), subject.is_ours());
        Ok(Self { name, is_ours, child, delivered, reader: Some(reader), _home: home })
    }

    /// Waits until so many bytes have come out, or nothing more does: how many did. Of others than log-tail it is said
    /// how much they lost.
    ///
    /// # Errors
    /// log-tail has not delivered all.
    pub fn wait_for(&self, bytes: u64) -> Result<u64> {
        let (mut delivered, mut since) = (0, Instant::now());
        while delivered < bytes {
            thread::sleep(Duration::from_millis(1));
            let now = self.delivered();
            if now > delivered {
                (delivered, since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                let what = format!("{} has delivered {delivered} bytes of {bytes}", self.name);
                ensure!(!self.is_ours, "{what}");
                eprintln!("bench: {what}");
                break;
            }
        }
        Ok(delivered)
    }

    /// Bytes that have come out.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Result<Taken> {
        Taken::by(self.child.id()).with_context(|| format!("looking at {}", self.name))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
