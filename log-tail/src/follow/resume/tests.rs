use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    num::NonZeroUsize,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    follow::{
        FollowSettings,
        interposed::{Act, Interposed},
    },
    record::Item,
};

#[test]
fn an_offset_of_a_content_that_is_no_more_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    fs::write(&path, "0123456789\n").unwrap();
    let settings = FollowSettings {
        start: Start::FromByte(1),
        max_line_bytes: NonZeroUsize::new(1024).unwrap(),
        rotate_wait: Duration::ZERO,
    };
    let mut follower = Follower::new(settings, None);
    follower.remember(Vec::new(), 7);
    follower.add_name(&path).unwrap();
    let offset = |follower: &mut Follower, acknowledged| {
        follower.checkpoint(7, acknowledged).map(|known| known.offset)
    };
    assert_eq!(offset(&mut follower, 11), Some(11));
    // Truncated twice before the output has taken what was read before that.
    let known = follower.checkpoint(7, 11).unwrap();
    follower.memory.went_back(known.clone(), 6);
    follower.memory.went_back(known.clone(), 4);
    assert_eq!(offset(&mut follower, 11), Some(4));
    follower.back_acknowledged(7);
    assert_eq!(offset(&mut follower, 9), Some(4), "the second one is still on its way");
    follower.back_acknowledged(7);
    assert_eq!(offset(&mut follower, 9), Some(9));
    let _ = follower.take_touched();
    // To its beginning: what was known before leads to its copy, and is acknowledged further meanwhile.
    follower.memory.went_back(known.clone(), 5);
    assert_eq!(offset(&mut follower, 9), Some(5));
    follower.memory.went_back(Known { looked_ns: 1, ..known.clone() }, 0);
    follower.memory.read_before(7, 8);
    let before = follower.checkpoint(7, 9).unwrap();
    assert_eq!((before.offset, before.looked_ns), (5, follower.file(FileId(0)).unwrap().looked_ns));
    follower.back_acknowledged(7);
    let before = follower.checkpoint(7, 3).unwrap();
    assert_eq!((before.offset, before.looked_ns), (3, 1));
    assert_eq!(follower.checkpoint(8, 0).map(|known| known.number), None);
    follower.back_acknowledged(7);
    assert_eq!(follower.take_touched(), [(8, None)], "its copy is known from now on");
    assert_eq!(offset(&mut follower, 2), Some(2));
    // Not to its beginning, and with a copy all the same.
    follower.memory.went_back(known, 5);
    follower.memory.read_before(7, 9);
    assert_eq!(offset(&mut follower, 9), Some(9));
}

/// What one run leaves to the next, all of it acknowledged.
#[derive(Default)]
struct Store {
    known: BTreeMap<u64, Known>,
    /// Every block that came out.
    came: Vec<String>,
    missed_files: u64,
}

impl Store {
    /// Follows a name for a time. `act`: what happens as soon as its directory is listened to.
    fn run(&mut self, path: &Path, time: Duration, act: Option<Act>) {
        let mut observer = Interposed::new();
        observer.on_directory = act.map(|act| (path.parent().unwrap().to_owned(), act));
        self.run_with(path, time, observer);
    }

    fn run_with(&mut self, path: &Path, time: Duration, observer: Interposed) {
        self.run_all(time, observer, |follower| drop(follower.add_name(path)));
    }

    /// `add`: has the follower follow names or patterns.
    fn run_all(&mut self, time: Duration, observer: Interposed, add: impl FnOnce(&mut Follower)) {
        let settings = FollowSettings {
            start: Start::LastBytes(0),
            max_line_bytes: NonZeroUsize::new(1024).unwrap(),
            rotate_wait: Duration::from_secs(5),
        };
        let mut follower = Follower::new(settings, Some(Box::new(observer)));
        let next = self.known.keys().next_back().map_or(0, |last| last + 1);
        follower.remember(self.known.values().cloned().collect(), next);
        add(&mut follower);
        follower.begin();
        let until = Instant::now() + time;
        let mut reached = BTreeMap::new();
        let mut hints = Vec::new();
        loop {
            let is_over = Instant::now() >= until;
            while let Some(item) = follower.next_item() {
                let Item::Block(block) = item else { continue };
                self.came.push(String::from_utf8(block.bytes.to_vec()).unwrap());
                reached.insert(block.source.number, block.offset + block.bytes.len() as u64);
            }
            if is_over {
                break;
            }
            follower.observer().unwrap().drain(&mut hints).unwrap();
            follower.take(&mut hints);
            follower.tick(Instant::now());
        }
        for (number, start) in follower.take_touched() {
            if let Some(start) = start {
                reached.entry(number).or_insert(start);
            }
        }
        let seen_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        for (number, offset) in reached {
            if let Some(known) = follower.checkpoint(number, offset) {
                self.known.insert(number, Known { seen_s, ..known });
            }
        }
        self.missed_files += follower.counts().missed_files;
    }
}

/// A log that a run has read to its end.
fn after_a_run() -> (tempfile::TempDir, PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    fs::write(&path, "before\n").unwrap();
    let mut store = Store::default();
    store.run(&path, Duration::ZERO, None);
    (dir, path, store)
}

#[test]
fn what_loses_its_name_while_a_run_starts_is_read() {
    let (dir, path, mut store) = after_a_run();
    let other = dir.path().join("elsewhere");
    fs::rename(&path, dir.path().join("app.log.1")).unwrap();
    fs::write(&path, "one\n").unwrap();
    let from = path.clone();
    store.run(&path, Duration::ZERO, Some(Box::new(move || fs::rename(from, other).unwrap())));
    assert_eq!(store.came, ["one\n"]);
    assert_eq!(store.missed_files, 0);
}

/// Copies of a file of which nothing had been read: the hints of what becomes of them are older than their listing.
#[test]
fn copies_that_move_while_a_run_starts_are_read_once() {
    fn pack(plain: &Path) {
        let file = fs::File::create(plain.with_added_extension("gz")).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        encoder.write_all(&fs::read(plain).unwrap()).unwrap();
        encoder.finish().unwrap();
    }
    fn compress(plain: &Path) {
        pack(plain);
        fs::remove_file(plain).unwrap();
    }
    fn copy_and_truncate(at: &Path, to: &str) {
        fs::copy(at.join("app.log"), at.join(to)).unwrap();
        fs::write(at.join("app.log"), "").unwrap();
        fs::write(at.join("app.log"), "three\n").unwrap();
    }
    fn shift(at: &Path) {
        fs::rename(at.join("app.log.1"), at.join("app.log.2")).unwrap();
    }
    type Does = fn(&Path);
    // Each with whether it happens after they were listed, and before anybody asks for hints.
    let acts: [(bool, Does); 10] = [
        (false, shift),
        (true, shift),
        (false, |at| compress(&at.join("app.log.1"))),
        (true, |at| compress(&at.join("app.log.1"))),
        (false, |at| {
            shift(at);
            compress(&at.join("app.log.2"));
        }),
        (false, |at| {
            shift(at);
            copy_and_truncate(at, "app.log.1");
        }),
        (true, |at| {
            shift(at);
            copy_and_truncate(at, "app.log.1");
        }),
        (true, |at| copy_and_truncate(at, "app.log.2")),
        // It was compressed, that was shifted, and the next one was copied.
        (true, |at| {
            fs::remove_file(at.join("app.log.1")).unwrap();
            copy_and_truncate(at, "app.log.1");
        }),
        // It is being compressed, and the file is empty when it was read.
        (false, |at| {
            pack(&at.join("app.log.1"));
            fs::write(at.join("app.log"), "").unwrap();
            let at = at.to_owned();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                fs::remove_file(at.join("app.log.1")).unwrap();
                std::thread::sleep(Duration::from_millis(10));
                fs::write(at.join("app.log"), "two\n").unwrap();
            });
        }),
    ];
    for (index, (is_listed, act)) in acts.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        fs::write(&path, "").unwrap();
        let mut store = Store::default();
        store.run(&path, Duration::ZERO, None);
        std::thread::sleep(Duration::from_millis(10));
        fs::write(&path, "one\n").unwrap();
        fs::copy(&path, dir.path().join("app.log.1")).unwrap();
        fs::write(&path, "two\n").unwrap();
        let at = dir.path().to_owned();
        let act: Act = Box::new(move || act(&at));
        let mut observer = Interposed::new();
        if is_listed {
            observer.on_drain = Some(act);
        } else {
            observer.on_directory = Some((dir.path().to_owned(), act));
        }
        store.run_with(&path, Duration::from_millis(200), observer);
        store.run(&path, Duration::ZERO, None);
        let expected: &[&str] =
            if (5..9).contains(&index) { &["one\n", "two\n", "three\n"] } else { &["one\n", "two\n"] };
        assert_eq!(store.came, expected, "{index}");
    }
}

/// Hints are taken while the first name is resumed, because of its copy.
#[test]
fn a_name_that_is_rotated_while_another_one_is_resumed_is_resumed_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["a.log", "b.log"] {
        fs::write(at(name), "").unwrap();
    }
    let mut store = Store::default();
    let mut run = |observer| {
        let pattern = dir.path().join("*.log");
        store.run_all(Duration::ZERO, observer, |follower| drop(follower.add_pattern(&pattern)));
        store.came.clone()
    };
    assert!(run(Interposed::new()).is_empty());
    std::thread::sleep(Duration::from_millis(10));
    for name in ["a.log", "b.log"] {
        fs::write(at(name), format!("first of {name}\n")).unwrap();
        fs::copy(at(name), at(&format!("{name}.1"))).unwrap();
        fs::write(at(name), format!("second of {name}\n")).unwrap();
    }
    let mut observer = Interposed::new();
    let names = [at("a.log"), at("b.log")];
    observer.on_drain = Some(Box::new(move || {
        for log in &names {
            fs::rename(log.with_extension("log.1"), log.with_extension("log.2")).unwrap();
            fs::rename(log, log.with_extension("log.1")).unwrap();
            fs::write(log, format!("third of {}\n", log.file_name().unwrap().display())).unwrap();
        }
    }));
    run(observer);
    let came = run(Interposed::new());
    for name in ["a.log", "b.log"] {
        let of_it: Vec<&String> = came.iter().filter(|line| line.contains(name)).collect();
        assert_eq!(
            of_it,
            [&format!("first of {name}\n"), &format!("second of {name}\n"), &format!("third of {name}\n")]
        );
    }
}

#[test]
fn where_nothing_bears_the_name_nothing_is_missed() {
    let (dir, path, mut store) = after_a_run();
    fs::rename(&path, dir.path().join("app.log.1")).unwrap();
    store.run(&path, Duration::ZERO, None);
    let log = path.clone();
    store.run(&path, Duration::ZERO, Some(Box::new(move || fs::write(log, "one\n").unwrap())));
    assert_eq!(store.came, ["one\n"]);
    assert_eq!(store.missed_files, 0);
}

#[test]
fn what_the_hints_tell_of_stands_where_they_say_and_not_where_a_listing_has_it() {
    let (dir, path, mut store) = after_a_run();
    let at = |name: &str| dir.path().join(name);
    fs::rename(&path, at("app.log.1")).unwrap();
    fs::write(&path, "one\n").unwrap();
    let (log, elsewhere, second) = (path.clone(), at("elsewhere"), at("app.log.2"));
    let act = move || {
        // No listing of the generations has it.
        fs::rename(&log, elsewhere).unwrap();
        fs::write(&log, "two\n").unwrap();
        fs::rename(&log, second).unwrap();
        fs::write(&log, "three\n").unwrap();
    };
    store.run(&path, Duration::ZERO, Some(Box::new(act)));
    assert_eq!(store.came, ["one\n", "two\n", "three\n"]);
    let inodes = ["elsewhere", "app.log.2", "app.log"].map(|name| fs::metadata(at(name)).unwrap().ino());
    let known: Vec<u64> = store.known.values().map(|known| known.identity.inode).collect();
    assert_eq!(known[known.len() - 3..], inodes, "nor does the next run think otherwise");
    store.run(&path, Duration::ZERO, None);
    assert_eq!(store.came.len(), 3);
}

#[test]
fn what_was_rotated_away_is_read_although_nothing_gets_certain() {
    let (dir, path, mut store) = after_a_run();
    fs::rename(&path, dir.path().join("app.log.1")).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    fs::write(&path, "one\n").unwrap();
    fs::rename(&path, dir.path().join("app.log.2")).unwrap();
    fs::write(&path, "two\n").unwrap();
    let mut observer = Interposed::new();
    observer.is_telling = true;
    store.run_with(&path, Duration::ZERO, observer);
    assert_eq!(store.came, ["one\n"], "what bears the name may be another by now");
    store.run(&path, Duration::ZERO, None);
    assert_eq!(store.came, ["one\n", "two\n"]);
}

#[test]
fn what_is_renamed_over_and_over_while_runs_start_is_read_once_and_in_its_place() {
    const A_MOMENT: Duration = Duration::from_millis(3);
    let (dir, path, mut store) = after_a_run();
    let is_over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut generation = 0;
            while generation < 300 && !is_over.load(Ordering::Relaxed) {
                fs::rename(&path, dir.path().join(format!("app.log.{generation}"))).unwrap();
                // Meanwhile there is no file of that name.
                std::thread::sleep(A_MOMENT);
                fs::write(&path, format!("{generation}\n")).unwrap();
                generation += 1;
                std::thread::sleep(A_MOMENT);
            }
            generation
        });
        for _ in 0..30 {
            store.run(&path, 3 * A_MOMENT, None);
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    store.run(&path, Duration::ZERO, None);
    let expected: Vec<String> = (0..written).map(|generation| format!("{generation}\n")).collect();
    assert_eq!(store.came, expected);
}
