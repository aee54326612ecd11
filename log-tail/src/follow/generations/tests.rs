use std::{
    cell::Cell,
    fs,
    num::NonZeroUsize,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

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
        follower.add_name(&path).unwrap();
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
        std::thread::sleep(Duration::from_millis(10));
        fs::write(&self.path, text).unwrap();
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

    /// It is told that something was lost.
    fn make_up(&mut self) {
        self.follower.look_at_everything();
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
    log.rename_to("app.log.1");
    log.make("two\n");
    log.rename_to("app.log.2");
    log.lose();
    log.make_up();
    assert_eq!(log.came, ["one\n", "two\n"]);
}

#[test]
fn what_came_and_went_untold_is_found_although_the_name_bears_what_came_next() {
    let mut log = Log::new();
    log.rename_to("app.log.1");
    log.make("two\n");
    log.rename_to("app.log.2");
    log.lose();
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
