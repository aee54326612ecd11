//! What bore a followed name and is gone before it could be opened: nobody can read it, but it is counted, through eBPF
//! to the byte.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use log_tail_tests::prelude::*;

const REMOVED: &str = "log_tail_lost_bytes_total{reason=\"removed\"}";
const MISSED: &str = "log_tail_missed_files_total";

/// What is said of lost files.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    files: u64,
    bytes: u64,
    /// Of each record of lost bytes, whether there are no more than it says.
    exact: Vec<bool>,
}

impl Said {
    /// That there was one is all that is known.
    const UNTOLD: Self = Self { files: 1, bytes: 0, exact: Vec::new() };

    /// Of one file.
    fn of(bytes: u64, exact: bool) -> Self {
        Self { files: 1, bytes, exact: vec![exact] }
    }
}

/// What is said of a file that has the followed name, and these bytes, and loses it by `become_of`, all that while log-tail
/// does not look. `expected`: where the kernel program tells it.
fn assert_said(held: &str, become_of: impl FnOnce(&Path, File), expected: Said) {
    let place = Place::new();
    fs::create_dir(place.path("logs")).expect("made");
    let log = place.path("logs/app.log");
    create(&log, "read\n");
    let tail = LogTail::without_sweep().args(["-n", "+1", "--format", "json"]).arg(&log).follow();
    tail.wait_for_record("read");
    tail.hold_still();
    fs::remove_file(&log).expect("removed");
    let mut missed = File::create(&log).expect("created");
    missed.write_all(held.as_bytes()).expect("written");
    become_of(&log, missed);
    if !log.exists() {
        create(&log, "new\n");
    }
    tail.go_on();
    let records = tail.wait_for_record("new");
    let expected = if tail.tells_what_is_lost(&place) {
        expected
    } else {
        Said { files: expected.files, ..Said::UNTOLD }
    };
    let scrape = tail.scrape();
    let lost: Vec<_> = records.iter().filter(|record| record.get("lost_bytes").is_some()).collect();
    for record in &lost {
        assert_eq!((record["reason"].as_str(), record["path"].as_str()), (Some("removed"), log.to_str()));
    }
    assert_eq!(
        lost.iter().filter_map(|record| record["lost_bytes"].as_u64()).sum::<u64>(),
        scrape.get(REMOVED),
        "the records and the metrics tell the same"
    );
    let exact = lost.iter().filter_map(|record| record["exact"].as_bool()).collect();
    assert_eq!(Said { files: scrape.get(MISSED), bytes: scrape.get(REMOVED), exact }, expected);
    let finished = tail.terminate();
    if expected.bytes > 0 {
        finished.assert_says(&[
            "app.log' was gone before it could be opened",
            &format!("{} bytes", expected.bytes),
        ]);
    }
}

fn remove(log: &Path, writer: File) {
    drop(writer);
    fs::remove_file(log).expect("removed");
}

#[test]
fn a_file_that_came_and_went_before_anyone_could_open_it_is_counted() {
    assert_said("missed\n", remove, Said::of(7, true));
}

#[test]
fn a_file_that_another_was_renamed_over_is_counted() {
    let replace = |log: &Path, writer: File| {
        drop(writer);
        let other = log.with_extension("other");
        create(&other, "new\n");
        fs::rename(other, log).expect("renamed");
    };
    assert_said("missed\n", replace, Said::of(7, true));
}

#[test]
fn of_a_removed_file_that_is_open_for_writing_what_it_held_is_the_least_that_is_lost() {
    let mut kept = None;
    let remove = |log: &Path, writer: File| {
        fs::remove_file(log).expect("removed");
        kept.insert(writer).write_all(b"and more\n").expect("written");
    };
    assert_said("missed\n", remove, Said::of(7, false));
}

#[test]
fn what_a_removed_file_with_another_name_held_is_not_counted_as_lost() {
    let remove = |log: &Path, writer: File| {
        drop(writer);
        fs::hard_link(log, log.with_extension("kept")).expect("linked");
        fs::remove_file(log).expect("removed");
    };
    assert_said("missed\n", remove, Said::UNTOLD);
}

#[test]
fn what_a_removed_file_has_a_copy_of_is_not_counted_as_lost() {
    let remove = |log: &Path, writer: File| {
        drop(writer);
        fs::copy(log, log.with_extension("log.1")).expect("copied");
        fs::remove_file(log).expect("removed");
    };
    assert_said("missed\n", remove, Said::UNTOLD);
}

#[test]
fn an_empty_file_that_came_and_went_takes_nothing_with_it() {
    assert_said("", remove, Said::UNTOLD);
}

#[test]
fn files_that_went_with_their_directory_are_counted_together() {
    let remove_all = |log: &Path, writer: File| {
        remove(log, writer);
        create(log, "missed again\n");
        let directory = log.parent().expect("a directory");
        fs::remove_dir_all(directory).expect("removed");
        fs::create_dir(directory).expect("made");
    };
    assert_said("missed\n", remove_all, Said { files: 2, bytes: 20, exact: vec![true] });
}

/// More than there are descriptors for.
const FILES: usize = 300;

#[test]
fn what_was_unread_of_a_closed_file_that_is_removed_is_counted() {
    let place = Place::new();
    let names: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    let path = |name: &str| place.path(format!("{name}.log"));
    let mut files: Vec<Lines> = names.iter().map(|name| Lines::new(path(name), name)).collect();
    let tail =
        LogTail::without_sweep().counted().with_open_files(160).arg("-q").arg(place.path("*.log")).follow();
    for (lines, file) in (1..).zip(&mut files) {
        file.write(1);
        tail.wait_for_lines(lines);
    }
    // The one that was not read for the longest time is closed by now.
    tail.hold_still();
    append(path(&names[0]), "unread\n");
    files.drain(..2);
    for name in &names[..2] {
        fs::remove_file(path(name)).expect("removed");
    }
    tail.go_on();
    // Nothing was unread in the second one, but nobody knows that where it is not told what it held.
    let (missed, bytes) = if tail.tells_what_is_lost(&place) { (1, 7) } else { (2, 0) };
    tail.wait_for_metrics("files that are let go", |scrape| scrape.get("log_tail_files") == FILES as u64 - 2);
    let scrape = tail.scrape();
    assert_eq!((scrape.get(MISSED), scrape.get(REMOVED)), (missed, bytes));
    let finished = tail.terminate();
    finished.assert_exactly(names.iter().map(|name| (name.as_str(), 1)));
    finished.assert_says(&["f0.log' was removed while its descriptor was closed", "ulimit -n"]);
}
