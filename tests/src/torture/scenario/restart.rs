//! Stopped and started again, with state to go on from.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{
    Listed,
    Promise::{Exact, RepeatsAllowed},
};
use crate::{
    torture::arena::{Arena, Skipped},
    write::Lines,
};

pub const SCENARIOS: &[Listed] = &[
    ("restart", "SIGTERM and started again, 5 times under load", Exact, |arena| {
        under_load(arena, 5, Signal::SIGTERM, renamed)
    }),
    ("restart-rotated", "rotated once while down", Exact, |arena| while_down(arena, 1, renamed)),
    ("restart-rotated-3", "rotated three times while down", Exact, |arena| while_down(arena, 3, renamed)),
    ("restart-compressed", "rotated and compressed while down", Exact, |arena| {
        while_down(arena, 1, compressed)
    }),
    ("restart-copied-3", "copied and truncated three times while down", Exact, |arena| {
        while_down(arena, 3, copied)
    }),
    ("restart-killed", "SIGKILL at random, 10 times over a rotating file", RepeatsAllowed, |arena| {
        under_load(arena, 10, Signal::SIGKILL, renamed)
    }),
    (
        "restart-killed-copied",
        "SIGKILL at random, 10 times over a file that is copied and truncated",
        RepeatsAllowed,
        |arena| under_load(arena, 10, Signal::SIGKILL, copied),
    ),
];

/// Moves what the file holds to another name, and has the writer go on.
type Rotate = fn(&mut Lines, &Path, &Path) -> Result<()>;

fn renamed(lines: &mut Lines, log: &Path, to: &Path) -> Result<()> {
    fs::rename(log, to)?;
    lines.go_on_in(log);
    Ok(())
}

fn compressed(lines: &mut Lines, log: &Path, to: &Path) -> Result<()> {
    renamed(lines, log, to)?;
    let status = Command::new("gzip").arg(to).status().context("starting gzip")?;
    ensure!(status.success(), "gzip ended with {status}");
    Ok(())
}

fn copied(lines: &mut Lines, log: &Path, to: &Path) -> Result<()> {
    fs::copy(log, to)?;
    Ok(lines.file().set_len(0)?)
}

fn begin(arena: &mut Arena<'_>, log: &Path) -> Result<Lines> {
    if !arena.keeps_state() {
        return Err(Skipped("not supported: it keeps no state".into()).into());
    }
    arena.order.with_state = true;
    arena.follow(log)
}

fn under_load(arena: &mut Arena<'_>, times: u64, signal: Signal, rotate: Rotate) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = begin(arena, &log)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let logs = arena.path("");
        let (is_over, log, lines) = (&is_over, &log, &mut lines);
        let writer = scope.spawn(move || {
            for rotation in 0_u64.. {
                for _ in 0..20 {
                    lines.write(250);
                    // Some 100,000 lines a second, so that what is written while it is down stays small.
                    std::thread::sleep(Duration::from_millis(2));
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                rotate(lines, log, &logs.join(format!("app.log.{rotation}")))?;
            }
            anyhow::Ok(())
        });
        let mut restart = || {
            for time in 0..times {
                // Never the same moment, and the same in every run.
                std::thread::sleep(Duration::from_millis(40 + time.wrapping_mul(7919) % 173));
                arena.end(signal);
                arena.start()?;
            }
            anyhow::Ok(())
        };
        let restarted = restart();
        is_over.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        restarted
    })?;
    arena.wrote(&lines);
    Ok(())
}

fn while_down(arena: &mut Arena<'_>, rotations: u64, rotate: Rotate) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = begin(arena, &log)?;
    lines.write(1000);
    arena.catch_up(&lines);
    arena.end(Signal::SIGTERM);
    for rotation in (1..=rotations).rev() {
        lines.write(500);
        rotate(&mut lines, &log, &arena.path(format!("app.log.{rotation}")))?;
    }
    lines.write(500);
    arena.start()?;
    arena.catch_up(&lines);
    lines.write(500);
    arena.wrote(&lines);
    Ok(())
}
