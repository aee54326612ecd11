//! More events than the kernel keeps for anyone: `IN_Q_OVERFLOW`, and a full ring.

use std::fs::{self, File};

use anyhow::Result;

use super::{Listed, Promise::Exact};
use crate::torture::arena::Arena;

pub const SCENARIOS: &[Listed] =
    &[("overflow", "3 rotations among more events than the kernel's queue holds", Exact, overflow)];

/// `fs.inotify.max_queued_events` where it cannot be read.
const QUEUE: u64 = 16_384;

fn overflow(arena: &mut Arena<'_>) -> Result<()> {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
    let limit = limit.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(QUEUE);
    let log = arena.path("app.log");
    arena.order.with_small_ring = true;
    let mut lines = arena.follow(&log)?;
    for round in 0..2 {
        arena.while_paused(|arena| {
            for rotation in 0..3 {
                lines.write(1000);
                fs::rename(&log, arena.path(format!("app.log.{}", round * 3 + rotation)))?;
                lines.go_on_in(&log);
                // Each makes an event when it comes and another when it goes.
                for number in 0..limit / 5 {
                    let junk = arena.path(format!("junk.{number}"));
                    File::create(&junk)?;
                    fs::remove_file(&junk)?;
                }
            }
            anyhow::Ok(())
        })?;
        lines.write(1000);
        arena.catch_up(&lines);
    }
    arena.wrote(&lines);
    Ok(())
}
