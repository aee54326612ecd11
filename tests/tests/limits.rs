//! When a limit of the system is spent, the limit is named, and log-tail gets by without. Those of inotify are set in a
//! user namespace of its own, so that nobody else runs into them.

use std::{fs, process::Command};

use log_tail_tests::{account::Account, prelude::*};

/// Whether this machine lets us make a user namespace and set limits in it.
fn can_limit() -> bool {
    let tried = Command::new("unshare")
        .args(["-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_inotify_watches"])
        .output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: no user namespace to set limits in (unshare -Ur)");
    }
    can
}

fn follows_all_the_same(limit: &str, named: &str) {
    if !can_limit() || wanted_backend() == Some(Backend::Ebpf) {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "one\n");
    let script = format!("echo 0 > /proc/sys/user/{limit} && exec \"$@\"");
    let tail = LogTail::bare()
        .within(&["unshare", "-Ur", "sh", "-c", &script, "sh"])
        .args(["-n", "+1", "--sweep", "1h"])
        .arg(&log)
        .follow();
    tail.wait_for_stdout("one\n");
    append(&log, "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    fs::rename(&log, place.path("app.log.1")).expect("renamed");
    append(&log, "three\n");
    tail.wait_for_stdout("one\ntwo\nthree\n");
    tail.terminate().assert_says(&[named, "every second"]);
}

#[test]
fn without_inotify_watches_everything_is_looked_at() {
    follows_all_the_same("max_inotify_watches", "user.max_inotify_watches (now 0)");
}

#[test]
fn without_inotify_instances_everything_is_looked_at() {
    follows_all_the_same("max_inotify_instances", "user.max_inotify_instances (now 0)");
}

/// More than there are descriptors for.
const FILES: u64 = 300;

/// Whoever asks for the metrics needs a descriptor of log-tail's, too, however many files there are to have open.
#[test]
fn metrics_are_served_although_there_are_more_files_than_descriptors() {
    let place = Place::new();
    let names: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    let mut files: Vec<Lines> =
        names.iter().map(|name| Lines::new(place.path(format!("{name}.log")), name)).collect();
    let tail = LogTail::without_sweep()
        .counted()
        .with_open_files(160)
        .args(["-q", "--rotate-wait", "1s"])
        .arg(place.path("*.log"))
        .follow();
    for (lines, file) in (1..).zip(&mut files) {
        file.write(1);
        // One file more is open each time: at some time there is no descriptor left.
        tail.wait_for_lines(lines);
        let scrape = tail.scrape();
        assert_eq!(scrape.get("log_tail_files"), FILES);
        // A spent limit is no removal.
        assert_eq!(scrape.get("log_tail_rotations_total{kind=\"unlink\"}"), 0);
        assert_eq!(scrape.get("log_tail_missed_files_total"), 0);
    }
    tail.terminate().assert_exactly(names.iter().map(|name| (name.as_str(), 1)));
}

/// Each of them has a compressed file that has to be read first.
#[test]
fn what_was_compressed_while_nobody_looked_is_read_although_it_is_more_than_there_are_descriptors() {
    let place = Place::new();
    let state = StateDir::new(place.path("state"));
    let names: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    let path = |name: &str| place.path(format!("{name}.log"));
    let mut files: Vec<Lines> = names.iter().map(|name| Lines::new(path(name), name)).collect();
    let follow = |account: Account| {
        let tail = LogTail::without_sweep().counted_on(account).with_open_files(160).keeping(&state);
        tail.args(["-q", "--rotate-wait", "1s"]).arg(place.path("*.log")).follow()
    };
    let write = |files: &mut Vec<Lines>| files.iter_mut().for_each(|file| file.write(2));
    write(&mut files);
    let tail = follow(Account::default());
    tail.wait_for_lines(2 * FILES);
    let account = tail.terminate().account;
    write(&mut files);
    let rotated: Vec<_> = names.iter().map(|name| place.path(format!("{name}.log.1"))).collect();
    for (name, rotated) in names.iter().zip(&rotated) {
        fs::rename(path(name), rotated).expect("renamed");
    }
    assert!(Command::new("gzip").args(&rotated).status().expect("gzip runs").success());
    for (name, file) in names.iter().zip(&mut files) {
        file.go_on_in(path(name));
    }
    write(&mut files);
    let tail = follow(account);
    tail.wait_for_lines(6 * FILES);
    tail.terminate().assert_exactly(names.iter().map(|name| (name.as_str(), 6)));
}
