//! Many files at once, and too few of what the system gives for them.

use std::fs;

use anyhow::Result;

use super::{Listed, Promise::Exact};
use crate::{
    torture::{
        arena::{Arena, Skipped},
        subject::find,
    },
    write::Lines,
};

pub const SCENARIOS: &[Listed] = &[
    ("thousand-files", "1,000 files rotating at once", Exact, |arena| crowd(arena, 1000, 3)),
    ("few-descriptors", "600 files, `ulimit -n 256`", Exact, |arena| {
        arena.order.open_files = Some(256);
        crowd(arena, 600, 3)
    }),
    ("few-watches", "50 directories, 20 inotify watches", Exact, few_watches),
];

/// Lines that each file gets between two rotations.
const SHARE: u64 = 20;

fn crowd(arena: &mut Arena<'_>, files: u64, rotations: u64) -> Result<()> {
    let names: Vec<_> = (0..files).map(|number| arena.path(format!("f{number}.log"))).collect();
    let writer = |number: usize| format!("f{number}");
    for (number, name) in names.iter().enumerate() {
        Lines::new(name, &writer(number)).write(SHARE);
    }
    arena.order.names.clone_from(&names);
    arena.order.glob = Some(arena.path("*.log"));
    arena.start()?;
    let mut written = SHARE;
    for (number, name) in names.iter().enumerate() {
        let mut lines = Lines::starting_at(name, &writer(number), written);
        lines.write(SHARE);
        // Every one of them once: a follower that starts may take a while with so many.
        arena.catch_up(&lines);
    }
    written += SHARE;
    for rotation in 0..rotations {
        for (number, name) in names.iter().enumerate() {
            Lines::starting_at(name, &writer(number), written).write(SHARE);
        }
        written += SHARE;
        for (number, name) in names.iter().enumerate() {
            fs::rename(name, arena.path(format!("f{number}.log.{rotation}")))?;
            Lines::starting_at(name, &writer(number), written).write(SHARE);
        }
        written += SHARE;
    }
    for number in 0..names.len() {
        arena.wrote_so_many(&writer(number), written);
    }
    Ok(())
}

fn few_watches(arena: &mut Arena<'_>) -> Result<()> {
    if find("unshare").is_none() {
        return Err(Skipped("unshare is not installed here".into()).into());
    }
    if arena.needs_no_watches() {
        return Err(Skipped("eBPF needs no watches, and cannot be loaded in a user namespace".into()).into());
    }
    arena.order.watches = Some(20);
    let names: Vec<_> = (0..50).map(|number| arena.path(format!("d{number}/app.log"))).collect();
    for number in 0..names.len() {
        fs::create_dir(arena.path(format!("d{number}")))?;
    }
    let mut writers = Vec::new();
    for (number, name) in names.iter().enumerate() {
        writers.push(Lines::new(name, &format!("d{number}")));
    }
    arena.order.names.clone_from(&names);
    let Some(first) = writers.first_mut() else { return Ok(()) };
    arena.start_with(first)?;
    for rotation in 0..5 {
        for ((number, name), lines) in names.iter().enumerate().zip(&mut writers) {
            lines.write(100);
            fs::rename(name, arena.path(format!("d{number}/app.log.{rotation}")))?;
            lines.go_on_in(name);
            lines.write(100);
        }
        // What has no watch is looked at now and then: one rotation a look is what can be promised.
        for lines in &writers {
            arena.catch_up(lines);
        }
    }
    for lines in &writers {
        arena.wrote(lines);
    }
    Ok(())
}
