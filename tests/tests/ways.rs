//! Every way into a file: what log-tail is told of, what comes out, and what only the kernel program sees.

use log_tail_tests::{
    backend::{backend_here, is_ebpf_or_skip},
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
            eprintln!("skipping {kind:?}: it cannot be set up here: {error}");
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

#[test]
fn inotify_is_not_told_of_libaio_and_the_kernel_program_is() {
    if !is_ebpf_or_skip("inotify_is_not_told_of_libaio_and_the_kernel_program_is") {
        return;
    }
    let ways = named(&["libaio"]);
    let through = |backend| outcomes(&ways, Kind::Plain, backend).expect("a plain place").remove(0).1;
    let side_by_side = (through(Backend::Ebpf), through(Backend::Inotify));
    // 5.10 tells.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let inotify = if release.starts_with("5.") { side_by_side.1.clone() } else { Outcome::Swept };
    assert_eq!(side_by_side, (Outcome::Hinted, inotify));
}

/// Copied up, it has another time of birth: it is the same file all the same, also to a sweep.
#[test]
fn a_file_that_is_copied_up_is_not_read_again() {
    let place = Place::new();
    let overlay = match WaysPlace::new(Kind::CopiedUp, place.dir(), place.dir()) {
        Ok(overlay) => overlay,
        Err(error) => return eprintln!("skipping: no overlay can be set up here: {error}"),
    };
    create(overlay.made().join("app.log"), "one\n");
    if let Err(error) = overlay.ready() {
        return eprintln!("skipping: no overlay can be mounted here: {error}");
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
