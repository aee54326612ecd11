//! Removed while it is read, and before anybody could open it.

use std::fs;

use log_tail_tests::prelude::*;

#[test]
fn a_file_unlinked_and_made_again_is_followed() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    for round in 0..20 {
        lines.write(1);
        // Nobody could read a file that was gone before anyone had opened it.
        tail.wait_for_lines(500 * round + 1);
        lines.write(499);
        fs::remove_file(&log).unwrap();
        lines.go_on_in(&log);
    }
    lines.write(500);
    tail.wait_for_lines(21 * 500);
    tail.finish().assert_exactly([("w", 21 * 500)]);
}

#[test]
fn what_is_written_to_an_unlinked_file_still_comes_out() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().args(["--rotate-wait", "60s"]).arg(&log).follow();
    lines.write(100);
    fs::remove_file(&log).unwrap();
    lines.write(100);
    tail.wait_for_lines(200);
    tail.finish().assert_exactly([("w", 200)]);
}

#[test]
fn a_file_that_came_and_went_before_anyone_could_open_it_is_counted() {
    let place = Place::new();
    let log = place.path("app.log");
    let tail = LogTail::without_sweep().counted().arg(&log).follow();
    let mut lines = Lines::new(&log, "w");
    lines.write(1);
    tail.wait_for_lines(1);
    tail.hold_still();
    fs::remove_file(&log).unwrap();
    Lines::new(&log, "missed").write(1);
    fs::remove_file(&log).unwrap();
    lines.go_on_in(&log);
    lines.write(1);
    tail.go_on();
    tail.wait_for_lines(2);
    tail.wait_for_metrics("the file that is missing", |scrape| {
        scrape.get("log_tail_missed_files_total") == 1
    });
    tail.terminate().assert_exactly([("w", 2)]);
}
