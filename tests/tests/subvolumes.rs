//! btrfs: files of different subvolumes that the kernel knows by one device and one number.

use std::{fs, os::unix::fs::MetadataExt as _};

use log_tail_tests::{
    backend::{is_ebpf_or_skip, tells_subvolumes},
    observe::{observe, only_events},
    prelude::*,
    ways::subvolume,
};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, statfs};

/// Two new files of one number, in two subvolumes; `None`, and said, where this is no btrfs.
fn two_of_one_number(place: &Place) -> Option<[std::path::PathBuf; 2]> {
    if statfs(place.dir()).expect("statfs").filesystem_type() != BTRFS_SUPER_MAGIC {
        eprintln!("skipped: {} is not on btrfs", place.dir().display());
        return None;
    }
    let logs = ["one", "other"].map(|name| {
        subvolume(place.dir(), name).expect("a subvolume");
        let log = place.path(name).join("app.log");
        append(&log, "first\nsecond\n");
        log
    });
    let [one, other] = logs.each_ref().map(|log| fs::metadata(log).expect("it is there"));
    assert_eq!(one.ino(), other.ino(), "each subvolume begins to count anew");
    assert_ne!(one.dev(), other.dev());
    Some(logs)
}

#[test]
fn what_is_cut_off_another_subvolumes_file_is_not_read_again() {
    let place = Place::new();
    let Some([log, other]) = two_of_one_number(&place) else { return };
    let tail = LogTail::without_sweep().with_metrics().args(["-n", "+1"]).arg(&log).follow();
    tail.wait_for_stdout("first\nsecond\n");
    create(&other, "something else\n");
    append(&log, "third\n");
    tail.wait_for_stdout("first\nsecond\nthird\n");
    create(&other, "");
    append(&log, "fourth\n");
    tail.wait_for_stdout("first\nsecond\nthird\nfourth\n");
    assert_eq!(tail.scrape().get("log_tail_lost_bytes_total{reason=\"truncated\"}"), 0);
    tail.terminate();
}

#[test]
fn each_of_two_followed_files_of_one_number_is_read_as_what_became_of_it() {
    let place = Place::new();
    let Some([log, other]) = two_of_one_number(&place) else { return };
    let tail = LogTail::without_sweep().args(["-q", "-n", "+1"]).arg(&log).arg(&other).follow();
    let mut expected = "first\nsecond\nfirst\nsecond\n".to_owned();
    tail.wait_for_stdout(&expected);
    for (log, line) in [
        (&other, "third of the other, longer than all that it held\n"),
        (&log, "third of the one, longer than all that it held\n"),
        (&other, "fourth of the other\n"),
    ] {
        create(log, line);
        expected.push_str(line);
        tail.wait_for_stdout(&expected);
    }
    tail.terminate();
}

#[test]
fn what_is_lost_of_one_is_not_confused_with_what_is_cut_off_the_other() {
    let place = Place::new();
    let Some([log, other]) = two_of_one_number(&place) else { return };
    let tail = LogTail::without_sweep().with_metrics().args(["-n", "+1"]).arg(&log).follow();
    tail.wait_for_stdout("first\nsecond\n");
    tail.hold_still();
    append(&log, "lost to everyone\n");
    append(&other, "so much longer that the sum would tell\n");
    create(&other, "");
    create(&log, "third\n");
    tail.go_on();
    tail.wait_for_stdout("first\nsecond\nthird\n");
    let lost = tail.scrape().get("log_tail_lost_bytes_total{reason=\"truncated\"}");
    assert_eq!(lost, if tail.tells_what_is_lost(&place) { 17 } else { 0 }, "otherwise a lower bound");
    tail.terminate();
}

#[test]
fn what_is_done_to_the_other_is_not_shown_of_the_one() {
    let place = Place::new();
    let Some([log, other]) = two_of_one_number(&place) else { return };
    if !is_ebpf_or_skip("observing one of two files of one number") {
        return;
    }
    let observing = observe(&["--op", "write"], &[&log]);
    append(&other, "of the other\n");
    append(&log, "third\n");
    let length = |event: &serde_json::Value| event["length"].as_u64();
    observing.wait_until_stdout("the last write", |stdout| {
        only_events(stdout).iter().any(|event| length(event) == Some(6))
    });
    let shown: Vec<_> = only_events(&observing.terminate().stdout).iter().filter_map(length).collect();
    assert_eq!(shown, if tells_subvolumes() { vec![6] } else { vec![13, 6] });
}
