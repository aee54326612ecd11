//! The metrics say what happened, and that nothing happens when nothing does.

use std::fs;

use log_tail_tests::prelude::*;

#[test]
fn every_metric_is_there_and_they_agree() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = LogTail::new().arg(&log).follow();
    let backend = tail.following().backend;
    let mut expected = String::new();
    for number in 0..100 {
        let line = format!("line {number}\n");
        append(&log, &line);
        expected += &line;
        tail.wait_for_stdout(&expected);
    }
    fs::rename(&log, place.path("app.log.1")).unwrap();
    create(&log, "new\n");
    expected += "new\n";
    tail.wait_for_stdout(&expected);
    // Shorter than it was, and told apart from it.
    create(&log, "t\n");
    expected += "t\n";
    tail.wait_for_stdout(&expected);
    fs::remove_file(&log).unwrap();
    let scrape = tail.wait_for_metrics("the removal", |scrape| {
        scrape.get("log_tail_rotations_total{kind=\"unlink\"}") > 0
    });

    assert_eq!(scrape.get("log_tail_read_bytes_total"), expected.len() as u64);
    assert_eq!(scrape.get("log_tail_read_lines_total"), 102);
    assert!(scrape.get("log_tail_wakeups_total") > 0);
    assert!(
        scrape.get("log_tail_rotations_total{kind=\"replace\"}")
            + scrape.get("log_tail_rotations_total{kind=\"unlink\"}")
            >= 2
    );
    assert_eq!(scrape.get("log_tail_rotations_total{kind=\"truncate\"}"), 1);
    assert_eq!(scrape.get(&format!("log_tail_backend_info{{backend=\"{}\"}}", backend.word())), 1);
    assert_eq!(scrape.get("log_tail_lag_bytes"), 0);
    for series in [
        "log_tail_files",
        "log_tail_sweeps_total",
        "log_tail_missed_hints_total",
        "log_tail_kernel_events_skipped_total",
        "log_tail_write_to_deliver_seconds_sum",
        "log_tail_write_to_deliver_seconds_count",
    ] {
        assert!(scrape.find(series).is_some(), "no {series} in:\n{}", scrape.page);
    }
    for kind in ["append", "truncate", "move", "unlink", "entry", "overflow", "skipped"] {
        let _ = scrape.get(&format!("log_tail_hints_total{{kind=\"{kind}\"}}"));
    }
    scrape.assert_kernel_events_add_up();
    if backend == Backend::Ebpf {
        assert!(scrape.kernel_events("seen") >= 100, "{}", scrape.page);
        assert!(scrape.get("log_tail_hints_total{kind=\"append\"}") > 0, "{}", scrape.page);
        assert!(scrape.get("log_tail_write_to_deliver_seconds_count") > 0, "{}", scrape.page);
    } else {
        assert_eq!(scrape.kernel_events("seen"), 0, "{}", scrape.page);
    }
    tail.finish();
}

#[test]
fn what_the_kernel_program_costs_is_shown_hook_by_hook_when_asked() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = LogTail::new().arg("--measure-cost").arg(&log).follow();
    let vfs_write =
        |scrape: &Scrape, name: &str| scrape.find(&format!("{name}{{hook=\"vfs_write\",by=\"fexit\"}}"));
    let before = tail.scrape();
    Lines::new(&log, "w").write(1000);
    tail.wait_for_metrics("the lines", |scrape| scrape.get("log_tail_read_lines_total") == 1000);
    let after = tail.scrape();
    let runs = ["log_tail_hook_runs_total", "log_tail_hook_run_time_seconds_total"];
    if tail.following().backend == Backend::Ebpf {
        let [ran, took] =
            runs.map(|name| vfs_write(&after, name).unwrap() - vfs_write(&before, name).unwrap());
        assert!(ran >= 1000.0, "{ran}");
        assert!(took > 0.0 && took / ran < 1e-3, "{took} s for {ran} runs");
    } else {
        assert_eq!(runs.map(|name| vfs_write(&after, name)), [None, None]);
    }
    tail.finish();
}

#[test]
fn files_that_are_let_go_are_no_longer_counted() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = LogTail::new().args(["--rotate-wait", "10ms"]).arg(&log).follow();
    let mut expected = String::new();
    for round in 0..10 {
        append(&log, format!("{round}\n"));
        expected.extend([round.to_string(), "\n".to_owned()]);
        tail.wait_for_stdout(&expected);
        fs::rename(&log, place.path("app.log.1")).unwrap();
        create(&log, "");
    }
    tail.wait_for_metrics("one file left", |scrape| scrape.get("log_tail_files") == 1);
    tail.finish();
}

#[test]
fn files_that_are_not_followed_wake_nobody() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    fs::create_dir(place.path("beside")).unwrap();
    let tail = LogTail::new().arg(&log).follow();
    append(&log, "one\n");
    tail.wait_for_stdout("one\n");
    let wakeups = tail.scrape().get("log_tail_wakeups_total");
    Lines::new(place.path("beside/other.log"), "w").write(1000);
    append(&log, "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    let woken = tail.scrape().get("log_tail_wakeups_total") - wakeups;
    assert!(woken <= 10, "woken {woken} times for one line");
    tail.finish();
}
