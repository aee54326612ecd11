//! Renamed and created anew, as often as a reader may lag behind.

use std::{fs, time::Duration};

use anyhow::Result;

use super::{Listed, Promise::Exact};
use crate::torture::arena::Arena;

pub const SCENARIOS: &[Listed] = &[
    ("rename-10000", "rename+create every 10,000 lines", Exact, |arena| every(arena, 10_000, arena.lines)),
    ("rename-200", "rename+create every 200 lines", Exact, |arena| every(arena, 200, arena.lines)),
    ("rename-20", "rename+create every 20 lines", Exact, |arena| every(arena, 20, arena.lines / 5)),
    ("shift", "names shifted as logrotate does, every 200 lines", Exact, shift),
    ("stalled-reader", "20 rotations while the pipe is full for 3 s", Exact, stalled),
];

/// `app.log` → `app.log.N`, between two lines and without a breath.
fn every(arena: &mut Arena<'_>, every: u64, total: u64) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    for rotation in 0..(total / every).max(2) {
        lines.write(every);
        fs::rename(&log, arena.path(format!("app.log.{rotation}")))?;
        lines.go_on_in(&log);
    }
    lines.write(every);
    arena.wrote(&lines);
    Ok(())
}

/// `.2` → `.3`, `.1` → `.2`, `app.log` → `.1`: a file bears a new name with every rotation.
fn shift(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    for rotations in 0..50 {
        lines.write(200);
        for number in (1..=rotations).rev() {
            fs::rename(
                arena.path(format!("app.log.{number}")),
                arena.path(format!("app.log.{}", number + 1)),
            )?;
        }
        fs::rename(&log, arena.path("app.log.1"))?;
        lines.go_on_in(&log);
    }
    lines.write(200);
    arena.wrote(&lines);
    Ok(())
}

fn stalled(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    arena.set_deaf(true);
    for rotation in 0..20 {
        // 8 MB in all: no pipe holds more than 1 MiB.
        lines.write(10_000);
        fs::rename(&log, arena.path(format!("app.log.{rotation}")))?;
        lines.go_on_in(&log);
        std::thread::sleep(Duration::from_millis(150));
    }
    arena.set_deaf(false);
    lines.write(1000);
    arena.wrote(&lines);
    Ok(())
}
