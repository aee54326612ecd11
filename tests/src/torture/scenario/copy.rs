//! Copied and truncated: the unread rest is in the copy, but for what was written between the two.

use std::{
    fs::{self, File},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Result;

use super::{
    Listed,
    Promise::{Exact, LossCounted},
};
use crate::torture::arena::Arena;

pub const SCENARIOS: &[Listed] = &[
    ("copytruncate", "copied and truncated between two lines", Exact, between_lines),
    (
        "copytruncate-gap",
        "copied and truncated under load: what no copy has is counted",
        LossCounted,
        under_load,
    ),
];

fn between_lines(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    for rotation in 0..arena.lines / 2000 {
        lines.write(2000);
        fs::copy(&log, arena.path(format!("app.log.{rotation}")))?;
        lines.file().set_len(0)?;
    }
    lines.write(2000);
    arena.wrote(&lines);
    Ok(())
}

fn under_load(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                lines.write(100);
            }
        });
        let rotate = || {
            for rotation in 0..10 {
                std::thread::sleep(Duration::from_millis(50));
                fs::copy(&log, arena.path(format!("app.log.{rotation}")))?;
                File::options().write(true).open(&log)?.set_len(0)?;
            }
            anyhow::Ok(())
        };
        let rotated = rotate();
        is_over.store(true, Ordering::Relaxed);
        rotated
    })?;
    lines.write(1);
    arena.wrote(&lines);
    Ok(())
}
