//! The torture itself can fail: a follower that loses lines is found out, and log-tail is not.
//!
//! Every scenario is run once on log-tail, by the program itself, but for one that takes a minute.

use std::{fs, process::Command, time::Duration};

use log_tail_tests::{
    backend::wanted_backend,
    prelude::*,
    run::binary,
    torture::{
        report::Row,
        run, scenario,
        subject::{Descriptor, Once, Subject},
    },
};
use nix::unistd::geteuid;
use serde_json::Value;

const RENAMED: &[&str] = &[
    "rename-10000",
    "rename-200",
    "rename-20",
    "shift",
    "stalled-reader",
    "old-writer-50",
    "old-writer-900",
    "old-writer-stays",
];
const REMOVED: &[&str] = &[
    "deleted",
    "directory-removed",
    "directory-replaced",
    "moved-away",
    "symlink",
    "symlink-target-rotated",
    "hard-link",
    "bind-mount",
];
const TRUNCATED: &[&str] = &[
    "truncate",
    "truncate-middle",
    "truncate-regrown",
    "truncate-flat-out",
    "truncate-middle-flat-out",
    "copytruncate",
    "copytruncate-gap",
];
const LOGROTATE: &[&str] = &[
    "logrotate-create",
    "logrotate-copytruncate",
    "logrotate-compress",
    "logrotate-delaycompress",
    "logrotate-sharedscripts",
    "logrotate-paused",
];
const CROWDED: &[&str] =
    &["thousand-files", "few-descriptors", "few-watches", "overflow", "overflow-one-kept"];
const RESTARTED: &[&str] = &[
    "restart",
    "restart-rotated",
    "restart-rotated-3",
    "restart-compressed",
    "restart-copied-3",
    "restart-killed",
    "restart-killed-copied",
];
/// One rotation a second, 50 times.
const BY_HAND: &[&str] = &["logrotate-dateext"];

fn tortured(name: &str, subject: &dyn Subject, quiet: Duration) -> Row {
    let mut row = Row::default();
    let scenario = scenario::all().into_iter().find(|it| it.name == name).expect("a scenario");
    run(&scenario, subject, 20_000, quiet, &mut row);
    assert_eq!((row.runs, &row.skipped), (1, &None));
    row
}

#[test]
fn a_follower_of_the_descriptor_loses_what_comes_after_the_rotation() {
    let row = tortured("rename-10000", &Descriptor, Duration::from_secs(10));
    // The first file, and not one line of those after it.
    assert_eq!(row.numbers.written, 30_003, "{row:?}");
    assert_eq!((row.numbers.delivered, row.numbers.lost), (10_003, 20_000), "{row:?}");
    assert_eq!((row.numbers.repeated, row.numbers.torn, row.numbers.out_of_order), (0, 0, 0), "{row:?}");
    assert_eq!(row.broken.as_deref(), Some("20000 of them lie in a file or a copy, 20000 lost"));
}

/// It counts none, which is no less than a lower bound.
#[test]
fn where_loss_is_allowed_what_lies_in_a_file_or_a_copy_must_have_come_out() {
    for name in ["truncate-flat-out", "copytruncate-gap", "logrotate-copytruncate"] {
        let row = tortured(name, &Once, Duration::from_millis(100));
        let broken = row.broken.as_deref().unwrap_or_default();
        assert!(broken.contains("of them lie in a file or a copy"), "{name}: {row:?}");
    }
}

/// What needs more than every machine has: logrotate, unshare, or to be root.
fn may_be_skipped(scenario: &str) -> bool {
    let is_mount = scenario == "bind-mount";
    scenario.starts_with("logrotate-") || scenario == "few-watches" || (is_mount && !geteuid().is_root())
}

/// Runs the program on log-tail, and finds that each of these kept what it promises: their rows.
fn keeps(scenarios: &[&str]) -> Vec<Value> {
    let place = Place::new();
    let json = place.path("rows.json");
    let backend = wanted_backend().map_or("auto", |backend| backend.word());
    let mut torture = Command::new(env!("CARGO_BIN_EXE_torture"));
    torture.env("LOG_TAIL_BIN", binary()).args(["--lines", "20000", "--quiet", "12", "--backend", backend]);
    torture.arg("--json").arg(&json).args(scenarios.iter().flat_map(|name| ["--scenario", name]));
    let output = torture.output().expect("it starts");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    let mut report: Value = serde_json::from_slice(&fs::read(&json).expect("it writes them")).expect("json");
    let Value::Array(rows) = report["rows"].take() else { panic!("no rows: {said}") };
    assert_eq!(rows.len(), scenarios.len(), "{said}");
    for row in &rows {
        if let Some(why) = row["skipped"].as_str() {
            assert!(row["scenario"].as_str().is_some_and(may_be_skipped), "{said}");
            eprintln!("skipping {}: {why}", row["scenario"]);
            continue;
        }
        assert_eq!((&row["broken"], &row["runs"]), (&Value::Null, &1.into()), "{said}");
        assert!(row["written"].as_u64() > Some(1000), "{said}");
    }
    rows
}

#[test]
fn log_tail_keeps_what_it_promises_where_files_are_renamed() {
    keeps(RENAMED);
}

#[test]
fn log_tail_keeps_what_it_promises_where_names_go_and_come_back() {
    let rows = keeps(REMOVED);
    let moved = rows.iter().find(|row| row["scenario"] == "moved-away").expect("its row");
    assert!(moved["written"].as_u64() > Some(20_000), "{moved}");
}

#[test]
fn log_tail_keeps_what_it_promises_where_files_are_truncated() {
    keeps(TRUNCATED);
}

#[test]
fn log_tail_keeps_what_it_promises_under_logrotate() {
    keeps(LOGROTATE);
}

#[test]
fn log_tail_keeps_what_it_promises_where_there_is_too_much_of_all() {
    keeps(CROWDED);
}

#[test]
fn log_tail_keeps_what_it_promises_over_restarts() {
    keeps(RESTARTED);
}

#[test]
fn no_scenario_is_forgotten() {
    let listed = [RENAMED, REMOVED, TRUNCATED, LOGROTATE, CROWDED, RESTARTED, BY_HAND].concat();
    let is_forgotten = |name: &&str| !listed.contains(name);
    let forgotten: Vec<_> =
        scenario::all().iter().map(|scenario| scenario.name).filter(is_forgotten).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}
