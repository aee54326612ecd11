//! Truncation: in place, to the middle, past the old offset, and with a copy of what was there.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use log_tail_tests::prelude::*;

#[test]
fn a_file_truncated_to_its_middle_goes_on_from_there() {
    let place = Place::new();
    let log = place.path("app.log");
    append(&log, "one\ntwo\nthree\n");
    let tail = LogTail::without_sweep().args(["-n", "+1"]).arg(&log).follow();
    tail.wait_for_stdout("one\ntwo\nthree\n");
    let file = fs::OpenOptions::new().append(true).open(&log).unwrap();
    file.set_len(4).unwrap();
    append(&log, "four\n");
    tail.wait_for_stdout("one\ntwo\nthree\nfour\n");
    tail.terminate();
}

/// Two lines are read; then this is done to the file at once, as far as log-tail can tell, and these lines come out.
fn reads_what_is_new(change: impl FnOnce(&Path), new: &str) {
    reads(change, |_| new);
}

/// As [`reads_what_is_new`], where that depends on whether truncations are told.
fn reads<'a>(change: impl FnOnce(&Path), new: impl FnOnce(bool) -> &'a str) {
    let place = Place::new();
    let log = place.path("app.log");
    append(&log, "old 1\nold 2\n");
    let tail = LogTail::without_sweep().args(["-n", "+1"]).arg(&log).follow();
    tail.wait_for_stdout("old 1\nold 2\n");
    tail.hold_still();
    change(&log);
    tail.go_on();
    let new = new(tail.tells_what_is_lost(&place));
    tail.wait_for_stdout(format!("old 1\nold 2\n{new}"));
    tail.terminate();
}

#[test]
fn a_file_truncated_and_grown_past_the_old_offset_at_once_is_read_from_its_beginning() {
    let new = "new 1\nnew 2\nnew 3\nnew 4\n";
    reads_what_is_new(|log| create(log, new), new);
}

/// Nothing in the content tells.
#[test]
fn a_file_truncated_and_regrown_with_the_same_bytes_is_read_again_where_that_is_told() {
    let all = "old 1\nold 2\nnew\n";
    reads(|log| create(log, all), |is_told| if is_told { all } else { "new\n" });
}

/// As a truncation looks of which nobody told.
#[test]
fn what_is_written_over_a_file_from_its_beginning_is_read() {
    let new = "new 1\nnew 2\nnew 3\n";
    let write_over = |log: &Path| {
        let file = fs::OpenOptions::new().write(true).open(log).unwrap();
        file.write_all_at(new.as_bytes(), 0).unwrap();
    };
    reads_what_is_new(write_over, new);
}

/// All that was written has come out; it cannot look until it goes on.
fn held_still_behind_a_hundred_lines() -> (Place, PathBuf, Lines, Running) {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    lines.write(100);
    let tail = LogTail::without_sweep().args(["-n", "+1"]).counted().arg(&log).follow();
    tail.wait_for_lines(100);
    tail.hold_still();
    (place, log, lines, tail)
}

#[test]
fn what_was_not_read_before_a_truncation_is_read_from_the_copy() {
    let (place, log, mut lines, tail) = held_still_behind_a_hundred_lines();
    // copytruncate, twice.
    for copy in ["app.log.2", "app.log.1"] {
        lines.write(1000);
        fs::copy(&log, place.path(copy)).unwrap();
        lines.file().set_len(0).unwrap();
    }
    lines.write(10);
    tail.go_on();
    tail.wait_for_lines(2110);
    assert_eq!(tail.scrape().get("log_tail_lost_bytes_total{reason=\"truncated\"}"), 0);
    tail.terminate().assert_exactly([("w", 2110)]);
}

/// Copied and truncated, and written to in between: the copy has the rest but for that.
#[test]
fn what_was_written_between_a_copy_and_the_truncation_is_counted() {
    let (place, log, mut lines, tail) = held_still_behind_a_hundred_lines();
    lines.write(1000);
    fs::copy(&log, place.path("app.log.1")).unwrap();
    append(&log, "lost to everyone\n");
    lines.file().set_len(0).unwrap();
    lines.write(10);
    tail.go_on();
    tail.wait_for_lines(1110);
    let lost = tail.scrape().get("log_tail_lost_bytes_total{reason=\"truncated\"}");
    assert_eq!(lost, if tail.tells_what_is_lost(&place) { 17 } else { 0 }, "otherwise a lower bound");
    tail.terminate().assert_exactly([("w", 1110)]);
}

#[test]
fn what_no_copy_holds_is_counted_and_told_in_json() {
    let place = Place::new();
    let log = place.path("app.log");
    append(&log, "read\n");
    let tail = LogTail::without_sweep().args(["-n", "+1", "--format", "json"]).arg(&log).follow();
    tail.wait_for_record("read");
    tail.hold_still();
    append(&log, "lost to everyone\n");
    create(&log, "new\n");
    tail.go_on();
    let records = tail.wait_for_record("new");
    let is_exact = tail.tells_what_is_lost(&place);
    let lost = tail.scrape().get("log_tail_lost_bytes_total{reason=\"truncated\"}");
    let told = records.iter().find(|record| record.get("lost_bytes").is_some()).expect("it is told");
    assert_eq!((told["reason"].as_str(), told["exact"].as_bool()), (Some("truncated"), Some(is_exact)));
    assert_eq!(told["lost_bytes"].as_u64(), Some(lost));
    assert_eq!(lost, if is_exact { 17 } else { 0 }, "otherwise a lower bound, from what was seen");
    tail.terminate();
}

/// Nobody takes the output, so most of the file is unread when it is truncated.
#[test]
fn what_was_seen_and_not_read_is_counted_exactly_or_as_the_least_that_is_lost() {
    const LINE: &[u8] = b"a line that nobody takes in time\n";
    const LINES: usize = 200_000;
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, LINE.repeat(LINES));
    let tail = LogTail::without_sweep().unheard().with_metrics().args(["-n", "+1"]).arg(&log);
    let mut tail = tail.follow();
    let mut stdout = tail.take_stdout();
    // The pipe is full when nothing more is read.
    let mut read = 0;
    tail.wait_for_metrics("standing still", |scrape| {
        let before = std::mem::replace(&mut read, scrape.get("log_tail_read_bytes_total"));
        std::thread::sleep(Duration::from_millis(100));
        before > 0 && before == read
    });
    create(&log, "new\n");
    let mut came = Vec::new();
    let mut block = vec![0; 1 << 16];
    while !came.ends_with(b"new\n") {
        let read = stdout.read(&mut block).unwrap();
        came.extend_from_slice(&block[..read]);
    }
    let lost = tail.scrape().get("log_tail_lost_bytes_total{reason=\"truncated\"}");
    let unread = (LINE.len() * LINES - (came.len() - "new\n".len())) as u64;
    assert!(unread > 0 && 0 < lost && lost <= unread, "{lost} of {unread} bytes");
    if tail.tells_what_is_lost(&place) {
        assert_eq!(lost, unread, "the kernel program tells how much it was");
    }
    drop(stdout);
}

#[test]
fn an_unfinished_line_of_a_rotated_file_comes_before_the_new_file() {
    let place = Place::new();
    let log = place.path("app.log");
    append(&log, "one");
    let tail = LogTail::without_sweep().args(["-n", "+1"]).arg(&log).follow();
    fs::rename(&log, place.path("app.log.1")).unwrap();
    append(&log, "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    tail.terminate();
}
