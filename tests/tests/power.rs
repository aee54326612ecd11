//! Power loss: the logs and the state directory lie on one disk, and it stops at any moment. What was not durable by
//! then is gone when it is mounted again, of both; the programs that log start anew, before log-tail or after it.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use log_tail_tests::{disk::Disk, prelude::*, run::listen, seeded::Seeded, variable};
use nix::{
    sys::signal::Signal,
    unistd::{fdatasync, sync},
};

const SEED: u64 = 20_261_123;
/// Lines of a file, on the average.
const GENERATION: u64 = 3000;
/// Lines written between two naps.
const BATCH: u64 = 100;

/// What came out of all runs: how often each line did.
#[derive(Default)]
struct Outcome {
    times: HashMap<u64, u32>,
    /// What is no line of ours: the power was cut while one was being written.
    torn: Vec<String>,
    /// Lines of the run that is going on that had come out before it.
    again: Vec<u64>,
}

/// The number in a line, if it is whole.
fn number(line: &str) -> Option<u64> {
    let digits = line.strip_prefix("line ").filter(|digits| digits.len() == 9)?;
    digits.parse().ok()
}

impl Outcome {
    fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let Some(number) = number(&line) else { return self.torn.push(line.into_owned()) };
        let times = self.times.entry(number).or_default();
        *times += 1;
        if *times > 1 {
            self.again.push(number);
        }
    }
}

/// A program that logs, rotates now and then, and sees to it now and then that it is durable.
struct Writer {
    log: PathBuf,
    next: u64,
    generation: u64,
    seeded: Seeded,
}

impl Writer {
    /// Until so many lines more are written, or the power goes.
    fn write(&mut self, lines: u64) -> std::io::Result<()> {
        let open = |log: &Path| OpenOptions::new().append(true).create(true).open(log);
        let mut file = open(&self.log)?;
        for _ in 0..lines / BATCH {
            for _ in 0..BATCH {
                file.write_all(format!("line {:09}\n", self.next).as_bytes())?;
                self.next += 1;
            }
            thread::sleep(Duration::from_millis(1));
            match self.seeded.below(GENERATION / BATCH) {
                0 => {
                    self.generation += 1;
                    fs::rename(&self.log, self.log.with_extension(format!("log.{}", self.generation)))?;
                    file = open(&self.log)?;
                }
                1..4 => fdatasync(&file)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The whole lines in all files.
fn lines_in(dir: &Path) -> Vec<u64> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir).expect("it is mounted") {
        let path = entry.expect("it is mounted").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("app.log")) {
            let content = fs::read(&path).expect("it is there");
            lines.extend(String::from_utf8_lossy(&content).lines().filter_map(number));
        }
    }
    lines
}

/// Names of all files, with their inodes and sizes.
fn inodes_in(dir: &Path) -> Vec<(PathBuf, u64, u64)> {
    let entries = fs::read_dir(dir).expect("it is mounted").map(|entry| entry.expect("it is mounted"));
    let shown = |entry: fs::DirEntry| {
        let metadata = entry.metadata().expect("it is mounted");
        (entry.path(), metadata.ino(), metadata.len())
    };
    entries.map(shown).collect()
}

/// The lines before what is committed of the file that bears the name, where it is that long. Its state may say that it
/// bore another name: renames are gone with the power, too.
fn committed_in(state: &StateDir, log: &Path) -> Vec<u64> {
    // It may be that it was renamed, and not made again yet.
    let Ok(metadata) = fs::metadata(log) else { return Vec::new() };
    let inode = metadata.ino();
    let content = fs::read(log).expect("it is there");
    let known = state.list().into_iter().find(|known| known.inode == inode);
    let offset = known.and_then(|known| usize::try_from(known.offset).ok()).unwrap_or(0);
    let head = content.get(..offset).unwrap_or_default();
    String::from_utf8_lossy(head).lines().filter_map(number).collect()
}

#[test]
fn whenever_the_power_goes_nothing_that_is_left_is_lost() {
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipping whenever_the_power_goes_nothing_that_is_left_is_lost: {why}"),
    };
    let cuts: u64 = variable("LOG_TAIL_POWER_CUTS", 20);
    let seed = variable("LOG_TAIL_POWER_SEED", SEED);
    eprintln!("{cuts} cuts; LOG_TAIL_POWER_SEED={seed}");
    let mut seeded = Seeded::new(seed);
    let dir = disk.dir().join(format!("{seed}"));
    fs::create_dir(&dir).expect("this seed is new on this disk");
    let (log, state) = (dir.join("app.log"), StateDir::new(dir.join("state")));
    let start = || LogTail::plain().args(["--from", "beginning"]).keeping(&state).arg(&log).unheard();
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let mut writer = Writer { log: log.clone(), next: 0, generation: 0, seeded: seeded.clone() };
    File::create_new(&log).expect("an empty directory");
    LogTail::plain().keeping(&state).arg(&log).follow().terminate();
    sync();
    let (mut left, mut repeated) = (Vec::new(), 0);
    for cut in 0..=cuts {
        // What is committed of lines that are there may not come again, unless others follow them already that log-tail
        // has not seen: then nothing but the content says how far it had read.
        let is_first = cut % 2 == 0;
        let known = state.list();
        let committed = if is_first { committed_in(&state, &log) } else { Vec::new() };
        if !is_first {
            writer.write(seeded.below(20) * BATCH).expect("the power is back");
        }
        let mut running = start().follow();
        let heard = Arc::clone(&outcome);
        let listener = listen(running.take_stdout(), move |lines| {
            let mut outcome = heard.lock().expect("nobody panicked");
            lines.for_each(|line| outcome.line(line));
        });
        left.extend(lines_in(&dir));
        let is_out = |number: &u64| outcome.lock().unwrap().times.contains_key(number);
        let deadline = Instant::now() + PATIENCE;
        while !left.iter().all(is_out) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        left.retain(|number| !is_out(number));
        if !left.is_empty() {
            let finished = running.terminate();
            panic!(
                "after cut {cut}, {} lines did not come out, {} to {}: {finished:#?} {:#?}",
                left.len(),
                left[0],
                left[left.len() - 1],
                state.list()
            );
        }
        let again = std::mem::take(&mut outcome.lock().unwrap().again);
        repeated += again.len();
        let wrong: Vec<_> = again.iter().filter(|number| committed.contains(number)).collect();
        assert!(
            wrong.is_empty(),
            "after cut {cut}, {} lines came again that were committed, {} to {}; known before: {known:#?}, now: {:#?}, \
             on disk: {:?}",
            wrong.len(),
            wrong[0],
            wrong[wrong.len() - 1],
            state.list(),
            inodes_in(&dir)
        );
        if cut == cuts {
            running.terminate();
            listener.join().unwrap();
            break;
        }
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                // Ends where the power does.
                while writer.write(GENERATION).is_ok() {}
            });
            thread::sleep(Duration::from_millis(20 + seeded.below(600)));
            disk.cut();
            writing.join().unwrap();
        });
        running.signal(Signal::SIGKILL);
        let finished = running.wait();
        listener.join().unwrap();
        assert!(!finished.stderr.iter().any(|line| line.contains("unreadable")), "{finished:#?}");
        disk.mount_again();
        outcome.lock().unwrap().again.clear();
    }
    let outcome = outcome.lock().unwrap();
    eprintln!(
        "{} lines in {} files; {} went with the power, {repeated} came again, {} torn",
        writer.next,
        writer.generation + 1,
        writer.next - lines_in(&dir).len() as u64,
        outcome.torn.len()
    );
    assert!(outcome.torn.len() as u64 <= 2 * cuts, "{:?}", outcome.torn);
}
