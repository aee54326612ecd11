//! `log-tail observe` where names were lost: they are found out anew, and what is not shown meanwhile is counted.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    time::Duration,
};

use log_tail_tests::{
    backend::is_ebpf_or_skip,
    observe::{deeds, missing, missing_because, observe, only_events},
    prelude::*,
    run::records,
};
use serde_json::Value;

#[test]
fn names_that_were_lost_are_found_out_anew() {
    if !is_ebpf_or_skip("names_that_were_lost_are_found_out_anew") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let observing = observe(&["--ring-bytes", "4096"], &[place.dir()]);
    observing.hold_still();
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    for _ in 0..200 {
        file.write_all(b"x").unwrap();
    }
    // In a ring that is full.
    fs::rename(&log, place.path("app.log.1")).unwrap();
    create(&log, "");
    fs::create_dir(place.path("dir")).unwrap();
    observing.go_on();
    let said = |stdout: &[u8]| records(stdout).iter().any(|line| line["reason"] == "ring_full");
    observing.wait_until_stdout("that events are missing", said);
    let written = |stdout: &[u8]| {
        file.write_all(b"to the old one\n").unwrap();
        append(&log, "new\n");
        let last: Vec<_> = only_events(stdout).into_iter().rev().take(2).collect();
        let mut last: Vec<_> =
            last.iter().map(|event| (event["path"].clone(), event["length"].clone())).collect();
        last.sort_by_key(|(path, _)| path.to_string());
        let path = |name: &str| Value::from(place.path(name).to_str().unwrap());
        last == [(path("app.log"), 4.into()), (path("app.log.1"), 15.into())]
    };
    let mut written = written;
    observing.wait_until_stdout("each file under its own name", |stdout| written(stdout));
    observing.terminate();
}

/// What is done to a file whose name found no room is counted, too.
#[test]
fn what_is_done_to_files_whose_names_were_lost_is_counted() {
    const FILES: u64 = 40;
    if !is_ebpf_or_skip("what_is_done_to_files_whose_names_were_lost_is_counted") {
        return;
    }
    let place = Place::new();
    let observing = observe(&["--ring-bytes", "4096"], &[place.dir()]);
    // Where it is just finding out names, those of the new files are among them, and none is lost.
    observing.hold_waiting();
    for number in 0..FILES {
        append(place.path(number.to_string()), "x");
    }
    observing.go_on();
    let reasons = ["ring_full", "skipped", "name_lost"];
    let counted = |stdout: &[u8]| {
        let missing = reasons.map(|reason| missing_because(stdout, reason));
        only_events(stdout).len() as u64 + missing.iter().sum::<u64>()
    };
    observing.wait_until_stdout("the count of what is missing", |stdout| counted(stdout) >= 2 * FILES);
    let finished = observing.terminate();
    let stdout = &finished.stdout;
    let [ring_full, skipped, name_lost] = reasons.map(|reason| missing_because(stdout, reason));
    let shown = deeds(&only_events(stdout));
    let said = format!(
        "{ring_full} found no room, {skipped} were skipped, {name_lost} had no name, {} are shown: {shown:?}; {:?}",
        shown.len(),
        finished.stderr
    );
    assert!(name_lost > 0, "room for a write, and not for a name: {said}");
    assert!(counted(stdout) <= 2 * FILES + skipped, "more than was done: {said}");
}

/// When names are found out anew, what was done to files that are gone by then may wait in the ring.
#[test]
fn files_that_are_gone_when_names_are_found_out_anew_are_shown() {
    const FILES: usize = 300;
    const WRITES: usize = 15;
    if !is_ebpf_or_skip("files_that_are_gone_when_names_are_found_out_anew_are_shown") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    let file = File::create_new(&log).unwrap();
    let observing = observe(&["--ring-bytes", "1048576", "--op", "write"], &[place.dir()]);
    // Names are found out anew at once, and the second time a second after that.
    let overflow = |before: u64| {
        observing.hold_still();
        for size in 0..10_000 {
            file.set_len(size).unwrap();
        }
        observing.go_on();
        observing.wait_until_stdout("that events are missing", |stdout| {
            missing_because(stdout, "ring_full") > before
        });
        missing_because(&observing.stdout(), "ring_full")
    };
    let missing_first = overflow(0);
    overflow(missing_first);
    observing.hold_still();
    let mut files: Vec<File> = (0..FILES)
        .map(|number| File::create_new(place.path(number.to_string())).expect("a new file"))
        .collect();
    for _ in 0..WRITES {
        for file in &mut files {
            file.write_all(b"line\n").unwrap();
        }
    }
    drop(files);
    for number in 0..FILES {
        fs::remove_file(place.path(number.to_string())).unwrap();
    }
    std::thread::sleep(Duration::from_secs(1));
    observing.go_on();
    append(place.path("last"), "x");
    let is_last = |stdout: &[u8]| deeds(&only_events(stdout)).last().is_some_and(|deed| deed == "write last");
    observing.wait_until_stdout("the last write", is_last);
    let finished = observing.terminate();
    let shown = only_events(&finished.stdout).len() - 1;
    let missing = usize::try_from(missing(&finished.stdout)).unwrap();
    assert!(shown + missing >= FILES * WRITES, "{shown} are shown; {:?}", finished.stderr);
    assert!(missing < FILES, "{missing} are missing; {:?}", finished.stderr);
}
