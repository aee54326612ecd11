//! What is promised in seconds: how often commits come, how long a rotated file holds back the next one, and when a file
//! that is gone is forgotten.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use log_tail_tests::prelude::*;

/// A line a moment, so that there is always something to commit.
fn write_for(lines: &mut Lines, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        lines.write(1);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn commits_come_four_times_a_second_at_the_most() {
    const A_SECOND: f64 = 4.0;
    let place = Place::new();
    let (log, state) = (place.path("app.log"), StateDir::new(place.path("state")));
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().with_metrics().keeping(&state).arg(&log).follow();
    let began = Instant::now();
    let commits = || tail.scrape().get("log_tail_state_commits_total{outcome=\"durable\"}");
    let before = commits();
    write_for(&mut lines, Duration::from_secs(3));
    let came = commits() - before;
    // One may have been due already.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few")]
    let most = (began.elapsed().as_secs_f64() * A_SECOND) as u64 + 1;
    assert!((3..=most).contains(&came), "{came} commits in {:?}", began.elapsed());
    tail.wait_for_lines(lines.written());
    tail.finish().assert_exactly([("w", lines.written())]);
}

#[test]
fn a_writer_that_never_lets_go_holds_the_new_file_back_for_five_seconds() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut old = Lines::new(&log, "old");
    let tail = LogTail::new().counted().arg(&log).follow();
    old.write(10);
    tail.wait_for_lines(10);
    fs::rename(&log, place.path("app.log.1")).unwrap();
    let rotated = Instant::now();
    let mut new = Lines::new(&log, "new");
    new.write(1);
    while tail.reached("new") == 0 {
        assert!(rotated.elapsed() < PATIENCE, "the new file is held back for ever");
        old.write(1);
        std::thread::sleep(Duration::from_millis(5));
    }
    let held_back = rotated.elapsed();
    assert!(held_back >= Duration::from_millis(4900), "only for {held_back:?}");
    // Who is slow is not who waits longer.
    assert!(held_back < Duration::from_secs(10), "for {held_back:?}");
    // Both are read side by side from then on.
    for _ in 0..10 {
        old.write(1);
        new.write(1);
    }
    tail.wait_for_lines(old.written() + new.written());
    tail.finish().assert_exactly([("old", old.written()), ("new", new.written())]);
}

#[test]
fn a_file_that_is_gone_is_forgotten_after_the_retention_and_not_before() {
    let place = Place::new();
    let [gone, stays] = ["gone.log", "stays.log"].map(|name| place.path(name));
    let state = StateDir::new(place.path("state"));
    let run = |retention: &[&str]| {
        append(&stays, "line\n");
        let tail =
            LogTail::new().args(retention).args(["--from", "end"]).keeping(&state).args([&gone, &stays]);
        let tail = tail.follow();
        append(&stays, "line\n");
        tail.wait_until_stdout("a line", |stdout| stdout.ends_with(b"line\n"));
        tail.terminate();
    };
    let is_known = |path: &Path| state.list().iter().any(|known| Path::new(&known.path) == path);
    append(&gone, "line\n");
    run(&[]);
    assert!(is_known(&gone));
    fs::remove_file(&gone).unwrap();
    // It is missed now, and remembered from then on. Whole seconds are kept.
    run(&[]);
    std::thread::sleep(Duration::from_millis(3100));
    run(&["--state-retention", "1h"]);
    run(&[]);
    assert!(is_known(&gone), "three seconds are less than an hour, and than seven days");
    run(&["--state-retention", "1s"]);
    assert!(!is_known(&gone) && is_known(&stays), "{:?}", state.list());
}
