//! Stopped and started again with the same state directory: nothing is lost and nothing comes twice, whatever
//! was done to the file meanwhile.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use log_tail_tests::{prelude::*, runs::Runs};
use nix::sys::signal::{Signal, kill};

/// More lines than log-tail asks the pipe to hold, which is a megabyte.
const STALLING: u64 = 60_000;

#[test]
fn sigterm_and_a_restart_lose_and_repeat_nothing() {
    let mut f = Runs::new();
    for _ in 0..5 {
        f.lines.write(300);
        let running = f.start();
        f.lines.write(700);
        let mut finished = running.terminate();
        f.account = std::mem::take(&mut finished.account);
        assert_eq!(f.state().offset_of(&f.log()), Some(fs::metadata(f.log()).unwrap().len()));
    }
    f.assert_exactly_what_was_written();
}

#[test]
fn a_line_without_its_end_at_sigterm_comes_whole_after_the_restart() {
    let place = Place::new();
    let (log, state) = (place.path("app.log"), StateDir::new(place.path("state")));
    let run = |expected: &str| {
        let tail = LogTail::plain().args(["--from", "beginning"]).keeping(&state).arg(&log).follow();
        tail.wait_for_stdout(expected);
        assert_eq!(tail.terminate().text(), expected);
    };
    create(&log, "whole\nand ha");
    run("whole\n");
    run("");
    append(&log, "lf, and");
    run("");
    append(&log, " its end\nnew\nand");
    run("and half, and its end\nnew\n");
    // What was rotated has no more to come, and is told from what is followed.
    fs::rename(&log, place.path("app.log.1")).unwrap();
    append(place.path("app.log.1"), " the last\n");
    create(&log, "of the next\n");
    run("and the last\nof the next\n");
}

#[test]
fn sigterm_and_restarts_under_a_rotating_writer_lose_and_repeat_nothing() {
    let mut f = Runs::new();
    let log = f.log();
    // The first run finds the file empty: where it starts is no matter of time.
    f.account = f.start().terminate().account;
    let is_over = AtomicBool::new(false);
    let mut lines = Lines::new(&log, "w");
    let place = f.place.dir().to_owned();
    std::thread::scope(|scope| {
        let (is_over, lines) = (&is_over, &mut lines);
        let writer = scope.spawn(move || {
            for rotation in 0.. {
                for _ in 0..20 {
                    lines.write(100);
                    std::thread::sleep(Duration::from_millis(2));
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                fs::rename(&log, place.join(format!("app.log.{rotation}"))).unwrap();
                lines.go_on_in(&log);
            }
        });
        for round in 0..12 {
            let running = f.start();
            std::thread::sleep(Duration::from_millis(round * 7919 % 173));
            f.account = running.terminate().account;
        }
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    f.lines = lines;
    f.run();
    f.assert_exactly_what_was_written();
}

#[test]
fn sigterm_while_the_reader_of_the_output_is_stalled_loses_and_repeats_nothing() {
    let mut f = Runs::new();
    for _ in 0..3 {
        let running = f.start();
        running.stop_listening();
        f.lines.write(STALLING);
        f.end_stalled(running);
    }
    f.assert_exactly_what_was_written();
}

#[test]
fn what_a_stalled_reader_did_not_take_is_not_committed_when_it_is_ended_at_once() {
    let mut f = Runs::new();
    let running = f.start();
    running.stop_listening();
    f.lines.write(STALLING);
    // As much as fits into the pipe has left, and is committed.
    let deadline = Instant::now() + PATIENCE;
    while f.state().offset_of(&f.log()).is_none_or(|offset| offset < 32 << 10) {
        assert!(Instant::now() < deadline, "nothing is committed: {:#?}", f.state().list());
        std::thread::sleep(Duration::from_millis(20));
    }
    running.signal(Signal::SIGTERM);
    // Signals of one kind that come at once are one: it is asked until it has heard the second.
    while !running.stderr().iter().any(|line| line.contains("stopped before everything was written")) {
        assert!(Instant::now() < deadline, "it does not end: {:#?}", running.stderr());
        std::thread::sleep(Duration::from_millis(20));
        let _ = kill(running.pid(), Signal::SIGTERM);
    }
    running.listen_again();
    let mut finished = running.wait();
    finished.assert_exit(1);
    f.account = std::mem::take(&mut finished.account);
    f.account.cut();
    let (came, committed) = (f.account.progress(), f.state().offset_of(&f.log()).expect("known"));
    let running = f.start();
    running.wait_until_progress(f.lines.written());
    f.account = running.terminate().account;
    let numbers = f.account.numbers([("w", f.lines.written())]);
    assert_eq!((numbers.lost, numbers.torn, numbers.out_of_order), (0, 0, 0), "{numbers:?}");
    assert!(
        numbers.repeated < came && committed > 0,
        "{numbers:?}: {came} came, {committed} bytes committed"
    );
}

#[test]
fn every_file_read_to_its_end_once_goes_on_where_it_ended() {
    let place = Place::new();
    let (log, state) = (place.path("app.log"), StateDir::new(place.path("state")));
    let mut came = Vec::new();
    for text in ["one\ntwo\n", "", "three\nand ha", "lf\nfour\n"] {
        append(&log, text);
        let finished = LogTail::bare().arg("--no-follow").keeping(&state).arg(&log).run();
        finished.assert_exit(0);
        came.extend(finished.stdout);
    }
    assert_eq!(String::from_utf8(came).unwrap(), "one\ntwo\nthree\nand half\nfour\n");
}

#[test]
fn a_file_truncated_while_nobody_looked_is_read_from_its_beginning() {
    // Shorter than it was, and longer.
    for after in [50, 3000] {
        let mut f = Runs::new();
        f.lines.write(1000);
        f.run();
        f.lines.file().set_len(0).unwrap();
        f.lines.write(after);
        f.run().assert_says(&["app.log", "truncated"]);
        f.assert_exactly_what_was_written();
    }
}

#[test]
fn a_file_cut_to_its_middle_while_nobody_looked_goes_on_from_there() {
    let mut f = Runs::new();
    f.lines.write(500);
    f.run();
    let middle = fs::metadata(f.log()).unwrap().len();
    f.lines.write(500);
    f.run();
    f.lines.file().set_len(middle).unwrap();
    f.lines.write(100);
    f.run();
    f.assert_exactly_what_was_written();
}

/// Removes the file, and makes one of the same name until it has the same inode, where the filesystem ever
/// gives one out again.
fn make_anew(log: &Path, content: &str) {
    use std::os::unix::fs::MetadataExt as _;
    let before = fs::metadata(log).expect("the file system lets it").ino();
    let mut is_same = false;
    for _ in 0..10 {
        fs::remove_file(log).expect("the file system lets it");
        create(log, content);
        is_same = fs::metadata(log).expect("the file system lets it").ino() == before;
        if is_same {
            break;
        }
    }
    eprintln!("the inode number is {}", if is_same { "the same" } else { "another" });
}

#[test]
fn a_file_removed_and_made_anew_while_nobody_looked_is_another_although_its_inode_number_is_the_same() {
    let banner = "the same banner for every file\n".repeat(50);
    for (first, second) in [
        ("old\n".to_owned(), "new, and longer than the old one was\n".to_owned()),
        ("old, and longer than the new one is\n".to_owned(), "new\n".to_owned()),
        (format!("{banner}old\n"), format!("{banner}new\n")),
        (format!("{banner}old\n"), format!("{banner}new, and longer\n")),
        ("same\n".to_owned(), "same\nand more\n".to_owned()),
    ] {
        let place = Place::new();
        let (log, state) = (place.path("app.log"), StateDir::new(place.path("state")));
        create(&log, &first);
        let tail = LogTail::plain().args(["--from", "beginning"]).keeping(&state).arg(&log).follow();
        tail.wait_for_stdout(&first);
        tail.terminate();
        make_anew(&log, &second);
        let tail = LogTail::plain().args(["--from", "end"]).keeping(&state).arg(&log).follow();
        if first == "same\n" {
            // Copied back, as a restore does, or written anew: what is the same was read, and cannot be told.
            tail.wait_until_stdout("what is more", |stdout| stdout.ends_with(b"and more\n"));
        } else {
            tail.wait_for_stdout(&second);
        }
        tail.terminate();
    }
}

#[test]
fn a_file_shorter_than_what_it_is_recognised_by_may_grow_while_nobody_looks() {
    for rotated in [false, true] {
        let mut f = Runs::new();
        f.lines.write(1);
        f.run();
        for more in [1, 3, 2000] {
            f.lines.write(more);
            if rotated {
                f.rotate(format!("app.log.{more}"));
            }
            f.run();
        }
        f.assert_exactly_what_was_written();
    }
}
