mod told;

use std::{
    fs::{self, File},
    io::Write as _,
    num::NonZeroUsize,
    path::Path,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::{
    follow::{FollowSettings, Start},
    observe::inotify::InotifyObserver,
    record::Item,
};

/// Takes all hints, and reads so many blocks at most.
fn look(follower: &mut Follower, blocks: usize) -> String {
    let mut hints = Vec::new();
    while follower.observer().unwrap().drain(&mut hints).unwrap() {}
    follower.take(&mut hints);
    let mut text = String::new();
    let mut left = blocks;
    while left > 0
        && let Some(item) = follower.next_item()
    {
        if let Item::Block(block) = item {
            text.push_str(std::str::from_utf8(&block.bytes).unwrap());
            left -= 1;
        }
    }
    text
}

fn following(log: &Path) -> Follower {
    let settings = FollowSettings {
        start: Start::FromByte(1),
        max_line_bytes: NonZeroUsize::new(1024).unwrap(),
        rotate_wait: Duration::ZERO,
    };
    let mut follower = Follower::new(settings, Some(Box::new(InotifyObserver::new().unwrap())));
    follower.add_name(log).unwrap();
    follower.begin();
    follower
}

/// As `cp` and `truncate` do.
fn copy_and_truncate(log: &Path, to: &Path) {
    fs::copy(log, to).unwrap();
    fs::write(log, "").unwrap();
}

/// A log that was read and truncated, beside a generation that was there before anything was followed.
fn following_beside_an_old_generation(log: &Path, old: &Path) -> Follower {
    fs::write(old, "old\n").unwrap();
    fs::write(log, "one\n").unwrap();
    let mut follower = following(log);
    assert_eq!(look(&mut follower, 9), "one\n");
    fs::write(log, "").unwrap();
    assert_eq!(look(&mut follower, 9), "");
    follower
}

fn names(dir: &Path) -> (PathBuf, [PathBuf; 3]) {
    (dir.join("app.log"), [1, 2, 3].map(|number| dir.join(format!("app.log.{number}"))))
}

#[test]
fn a_second_copy_made_while_the_first_is_read_is_read_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, copies) = names(dir.path());
    fs::write(&log, "one\n").unwrap();
    let mut follower = following(&log);
    assert_eq!(look(&mut follower, 1), "one\n");
    fs::write(&copies[0], "one\ntwo\n").unwrap();
    fs::write(&log, "").unwrap();
    assert_eq!(look(&mut follower, 1), "two\n");
    fs::write(&log, "three\n").unwrap();
    copy_and_truncate(&log, &copies[1]);
    fs::write(&log, "four\n").unwrap();
    assert_eq!(look(&mut follower, 9), "three\nfour\n");
}

#[test]
fn copies_of_what_was_never_read_are_read_wherever_they_were_shifted_to() {
    let dir = tempfile::tempdir().unwrap();
    let (log, copies) = names(dir.path());
    let mut follower = following_beside_an_old_generation(&log, &copies[0]);
    for line in ["two\n", "three\n"] {
        fs::write(&log, line).unwrap();
        for number in [1, 0] {
            let _ = fs::rename(&copies[number], &copies[number + 1]);
        }
        copy_and_truncate(&log, &copies[0]);
    }
    assert_eq!(fs::read_to_string(&copies[2]).unwrap(), "old\n");
    assert_eq!(look(&mut follower, 9), "two\nthree\n");
    fs::write(&log, "four\n").unwrap();
    assert_eq!(look(&mut follower, 9), "four\n");
}

#[test]
fn what_an_old_generation_is_compressed_to_is_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (log, copies) = names(dir.path());
    let mut follower = following_beside_an_old_generation(&log, &copies[0]);
    fs::write(&log, "two\n").unwrap();
    // A log is copied as it is compressed; and an old one is compressed.
    for (name, text) in [("app.log.2.gz", "two\n"), ("app.log.1.gz", "old\n")] {
        let mut gzip = GzEncoder::new(File::create(dir.path().join(name)).unwrap(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap();
    }
    fs::write(&log, "").unwrap();
    assert_eq!(look(&mut follower, 9), "two\n");
    fs::remove_file(&copies[0]).unwrap();
    fs::write(&log, "three\n").unwrap();
    assert_eq!(look(&mut follower, 9), "three\n");
}

#[test]
fn a_copy_of_what_the_file_still_holds_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, copies) = names(dir.path());
    fs::write(&log, "one\n").unwrap();
    let mut follower = following(&log);
    fs::copy(&log, &copies[0]).unwrap();
    assert_eq!(look(&mut follower, 9), "one\n");
    fs::write(&log, "").unwrap();
    assert_eq!(look(&mut follower, 9), "");
}

#[test]
fn a_copy_that_takes_the_followed_name_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, copies) = names(dir.path());
    fs::write(&log, "one\n").unwrap();
    let mut follower = following(&log);
    assert_eq!(look(&mut follower, 9), "one\n");
    fs::write(&copies[0], "two\n").unwrap();
    assert_eq!(look(&mut follower, 9), "");
    fs::rename(&copies[0], &log).unwrap();
    assert_eq!(look(&mut follower, 9), "two\n");
}
