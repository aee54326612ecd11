//! The doorbell under two writers and a reader that stops and goes on at any time: whatever the moment, a
//! write is either seen by the look that is going on, or rings again.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use log_tail_tests::{
    backend::{backend_here, is_ebpf_or_skip},
    prelude::*,
    seeded::Seeded,
    variable,
};
use nix::sys::signal::Signal;

/// Lines of a round: long enough that the reader stops in the middle of some, short enough that files take turns.
const ROUND: u64 = 500;

#[test]
fn no_write_is_missed_however_the_reader_pauses() {
    let coalesced = stress(LogTail::new());
    // A reader that stands still for a moment finds one hint for many writes.
    assert!(backend_here() != Backend::Ebpf || coalesced > 0, "every write had its hint");
}

/// Without coalescing: the ring overflows, and what does not fit is made up for.
#[test]
fn no_write_is_missed_where_each_has_a_hint() {
    if is_ebpf_or_skip("no_write_is_missed_where_each_has_a_hint") {
        assert_eq!(stress(LogTail::new().arg("--every-hint")), 0, "one hint stood for several writes");
    }
}

/// Returns how many events had no hint of their own.
fn stress(tail: LogTail) -> u64 {
    let wanted: u64 = variable("LOG_TAIL_STRESS_WRITES", 200_000);
    let rounds = wanted.div_ceil(ROUND * 2);
    let place = Place::new();
    let shared = place.path("shared.log");
    create(&shared, "");
    let own = |writer: &str| place.path(format!("{writer}.log"));
    for writer in ["a", "b"] {
        create(own(writer), "");
    }
    let tail = tail.counted().with_metrics().arg("-q").arg(&shared).args(["a", "b"].map(own)).follow();
    assert_eq!(tail.following().files, 3);

    let is_over = AtomicBool::new(false);
    let written: Vec<(String, u64)> = std::thread::scope(|scope| {
        let writers = ["a", "b"].map(|writer| {
            let (own, shared) = (own(writer), &shared);
            scope.spawn(move || {
                let mut alone = Lines::new(own, &format!("{writer}-alone"));
                let mut together = Lines::new(shared, &format!("{writer}-together"));
                for round in 0..rounds {
                    // Now they meet in one file, now they do not.
                    if round % 2 == 0 { together.write(ROUND) } else { alone.write(ROUND) }
                }
                [
                    (format!("{writer}-alone"), alone.written()),
                    (format!("{writer}-together"), together.written()),
                ]
            })
        });
        let pauses = scope.spawn(|| {
            let mut seeded = Seeded::new(20_260_101);
            while !is_over.load(Ordering::Relaxed) {
                tail.signal(Signal::SIGSTOP);
                std::thread::sleep(Duration::from_micros(seeded.below(4000)));
                tail.signal(Signal::SIGCONT);
                std::thread::sleep(Duration::from_micros(seeded.below(4000)));
            }
        });
        let written = writers.into_iter().flat_map(|writer| writer.join().expect("a writer ends")).collect();
        is_over.store(true, Ordering::Relaxed);
        pauses.join().expect("the pauses end");
        written
    });

    let total = written.iter().map(|(_, count)| count).sum();
    assert!(total >= wanted, "{total} of {wanted} written");
    tail.wait_for_lines(total);
    let coalesced = tail.scrape().kernel_events("coalesced");
    let finished = tail.finish();
    finished.assert_exactly(written.iter().map(|(writer, count)| (writer.as_str(), *count)));
    coalesced
}
