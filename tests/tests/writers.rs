//! Json says who wrote a line: the process, and the container that it runs in. Where that is not certain, it does not.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicI32, Ordering},
};

use log_tail_tests::{backend::is_ebpf_or_skip, cgroup::Hierarchy, prelude::*};
use nix::unistd::gettid;
use serde_json::Value;

/// Processes that write at once, and lines that each writes.
const WRITERS: usize = 8;
const LINES: usize = 300;

/// How often that is tried.
const ROUNDS: usize = 8;

/// Another user than root.
const NOBODY: u32 = 65534;

/// A shell that writes lines that begin with its own process's id; each line is one write(2).
fn shell(path: &Path, lines: u64) -> Child {
    let script =
        format!("i=0; while [ $i -lt {lines} ]; do echo $$ $i; i=$((i+1)); done >> '{}'", path.display());
    Command::new("sh").arg("-c").arg(script).stdin(Stdio::null()).spawn().expect("a shell")
}

/// Which process wrote the line, by its own word.
fn said(record: &Value) -> u64 {
    record["line"].as_str().and_then(|line| line.split(' ').next()?.parse().ok()).expect("a process's id")
}

fn tail(path: &Path) -> Running {
    LogTail::without_sweep().args(["--format", "json"]).arg(path).follow()
}

#[test]
fn the_process_that_wrote_a_line_is_named() {
    if !is_ebpf_or_skip("the_process_that_wrote_a_line_is_named") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = tail(&log);
    let mut named = 0;
    for round in 1..=20 {
        let mut writer = shell(&log, 3);
        writer.wait().unwrap();
        let records = tail.wait_for_records(round * 3);
        for record in &records[(round - 1) * 3..] {
            assert_eq!(said(record), u64::from(writer.id()), "{record}");
            let by = &record["writer"];
            if *by == Value::Null {
                // A line may be read before the kernel tells who wrote it, and then nobody waits for long.
                continue;
            }
            assert_eq!((&by["pid"], &by["comm"], &by["uid"]), (&writer.id().into(), &"sh".into(), &0.into()));
            named += 1;
        }
    }
    assert!(named > 40, "{named} of 60");
    tail.terminate();
}

#[test]
fn no_line_is_said_to_be_anothers_where_many_write_at_once() {
    if !is_ebpf_or_skip("no_line_is_said_to_be_anothers_where_many_write_at_once") {
        return;
    }
    // How many are named is a matter of who gets the processors when: now and then most are. None may be wrong, ever.
    let is_named = (0..ROUNDS).any(|_| named_where_many_write_at_once() > WRITERS * LINES / 2);
    assert!(is_named, "in none of {ROUNDS} rounds most lines had their writer named");
}

/// How many of the lines have their writer named. Each is the right one.
fn named_where_many_write_at_once() -> usize {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = tail(&log);
    let mut writers: Vec<Child> = (0..WRITERS).map(|_| shell(&log, LINES as u64)).collect();
    for writer in &mut writers {
        assert!(writer.wait().expect("waited for").success());
    }
    let records = tail.wait_for_records(WRITERS * LINES);
    let named = records.iter().filter(|record| record["writer"]["pid"].is_u64());
    let mut right = 0;
    for record in named {
        assert_eq!(record["writer"]["pid"], said(record), "{record}");
        right += 1;
    }
    let several = records.iter().filter(|record| record["writer"]["several"] == true).count();
    println!("of {} lines, {right} had their writer named, {several} came from several", records.len());
    tail.terminate();
    right
}

#[test]
fn another_user_a_thread_and_several_processes_are_told_apart() {
    if !is_ebpf_or_skip("another_user_a_thread_and_several_processes_are_told_apart") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(place.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let tail = tail(&log);
    let mut came = 0;
    // While it stands still, what is read at once was told by then: but for what it was about to read when it stopped.
    let mut record_of = |write: &dyn Fn()| {
        for _ in 0..10 {
            tail.hold_still();
            write();
            tail.go_on();
            came += 1;
            let record = tail.wait_for_records(came)[came - 1].clone();
            if !record["writer"].is_null() {
                return record;
            }
        }
        panic!("in none of ten times the writer was told");
    };
    let by = |uid: u32, script: &str| {
        let script = format!("{script} >> '{}'", log.display());
        let status = Command::new("sh").arg("-c").arg(script).uid(uid).status();
        assert!(status.expect("a shell").success());
    };

    let record = record_of(&|| by(NOBODY, "echo another user"));
    assert_eq!(
        (&record["writer"]["uid"], &record["writer"]["comm"]),
        (&NOBODY.into(), &"sh".into()),
        "{record}"
    );

    let thread = AtomicI32::new(0);
    let record = record_of(&|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                thread.store(gettid().as_raw(), Ordering::Relaxed);
                append(&log, "a thread\n");
            });
        });
    });
    let writer = &record["writer"];
    let thread = thread.into_inner();
    assert_eq!((&writer["pid"], &writer["tid"]), (&std::process::id().into(), &thread.into()), "{record}");

    let record = record_of(&|| {
        by(0, "printf half");
        by(NOBODY, "echo ' a line'");
    });
    assert_eq!(record["line"], "half a line");
    assert_eq!(record["writer"]["several"], true, "{record}");
    tail.terminate();
}

#[test]
fn the_container_is_told_by_its_cgroup_or_by_its_logs_path() {
    if !is_ebpf_or_skip("the_container_is_told_by_its_cgroup_or_by_its_logs_path") {
        return;
    }
    let place = Place::new();
    let hierarchy = Hierarchy::mounted_in(&place);
    let id = "0123456789abcdef".repeat(4);
    let other = "f".repeat(64);
    let shims = place.path(format!("containers/{other}"));
    fs::create_dir_all(&shims).unwrap();
    let (log, shims_log) = (place.path("app.log"), shims.join(format!("{other}-json.log")));
    create(&log, "");
    create(&shims_log, "");
    let tail = LogTail::without_sweep().args(["--format", "json"]).args([&log, &shims_log]).follow();
    let script = format!("echo inside >> '{}'", log.display());
    let _cgroup = hierarchy.run(format!("docker-{id}.scope"), &script);
    let record = &tail.wait_for_records(1)[0]["writer"];
    assert_eq!(record["container"], id, "{record}");
    assert_eq!(record["cgroup"], format!("/docker-{id}.scope"), "{record}");
    assert_eq!(record.get("via"), None, "{record}");
    append(&shims_log, "by its shim\n");
    let record = &tail.wait_for_records(2)[1]["writer"];
    assert_eq!((&record["container"], &record["via"]), (&other.into(), &"shim".into()), "{record}");
    tail.terminate();
}
