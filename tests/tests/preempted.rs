//! A kernel that preempts a task inside the kernel program runs that for nobody else on the processor until the
//! task goes on. What is written meanwhile is found all the same, and soon. No sweep helps.

use std::{
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    thread::available_parallelism,
};

use log_tail_tests::prelude::*;

const FILES: u64 = 50;
const ROUNDS: u64 = 20;

#[test]
fn what_is_written_while_others_are_preempted_in_the_kernel_program_is_not_missed() {
    let place = Place::new();
    let tail = LogTail::without_sweep().counted().arg("-q").arg(place.path("*.log")).follow();
    let names: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    let mut files: Vec<Lines> =
        names.iter().map(|name| Lines::new(place.path(format!("{name}.log")), name)).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = EndOnDrop(&is_over);
        // More than there are processors: they are preempted, and mostly where they spend their time.
        for _ in 0..available_parallelism().map_or(2, usize::from) * 3 {
            scope.spawn(|| {
                let mut null = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    null.write_all(b"x").unwrap();
                }
            });
        }
        for number in 0..FILES * ROUNDS {
            // One at a time: those of one turn on a processor are skipped together, or not at all.
            files[(number % FILES) as usize].write(1);
            tail.wait_for_lines(number + 1);
        }
    });
    let skipped = tail.scrape().get("log_tail_kernel_events_skipped_total");
    let finished = tail.terminate();
    finished.assert_exactly(names.iter().map(|name| (name.as_str(), ROUNDS)));
    println!("the kernel skipped {skipped} events");
}

/// Ends the others also where an assertion fails: the scope waits for them.
struct EndOnDrop<'over>(&'over AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
