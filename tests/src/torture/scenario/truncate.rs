//! Truncated in place.
//!
//! Where all had come out before the truncation, nothing is to be lost. Under a writer that goes flat out, what
//! it destroys before anyone reads it is lost to all, and is to be counted.

use anyhow::Result;

use super::{
    Listed,
    Promise::{Exact, LossCounted},
};
use crate::torture::arena::Arena;

/// A file of so many rounds has fewer lines than inotify knows the places of.
const TO_NOTHING_EVERY: u64 = 8;

pub const SCENARIOS: &[Listed] = &[
    ("truncate", "truncated to 0 after all was read", Exact, to_nothing),
    ("truncate-middle", "truncated to its middle after all was read", Exact, to_the_middle),
    ("truncate-regrown", "truncated and regrown past the old offset between two looks", Exact, regrown),
    ("truncate-flat-out", "truncated to 0 under load: what is lost is counted", LossCounted, |arena| {
        flat_out(arena, 1)
    }),
    (
        "truncate-middle-flat-out",
        "truncated to its middle under load: what is lost is counted",
        LossCounted,
        |arena| flat_out(arena, TO_NOTHING_EVERY),
    ),
];

fn to_nothing(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    for round in 0..20 {
        // Less each time, so that the file is shorter whenever it is looked at.
        lines.write(2000 - 90 * round);
        arena.catch_up(&lines);
        lines.file().set_len(0)?;
    }
    lines.write(1);
    arena.wrote(&lines);
    Ok(())
}

fn to_the_middle(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    for _ in 0..10 {
        lines.write(500);
        let middle = lines.file().metadata()?.len();
        lines.write(500);
        arena.catch_up(&lines);
        lines.file().set_len(middle)?;
        lines.write(100);
        arena.catch_up(&lines);
    }
    arena.wrote(&lines);
    Ok(())
}

fn regrown(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    for round in 0..10 {
        let size = lines.file().metadata()?.len();
        arena.while_paused(|_| {
            lines.file().set_len(0)?;
            lines.write(200 + 100 * round);
            while lines.file().metadata()?.len() <= size {
                lines.write(1);
            }
            anyhow::Ok(())
        })?;
        arena.catch_up(&lines);
    }
    arena.wrote(&lines);
    Ok(())
}

/// Truncated to the middle, but now and then to nothing.
fn flat_out(arena: &mut Arena<'_>, to_nothing_every: u64) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    for round in 1..=arena.lines / 2000 {
        lines.write(1000);
        let middle = lines.file().metadata()?.len();
        lines.write(1000);
        lines.file().set_len(if round % to_nothing_every == 0 { 0 } else { middle })?;
    }
    lines.write(2000);
    arena.wrote(&lines);
    Ok(())
}
