//! More events than the kernel keeps for anyone: `IN_Q_OVERFLOW`, and a full ring.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::Result;

use super::{Listed, Promise::Exact};
use crate::{torture::arena::Arena, write::Lines};

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

/// Twice: what happens while the subject stands still is more than the queue holds; then more is written.
fn overflowed(
    arena: &mut Arena<'_>,
    mut happens: impl FnMut(&mut Arena<'_>, &mut Lines, &Path, u64) -> Result<()>,
) -> Result<()> {
    let log = arena.path("app.log");
    arena.order.with_small_ring = true;
    let mut lines = arena.follow(&log)?;
    for round in 0..2 {
        arena.while_paused(|arena| happens(arena, &mut lines, &log, round))?;
        lines.write(1000);
        arena.catch_up(&lines);
    }
    arena.expect_overflow();
    arena.wrote(&lines);
    Ok(())
}

/// Writes, and goes on in a new file under the name.
fn rotate(lines: &mut Lines, log: &Path, to: &Path) -> Result<()> {
    lines.write(1000);
    fs::rename(log, to)?;
    lines.go_on_in(log);
    Ok(())
}

fn among(arena: &mut Arena<'_>) -> Result<()> {
    overflowed(arena, |arena, lines, log, round| {
        for rotation in 0..3 {
            rotate(lines, log, &arena.path(format!("app.log.{}", round * 3 + rotation)))?;
            junk(arena, queue() / 5)?;
        }
        Ok(())
    })
}

/// The file that was read has no name any more, and the one after it has the only other.
fn one_kept(arena: &mut Arena<'_>) -> Result<()> {
    overflowed(arena, |arena, lines, log, _| {
        junk(arena, queue() / 2 + 1)?;
        (0..2).try_for_each(|_| rotate(lines, log, &arena.path("app.log.1")))
    })
}
