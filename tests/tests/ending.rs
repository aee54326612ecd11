//! It ends when it is told to, and not before everything that was written has come out.

use log_tail_tests::prelude::*;
use nix::sys::signal::Signal;

fn ends_with_everything(signal: Signal, written: u64) {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::plain().counted().arg(&log).follow();
    lines.write(written);
    tail.signal(signal);
    let finished = tail.wait();
    finished.assert_exit(0);
    finished.assert_exactly([("w", written)]);
}

#[test]
fn everything_written_before_sigterm_comes_out() {
    ends_with_everything(Signal::SIGTERM, 100_000);
}

#[test]
fn everything_written_before_sigint_comes_out() {
    ends_with_everything(Signal::SIGINT, 20_000);
}

#[test]
fn everything_written_to_many_files_before_sigterm_comes_out() {
    let place = Place::new();
    let names: Vec<String> = (0..50).map(|number| format!("f{number}")).collect();
    let mut writers: Vec<Lines> =
        names.iter().map(|name| Lines::new(place.path(format!("{name}.log")), name)).collect();
    let tail = LogTail::plain().counted().arg("-q").arg(place.path("*.log")).follow();
    for writer in &mut writers {
        writer.write(500);
    }
    // The half of them has just been rotated.
    for name in names.iter().step_by(2) {
        std::fs::rename(place.path(format!("{name}.log")), place.path(format!("{name}.old"))).unwrap();
    }
    tail.terminate().assert_exactly(names.iter().map(|name| (name.as_str(), 500)));
}

/// They are empty when they are looked at for the last time: what they held is in their copies alone.
#[test]
fn everything_copied_and_truncated_before_sigterm_comes_out() {
    let place = Place::new();
    let names: Vec<String> = (0..20).map(|number| format!("f{number}")).collect();
    let log = |name: &str| place.path(format!("{name}.log"));
    let mut writers: Vec<Lines> = names.iter().map(|name| Lines::new(log(name), name)).collect();
    let tail = LogTail::plain().counted().arg("-q").arg(place.path("*.log")).follow();
    tail.hold_still();
    for (writer, name) in writers.iter_mut().zip(&names) {
        writer.write(500);
        std::fs::copy(log(name), place.path(format!("{name}.log.1"))).unwrap();
        writer.file().set_len(0).unwrap();
    }
    tail.signal(Signal::SIGTERM);
    tail.go_on();
    let finished = tail.wait();
    finished.assert_exit(0);
    finished.assert_exactly(names.iter().map(|name| (name.as_str(), 500)));
}

#[test]
fn a_signal_while_the_output_is_full_loses_nothing() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    tail.stop_listening();
    lines.write(30_000);
    tail.wait_for_metrics("a lag", |scrape| scrape.get("log_tail_lag_bytes") > 0);
    tail.signal(Signal::SIGTERM);
    tail.listen_again();
    let finished = tail.wait();
    finished.assert_exit(0);
    finished.assert_exactly([("w", 30_000)]);
}
