//! Every way into a file: what log-tail is told of, what comes out, and what only the kernel program sees.

use log_tail_tests::{
    backend::{backend_here, is_ebpf_or_skip, skip},
    prelude::*,
    ways::{
        self, Way,
        measure::{Outcome, measure},
        places::{Kind, Place as WaysPlace},
    },
};

/// What came of each in a place of this kind; `None` where there can be none.
fn outcomes(ways: &[Way], kind: Kind, backend: Backend) -> Option<Vec<(Way, Outcome)>> {
    let place = Place::new();
    match WaysPlace::new(kind, place.dir(), place.dir()) {
        Ok(ways_place) => Some(measure(ways, &ways_place, backend).expect("the files are made")),
        Err(error) if kind != Kind::Plain => {
            skip(&format!("{kind:?} cannot be set up here: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn named(names: &[&str]) -> Vec<Way> {
    let ways: Vec<_> = ways::all().into_iter().filter(|way| names.contains(&way.name)).collect();
    assert_eq!(ways.len(), names.len(), "{names:?} are names of ways");
    ways
}

fn refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(_))
}

#[test]
fn every_way_in_brings_a_hint_and_the_right_bytes() {
    let backend = backend_here();
    // docs/coverage.md has the reasons.
    let unseen = ["libaio", "libaio, O_DIRECT", "link, and write through the other name"];
    // Not every filesystem does these.
    let not_everywhere = ["reflink", "FALLOC_FL_COLLAPSE_RANGE", "O_DIRECT"];
    let repeats = ["fallocate, FALLOC_FL_COLLAPSE_RANGE, then write"];
    for (Way { name, .. }, outcome) in outcomes(&ways::all(), Kind::Plain, backend).expect("a plain place") {
        let is_right = match (&outcome, backend) {
            // Nobody can be told of it.
            (outcome, _) if name == "mmap, a store alone" => *outcome == Outcome::Swept,
            (Outcome::Hinted, _) => true,
            (Outcome::Refused(_), _) => not_everywhere.iter().any(|part| name.contains(part)),
            (Outcome::Swept, Backend::Inotify) => unseen.contains(&name),
            (Outcome::Wrong(_), Backend::Inotify) => repeats.contains(&name),
            _ => false,
        };
        assert!(is_right, "{name}: {outcome}");
    }
}

#[test]
fn what_a_container_writes_is_hinted_on_the_host_and_in_the_container() {
    if !is_ebpf_or_skip("what_a_container_writes_is_hinted_on_the_host_and_in_the_container") {
        return;
    }
    let ways = named(&["write", "writev", "sendfile", "splice", "copy_file_range", "io_uring", "libaio"]);
    for kind in [Kind::Overlay, Kind::CopiedUp, Kind::UpperFollowed] {
        for (Way { name, .. }, outcome) in outcomes(&ways, kind, Backend::Ebpf).into_iter().flatten() {
            assert!(outcome == Outcome::Hinted || refused(&outcome), "{kind:?}: {name}: {outcome}");
        }
    }
}

/// Asserts what is told of each of these through inotify, and that the kernel program tells of them all.
fn assert_side_by_side(kind: Kind, ways: &[&str], through_inotify: &Outcome) {
    let ways = named(ways);
    let through =
        |backend| outcomes(&ways, kind, backend).expect("a place of this kind, where there is eBPF");
    for ((Way { name, .. }, ebpf), (_, inotify)) in
        through(Backend::Ebpf).into_iter().zip(through(Backend::Inotify))
    {
        // tmpfs of the oldest kernels.
        if name.contains("O_DIRECT") && refused(&ebpf) && refused(&inotify) {
            continue;
        }
        assert_eq!(
            (ebpf, &inotify),
            (Outcome::Hinted, through_inotify),
            "{name}: through eBPF, through inotify"
        );
    }
}

/// Whether this kernel is at least this one.
fn is_since(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().expect("a version"));
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

#[test]
fn inotify_is_not_told_of_libaio_and_the_kernel_program_is() {
    if !is_ebpf_or_skip("inotify_is_not_told_of_libaio_and_the_kernel_program_is") {
        return;
    }
    assert_side_by_side(Kind::Plain, &["libaio", "libaio, O_DIRECT"], &Outcome::Swept);
}

/// A container writes through an overlay, and the host follows the file beneath.
#[test]
fn inotify_is_not_told_of_all_that_a_container_writes_and_the_kernel_program_is() {
    if !is_ebpf_or_skip("inotify_is_not_told_of_all_that_a_container_writes_and_the_kernel_program_is") {
        return;
    }
    // Of those in the tests' matrix 5.10 and 6.1 tell of nothing, the others of all but what comes out of a pipe.
    let told = if is_since(6, 12) { Outcome::Hinted } else { Outcome::Swept };
    assert_side_by_side(Kind::UpperFollowed, &["write", "writev", "io_uring", "libaio"], &told);
    assert_side_by_side(
        Kind::UpperFollowed,
        &["sendfile", "splice", "vmsplice, then splice"],
        &Outcome::Swept,
    );
}

/// Copied up, it has another time of birth: it is the same file all the same, also to a sweep.
#[test]
fn a_file_that_is_copied_up_is_not_read_again() {
    let place = Place::new();
    let overlay = match WaysPlace::new(Kind::CopiedUp, place.dir(), place.dir()) {
        Ok(overlay) => overlay,
        Err(error) => return skip(&format!("no overlay can be set up here: {error}")),
    };
    create(overlay.made().join("app.log"), "one\n");
    if let Err(error) = overlay.ready() {
        return skip(&format!("no overlay can be mounted here: {error}"));
    }
    let log = overlay.written().join("app.log");
    let tail = LogTail::plain()
        .args(["--metrics", "127.0.0.1:0", "--sweep", "200ms", "-n", "+1"])
        .arg(&log)
        .follow();
    tail.wait_for_stdout("one\n");
    append(&log, "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    append(&log, "three\n");
    tail.wait_for_stdout("one\ntwo\nthree\n");
    std::fs::rename(&log, overlay.written().join("app.log.1")).expect("renamed");
    create(&log, "four\n");
    tail.wait_for_stdout("one\ntwo\nthree\nfour\n");
    tail.terminate();
}
