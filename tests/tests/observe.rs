//! `log-tail observe` shows each event once, with its place and who did it, and says where some are missing.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{
            fs::{FileExt as _, PermissionsExt as _},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use log_tail_tests::{
    backend::is_ebpf_or_skip,
    cgroup::Hierarchy,
    held::HeldWrite,
    observe::{deeds, last, lines, missing, observe, observing, only_events},
    prelude::*,
    run::records,
    ways::places::{Kind, Place as WaysPlace},
};
use nix::{
    fcntl::{FallocateFlags, copy_file_range, fallocate},
    sys::{
        sendfile::sendfile,
        signal::{Signal, kill},
    },
};
use serde_json::Value;

/// Processes that write at once.
const WRITERS: u64 = 8;

/// How much they write together.
const WRITES: u64 = 16_000;

/// Says how much they write instead, with no other test beside it that observes: then all of it must be shown.
const ALL_WRITES: &str = "LOG_TAIL_OBSERVED_WRITES";

/// Tells the process that [`a_writer`] is to be: where to write, and how often.
const WRITER: &str = "LOG_TAIL_WRITER";

/// Waits until so many events were shown.
fn events(running: &Running, count: usize) -> Vec<Value> {
    running.wait_until_stdout(&format!("{count} events"), |stdout| lines(stdout) >= count);
    records(&running.stdout())
}

fn start_writers(log: &Path, writes: u64) -> Vec<Child> {
    let start = |_| {
        Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "a_writer", "--ignored", "--test-threads", "1"])
            .env(WRITER, format!("{writes} {}", log.display()))
            .stdout(Stdio::null())
            .spawn()
            .expect("a process")
    };
    (0..WRITERS).map(start).collect()
}

#[test]
#[ignore = "one of the processes that other tests here start"]
fn a_writer() {
    let Ok(told) = std::env::var(WRITER) else { return };
    let (writes, log) = told.split_once(' ').expect("how often, and where");
    let mut log = OpenOptions::new().append(true).open(log).expect("opened");
    for number in 0..writes.parse().expect("a number") {
        let line: String = format!("{} {}\n", std::process::id(), number);
        log.write_all(line.as_bytes()).expect("written");
    }
}

#[test]
fn every_write_of_many_processes_is_shown_with_its_place_and_its_process() {
    if !is_ebpf_or_skip("every_write_of_many_processes_is_shown_with_its_place_and_its_process") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let all = std::env::var(ALL_WRITES).ok().map(|text| text.parse().expect("a number"));
    let writes = all.unwrap_or(WRITES);
    let observing = observe(&["--op", "write"], &[&log]);
    let mut processes = start_writers(&log, writes / WRITERS);
    for writer in &mut processes {
        assert!(writer.wait().unwrap().success());
    }
    append(&log, "last\n");
    let own_pid = u64::from(std::process::id());
    let is_last = |line: &Value| line["writer"]["pid"].as_u64() == Some(own_pid);
    observing.wait_until_stdout("the last write", |stdout| is_last(&last(stdout)));
    let finished = observing.terminate();
    println!("{}", finished.stderr.join("\n"));
    let content = fs::read_to_string(&log).unwrap();
    let mut places = BTreeMap::new();
    for event in only_events(&finished.stdout).iter().filter(|event| !is_last(event)) {
        let number = |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("no {name} in {event}"));
        let (from, length) =
            (usize::try_from(number("offset")).unwrap(), usize::try_from(number("length")).unwrap());
        let line = &content[from..from + length];
        assert_eq!(line.split(' ').next().unwrap(), event["writer"]["pid"].to_string(), "{line:?}: {event}");
        assert!(number("size_after") >= number("offset") + number("length"), "{event}");
        assert_eq!(places.insert(from, from + length), None, "twice: {event}");
    }
    let shown = places.len() as u64;
    // While other tests' observers come and go, some may be missing: not one more than it says, of all files together.
    let (mut unseen, mut end) = (0, 0);
    for (from, to) in places.into_iter().chain([(content.len() - "last\n".len(), content.len())]) {
        assert!(from >= end, "byte {from} was written twice");
        unseen += content[end..from].lines().count() as u64;
        end = to;
    }
    assert!(unseen <= missing(&finished.stdout), "{unseen} are missing; stderr: {:#?}", finished.stderr);
    println!("{shown} writes shown of {}", writes / WRITERS * WRITERS);
    if all.is_some() {
        assert_eq!((shown, unseen), (writes / WRITERS * WRITERS, 0), "stderr: {:#?}", finished.stderr);
    }
}

/// The kernel leaves out what is to run after a function that is under way when anybody attaches to it.
#[test]
fn a_write_that_is_under_way_when_another_tool_comes_and_goes_is_counted() {
    if !is_ebpf_or_skip("a_write_that_is_under_way_when_another_tool_comes_and_goes_is_counted") {
        return;
    }
    let place = Place::new();
    let [log, other] = ["app.log", "other.log"].map(|name| place.path(name));
    create(&log, "");
    let observing = observe(&["--op", "write"], &[&log]);
    let held = HeldWrite::begin(File::options().append(true).open(&log).unwrap(), 5).unwrap();
    let another = observe(&[], &[&other]);
    another.terminate();
    held.let_go(b"held\n").unwrap();
    // Whatever other tests start may keep more from being seen.
    let mut writes = 1;
    observing.wait_until_stdout("a later write", |stdout| {
        let is_shown = !only_events(stdout).is_empty();
        if !is_shown {
            append(&log, "line\n");
            writes += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        is_shown
    });
    let finished = observing.terminate();
    assert_eq!(fs::metadata(&log).unwrap().len(), 5 * writes);
    let shown = only_events(&finished.stdout).len() as u64;
    let is_all = shown + missing(&finished.stdout) >= writes;
    assert!(shown <= writes && is_all, "{shown} of {writes}: {:#?}", records(&finished.stdout));
}

#[test]
fn names_that_come_and_go_are_shown_in_their_order() {
    let place = Place::new();
    let dir = place.path("logs");
    fs::create_dir(&dir).unwrap();
    let observing = observe(&[], &[&dir]);
    let (mut seen, mut otherwise) = (0, Vec::new());
    let mut then = |expected: &[&str]| {
        let new = events(&observing, seen + expected.len());
        let shown = deeds(&new[seen..]);
        if shown != expected {
            otherwise.push(format!("{shown:?} and not {expected:?}"));
        }
        seen = new.len();
        new.last().cloned().unwrap()
    };
    append(dir.join("a"), "0123456789\n");
    then(&["create a", "write a"]);
    let cut = OpenOptions::new().write(true).open(dir.join("a")).unwrap();
    cut.set_len(4).unwrap();
    let truncated = then(&["truncate a"]);
    assert_eq!((&truncated["size_before"], &truncated["size_after"]), (&11.into(), &4.into()), "{truncated}");
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    then(&["rename a -> b"]);
    fs::hard_link(dir.join("b"), dir.join("c")).unwrap();
    then(&["link c"]);
    std::os::unix::fs::symlink("b", dir.join("s")).unwrap();
    then(&["symlink s"]);
    fs::create_dir(dir.join("d")).unwrap();
    then(&["mkdir d"]);
    for name in ["b", "c", "s"] {
        fs::remove_file(dir.join(name)).unwrap();
        then(&[&format!("unlink {name}")]);
    }
    fs::remove_dir(dir.join("d")).unwrap();
    then(&["rmdir d"]);
    create(place.path("outside"), "");
    fs::rename(place.path("outside"), dir.join("inside")).unwrap();
    then(&["rename inside"]);
    fs::rename(dir.join("inside"), place.path("outside")).unwrap();
    then(&["rename inside -> ?"]);
    let finished = observing.terminate();
    // Where the kernel skips what is told before a rename, nobody knows the old name; and that is counted.
    assert!(otherwise.len() as u64 <= missing(&finished.stdout), "{otherwise:?}; {:?}", finished.stderr);
}

#[test]
fn each_way_of_writing_has_its_place() {
    if !is_ebpf_or_skip("each_way_of_writing_has_its_place") {
        return;
    }
    let place = Place::new();
    let (log, source) = (place.path("app.log"), place.path("source"));
    create(&log, "");
    create(&source, "0123456789");
    let observing = observe(&[], &[&log]);
    let file = File::options().write(true).open(&log).unwrap();
    let source = File::open(&source).unwrap();
    file.write_all_at(b"at 100", 100).unwrap();
    let mut offset = 0;
    assert_eq!(sendfile(&file, &source, None, 10).unwrap(), 10);
    source.read_at(&mut [0], 0).unwrap();
    offset += 200;
    let mut from = 0;
    assert_eq!(copy_file_range(&source, Some(&mut from), &file, Some(&mut offset), 7).unwrap(), 7);
    fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 4096, 4096).unwrap();
    let events = events(&observing, 4);
    let told = |event: &Value| ["offset", "length", "size_after"].map(|name| event[name].as_u64().unwrap());
    assert_eq!(
        events.iter().map(told).collect::<Vec<_>>(),
        [[100, 6, 106], [0, 10, 106], [200, 7, 207], [4096, 4096, 207]],
        "{events:#?}"
    );
    for (event, before) in events.iter().zip([0, 106, 106, 207]) {
        // Not known where the kernel skipped the program that notes it.
        assert!(event.get("size_before").is_none_or(|size| *size == before), "{event}");
    }
    // Up to 6.8, sendfile writes as anybody does; and a copy is one by splice where the filesystem has none of its own.
    let ops: Vec<&str> = events.iter().map(|event| event["op"].as_str().unwrap()).collect();
    assert!(ops[0] == "write" && ["splice", "write"].contains(&ops[1]), "{ops:?}");
    assert!(["copy", "splice", "write"].contains(&ops[2]) && ops[3] == "fallocate", "{ops:?}");
    let all = only_events(&observing.terminate().stdout);
    assert_eq!(all.len(), 4, "each once: {all:#?}");
}

/// What writes there writes to another inode, which nobody observes.
#[test]
fn what_is_copied_to_a_file_on_an_overlay_is_shown_once() {
    if !is_ebpf_or_skip("what_is_copied_to_a_file_on_an_overlay_is_shown_once") {
        return;
    }
    let (lower, upper) = (Place::new(), Place::new());
    let overlay = WaysPlace::new(Kind::Overlay, lower.dir(), upper.dir()).expect("an overlay");
    let (log, source) = (overlay.written().join("app.log"), lower.path("source"));
    create(&log, "");
    create(&source, "0123456789");
    let observing = observe(&["--op", "write,splice,copy"], &[&log]);
    let file = File::options().write(true).open(&log).unwrap();
    assert_eq!(sendfile(&file, File::open(&source).unwrap(), None, 10).unwrap(), 10);
    append(&log, "last\n");
    observing.wait_until_stdout("the last write", |stdout| last(stdout)["length"] == 5);
    let events = only_events(&observing.terminate().stdout);
    let pids = events.iter().map(|event| event["writer"]["pid"].as_u64().unwrap());
    assert!(
        events.len() == 2 && pids.into_iter().all(|pid| pid == u64::from(std::process::id())),
        "{events:#?}"
    );
}

#[test]
fn events_that_find_no_room_are_counted_where_they_are_missing() {
    if !is_ebpf_or_skip("events_that_find_no_room_are_counted_where_they_are_missing") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let observing = observe(&["--ring-bytes", "4096"], &[&log]);
    observing.hold_still();
    let mut file = File::options().append(true).open(&log).unwrap();
    for number in 0..1000 {
        file.write_all(format!("{number:06}\n").as_bytes()).unwrap();
    }
    observing.go_on();
    let mut shown = 0;
    observing.wait_until_stdout("the count of what is missing", |stdout| {
        let told = records(stdout);
        let missing = told.iter().filter(|line| line["reason"] == "ring_full");
        let missing: u64 = missing.filter_map(|line| line["missing"].as_u64()).sum();
        shown = told.iter().filter(|line| line["op"] == "write").count() as u64;
        missing > 0 && missing + shown == 1000
    });
    assert!(shown > 10, "{shown}");
    let mut offset = 0;
    for line in records(&observing.stdout()) {
        if line["reason"] == "ring_full" {
            offset += 7 * line["missing"].as_u64().expect("a number");
        } else if line["op"] == "write" {
            assert_eq!(line["offset"], offset, "what is missing is shown where it is missing");
            offset += 7;
        }
    }
    append(&log, "after\n");
    let is_after = |line: &Value| line["op"] == "write" && line["offset"] == 7000;
    observing.wait_until_stdout("a later write", |stdout| records(stdout).iter().any(is_after));
    observing.terminate().assert_says(&["found no room in the ring", &format!("{} events shown", shown + 1)]);
}

#[test]
fn only_what_was_asked_for_is_shown() {
    let place = Place::new();
    let (log, other) = (place.path("app.log"), place.path("other.log"));
    create(&other, "");
    let pattern: PathBuf = place.path("app*");
    let observing = observe(&["--op", "create,write,truncate"], &[&pattern]);
    append(&log, "shown\n");
    append(&other, "not shown\n");
    create(&other, "");
    // inotify tells of a truncation only where the size was seen before.
    events(&observing, 2);
    create(&log, "");
    events(&observing, 3);
    fs::rename(&log, place.path("app.log.1")).unwrap();
    create(&log, "");
    let shown = events(&observing, 4);
    assert_eq!(deeds(&shown), ["create app.log", "write app.log", "truncate app.log", "create app.log"]);
    observing.terminate();
}

/// What is not wanted takes no room for longer than it exists: there is room for 65,536 files, and a filesystem in
/// memory gives each another number.
#[test]
fn files_that_come_and_go_beside_it_take_no_room() {
    if !is_ebpf_or_skip("files_that_come_and_go_beside_it_take_no_room") {
        return;
    }
    let place = Place::quiet();
    let log = place.path("app.log");
    create(&log, "");
    let observing = observe(&[], &[&log]);
    for number in 0..70_000 {
        let other = place.path(format!("{number}.tmp"));
        File::create(&other).unwrap();
        fs::remove_file(other).unwrap();
    }
    fs::rename(&log, place.path("app.log.1")).unwrap();
    append(&log, "new\n");
    let is_written = |event: &Value| event["op"] == "write" && event["length"] == 4;
    observing.wait_until_stdout("the write to the new file", |stdout| records(stdout).iter().any(is_written));
    let finished = observing.terminate();
    assert_eq!(
        deeds(&only_events(&finished.stdout)),
        ["rename app.log -> app.log.1", "create app.log", "write app.log"]
    );
    assert!(!finished.stderr.iter().any(|line| line.contains("there is room for")), "{:#?}", finished.stderr);
}

/// Appends to it as long as what is returned is there.
#[must_use]
fn write_on_and_on(log: &Path) -> Arc<()> {
    let wanted = Arc::new(());
    let still = Arc::downgrade(&wanted);
    let mut file = OpenOptions::new().append(true).open(log).expect("opened");
    std::thread::spawn(move || while still.strong_count() > 0 && file.write_all(b"line\n").is_ok() {});
    wanted
}

#[test]
fn a_signal_ends_it_however_much_is_done() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    // What is in the ring by then is still shown, and a guest's processor takes long for a hundred thousand events.
    let observing = observe(&["--ring-bytes", "65536"], &[&log]);
    let _writers = [(); 4].map(|()| write_on_and_on(&log));
    observing.wait_until_stdout("many events", |stdout| lines(stdout) >= 1000);
    observing.signal(Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(30);
    observing.wait_for_stderr("the totals", |said| {
        assert!(Instant::now() < deadline, "it still shows what is done");
        said.iter().any(|line| line.contains("events shown"))
    });
    observing.wait().assert_exit(0);
}

#[test]
fn a_second_signal_does_not_wait_for_a_reader_that_stalls() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let mut observing = observing(|| LogTail::bare().arg("observe").arg(&log).unheard());
    let stalled = observing.take_stdout();
    let _writer = write_on_and_on(&log);
    let pipe = stalled.as_fd();
    let held = || {
        let mut held = 0;
        // SAFETY: the descriptor is open, and FIONREAD writes one int.
        assert_eq!(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut held) }, 0);
        held
    };
    let mut before = 0;
    while before == 0 || held() != before {
        before = held();
        std::thread::sleep(Duration::from_secs(1));
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    // Signals of one kind that come at once are one: it is asked until it has heard the second.
    while !observing.stderr().iter().any(|line| line.contains("stopped before everything was written")) {
        assert!(Instant::now() < deadline, "it does not end: {:#?}", observing.stderr());
        let _ = kill(observing.pid(), Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(100));
    }
    observing.wait().assert_exit(1);
    drop(stalled);
}

#[test]
fn only_those_who_were_asked_for_are_shown() {
    if !is_ebpf_or_skip("only_those_who_were_asked_for_are_shown") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let pid = std::process::id().to_string();
    let observing = observe(&["--pid", &pid, "--uid", "0", "--cgroup", "/"], &[&log]);
    let script = format!("echo somebody else >> '{}'", log.display());
    assert!(Command::new("sh").arg("-c").arg(script).status().unwrap().success());
    append(&log, "me\n");
    let shown = events(&observing, 1);
    assert_eq!(shown[0]["writer"]["pid"].to_string(), pid, "{shown:#?}");
    assert_eq!((&shown[0]["offset"], &shown[0]["length"]), (&14.into(), &3.into()));
    observing.terminate();
}

#[test]
fn writers_of_another_name_or_user_are_left_out() {
    if !is_ebpf_or_skip("writers_of_another_name_or_user_are_left_out") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    for (option, value) in [("--comm", "tee"), ("--uid", "1")] {
        create(&log, "");
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
        let observing = observe(&["--op", "write", option, value], &[&log]);
        for (script, uid) in [("echo line >> \"$0\"", 0), ("echo line | tee -a \"$0\"", 1)].repeat(2) {
            let mut writer = Command::new("sh");
            writer.arg("-c").arg(script).arg(&log).uid(uid).stdout(Stdio::null());
            assert!(writer.status().expect("it runs").success());
        }
        let shown = events(&observing, 2);
        let told: Vec<_> = shown.iter().map(|line| line["offset"].as_u64()).collect();
        assert_eq!(told, [Some(5), Some(15)], "{option} {value}: {shown:#?}");
        for line in &shown {
            assert_eq!((&line["writer"]["comm"], &line["writer"]["uid"]), (&"tee".into(), &1.into()));
        }
        observing.terminate();
    }
}

#[test]
fn what_was_done_in_a_cgroup_that_is_gone_is_counted() {
    if !is_ebpf_or_skip("what_was_done_in_a_cgroup_that_is_gone_is_counted") {
        return;
    }
    let (place, mounts) = (Place::new(), Place::new());
    let hierarchy = Hierarchy::mounted_in(&mounts);
    let log = place.path("app.log");
    create(&log, "");
    let observing = observe(&["--cgroup", "/one"], &[&log]);
    let script = format!("echo line >> '{}'", log.display());
    observing.hold_still();
    drop(hierarchy.run("one", &script));
    observing.go_on();
    let finished = observing.terminate();
    assert!(finished.stdout.is_empty(), "{:#?}", records(&finished.stdout));
    finished.assert_says(&["1 more were done in cgroups that were gone", "--cgroup leaves those out"]);
}

#[test]
fn what_inotify_cannot_tell_is_said() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let observing = LogTail::bare().args(["observe", "--backend", "inotify"]).arg(&log).start();
    observing.wait_for_stderr("what is observed", |lines| {
        lines.iter().any(|line| line.contains("observing 1 file in 1"))
    });
    append(&log, "line\n");
    observing.wait_until_stdout("the write", |stdout| stdout.ends_with(b"size 0 -> 5\n"));
    observing.terminate().assert_says(&["inotify does not tell who", "at which offset", "how often"]);
    let refused = LogTail::bare().args(["observe", "--backend", "inotify", "--pid", "1"]).arg(&log).run();
    refused.assert_exit(1).assert_says(&["--pid needs eBPF"]);
}

#[test]
fn what_cannot_be_observed_is_said_with_what_to_do() {
    let observe = |args: &[&str]| LogTail::bare().arg("observe").args(args).run();
    observe(&["/nonexistent/a.log"])
        .assert_exit(1)
        .assert_says(&["/nonexistent", "make the directory first"]);
    observe(&["/tmp/[a"]).assert_exit(2).assert_says(&["/tmp/[a", "backslash"]);
    observe(&["--op", "read", "/tmp"]).assert_exit(2);
    observe(&[]).assert_exit(2);
}
