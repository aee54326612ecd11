//! Killed again and again over a file that is copied and truncated: no line is lost, and none comes again that had come
//! out before the last commit.
//!
//! Which of its contents a commit was of, nobody can ask from outside. So it is asked for the time: how old the last
//! commit was is among the metrics, and what had come out a while before it was part of it.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use log_tail_tests::{prelude::*, run::listen, seeded::Seeded, variable};
use nix::sys::signal::Signal;

const SEED: u64 = 20_261_123;
/// Lines of each content, a batch every two milliseconds.
const CONTENT: u64 = 5000;
const BATCH: u64 = 100;
/// From the moment at which a line comes out until a commit that has it is durable, but for waiting for its turn.
const COMMIT_TAKES: Duration = Duration::from_secs(1);

/// What came out of all runs.
#[derive(Default)]
struct Outcome {
    /// When each line came out first.
    came: Vec<Option<Instant>>,
    /// What came out before this, was committed.
    committed: Option<Instant>,
    repeated: u64,
    /// Lines that came again although they were committed.
    wrong: Vec<u64>,
}

impl Outcome {
    fn line(&mut self, number: u64) {
        let at = usize::try_from(number).expect("it was written by this test");
        self.came.resize(self.came.len().max(at + 1), None);
        let Some(first) = self.came[at] else {
            self.came[at] = Some(Instant::now());
            return;
        };
        self.repeated += 1;
        if self.committed.is_some_and(|committed| first < committed) {
            self.wrong.push(number);
        }
    }
}

fn heard(running: &mut Running, outcome: &Arc<Mutex<Outcome>>) -> JoinHandle<()> {
    let outcome = Arc::clone(outcome);
    listen(running.take_stdout(), move |lines| {
        let mut outcome = outcome.lock().expect("nobody panicked");
        for line in lines {
            let line = std::str::from_utf8(line).expect("text");
            let number = line.split(' ').nth(1).and_then(|word| word.parse().ok());
            outcome.line(number.unwrap_or_else(|| panic!("{line:?} is no line of ours")));
        }
    })
}

#[test]
fn what_was_committed_of_a_file_that_is_copied_and_truncated_does_not_come_again() {
    let crashes = variable("LOG_TAIL_CRASHES", 200) / 20;
    let place = Place::new();
    let (log, state) = (place.path("app.log"), StateDir::new(place.path("state")));
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let mut lines = Lines::new(&log, "w");
    let start =
        || LogTail::plain().with_metrics().args(["--from", "beginning"]).keeping(&state).arg(&log).unheard();
    start().follow().terminate();
    let (mut seeded, is_over) = (Seeded::new(SEED), AtomicBool::new(false));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for content in 0.. {
                for _ in 0..CONTENT / BATCH {
                    lines.write(BATCH);
                    thread::sleep(Duration::from_millis(2));
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                fs::copy(&log, place.path(format!("app.log.{content}"))).expect("the file system lets it");
                lines.file().set_len(0).expect("the file system lets it");
            }
        });
        for _ in 0..crashes {
            let mut running = start().follow();
            let listener = heard(&mut running, &outcome);
            thread::sleep(Duration::from_millis(500 + seeded.below(2000)));
            let asked = Instant::now();
            let age = running.scrape().find("log_tail_state_commit_age_seconds").expect("it keeps a state");
            running.signal(Signal::SIGKILL);
            drop(running.wait());
            listener.join().unwrap();
            let committed = asked.checked_sub(Duration::from_secs_f64(age) + COMMIT_TAKES);
            outcome.lock().unwrap().committed = committed;
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    let mut running = start().follow();
    let listener = heard(&mut running, &outcome);
    let deadline = Instant::now() + PATIENCE;
    let has_come = |came: &[Option<Instant>]| came.iter().flatten().count() as u64 == lines.written();
    while !has_come(&outcome.lock().unwrap().came) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let finished = running.terminate();
    listener.join().unwrap();
    let outcome = outcome.lock().unwrap();
    let came = outcome.came.iter().flatten().count() as u64;
    eprintln!("{} lines, {crashes} crashes, {} repeated", lines.written(), outcome.repeated);
    assert_eq!(came, lines.written(), "{finished:#?}");
    assert!(outcome.wrong.is_empty(), "{} came again: {:?} ...", outcome.wrong.len(), outcome.wrong.first());
    assert!(outcome.repeated > 0, "no crash met anything that was not committed");
}
