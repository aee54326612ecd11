//! Which backend is used, why, and what only one of them does.

use std::{
    fs::{self, File},
    io::Write as _,
    time::Duration,
};

use log_tail_tests::{
    backend::{chosen_here, is_ebpf_or_skip},
    held::HeldWrite,
    prelude::*,
    run::binary,
};
use nix::unistd::Uid;

#[test]
fn asking_for_ebpf_where_it_is_refused_is_an_error_that_says_why() {
    let (Backend::Inotify, Some(reason)) = chosen_here() else {
        eprintln!("skipping the refusal of ebpf: this machine allows it");
        return;
    };
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "one\n");
    let finished = LogTail::bare().args(["--backend", "ebpf"]).arg(&log).run();
    finished.assert_exit(1).assert_says(&["eBPF", "doctor", reason]);
    assert!(finished.stdout.is_empty(), "{}", finished.text());
}

#[test]
fn the_backend_that_is_asked_for_is_the_one_that_is_used() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    for backend in [Backend::Inotify, Backend::Ebpf] {
        if backend == Backend::Ebpf && chosen_here().0 != Backend::Ebpf {
            eprintln!("skipping ebpf by name: this machine refuses it");
            continue;
        }
        let tail = LogTail::bare().args(["-n", "0", "--backend", backend.word()]).arg(&log).follow();
        assert_eq!(tail.following().backend, backend);
        assert_eq!(tail.following().instead_because, None);
        append(&log, "one\n");
        tail.wait_for_stdout("one\n");
        tail.terminate();
    }
}

/// The kernel leaves out what is to run after a function that is under way when anybody attaches to it, or leaves.
#[test]
fn what_is_being_written_while_another_tool_comes_and_goes_is_found_by_the_sweep() {
    let place = Place::new();
    let [log, other] = ["app.log", "other.log"].map(|name| place.path(name));
    create(&log, "");
    create(&other, "");
    let tail = LogTail::new().arg(&log).follow();
    let held = HeldWrite::begin(File::options().append(true).open(&log).unwrap(), 5).unwrap();
    LogTail::new().arg(&other).follow().terminate();
    held.let_go(b"held\n").unwrap();
    tail.wait_for_stdout("held\n");
    let missed = tail.scrape().get("log_tail_missed_hints_total");
    let backend = tail.following().backend;
    println!("{missed} hints were missed with {backend:?}");
    assert!(missed == 0 || backend == Backend::Ebpf, "inotify tells of it");
    tail.terminate();
}

/// A copy of log-tail that everybody may run: the directory it was built in may be closed to others.
fn for_everybody(place: &Place) -> Option<LogTail> {
    if !Uid::effective().is_root() {
        eprintln!("skipping what another user sees: the tests do not run as root");
        return None;
    }
    let copy = place.path("log-tail");
    fs::copy(binary(), &copy).expect("copied");
    Some(LogTail::bare_at(&copy))
}

#[test]
fn a_user_without_rights_gets_inotify_and_the_reason() {
    let place = Place::new();
    let Some(tail) = for_everybody(&place) else { return };
    let log = place.path("app.log");
    create(&log, "one\n");
    let tail = tail.as_nobody().arg(&log).follow();
    assert_eq!(tail.following().backend, Backend::Inotify);
    let reason = tail.following().instead_because.clone().expect("a reason");
    assert!(!reason.is_empty());
    tail.wait_for_stdout("one\n");
    append(&log, "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    fs::rename(&log, place.path("app.log.1")).unwrap();
    append(&log, "three\n");
    tail.wait_for_stdout("one\ntwo\nthree\n");
    tail.terminate();
    let Some(refused) = for_everybody(&place) else { return };
    let refused = refused.as_nobody().args(["--backend", "ebpf"]).arg(&log).run();
    refused.assert_exit(1).assert_says(&["eBPF", "doctor"]);
}

/// Whether somebody has another user's file open for writing cannot be asked.
#[test]
fn another_users_rotated_file_is_read_on_as_long_as_it_is_written_to() {
    let place = Place::new();
    let Some(tail) = for_everybody(&place) else { return };
    let log = place.path("app.log");
    create(&log, "one\n");
    let tail = tail.as_nobody().args(["-q", "--rotate-wait", "1s"]).arg(&log).follow();
    tail.wait_for_stdout("one\n");
    let mut old = File::options().append(true).open(&log).unwrap();
    fs::rename(&log, place.path("app.log.1")).unwrap();
    create(&log, "new\n");
    let mut expected = vec!["one".to_owned(), "new".to_owned()];
    for number in 0..5 {
        // Within the grace time each, and together far beyond it.
        std::thread::sleep(Duration::from_millis(600));
        let line = format!("old {number}");
        writeln!(old, "{line}").unwrap();
        tail.wait_until_stdout(&line, |stdout| String::from_utf8_lossy(stdout).contains(&line));
        expected.push(line);
    }
    let stdout = tail.terminate().stdout;
    let mut lines: Vec<&str> = std::str::from_utf8(&stdout).unwrap().lines().collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_file_without_permission_is_said_and_the_others_are_followed() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    let Some(tail) = for_everybody(&place) else { return };
    let (closed, open) = (place.path("closed.log"), place.path("open.log"));
    create(&closed, "secret\n");
    create(&open, "open\n");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    let tail = tail.as_nobody().arg("-q").arg(&closed).arg(&open).follow();
    assert_eq!(tail.following().files, 1);
    tail.wait_for_stdout("open\n");
    append(&open, "more\n");
    tail.wait_for_stdout("open\nmore\n");
    tail.terminate().assert_says(&["closed.log", "permission denied"]);

    let Some(once) = for_everybody(&place) else { return };
    let once = once.as_nobody().args(["-q", "--no-follow"]).arg(&closed).arg(&open).run();
    once.assert_exit(1).assert_says(&["closed.log", "permission denied"]);
    assert_eq!(once.text(), "open\nmore\n");
}

#[test]
fn a_file_that_loses_its_permission_is_said_and_nothing_waits_for_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    let Some(tail) = for_everybody(&place) else { return };
    let (closed, open) = (place.path("closed.log"), place.path("open.log"));
    create(&closed, "one\n");
    create(&open, "open\n");
    let tail = tail.as_nobody().with_metrics().args(["-q", "--sweep", "1s"]).arg(&closed).arg(&open).follow();
    tail.wait_until_stdout("both", |stdout| stdout.len() == "one\nopen\n".len());
    let mut old = File::options().append(true).open(&closed).unwrap();
    // As logrotate does with `create 0600 root root`.
    fs::rename(&closed, place.path("closed.log.1")).unwrap();
    create(place.path("made"), "two\n");
    fs::set_permissions(place.path("made"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(place.path("made"), &closed).unwrap();
    let is_said = |lines: &[String]| lines.iter().any(|line| line.contains("permission denied"));
    tail.wait_for_stderr("the refusal", is_said);
    old.write_all(b"late\n").unwrap();
    append(&open, "more\n");
    tail.wait_until_stdout("the others", |stdout| {
        let text = String::from_utf8_lossy(stdout);
        text.contains("late\n") && text.contains("more\n")
    });
    // Some sweeps: it is no missed hint.
    std::thread::sleep(Duration::from_secs(4));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o644)).unwrap();
    tail.wait_until_stdout("two", |stdout| String::from_utf8_lossy(stdout).contains("two\n"));
    assert_eq!(tail.scrape().get("log_tail_missed_hints_total"), 0);
    let ended = tail.terminate();
    assert_eq!(
        ended.stderr.iter().filter(|line| line.contains("permission denied")).count(),
        1,
        "{:?}",
        ended.stderr
    );
}

/// A ring that holds 60 events or so, and a reader that is stopped while thousands happen.
#[test]
fn hints_that_do_not_fit_into_the_ring_are_made_up_for() {
    const FILES: u64 = 1000;
    if !is_ebpf_or_skip("the ring's overflow") {
        return;
    }
    let place = Place::new();
    let tail = LogTail::without_sweep()
        .counted()
        .args(["--ring-bytes", "4096", "-q"])
        .arg(place.path("*.log"))
        .arg(place.path("seen.log"))
        .follow();
    let mut seen = Lines::new(place.path("seen.log"), "seen");
    seen.write(10);
    tail.wait_for_lines(10);
    tail.hold_still();
    let names: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    for name in &names {
        Lines::new(place.path(name), name).write(3);
        fs::rename(place.path(name), place.path(format!("{name}.log"))).unwrap();
    }
    seen.write(10);
    tail.go_on();
    tail.wait_for_lines(20 + FILES * 3);
    // And the doorbells still ring.
    seen.write(10);
    tail.wait_for_lines(30 + FILES * 3);
    let scrape = tail.scrape();
    assert!(scrape.kernel_events("dropped") > 0, "{}", scrape.page);
    assert!(scrape.get("log_tail_hints_total{kind=\"overflow\"}") > 0, "{}", scrape.page);
    scrape.assert_kernel_events_add_up();
    let written = names.iter().map(|name| (name.as_str(), 3)).chain([("seen", 30)]);
    tail.terminate().assert_exactly(written);
}

#[test]
fn the_kernel_program_says_what_it_sees_when_asked() {
    if !is_ebpf_or_skip("the kernel program's log") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = LogTail::new().args(["--kernel-log", "debug"]).arg(&log).follow();
    let said = tail.stderr().len();
    fs::rename(&log, place.path("app.log.1")).unwrap();
    tail.wait_for_stderr("a line of the kernel program", |lines| {
        lines[said..]
            .iter()
            .any(|line| line.contains("kernel") || line.contains("rename") || line.contains("d_move"))
    });
    append(&log, "new\n");
    tail.wait_for_stdout("new\n");
    tail.finish();
}
