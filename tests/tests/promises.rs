//! Rows of the torture in which the backends have most of their own to do, here and on each kernel. `tests/torture.rs`
//! runs the others, on this machine.

use std::time::Duration;

use log_tail_tests::{
    backend::wanted_backend,
    run::binary,
    torture::{report::Row, run, scenario, subject::LogTail},
};
use nix::unistd::geteuid;

/// Once, with as many lines as an emulated machine can take.
fn keeps(name: &str) {
    let backend = wanted_backend().map_or("auto", |backend| backend.word());
    let subject = LogTail::at(binary(), backend).expect("it prints its help");
    let scenario = scenario::all().into_iter().find(|it| it.name == name).expect("a scenario");
    let mut row = Row::default();
    run(&scenario, &subject, 5000, Duration::from_secs(20), &mut row);
    assert!(row.is_kept() && row.runs == 1 && row.numbers.written > 1000, "{row:?}");
}

#[test]
fn a_file_that_is_moved_away_and_back_is_read_on() {
    keeps("moved-away");
}

#[test]
fn a_file_is_followed_through_a_bind_mount() {
    if geteuid().is_root() {
        keeps("bind-mount");
    } else {
        eprintln!("skipping bind-mount: only root may mount");
    }
}

/// Through eBPF to the byte, through inotify as a lower bound.
#[test]
fn what_no_copy_has_is_counted() {
    keeps("copytruncate-gap");
}

#[test]
fn nothing_is_lost_where_hints_find_no_room() {
    keeps("overflow");
}

#[test]
fn nothing_is_lost_where_many_files_are_rotated_at_once() {
    keeps("few-descriptors");
}

#[test]
fn files_that_were_rotated_or_copied_while_it_did_not_run_are_read_on() {
    keeps("restart-rotated-3");
    keeps("restart-copied-3");
}
