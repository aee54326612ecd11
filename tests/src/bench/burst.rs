//! One writer, as fast as it can: how long after it the last line is delivered, and how often the follower was woken.

use std::{fs::OpenOptions, io::Write as _, time::Instant};

use anyhow::{Context as _, Result};

use super::{
    Measured, Plan,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
    process::seconds_since,
    rival::{self, Rival},
};
use crate::place::Place;

const LINES: u64 = 1_000_000;
const LINES_QUICK: u64 = 200_000;

/// Measures every follower in turn.
#[expect(clippy::cast_precision_loss, reason = "far fewer lines than 2^52")]
pub fn measure(plan: Plan) -> Result<Measured> {
    let lines = if plan.is_quick { LINES_QUICK } else { LINES };
    let subjects = rival::all(plan.backend())?;
    let mut delivered: Vec<Figure> = subjects
        .iter()
        .map(|subject| Figure::new(format!("{}: all delivered", subject.name()), "× the time of writing"))
        .collect();
    let mut woken: Vec<Figure> = subjects
        .iter()
        .map(|subject| Figure::new(format!("{}: woken", subject.name()), "% of the writes"))
        .collect();
    let line = content::line(7);
    for _ in 0..plan.runs {
        for (at, subject) in subjects.iter().enumerate() {
            let place = Place::new();
            let path = place.path("app.log");
            let mut file =
                OpenOptions::new().append(true).create(true).open(&path).context("making a file")?;
            file.write_all(line.as_bytes())?;
            let rival = Rival::start(subject.as_ref(), vec![path], None)?;
            rival.wait_for(LINE_BYTES as u64)?;
            let before = rival.taken()?;
            let began = Instant::now();
            for _ in 0..lines {
                file.write_all(line.as_bytes())?;
            }
            let writing = seconds_since(began);
            rival.wait_for((lines + 1) * LINE_BYTES as u64)?;
            delivered[at].values.push(seconds_since(began) / writing);
            woken[at].values.push((rival.taken()?.sleeps - before.sleeps) as f64 / lines as f64 * 100.0);
        }
    }
    let goals =
        vec![Goal::of(&delivered[0], Limit::AtMost(1.2)), Goal::of(&woken[0], Limit::AtMost(1.0)).binding()];
    delivered.extend(woken);
    Ok(Measured { figures: delivered, goals, curves: Vec::new() })
}
