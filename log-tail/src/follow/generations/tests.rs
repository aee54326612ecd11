use std::{
    cell::Cell,
    fs,
    io::Write as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::{
    follow::{FollowSettings, Start, interposed::Interposed},
    record::Item,
};

/// A log that is followed, of whose changes not all are told.
struct Log {
    dir: tempfile::TempDir,
    path: PathBuf,
    follower: Follower,
    is_deaf: Rc<Cell<bool>>,
    came: Vec<String>,
}

impl Log {
    fn new() -> Self {
        Self::of(|follower, dir| follower.add_name(&dir.join("app.log")).unwrap())
    }

    fn matching(pattern: &str) -> Self {
        Self::of(|follower, dir| {
            follower.add_pattern(&dir.join(pattern)).unwrap();
        })
    }

    fn of(follow: impl FnOnce(&mut Follower, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        fs::write(&path, "one\n").unwrap();
        let settings = FollowSettings {
            start: Start::FromByte(1),
            max_line_bytes: NonZeroUsize::new(1024).unwrap(),
            rotate_wait: Duration::from_secs(5),
        };
        let observer = Interposed::new();
        let is_deaf = Rc::clone(&observer.is_deaf);
        let mut follower = Follower::new(settings, Some(Box::new(observer)));
        follow(&mut follower, dir.path());
        follower.begin();
        let mut log = Self { dir, path, follower, is_deaf, came: Vec::new() };
        log.read();
        log
    }

    fn rename_to(&self, name: &str) {
        fs::rename(&self.path, self.dir.path().join(name)).unwrap();
    }

    fn make(&self, text: &str) {
        // Times tell which came later: those of files that are made within a tick of the kernel are the same.
        // Where the machine is busy, its clock's ticks come late, too.
        thread::sleep(Duration::from_millis(50));
        fs::write(&self.path, text).unwrap();
    }

    /// As logrotate does it: the time of the last change is kept, and the plain file goes.
    fn compress(&self, name: &str) {
        self.compress_as(name, &fs::read(self.dir.path().join(name)).unwrap());
    }

    fn compress_as(&self, name: &str, content: &[u8]) {
        let (plain, packed) = (self.dir.path().join(name), self.dir.path().join(format!("{name}.gz")));
        let mut gzip = GzEncoder::new(File::create(&packed).unwrap(), Compression::fast());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap().set_modified(fs::metadata(&plain).unwrap().modified().unwrap()).unwrap();
        fs::remove_file(&plain).unwrap();
    }

    fn read(&mut self) {
        let mut hints = Vec::new();
        self.follower.observer().unwrap().drain(&mut hints).unwrap();
        self.follower.take(&mut hints);
        self.follower.tick(Instant::now());
        while let Some(item) = self.follower.next_item() {
            let Item::Block(block) = item else { continue };
            self.came.push(String::from_utf8(block.bytes.to_vec()).unwrap());
        }
    }

    /// What was told of names until now is lost.
    fn lose(&mut self) {
        self.is_deaf.set(true);
        self.read();
        self.is_deaf.set(false);
    }

    /// The first is renamed, and what comes after it, too; and nothing is told of it.
    fn replace_and_rename_untold(&mut self) {
        self.rename_to("app.log.1");
        self.make("two\n");
        self.rename_to("app.log.2");
        self.lose();
    }

    /// It is told that something was lost.
    fn make_up(&mut self) {
        self.follower.hints_lost();
        self.read();
        self.read();
    }
}

#[test]
fn what_came_and_went_untold_after_a_file_that_was_let_go_is_found() {
    let mut log = Log::new();
    log.rename_to("app.log.1");
    log.read();
    log.read();
    assert_eq!(log.follower.file_count(), 0, "the first is let go");
    log.make("two\n");
    log.rename_to("app.log.2");
    log.make("three\n");
    log.lose();
    assert_eq!(log.came, ["one\n"]);
    log.make_up();
    assert_eq!(log.came, ["one\n", "two\n", "three\n"]);
}

#[test]
fn what_came_and_went_untold_is_found_while_nothing_bears_the_name() {
    let mut log = Log::new();
    log.replace_and_rename_untold();
    log.make_up();
    assert_eq!(log.came, ["one\n", "two\n"]);
}

#[test]
fn what_came_and_went_untold_is_found_although_the_name_bears_what_came_next() {
    let mut log = Log::new();
    log.replace_and_rename_untold();
    log.make("three\n");
    log.read();
    assert_eq!(log.came, ["one\n", "three\n"], "nobody has told of the second");
    log.make_up();
    assert_eq!(log.came, ["one\n", "three\n", "two\n"]);
    for _ in 0..2 {
        log.read();
        log.make_up();
    }
    assert_eq!(log.came.len(), 3, "none is read again");
    assert_eq!(log.follower.file_count(), 1, "nor followed for ever");
}

#[test]
fn what_came_and_went_untold_is_found_although_two_have_come_since() {
    let mut log = Log::new();
    log.replace_and_rename_untold();
    log.make("three\n");
    log.read();
    log.rename_to("app.log.3");
    log.make("four\n");
    log.read();
    log.make_up();
    assert_eq!(log.came, ["one\n", "three\n", "four\n", "two\n"]);
}

#[test]
fn what_came_and_went_untold_is_found_at_a_name_that_a_pattern_matched() {
    for is_there in [true, false] {
        let mut log = Log::matching("*.log");
        log.rename_to("app.log.1");
        for _ in 0..3 {
            log.read();
        }
        assert_eq!(log.follower.names.len(), 0, "the name is let go, too");
        log.make("two\n");
        log.rename_to("app.log.2");
        if is_there {
            log.make("three\n");
        }
        log.lose();
        log.make_up();
        let expected = ["one\n", "two\n", "three\n"];
        assert_eq!(log.came, expected[..2 + usize::from(is_there)]);
        log.make_up();
        assert_eq!(log.follower.file_count(), usize::from(is_there));
    }
}

#[test]
fn the_first_file_of_a_name_is_found_that_came_and_went_untold() {
    let mut log = Log::of(|follower, dir| {
        let _ = follower.add_name(&dir.join("other.log"));
    });
    let other = |name: &str| log.dir.path().join(name);
    fs::write(other("other.log"), "first\n").unwrap();
    fs::rename(other("other.log"), other("other.log.1")).unwrap();
    thread::sleep(Duration::from_millis(10));
    fs::write(other("other.log"), "second\n").unwrap();
    log.lose();
    log.make_up();
    assert_eq!(log.came, ["first\n", "second\n"]);
}

#[test]
fn copies_of_what_was_read_are_not_read_when_hints_are_lost() {
    let mut log = Log::new();
    fs::remove_file(&log.path).unwrap();
    log.make("two\n");
    log.read();
    fs::copy(&log.path, log.dir.path().join("app.log.1")).unwrap();
    File::create(&log.path).unwrap();
    log.read();
    log.make_up();
    assert_eq!(log.came, ["one\n", "two\n"]);
}

#[test]
fn what_was_read_and_compressed_is_not_read_when_hints_are_lost() {
    for is_let_go in [true, false] {
        let mut log = Log::new();
        for (at, text) in ["two\n", "three\n"].into_iter().enumerate() {
            let name = format!("app.log.{}", at + 1);
            log.rename_to(&name);
            log.make(text);
            log.read();
            if is_let_go {
                log.read();
                assert_eq!(log.follower.file_count(), 1, "those before are let go");
            }
            log.compress(&name);
        }
        log.make_up();
        assert_eq!(log.came, ["one\n", "two\n", "three\n"], "let go: {is_let_go}");
        log.make_up();
        assert_eq!(log.came.len(), 3, "let go: {is_let_go}");
    }
}

#[test]
fn what_came_and_was_compressed_untold_is_read_once() {
    let mut log = Log::new();
    log.rename_to("app.log.1");
    log.make("two\n");
    log.rename_to("app.log.2");
    log.compress("app.log.2");
    log.make("three\n");
    log.lose();
    for _ in 0..2 {
        log.make_up();
    }
    assert_eq!(log.came, ["one\n", "two\n", "three\n"]);
}

/// What the name bears is expected there anew, and compressed before that is opened.
#[test]
fn what_was_expected_at_a_name_and_compressed_is_not_read_again() {
    let mut log = Log::new();
    log.follower.expect_comer(NameId(0));
    log.rename_to("app.log.1");
    log.compress("app.log.1");
    log.make("two\n");
    for _ in 0..3 {
        log.read();
    }
    assert_eq!(log.came, ["one\n", "two\n"]);
    assert_eq!(log.follower.counts.missed_files, 0);
}

/// Rotated and compressed with each of these, before anybody looks.
fn compressed_unopened(texts: &[&str]) -> Log {
    let mut log = Log::new();
    for text in texts {
        for number in (1..=texts.len()).rev() {
            let packed = |number: usize| log.dir.path().join(format!("app.log.{number}.gz"));
            let _ = fs::rename(packed(number), packed(number + 1));
        }
        log.rename_to("app.log.1");
        log.make(text);
        log.compress("app.log.1");
    }
    for _ in 0..3 {
        log.read();
    }
    assert_eq!(log.follower.counts.missed_files, 0);
    assert_eq!(log.follower.file_count(), 1, "those are let go");
    log
}

#[test]
fn what_was_compressed_before_it_was_opened_is_read_from_that() {
    for texts in [["two\n", "three\n", "four\n"], ["one\n", "one\n", "one\n"]] {
        let mut log = compressed_unopened(&texts);
        let expected = [&["one\n"][..], &texts[..]].concat();
        assert_eq!(log.came, expected);
        log.make_up();
        assert_eq!(log.came, expected, "nor read again");
    }
}

#[test]
fn what_begins_as_another_that_was_read_is_read_too() {
    for text in ["one\n", "one\nand more\n"] {
        let mut log = Log::new();
        log.rename_to("app.log.1");
        log.make(text);
        log.rename_to("app.log.2");
        log.compress("app.log.1");
        log.compress("app.log.2");
        log.make("three\n");
        log.lose();
        for _ in 0..2 {
            log.make_up();
        }
        assert_eq!(log.came, ["one\n", text, "three\n"]);
    }
}

#[test]
fn what_was_written_to_after_it_was_compressed_is_not_read_again() {
    let mut log = Log::new();
    log.rename_to("app.log.1");
    log.make("two\nand more\n");
    log.rename_to("app.log.2");
    log.make("three\n");
    for _ in 0..2 {
        log.read();
    }
    // The compressor was there before the last line.
    log.compress_as("app.log.2", b"two\n");
    log.make_up();
    assert_eq!(log.came, ["one\n", "two\nand more\n", "three\n"]);
}

#[test]
fn what_moved_on_while_it_was_listed_is_listed_again() {
    let mut log = Log::new();
    log.replace_and_rename_untold();
    let at = |number: u32| log.dir.path().join(format!("app.log.{number}"));
    let (first, is_over) = (at(1), AtomicBool::new(false));
    let further = |number: u32| at(100 + number);
    fs::rename(first, further(0)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let still = (0..).take_while(|_| !is_over.load(Ordering::Relaxed));
            still.for_each(|number| fs::rename(further(number), further(number + 1)).unwrap());
        });
        log.follower.hints_lost();
        log.follower.settle();
        is_over.store(true, Ordering::Relaxed);
    });
    let until = Instant::now() + Duration::from_secs(10);
    while log.came.len() < 2 && Instant::now() < until {
        assert!(log.follower.next_deadline().is_some(), "nobody would look again");
        thread::sleep(Duration::from_millis(1));
        log.read();
    }
    assert_eq!(log.came, ["one\n", "two\n"]);
}

#[test]
fn what_came_untold_is_read_in_its_order_though_rotated_names_are_followed_too() {
    let mut log = Log::of(|follower, dir| {
        fs::write(dir.join("app.log.1"), "zero\n").unwrap();
        follower.add_pattern(&dir.join("app.log*")).unwrap();
    });
    assert_eq!(log.came, ["one\n", "zero\n"]);
    let shift = |log: &Log| {
        for number in (1..3).rev() {
            let at = |number: u32| log.dir.path().join(format!("app.log.{number}"));
            let _ = fs::rename(at(number), at(number + 1));
        }
        log.rename_to("app.log.1");
    };
    shift(&log);
    log.make("two\n");
    shift(&log);
    log.make("three\n");
    log.lose();
    log.make_up();
    assert_eq!(log.came[2..], ["two\n", "three\n"]);
}
