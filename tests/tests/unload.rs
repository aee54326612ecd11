//! When log-tail is gone, however it went, so is everything that it had the kernel hold. Alone in its executable:
//! whatever else loads programs here would be counted too.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use log_tail_tests::{backend::is_ebpf_or_skip, observe::observe, prelude::*};
use nix::sys::signal::Signal;

/// Commands of bpf(2) that give the next id after one, include/uapi/linux/bpf.h: of programs, maps and links.
const NEXT_ID: [(&str, libc::c_int); 3] = [("programs", 11), ("maps", 12), ("links", 31)];

/// The beginning of `union bpf_attr` for these commands.
#[repr(C)]
struct Ids {
    start: u32,
    next: u32,
    open_flags: u32,
}

/// The numbers of those that the kernel holds.
fn held() -> [(&'static str, BTreeSet<u32>); 3] {
    NEXT_ID.map(|(what, command)| {
        let mut ids = Ids { start: 0, next: 0, open_flags: 0 };
        let mut numbers = BTreeSet::new();
        // SAFETY: the kernel reads and writes no more than the size that it is given.
        while unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut ids, size_of::<Ids>()) } == 0 {
            numbers.insert(ids.next);
            ids.start = ids.next;
        }
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{what}: {error}");
        (what, numbers)
    })
}

#[test]
fn nothing_is_left_behind() {
    if !is_ebpf_or_skip("nothing_is_left_behind") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "one\n");
    let before = held();
    let follow = |options: &[&str]| {
        let tail = LogTail::through(Backend::Ebpf).args(["-n", "+1"]).args(options).arg(&log).follow();
        tail.wait_for_stdout("one\n");
        tail
    };
    let runs: [&dyn Fn() -> Running; 3] =
        [&|| follow(&[]), &|| follow(&["--metrics", "127.0.0.1:0", "--measure-cost"]), &|| {
            observe(&[], &[&log])
        }];
    for (run, signal) in
        runs.iter().flat_map(|run| [Signal::SIGTERM, Signal::SIGKILL].map(|signal| (run, signal)))
    {
        let tail = run();
        for ((what, now), (_, before)) in held().iter().zip(&before) {
            assert!(!now.is_subset(before), "{what}: {now:?}, {before:?} before");
        }
        tail.signal(signal);
        drop(tail.wait());
        let deadline = Instant::now() + PATIENCE;
        // Programs are freed once nobody can be inside them any more. What another log-tail held may still be freed, too.
        let is_gone = || held().iter().zip(&before).all(|((_, now), (_, before))| now.is_subset(before));
        while !is_gone() {
            assert!(Instant::now() < deadline, "after {signal}: {:?}, {before:?} before", held());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
