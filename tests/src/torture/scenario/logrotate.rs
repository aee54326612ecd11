//! Debian's logrotate, forced again and again under a writer that does not wait for it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
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
    ("logrotate-dateext", "logrotate: create, dateext with seconds, 50 times", Exact, |arena| {
        let options = "create\ndateext\ndateformat -%Y%m%d-%s";
        // A name for each second, and no more.
        let pause = Duration::from_millis(1050);
        // Some 20,000 lines a second: a minute of them must fit everywhere.
        let breath = Duration::from_millis(5);
        Rotation { pause, breath, ..Rotation::new(options, Reopening::WhenReplaced) }.run(arena)
    }),
    (
        "logrotate-sharedscripts",
        "logrotate: sharedscripts, the writer of 2 logs signalled, 50 times",
        Exact,
        |arena| {
            let options = "create\nsharedscripts";
            Rotation { logs: &["app.log", "other.log"], ..Rotation::new(options, Reopening::OnSignal) }
                .run(arena)
        },
    ),
    (
        "logrotate-paused",
        "logrotate: create, compress, 3 times while the follower stands still",
        Exact,
        paused,
    ),
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
    logs: &'static [&'static str],
    options: &'static str,
    reopening: Reopening,
    times: u32,
    /// Between two rotations.
    pause: Duration,
    /// The writer's, after 100 lines of each log.
    breath: Duration,
}

impl Rotation {
    fn new(options: &'static str, reopening: Reopening) -> Self {
        Self {
            logs: &["app.log"],
            options,
            reopening,
            times: 50,
            pause: Duration::ZERO,
            breath: Duration::from_micros(500),
        }
    }

    fn run(&self, arena: &mut Arena<'_>) -> Result<()> {
        let signal = SigSet::from(Signal::SIGUSR1);
        if self.reopening == Reopening::OnSignal && !SigSet::thread_get_mask()?.contains(Signal::SIGUSR1) {
            return Err(Skipped("SIGUSR1 is not blocked in this process".into()).into());
        }
        let logs: Vec<PathBuf> = self.logs.iter().map(|log| arena.path(log)).collect();
        let rotate = self.command(arena, &logs)?;
        let mut writers: Vec<Lines> =
            self.logs.iter().zip(&logs).map(|(name, log)| Lines::new(log, name)).collect();
        arena.order.names.clone_from(&logs);
        if let [first, others @ ..] = writers.as_mut_slice() {
            arena.start_with(first)?;
            for lines in others {
                lines.write(1);
                arena.catch_up(lines);
            }
        }
        let (is_over, is_signalled) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| self.write(&logs, &mut writers, &is_over, &is_signalled));
            if self.reopening == Reopening::OnSignal {
                scope.spawn(|| {
                    while signal.wait().is_ok() && !is_over.load(Ordering::Relaxed) {
                        is_signalled.store(true, Ordering::Relaxed);
                    }
                });
            }
            let rotated = (0..self.times).try_for_each(|_| {
                rotate()?;
                std::thread::sleep(self.pause);
                anyhow::Ok(())
            });
            is_over.store(true, Ordering::Relaxed);
            if self.reopening == Reopening::OnSignal {
                kill(Pid::this(), Signal::SIGUSR1)?;
            }
            rotated
        })?;
        for lines in &writers {
            arena.wrote(lines);
        }
        Ok(())
    }

    /// What rotates these once.
    fn command(&self, arena: &Arena<'_>, logs: &[PathBuf]) -> Result<impl Fn() -> Result<()> + use<>> {
        let logrotate = find("logrotate").ok_or_else(|| Skipped("logrotate is not installed here".into()))?;
        let (config, state) = (arena.order.home.join("rotate.conf"), arena.order.home.join("rotate.state"));
        fs::write(&config, self.configuration(logs))?;
        // logrotate trusts no configuration that others can write to.
        fs::set_permissions(&config, Permissions::from_mode(0o644))?;
        Ok(move || {
            let mut command = Command::new(&logrotate);
            command.arg("--force").arg("--state").arg(&state).arg(&config);
            let output = command.output().context("starting logrotate")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "logrotate ended with {}: {said}", output.status);
            Ok(())
        })
    }

    fn configuration(&self, logs: &[PathBuf]) -> String {
        let script = match self.reopening {
            Reopening::OnSignal => format!("postrotate\nkill -USR1 {}\nendscript\n", std::process::id()),
            Reopening::Never | Reopening::WhenReplaced => String::new(),
        };
        let logs: Vec<String> = logs.iter().map(|log| format!("\"{}\"", log.display())).collect();
        format!("{} {{\nrotate 1000\n{}\n{script}}}\n", logs.join(" "), self.options)
    }

    fn write(
        &self,
        logs: &[PathBuf],
        writers: &mut [Lines],
        is_over: &AtomicBool,
        is_signalled: &AtomicBool,
    ) {
        while !is_over.load(Ordering::Relaxed) {
            let is_told = is_signalled.swap(false, Ordering::Relaxed);
            for (log, lines) in logs.iter().zip(&mut *writers) {
                let is_to_reopen = match self.reopening {
                    Reopening::Never => false,
                    Reopening::WhenReplaced => is_replaced(log, lines),
                    Reopening::OnSignal => is_told,
                };
                if is_to_reopen {
                    lines.go_on_in(log);
                }
                lines.write(100);
            }
            std::thread::sleep(self.breath);
        }
    }
}

/// The files that come and are compressed meanwhile are nowhere to be opened any more.
fn paused(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let rotation = Rotation::new("create\ncompress", Reopening::Never);
    let rotate = rotation.command(arena, std::slice::from_ref(&log))?;
    let mut lines = arena.follow(&log)?;
    arena.while_paused(|_| {
        (0..3).try_for_each(|_| {
            lines.write(1000);
            rotate()?;
            lines.go_on_in(&log);
            anyhow::Ok(())
        })
    })?;
    lines.write(1000);
    arena.wrote(&lines);
    Ok(())
}

fn is_replaced(log: &Path, lines: &Lines) -> bool {
    let (Ok(named), Ok(open)) = (fs::metadata(log), lines.file().metadata()) else { return false };
    named.ino() != open.ino()
}
