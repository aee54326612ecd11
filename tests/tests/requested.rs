//! `io_uring`: where a request wrote, and who asked for it, which the kernel notes from 5.19 on.

use std::fs;

use log_tail_tests::{
    backend::is_ebpf_or_skip,
    observe::{last, observe, only_events},
    prelude::*,
    ways::{self, BLOCK, Site},
};
use serde_json::Value;

/// Those that end before whoever asked is told: direct I/O ends later.
const WAYS: [&str; 4] = [
    "io_uring",
    "io_uring, by a worker (IOSQE_ASYNC)",
    "io_uring, two linked writes",
    "io_uring, registered buffer",
];

fn kernel_notes_results() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(5), Some(19))
}

/// Does this to the file, and gives what was written, which begins behind the first block.
fn write(way: &str, site: &Site) -> Vec<u8> {
    let way = ways::all().into_iter().find(|known| known.name == way).expect("a way");
    way.acts.iter().flat_map(|act| act(site).expect("io_uring")).collect()
}

fn site(place: &Place) -> Site {
    let dir = place.path("logs");
    Site::make(&dir).expect("a file");
    Site::at(dir.clone(), dir)
}

#[test]
fn observe_shows_where_a_request_wrote() {
    if !is_ebpf_or_skip("observe_shows_where_a_request_wrote") {
        return;
    }
    for way in WAYS {
        let place = Place::new();
        let site = site(&place);
        let observing = observe(&["--op", "write"], &[&site.log()]);
        let written = write(way, &site).len() as u64;
        append(site.log(), "last\n");
        observing.wait_until_stdout("the last write", |stdout| last(stdout)["length"] == 5);
        let mut events = only_events(&observing.terminate().stdout);
        events.pop();
        let by_us = |event: &Value| event["writer"]["pid"] == std::process::id();
        assert!(!events.is_empty() && events.iter().all(by_us), "{way}: {events:#?}");
        if !kernel_notes_results() {
            assert!(events.iter().all(|event| event.get("offset").is_none()), "{way}: {events:#?}");
            continue;
        }
        let mut end = BLOCK as u64;
        for event in &events {
            assert_eq!(event["offset"], end, "{way}: {events:#?}");
            end += event["length"].as_u64().expect("a length");
        }
        assert_eq!(end, BLOCK as u64 + written, "{way}: {events:#?}");
    }
}

#[test]
fn json_says_who_asked_for_the_write() {
    if !is_ebpf_or_skip("json_says_who_asked_for_the_write") || !kernel_notes_results() {
        return;
    }
    for way in WAYS {
        let place = Place::new();
        let site = site(&place);
        let tail = LogTail::without_sweep().args(["-n", "0", "--format", "json"]).arg(site.log()).follow();
        let mut named = false;
        // A line may be read before the kernel tells who wrote it, and then nobody waits for long.
        for round in 1..=20 {
            let lines = write(way, &site).split(|byte| *byte == b'\n').count() - 1;
            let records = tail.wait_for_records(round * lines);
            for record in records.iter().filter(|record| record.get("writer").is_some()) {
                assert_eq!(record["writer"]["pid"], std::process::id(), "{way}: {record}");
                named = true;
            }
        }
        assert!(named, "{way}");
        tail.terminate();
    }
}
