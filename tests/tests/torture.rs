//! The torture itself can fail: a follower that loses lines is found out, and log-tail is not.

use std::time::Duration;

use log_tail_tests::{
    backend::wanted_backend,
    run::binary,
    torture::{
        report::Row,
        run, scenario,
        subject::{Descriptor, LogTail, Once, Subject},
    },
};
use nix::unistd::geteuid;

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

#[test]
fn log_tail_reads_on_in_the_file_that_was_moved_away_and_back() {
    let backend = wanted_backend().map_or("auto", |backend| backend.word());
    let subject = LogTail::at(binary(), backend).expect("it prints its help");
    let row = tortured("moved-away", &subject, Duration::from_secs(30));
    assert_eq!(row.broken, None, "{row:?}");
    assert!(row.is_kept() && row.numbers.written > 20_000, "{row:?}");
}

/// `IN_Q_OVERFLOW`, mounts, and copies at restarts: what no other test does for real.
#[test]
fn log_tail_keeps_what_it_promises() {
    let backend = wanted_backend().map_or("auto", |backend| backend.word());
    let subject = LogTail::at(binary(), backend).expect("it prints its help");
    let is_root = geteuid().is_root();
    let names = ["overflow", "overflow-one-kept", "restart-copied-3", "restart-killed-copied"];
    for name in names.into_iter().chain(is_root.then_some("bind-mount")) {
        let row = tortured(name, &subject, Duration::from_secs(30));
        assert_eq!(row.broken, None, "{name}: {row:?}");
        assert!(row.is_kept() && row.numbers.written > 1000, "{name}: {row:?}");
    }
    if !is_root {
        eprintln!("skipping bind-mount: only root may mount");
    }
}
