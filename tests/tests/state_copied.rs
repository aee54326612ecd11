//! Copied and truncated while nobody looked, or before what had been read was taken: the copies are read first.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use log_tail_tests::{prelude::*, runs::Runs};
use nix::sys::signal::Signal;

fn shift_copies(f: &Runs) {
    for number in (1..20).rev() {
        for suffix in ["", ".gz"] {
            let from = f.place.path(format!("app.log.{number}{suffix}"));
            if from.exists() {
                fs::rename(from, f.place.path(format!("app.log.{}{suffix}", number + 1)))
                    .expect("the file system lets it");
            }
        }
    }
}

/// As logrotate does with copytruncate: `app.log.1` becomes `app.log.2`, and so on, before the copy is made.
fn copy_and_truncate(f: &Runs) {
    shift_copies(f);
    fs::copy(f.log(), f.place.path("app.log.1")).expect("the file system lets it");
    f.lines.file().set_len(0).expect("the file system lets it");
}

#[test]
fn a_file_copied_and_truncated_while_nobody_looked_is_read_from_its_copy_first() {
    for after in [50, 3000] {
        let mut f = Runs::new();
        f.lines.write(1000);
        f.run();
        f.lines.write(200);
        fs::copy(f.log(), f.place.path("app.log.1")).unwrap();
        f.lines.file().set_len(0).unwrap();
        f.lines.write(after);
        f.run();
        f.assert_exactly_what_was_written();
    }
}

/// Nothing but their times tells that they are copies of it.
#[test]
fn a_file_of_which_nothing_had_been_read_is_read_from_all_of_its_copies_first() {
    for compressed in [false, true] {
        let mut f = Runs::new();
        f.run();
        for after in [0, 0, 50, 3000, 0] {
            for _ in 0..2 {
                f.lines.write(200);
                copy_and_truncate(&f);
            }
            if compressed {
                let status = Command::new("gzip").arg(f.place.path("app.log.2")).status();
                assert!(status.expect("gzip is everywhere").success());
            }
            f.lines.write(after);
            f.run();
        }
        // What was read is not read again.
        f.run();
        f.assert_exactly_what_was_written();
    }
}

/// It was empty when log-tail ended.
fn copied_while_nobody_looked() -> Runs {
    let mut f = Runs::new();
    f.run();
    f.lines.write(200);
    copy_and_truncate(&f);
    f
}

#[test]
fn copies_are_read_by_a_run_that_does_not_follow() {
    let mut f = copied_while_nobody_looked();
    f.lines.write(50);
    let once = LogTail::plain().counted_on(std::mem::take(&mut f.account)).keeping(&f.state());
    f.account = once.args(["--no-follow", "--from", "beginning"]).arg(f.log()).run().account;
    f.run();
    f.assert_exactly_what_was_written();
}

/// A run knows of the copies once it follows them, and not before.
#[test]
fn copies_are_read_although_the_run_that_found_them_was_killed_at_once() {
    let mut f = copied_while_nobody_looked();
    for _ in 0..5 {
        let running = f.start();
        running.signal(Signal::SIGKILL);
        f.account = running.wait().account;
        f.account.cut();
    }
    let running = f.start();
    running.wait_until_progress(f.lines.written());
    f.account = running.terminate().account;
    let numbers = f.account.numbers([("w", f.lines.written())]);
    assert_eq!((numbers.lost, numbers.torn, numbers.out_of_order), (0, 0, 0), "{numbers:?}");
}

/// As logrotate removes the oldest, or as when somebody truncates it without a copy.
#[test]
fn later_copies_are_read_although_the_one_of_what_was_read_is_gone() {
    for is_copied in [true, false] {
        let mut f = Runs::new();
        f.lines.write(100);
        f.run();
        // Times are told apart by a tick of the kernel's clock.
        std::thread::sleep(Duration::from_millis(20));
        if is_copied {
            copy_and_truncate(&f);
            fs::remove_file(f.place.path("app.log.1")).unwrap();
        } else {
            f.lines.file().set_len(0).unwrap();
        }
        for _ in 0..2 {
            f.lines.write(200);
            copy_and_truncate(&f);
        }
        f.lines.write(50);
        f.run();
        f.run();
        f.assert_exactly_what_was_written();
    }
}

/// The names say which is older, and so do the times.
#[test]
fn copies_of_a_file_that_was_renamed_afterwards_are_read_before_it() {
    for had_been_read in [0, 100] {
        let mut f = Runs::new();
        f.lines.write(had_been_read);
        f.run();
        for _ in 0..2 {
            f.lines.write(200);
            copy_and_truncate(&f);
            std::thread::sleep(Duration::from_millis(20));
        }
        f.lines.write(50);
        shift_copies(&f);
        f.rotate("app.log.1");
        f.lines.write(30);
        f.run();
        f.run();
        f.assert_exactly_what_was_written();
    }
}

#[test]
fn a_copy_of_what_the_file_holds_still_is_not_read_besides() {
    let mut f = Runs::new();
    f.run();
    f.lines.write(200);
    fs::copy(f.log(), f.place.path("app.log.1")).unwrap();
    f.lines.write(100);
    f.run();
    f.assert_exactly_what_was_written();
}

/// One that was there when the file was last looked at was seen to, though nothing remembers it.
#[test]
fn a_copy_that_was_made_while_log_tail_ran_is_not_read_by_the_next_run() {
    let mut f = Runs::new();
    let running = f.start();
    f.lines.write(200);
    running.wait_for_lines(f.lines.written());
    copy_and_truncate(&f);
    running.wait_for_stderr("the truncation", |said| said.iter().any(|line| line.contains("truncated")));
    f.account = running.terminate().account;
    f.run();
    f.lines.write(100);
    f.run();
    f.assert_exactly_what_was_written();
}

/// The copy holds what was on its way when log-tail was killed.
#[test]
fn what_was_read_and_not_taken_is_read_from_the_copy_by_the_next_run() {
    // More lines than log-tail asks the pipe to hold, which is a megabyte.
    const STALLING: u64 = 60_000;
    let mut f = Runs::new();
    let running = f.start();
    f.lines.write(10);
    running.wait_for_lines(10);
    running.stop_listening();
    f.lines.write(STALLING);
    let deadline = Instant::now() + PATIENCE;
    while f.state().offset_of(&f.log()).is_none_or(|offset| offset < 32 << 10) {
        assert!(Instant::now() < deadline, "nothing is committed: {:#?}", f.state().list());
        std::thread::sleep(Duration::from_millis(20));
    }
    copy_and_truncate(&f);
    f.lines.write(10);
    // Time to commit what is known by now, as often as it likes.
    std::thread::sleep(Duration::from_secs(1));
    running.signal(Signal::SIGKILL);
    running.listen_again();
    f.account = running.wait().account;
    f.account.cut();
    let running = f.start();
    running.wait_until_progress(f.lines.written());
    f.account = running.terminate().account;
    let numbers = f.account.numbers([("w", f.lines.written())]);
    assert_eq!((numbers.lost, numbers.torn, numbers.out_of_order), (0, 0, 0), "{numbers:?}");
}
