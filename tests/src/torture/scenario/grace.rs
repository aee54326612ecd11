//! A writer that goes on in the renamed file while another already writes the new one.
//!
//! The lines of both are numbered as they are to come out: the old file's first. So a follower that does
//! not drain the old file first is out of order.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Listed, Promise::Exact};
use crate::{PATIENCE, torture::arena::Arena, write::Lines};

pub const SCENARIOS: &[Listed] = &[
    ("old-writer-50", "50 more lines through the old descriptor, drained first", Exact, |arena| {
        lingering(arena, 50)
    }),
    ("old-writer-900", "900 more lines through the old descriptor, drained first", Exact, |arena| {
        lingering(arena, 900)
    }),
    ("old-writer-stays", "the old writer never lets go: read side by side", Exact, staying),
];

fn lingering(arena: &mut Arena<'_>, after: u64) -> Result<()> {
    let log = arena.path("app.log");
    let mut old = arena.follow(&log)?;
    for rotation in 0..10 {
        old.write(1000);
        fs::rename(&log, arena.path(format!("app.log.{rotation}")))?;
        let mut new = Lines::starting_at(&log, "w", old.written() + after);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                old.write(after / 2);
                std::thread::sleep(Duration::from_millis(50));
                old.write(after - after / 2);
            });
            new.write(1000);
        });
        old = new;
    }
    arena.wrote(&old);
    Ok(())
}

fn staying(arena: &mut Arena<'_>) -> Result<()> {
    let log = arena.path("app.log");
    arena.order.rotate_wait = Some("1s");
    let mut old = arena.follow(&log)?;
    old.write(1000);
    fs::rename(&log, arena.path("app.log.1"))?;
    let mut new = Lines::new(&log, "new");
    new.write(arena.lines / 5);
    let began = Instant::now();
    let mut is_held_back = true;
    // Three times the grace time at least, and as long as it takes for the new file's lines to come.
    while began.elapsed() < Duration::from_secs(3) || (is_held_back && began.elapsed() < PATIENCE / 6) {
        old.write(1);
        std::thread::sleep(Duration::from_millis(5));
        is_held_back = arena.reached("new") < new.written();
    }
    if is_held_back {
        arena.complain("the new file is held back while the old one has a writer".into());
    }
    new.write(1000);
    old.write(1000);
    arena.wrote(&new);
    arena.wrote(&old);
    Ok(())
}
