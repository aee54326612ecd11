//! Files that are written to, many lines a second in all of them together: what a follower takes of the processors.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    Measured, Plan,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
    least::Least,
    rival::{self, Rival},
};
use crate::{place::Place, torture::subject::Subject};

/// Lines a second, in all files together: each is one write.
const RATE: u64 = 200_000;
/// How long they are written.
const WRITING: Duration = Duration::from_secs(5);
const WRITING_QUICK: Duration = Duration::from_secs(1);
/// They are written in so many steps a second.
const STEPS: u64 = 1000;

const FILES: [usize; 3] = [1, 100, 10_000];

/// Runs of each: what a follower takes at a given rate differs little.
const RUNS: u32 = 3;

/// Measures every follower in turn, on so many files.
pub fn measure(plan: Plan) -> Result<Measured> {
    let mut subjects = rival::all(plan.backend())?;
    subjects.push(Box::new(Least));
    let writing = if plan.is_quick { WRITING_QUICK } else { WRITING };
    let mut measured = Measured::default();
    for count in FILES {
        let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        let name = |subject: &dyn Subject| format!("{}, {files}", subject.name());
        let mut figures: Vec<Figure> = subjects
            .iter()
            .map(|subject| Figure::new(name(subject.as_ref()), "CPU s per million lines"))
            .collect();
        for _ in 0..plan.runs.min(RUNS) {
            for (subject, figure) in subjects.iter().zip(&mut figures) {
                let taken = run(subject.as_ref(), count, writing)
                    .with_context(|| format!("following {count} files with {}", subject.name()))?;
                figure.values.push(taken);
            }
        }
        for (subject, figure) in subjects.iter().zip(&figures).skip(1) {
            // The loop is there to compare with: nobody who is told through inotify can take less.
            let limit = match subject.name() {
                name if name == Least.name() => continue,
                "tail" => 0.5,
                _ => 0.1,
            };
            measured.goals.push(Goal::ratio(&figures[0], figure, Limit::AtMost(limit)));
        }
        measured.figures.extend(figures);
    }
    Ok(measured)
}

/// Seconds of processors' time that a million lines take, of those that are delivered.
#[expect(clippy::cast_precision_loss, reason = "far fewer lines than 2^52")]
fn run(subject: &dyn Subject, count: usize, writing: Duration) -> Result<f64> {
    let place = Place::new();
    let paths = content::files(place.dir(), count)?;
    let mut files = Vec::with_capacity(count);
    for path in &paths {
        files.push(OpenOptions::new().append(true).open(path).context("opening a file to write to")?);
    }
    let rival = Rival::start(subject, paths, Some(place.path("*/*.log")))?;
    // All of them are followed when the first line of each has come out.
    let mut written = write_round_robin(&mut files, 0, count as u64)?;
    let first = rival.wait_for(written * LINE_BYTES as u64)?;
    let before = rival.taken()?;
    let (began, step) = (Instant::now(), Duration::from_secs(1) / u32::try_from(STEPS)?);
    let mut due = began;
    while began.elapsed() < writing {
        written += write_round_robin(&mut files, written, RATE / STEPS)?;
        due += step;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let delivered = rival.wait_for(written * LINE_BYTES as u64)? - first;
    let lines = delivered as f64 / LINE_BYTES as f64;
    Ok((rival.taken()?.cpu_s - before.cpu_s) / lines * 1e6)
}

/// The next lines, each into the next file.
fn write_round_robin(files: &mut [File], from: u64, count: u64) -> Result<u64> {
    let line = content::line(from);
    for number in from..from + count {
        let at = usize::try_from(number)? % files.len();
        files[at].write_all(line.as_bytes()).context("writing a line")?;
    }
    Ok(count)
}
