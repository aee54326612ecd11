//! Nothing polls: what happens while nothing happens is what the sweep and the questions for metrics make. Alone
//! in its file: what others write may preempt, and that may wake.

use std::fs;

use log_tail_tests::prelude::*;

#[test]
fn it_sleeps_while_nothing_is_written() {
    let place = Place::quiet();
    for number in 0..100 {
        create(place.path(format!("{number}.log")), "");
    }
    let tail = LogTail::without_sweep().arg("-q").arg(place.path("*.log")).follow();
    append(place.path("0.log"), "one\n");
    tail.wait_for_stdout("one\n");
    let sleeps = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", tail.pid())).expect("it is there");
        let lines = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        lines.map(|(_, number)| number.trim().parse::<u64>().expect("a number")).sum()
    };
    let wakeups = tail.scrape().get("log_tail_wakeups_total");
    let before = sleeps();
    // The one wait for time: that nothing happens can only be seen by waiting.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let after = sleeps();
    assert!(after - before <= 3, "it woke {} times in three seconds", after - before);
    assert_eq!(tail.scrape().get("log_tail_wakeups_total"), wakeups);
    tail.terminate();
}
