//! Files and directories that go, and come again.
//!
//! Before anything is removed, its first line has come out: nobody could read a file that was gone before
//! anyone had opened it.

use std::fs;

use anyhow::Result;

use super::{Listed, Promise::Exact};
use crate::torture::arena::Arena;

pub const SCENARIOS: &[Listed] = &[
    ("deleted", "deleted while open, written on, and made again", Exact, deleted),
    ("directory-removed", "its directory removed and made again", Exact, directory_removed),
    ("directory-replaced", "its directory renamed away and replaced", Exact, directory_replaced),
    ("moved-away", "moved to another directory and back, written all the time", Exact, moved_away),
];

const ROUNDS: u64 = 20;

fn deleted(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    let mut lines = arena.follow(&log)?;
    for _ in 0..ROUNDS {
        lines.write(1);
        arena.catch_up(&lines);
        lines.write(450);
        fs::remove_file(&log)?;
        lines.write(50);
        lines.go_on_in(&log);
    }
    lines.write(500);
    arena.wrote(&lines);
    Ok(())
}

fn directory_removed(arena: &mut Arena<'_>) -> Result<()> {
    let (dir, log) = (arena.path("dir"), arena.path("dir/app.log"));
    fs::create_dir(&dir)?;
    let mut lines = arena.follow(&log)?;
    for _ in 0..ROUNDS {
        lines.write(1);
        arena.catch_up(&lines);
        lines.write(500);
        fs::remove_file(&log)?;
        fs::remove_dir(&dir)?;
        fs::create_dir(&dir)?;
        lines.go_on_in(&log);
    }
    lines.write(500);
    arena.wrote(&lines);
    Ok(())
}

fn directory_replaced(arena: &mut Arena<'_>) -> Result<()> {
    let (dir, log) = (arena.path("dir"), arena.path("dir/app.log"));
    fs::create_dir(&dir)?;
    let mut lines = arena.follow(&log)?;
    for round in 0..ROUNDS {
        lines.write(1);
        arena.catch_up(&lines);
        lines.write(500);
        fs::rename(&dir, arena.path(format!("dir.{round}")))?;
        lines.write(50);
        fs::create_dir(&dir)?;
        lines.go_on_in(&log);
    }
    lines.write(500);
    arena.wrote(&lines);
    Ok(())
}

fn moved_away(arena: &mut Arena<'_>) -> Result<()> {
    let (log, away) = (arena.path("app.log"), arena.path("elsewhere/app.log"));
    fs::create_dir(arena.path("elsewhere"))?;
    let mut lines = arena.follow(&log)?;
    for _ in 0..ROUNDS {
        lines.write(500);
        fs::rename(&log, &away)?;
        lines.write(500);
        fs::rename(&away, &log)?;
    }
    lines.write(500);
    arena.wrote(&lines);
    Ok(())
}
