//! Debian's logrotate, forced again and again under a writer that does not wait for it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

use super::{
    Listed,
    Promise::{Exact, LossCounted},
};
use crate::{
    torture::{
        arena::{Arena, Skipped},
        subject::find,
    },
    write::Lines,
};

pub const SCENARIOS: &[Listed] = &[
    ("logrotate-create", "logrotate: create, 50 times", Exact, |arena| {
        Rotation::new("create", Reopening::WhenReplaced).run(arena)
    }),
    ("logrotate-copytruncate", "logrotate: copytruncate, 50 times", LossCounted, |arena| {
        Rotation::new("copytruncate", Reopening::Never).run(arena)
    }),
    ("logrotate-compress", "logrotate: create, compress, 50 times", Exact, |arena| {
        Rotation::new("create\ncompress", Reopening::WhenReplaced).run(arena)
    }),
    ("logrotate-delaycompress", "logrotate: create, compress, delaycompress, 50 times", Exact, |arena| {
        Rotation::new("create\ncompress\ndelaycompress", Reopening::WhenReplaced).run(arena)
    }),
    ("logrotate-dateext", "logrotate: create, dateext with seconds, 8 times", Exact, |arena| {
        let options = "create\ndateext\ndateformat -%Y%m%d-%s";
        // A name for each second, and no more.
        let pause = Duration::from_millis(1050);
        Rotation { times: 8, pause, ..Rotation::new(options, Reopening::WhenReplaced) }.run(arena)
    }),
    ("logrotate-sharedscripts", "logrotate: sharedscripts, the writer signalled, 50 times", Exact, |arena| {
        Rotation::new("create\nsharedscripts", Reopening::OnSignal).run(arena)
    }),
];

/// How a writer learns that it is to open its file anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reopening {
    Never,
    /// It looks now and then whether its name is another file's.
    WhenReplaced,
    /// logrotate's script sends SIGUSR1.
    OnSignal,
}

#[derive(Debug)]
struct Rotation {
    options: &'static str,
    reopening: Reopening,
    times: u32,
    pause: Duration,
}

impl Rotation {
    fn new(options: &'static str, reopening: Reopening) -> Self {
        Self { options, reopening, times: 50, pause: Duration::ZERO }
    }

    fn run(&self, arena: &mut Arena<'_>) -> Result<()> {
        let logrotate = find("logrotate").ok_or_else(|| Skipped("logrotate is not installed here".into()))?;
        let signal = SigSet::from(Signal::SIGUSR1);
        if self.reopening == Reopening::OnSignal && !SigSet::thread_get_mask()?.contains(Signal::SIGUSR1) {
            return Err(Skipped("SIGUSR1 is not blocked in this process".into()).into());
        }
        let log = arena.path("app.log");
        let (config, state) = (arena.order.home.join("rotate.conf"), arena.order.home.join("rotate.state"));
        fs::write(&config, self.configuration(&log))?;
        // logrotate trusts no configuration that others can write to.
        fs::set_permissions(&config, Permissions::from_mode(0o644))?;
        let mut lines = arena.follow(&log)?;
        let (is_over, is_signalled) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| self.write(&log, &mut lines, &is_over, &is_signalled));
            if self.reopening == Reopening::OnSignal {
                scope.spawn(|| {
                    while signal.wait().is_ok() && !is_over.load(Ordering::Relaxed) {
                        is_signalled.store(true, Ordering::Relaxed);
                    }
                });
            }
            let rotate = || {
                for _ in 0..self.times {
                    let mut command = Command::new(&logrotate);
                    command.arg("--force").arg("--state").arg(&state).arg(&config);
                    let output = command.output().context("starting logrotate")?;
                    let said = String::from_utf8_lossy(&output.stderr);
                    ensure!(output.status.success(), "logrotate ended with {}: {said}", output.status);
                    std::thread::sleep(self.pause);
                }
                anyhow::Ok(())
            };
            let rotated = rotate();
            is_over.store(true, Ordering::Relaxed);
            if self.reopening == Reopening::OnSignal {
                kill(Pid::this(), Signal::SIGUSR1)?;
            }
            rotated
        })?;
        arena.wrote(&lines);
        Ok(())
    }

    fn configuration(&self, log: &Path) -> String {
        let script = match self.reopening {
            Reopening::OnSignal => format!("postrotate\nkill -USR1 {}\nendscript\n", std::process::id()),
            Reopening::Never | Reopening::WhenReplaced => String::new(),
        };
        format!("\"{}\" {{\nrotate 1000\n{}\n{script}}}\n", log.display(), self.options)
    }

    fn write(&self, log: &Path, lines: &mut Lines, is_over: &AtomicBool, is_signalled: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            lines.write(100);
            let is_to_reopen = match self.reopening {
                Reopening::Never => false,
                Reopening::WhenReplaced => is_replaced(log, lines),
                Reopening::OnSignal => is_signalled.swap(false, Ordering::Relaxed),
            };
            if is_to_reopen {
                lines.go_on_in(log);
            }
            // Some 100,000 lines a second: 8 seconds of them must still fit everywhere.
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

fn is_replaced(log: &Path, lines: &Lines) -> bool {
    let (Ok(named), Ok(open)) = (fs::metadata(log), lines.file().metadata()) else { return false };
    named.ino() != open.ino()
}
