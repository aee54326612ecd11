//! Killed at any moment, again and again, over a file that is written to and rotated all the while: no line is
//! lost, first occurrences stay in order, and nothing is repeated that was committed before.
//!
//! What the runs print is put together as whoever reads the pipe sees it: a line that the kill tore is dropped,
//! and has to come again.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use log_tail_tests::{account::Account, prelude::*, run::listen, seeded::Seeded, variable};
use nix::sys::signal::Signal;

const SEED: u64 = 20_261_121;
/// Lines written between two naps: some 100,000 lines a second.
const BATCH: u64 = 100;
/// Lines of a generation, on the average.
const GENERATION: u64 = 3000;
/// Generations that are not removed, however far behind the reader is, beside those it has not read.
const KEPT: usize = 4;
/// Files whose times lie nearer to each other than a clock tick are found in no certain order after a restart, as
/// docs/guarantees.md says: this is longer, at 250 ticks a second.
const TICK: Duration = Duration::from_millis(5);
/// The writer waits for a reader that is farther behind: a machine that is busy is no reason for endless files.
const FARTHEST_BEHIND: u64 = 6 * GENERATION;

/// A file that once bore the name.
struct Generation {
    /// The number of its first line.
    first: u64,
    /// Kept open, so that its inode is not given out again.
    file: fs::File,
}

impl Generation {
    fn inode(&self) -> u64 {
        self.file.metadata().expect("the file system lets it").ino()
    }
}

/// All generations so far, oldest first; and how many of them were removed since.
#[derive(Default)]
struct Generations {
    all: Vec<Generation>,
    removed: usize,
}

/// What came out of all runs.
#[derive(Default)]
struct Outcome {
    account: Account,
    /// Every line below came out, and in order; the first to be missed is this.
    next: u64,
    /// In a generation that starts with the first number, nothing below the second comes again.
    committed: Vec<(u64, u64)>,
    /// Where a run began, or went on, at a line that was committed, or behind one that never came.
    wrong: Vec<String>,
    repeated: u64,
}

impl Outcome {
    /// A line of the run that is going on.
    fn line(&mut self, number: u64) {
        let at = self.committed.partition_point(|(first, _)| *first <= number);
        if let Some((first, end)) = at.checked_sub(1).and_then(|at| self.committed.get(at))
            && number < *end
        {
            self.complain(format!("line {number} came again; {first} to {} were committed", end - 1));
        }
        if number > self.next {
            self.complain(format!("line {number} came before {} to {}", self.next, number - 1));
        }
        self.repeated += u64::from(number < self.next);
        self.next = self.next.max(number + 1);
    }

    fn complain(&mut self, text: String) {
        if self.wrong.len() < 20 {
            self.wrong.push(text);
        }
    }
}

/// Writes and rotates until it is over; returns how many lines it wrote.
fn write(
    dir: &Path,
    outcome: &Mutex<Outcome>,
    generations: &Mutex<Generations>,
    is_over: &AtomicBool,
    seed: u64,
) -> u64 {
    let mut seeded = Seeded::new(seed);
    let log = dir.join("app.log");
    let mut lines = Lines::new(&log, "w");
    let mut left = GENERATION;
    generations
        .lock()
        .expect("nobody panicked")
        .all
        .push(Generation { first: 0, file: fs::File::open(&log).expect("the file system lets it") });
    while !is_over.load(Ordering::Relaxed) {
        lines.write(BATCH);
        thread::sleep(Duration::from_millis(1));
        while lines.written() > outcome.lock().expect("nobody panicked").next + FARTHEST_BEHIND
            && !is_over.load(Ordering::Relaxed)
        {
            thread::sleep(Duration::from_millis(1));
        }
        left = left.saturating_sub(BATCH);
        if left == 0 {
            left = GENERATION / 2 + seeded.below(GENERATION);
            thread::sleep(TICK);
            let next = outcome.lock().expect("nobody panicked").next;
            let mut generations = generations.lock().expect("nobody panicked");
            shift(dir, &mut generations, next);
            lines.go_on_in(&log);
            let file = fs::File::open(&log).expect("the file system lets it");
            generations.all.push(Generation { first: lines.written(), file });
        }
    }
    lines.written()
}

/// As logrotate does; the oldest one that is read is removed.
fn shift(dir: &Path, generations: &mut Generations, next: u64) {
    let name = |age: usize| dir.join(format!("app.log.{age}"));
    let count = generations.all.len() - generations.removed;
    let mut oldest = count - 1;
    // Generation `removed` is `app.log.{oldest}`; it is read where the next one has begun to come out.
    if oldest > KEPT && generations.all[generations.removed + 1].first < next {
        fs::remove_file(name(oldest)).expect("the file system lets it");
        generations.removed += 1;
        oldest -= 1;
    }
    for age in (1..=oldest).rev() {
        fs::rename(name(age), name(age + 1)).expect("the file system lets it");
    }
    fs::rename(dir.join("app.log"), name(1)).expect("the file system lets it");
}

/// Reads what one run prints.
fn heard(running: &mut Running, outcome: &Arc<Mutex<Outcome>>) -> JoinHandle<()> {
    let outcome = Arc::clone(outcome);
    listen(running.take_stdout(), move |lines| {
        let mut outcome = outcome.lock().expect("nobody panicked");
        for line in lines {
            outcome.account.take(line);
            outcome.account.take(b"\n");
            let number =
                line.split(|byte| *byte == b' ').nth(1).and_then(|word| std::str::from_utf8(word).ok());
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                outcome.line(number);
            }
        }
    })
}

/// The lines that lie before the offsets in the state directory: nothing below the second number of those from
/// the first on.
fn committed(
    state: &StateDir,
    generations: &Generations,
    counted: &mut HashMap<(u64, u64), u64>,
) -> Vec<(u64, u64)> {
    let offsets: HashMap<u64, u64> =
        state.list().into_iter().map(|known| (known.inode, known.offset)).collect();
    let of = |generation: &Generation| {
        let inode = generation.inode();
        let offset = *offsets.get(&inode)?;
        let lines = *counted.entry((inode, offset)).or_insert_with(|| lines_before(&generation.file, offset));
        Some((generation.first, generation.first + lines))
    };
    generations.all.iter().filter_map(of).collect()
}

/// What lies before the offset are whole lines, and so many.
fn lines_before(file: &fs::File, offset: u64) -> u64 {
    let mut head = vec![0; usize::try_from(offset).expect("it was written by this test")];
    file.read_exact_at(&mut head, 0).expect("what was committed is there");
    assert!(head.last().is_none_or(|last| *last == b'\n'), "offset {offset} is within a line");
    head.split(|byte| *byte == b'\n').count() as u64 - 1
}

#[test]
fn killed_at_any_moment_it_loses_nothing_and_repeats_only_what_was_not_committed() {
    let crashes = variable("LOG_TAIL_CRASHES", 200);
    let seed = variable("LOG_TAIL_CRASH_SEED", SEED);
    eprintln!("{crashes} crashes; LOG_TAIL_CRASH_SEED={seed}");
    let (mut seeded, mut counted) = (Seeded::new(seed), HashMap::new());
    let place = Place::new();
    let (log, state) = (place.path("app.log"), StateDir::new(place.path("state")));
    let dir: PathBuf = place.dir().to_owned();
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let generations = Arc::new(Mutex::new(Generations::default()));
    let is_over = Arc::new(AtomicBool::new(false));
    create(&log, "");
    let start = || LogTail::plain().args(["--from", "beginning"]).keeping(&state).arg(&log).unheard();
    // Known from now on: what was rotated before anyone saw it is nobody's to find.
    LogTail::plain().keeping(&state).arg(&log).follow().terminate();
    let said = Mutex::new(Vec::new());

    let written = AtomicU64::new(0);
    let begin = Instant::now();
    thread::scope(|scope| {
        let (outcome_w, generations_w, is_over_w, dir, written) =
            (&outcome, &generations, &is_over, &dir, &written);
        let writer = scope.spawn(move || {
            written.store(write(dir, outcome_w, generations_w, is_over_w, seed), Ordering::Relaxed);
        });
        for crash in 0..crashes {
            let mut running = start().start();
            let listener = heard(&mut running, &outcome);
            // While it starts, while it catches up, and while it follows.
            let most_ms = [20, 80, 400][usize::try_from(seeded.below(3)).unwrap()];
            thread::sleep(Duration::from_micros(seeded.below(most_ms * 1000)));
            running.signal(Signal::SIGKILL);
            let finished = running.wait();
            listener.join().unwrap();
            said.lock().unwrap().extend(finished.stderr.into_iter().map(|line| format!("{crash}: {line}")));
            if state.path().exists() {
                let committed = committed(&state, &generations.lock().unwrap(), &mut counted);
                outcome.lock().unwrap().committed = committed;
            }
            if !outcome.lock().unwrap().wrong.is_empty() {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    let written = written.load(Ordering::Relaxed);
    let mut running = start().follow();
    let listener = heard(&mut running, &outcome);
    let mut last = (Instant::now(), 0);
    while outcome.lock().unwrap().next < written && last.0.elapsed() < PATIENCE / 4 {
        thread::sleep(Duration::from_millis(5));
        let next = outcome.lock().unwrap().next;
        if next > last.1 {
            last = (Instant::now(), next);
        }
    }
    let finished = running.terminate();
    listener.join().unwrap();

    let outcome = outcome.lock().unwrap();
    let numbers = outcome.account.numbers([("w", written)]);
    let generations = generations.lock().unwrap();
    let files: Vec<(u64, u64)> = generations.all.iter().map(|file| (file.first, file.inode())).collect();
    eprintln!(
        "{written} lines in {} files, {} repeated, in {:.1?}",
        files.len(),
        outcome.repeated,
        begin.elapsed()
    );
    let said = said.lock().unwrap();
    let files = &files[files.len().saturating_sub(10)..];
    let latest = &said[said.len().saturating_sub(30)..];
    assert!(
        outcome.wrong.is_empty(),
        "{:#?}\nfiles, by their first line, and inodes: {files:?}\n{latest:#?}\n{:#?}",
        outcome.wrong,
        state.list()
    );
    assert_eq!((numbers.lost, numbers.torn), (0, 0), "{numbers:?}\n{latest:#?}\n{finished:#?}");
    assert_eq!(outcome.next, written);
    // A kill never damages the store. (What is said to be gone was read, and removed before that was committed.)
    assert!(!said.iter().any(|line| line.contains("unreadable")), "{said:#?}");
}
