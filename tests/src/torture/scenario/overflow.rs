//! More events than the kernel keeps for anyone: `IN_Q_OVERFLOW`, and a full ring.

use std::fs::{self, File};

use anyhow::Result;

use super::{Listed, Promise::Exact};
use crate::torture::arena::Arena;

pub const SCENARIOS: &[Listed] = &[
    ("overflow", "3 rotations among more events than the kernel's queue holds", Exact, among),
    ("overflow-one-kept", "2 rotations while the kernel's queue is full, one file kept", Exact, one_kept),
];

/// `fs.inotify.max_queued_events` where it cannot be read.
const QUEUE: u64 = 16_384;

fn queue() -> u64 {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    limit.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(QUEUE)
}

/// Each makes an event when it comes and another when it goes.
fn junk(arena: &Arena<'_>, files: u64) -> Result<()> {
    for number in 0..files {
        let junk = arena.path(format!("junk.{number}"));
        File::create(&junk)?;
        fs::remove_file(&junk)?;
    }
    Ok(())
}

fn among(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    arena.order.with_small_ring = true;
    let mut lines = arena.follow(&log)?;
    for round in 0..2 {
        arena.while_paused(|arena| {
            for rotation in 0..3 {
                lines.write(1000);
                fs::rename(&log, arena.path(format!("app.log.{}", round * 3 + rotation)))?;
                lines.go_on_in(&log);
                junk(arena, queue() / 5)?;
            }
            anyhow::Ok(())
        })?;
        lines.write(1000);
        arena.catch_up(&lines);
    }
    arena.expect_overflow();
    arena.wrote(&lines);
    Ok(())
}

/// The file that was read has no name any more, and the one after it has the only other.
fn one_kept(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    arena.order.with_small_ring = true;
    let mut lines = arena.follow(&log)?;
    for _ in 0..2 {
        arena.while_paused(|arena| {
            junk(arena, queue() / 2 + 1)?;
            for _ in 0..2 {
                lines.write(1000);
                fs::rename(&log, arena.path("app.log.1"))?;
                lines.go_on_in(&log);
            }
            anyhow::Ok(())
        })?;
        lines.write(1000);
        arena.catch_up(&lines);
    }
    arena.expect_overflow();
    arena.wrote(&lines);
    Ok(())
}
