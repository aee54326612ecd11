//! More than one way to a file: symbolic links, hard links, bind mounts.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Result;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Listed, Promise::Exact};
use crate::{
    torture::arena::{Arena, Skipped},
    write::Lines,
};

pub const SCENARIOS: &[Listed] = &[
    ("symlink", "a symbolic link retargeted atomically", Exact, retargeted),
    (
        "symlink-target-rotated",
        "the target of a symbolic link rotated every 200 lines",
        Exact,
        target_rotated,
    ),
    ("hard-link", "one inode under two followed names, and one of them rotated", Exact, hard_link),
    ("bind-mount", "followed through a bind mount, rotated behind it", Exact, bind_mount),
];

/// Each target has been seen before the link goes on: where it points to in between, no name says afterwards.
fn retargeted(arena: &mut Arena<'_>) -> Result<()> {
    fs::create_dir(arena.path("elsewhere"))?;
    let (link, new) = (arena.path("current.log"), arena.path("current.log.new"));
    let target = |arena: &Arena<'_>, number: u32| arena.path(format!("elsewhere/app-{number}.log"));
    let first = target(arena, 0);
    fs::write(&first, "")?;
    symlink(&first, &link)?;
    let mut lines = arena.follow(&link)?;
    for number in 1..=20 {
        lines.write(1);
        arena.catch_up(&lines);
        lines.write(500);
        let next = target(arena, number);
        lines.go_on_in(&next);
        symlink(&next, &new)?;
        fs::rename(&new, &link)?;
        lines.write(100);
    }
    arena.wrote(&lines);
    Ok(())
}

fn target_rotated(arena: &mut Arena<'_>) -> Result<()> {
    fs::create_dir(arena.path("elsewhere"))?;
    let (link, log) = (arena.path("current.log"), arena.path("elsewhere/app.log"));
    fs::write(&log, "")?;
    symlink(&log, &link)?;
    let mut lines = arena.follow(&link)?;
    for rotation in 0..100 {
        lines.write(200);
        fs::rename(&log, arena.path(format!("elsewhere/app.log.{rotation}")))?;
        lines.go_on_in(&log);
    }
    lines.write(200);
    arena.wrote(&lines);
    Ok(())
}

fn hard_link(arena: &mut Arena<'_>) -> Result<()> {
    let (first, second) = (arena.path("first.log"), arena.path("second.log"));
    let mut shared = Lines::new(&first, "shared");
    fs::hard_link(&first, &second)?;
    arena.order.names = vec![first.clone(), second];
    arena.start_with(&mut shared)?;
    shared.write(2000);
    fs::rename(&first, arena.path("first.log.1"))?;
    let mut own = Lines::new(&first, "own");
    for _ in 0..20 {
        own.write(100);
        // Still under its other name.
        shared.write(100);
    }
    arena.wrote(&shared);
    arena.wrote(&own);
    Ok(())
}

/// Unmounted when dropped, whoever still uses it.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("torture: unmounting {}: {error}", self.0.display());
        }
    }
}

fn bind_mount(arena: &mut Arena<'_>) -> Result<()> {
    let (source, target) = (arena.path("source"), arena.path("target"));
    for dir in [&source, &target] {
        fs::create_dir(dir)?;
    }
    mount(Some(&source), &target, None::<&Path>, MsFlags::MS_BIND, None::<&Path>)
        .map_err(|error| Skipped(format!("bind mounts are not allowed here: {error}")))?;
    let mounted = Mounted(target.clone());
    let log = source.join("app.log");
    let mut lines = Lines::new(&log, "w");
    arena.order.names = vec![target.join("app.log")];
    arena.start_with(&mut lines)?;
    for rotation in 0..50 {
        lines.write(200);
        fs::rename(&log, source.join(format!("app.log.{rotation}")))?;
        lines.go_on_in(&log);
    }
    lines.write(200);
    // While it is still mounted.
    arena.catch_up(&lines);
    drop(mounted);
    arena.wrote(&lines);
    Ok(())
}
