//! The state directory itself: in use, unusable, full, damaged; asked and made to forget; and what `--from` and
//! `-n` still decide where there is one.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use log_tail_tests::{prelude::*, run::binary};
use nix::{sys::signal::Signal, unistd::geteuid};

fn keeping(state: &StateDir, log: &Path, args: &[&str]) -> LogTail {
    LogTail::plain().args(args).keeping(state).arg(log)
}

/// A run that prints this, and is ended by SIGTERM.
#[track_caller]
fn run(tail: LogTail, expected: &str) -> Finished {
    let tail = tail.follow();
    tail.wait_for_stdout(expected);
    let finished = tail.terminate();
    assert_eq!(finished.text(), expected);
    finished
}

fn place() -> (Place, PathBuf, StateDir) {
    let place = Place::new();
    let (log, state) = (place.path("app.log"), StateDir::new(place.path("state")));
    (place, log, state)
}

#[test]
fn where_to_start_is_said_only_for_files_that_were_never_seen() {
    let starts: [&[&str]; 7] = [
        &["--from", "end"],
        &["--from", "beginning"],
        &["-n", "0"],
        &["-n", "+1"],
        &["-n", "1"],
        &["-c", "2"],
        &["-c", "+1"],
    ];
    for args in starts {
        let (place, log, state) = place();
        create(&log, "1\n2\n");
        run(keeping(&state, &log, &["--from", "beginning"]), "1\n2\n");
        append(&log, "3\n4\n");
        run(keeping(&state, &log, args), "3\n4\n");
        let other = place.path("other.log");
        append(&log, "5\n");
        create(&other, "a\nb\n");
        let expected = match args {
            ["--from", "beginning"] | ["-n" | "-c", "+1"] => "5\na\nb\n",
            ["-n", "1"] | ["-c", "2"] => "5\nb\n",
            _ => "5\n",
        };
        run(keeping(&state, &log, args).arg("-q").arg(other), expected);
    }
}

/// From the moment at which it says that it follows.
#[test]
fn a_file_that_gave_nothing_before_log_tail_was_killed_is_known() {
    let (_place, log, state) = place();
    create(&log, "1\n2\n");
    let first = keeping(&state, &log, &["--from", "end"]).follow();
    first.signal(Signal::SIGKILL);
    drop(first.wait());
    append(&log, "3\n");
    fs::rename(&log, log.with_extension("log.1")).expect("renamed");
    create(&log, "4\n");
    run(keeping(&state, &log, &["--from", "end"]), "3\n4\n");
}

#[test]
fn a_new_file_that_gave_nothing_before_log_tail_was_killed_is_known() {
    let (place, log, state) = place();
    create(&log, "1\n");
    let pattern = place.path("*.log");
    let first = LogTail::plain().args(["--from", "end"]).keeping(&state).arg(&pattern).follow();
    let other = place.path("other.log");
    create(&other, "");
    state.wait_for_offset(&other, 0);
    first.signal(Signal::SIGKILL);
    drop(first.wait());
    append(&other, "2\n");
    run(LogTail::plain().args(["--from", "end", "-q"]).keeping(&state).arg(&pattern), "2\n");
}

#[test]
fn a_new_file_is_known_although_the_output_took_nothing_since_it_came() {
    let (place, log, state) = place();
    create(&log, "");
    let pattern = place.path("*.log");
    let from_end = || LogTail::plain().args(["--from", "end", "-q"]).keeping(&state).arg(&pattern);
    let first = from_end().follow();
    first.stop_listening();
    // More than the pipe and what waits for it take.
    append(&log, "0123456789abcde\n".repeat(256 << 10));
    let other = place.path("other.log");
    create(&other, "");
    state.wait_for_offset(&other, 0);
    append(&other, "2\n");
    first.signal(Signal::SIGKILL);
    first.listen_again();
    drop(first.wait());
    let finished = from_end().arg("--no-follow").run();
    assert!(finished.assert_exit(0).stdout.ends_with(b"2\n"), "{}", finished.text());
}

#[test]
fn a_file_that_was_followed_from_its_end_and_gave_nothing_is_known() {
    let (_place, log, state) = place();
    create(&log, "1\n2\n");
    run(keeping(&state, &log, &["--from", "end"]), "");
    append(&log, "3\n");
    run(keeping(&state, &log, &["--from", "end"]), "3\n");
}

#[test]
fn a_file_followed_from_its_end_and_written_anew_while_nobody_looked_is_read_from_its_beginning() {
    let (_place, log, state) = place();
    create(&log, "an old line\n".repeat(500));
    run(keeping(&state, &log, &["--from", "end"]), "");
    let new = "a new line, longer\n".repeat(1000);
    create(&log, &new);
    run(keeping(&state, &log, &["--from", "end"]), &new);
}

#[test]
fn a_second_process_is_refused_and_told_who_was_first() {
    let (_place, log, state) = place();
    create(&log, "1\n");
    let first = keeping(&state, &log, &[]).follow();
    let second = keeping(&state, &log, &[]).run();
    let pid = format!("process id {}", first.pid());
    second.assert_exit(1).assert_says(&["in use", &pid, "--state-dir"]);
    assert_eq!(second.text(), "");
    // The first is none the worse for it.
    append(&log, "2\n");
    first.wait_for_stdout("1\n2\n");
    first.terminate();
    run(keeping(&state, &log, &[]), "");
}

#[test]
fn a_state_directory_that_is_a_file_is_refused() {
    let (_place, log, state) = place();
    create(&log, "1\n");
    create(state.path(), "a file");
    let finished = keeping(&state, &log, &[]).run();
    finished.assert_exit(1).assert_says(&["state", "name a directory with --state-dir"]);
    assert_eq!(fs::read(state.path()).unwrap(), b"a file");
}

#[test]
fn a_state_directory_that_may_not_be_written_to_is_refused() {
    if !geteuid().is_root() {
        eprintln!("skipping a state directory that may not be written to: only root can become nobody");
        return;
    }
    let (place, log, state) = place();
    create(&log, "1\n");
    fs::create_dir(state.path()).unwrap();
    // Nobody can run a program only where everybody may enter.
    let copy = place.path("log-tail");
    fs::copy(binary(), &copy).unwrap();
    let finished = LogTail::bare_at(&copy).as_nobody().keeping(&state).arg(&log).run();
    finished.assert_exit(1).assert_says(&["state", "the right to write there"]);
    assert_eq!(finished.text(), "");
}

/// As a later log-tail may write it.
fn make_newer(store: &Path) {
    let database = redb::Database::open(store).expect("the store is there");
    let change = database.begin_write().expect("the store is there");
    let about = redb::TableDefinition::<&str, u64>::new("log-tail");
    change.open_table(about).expect("the store is there").insert("format", 2).expect("the store is there");
    change.commit().expect("the store is there");
}

fn invert(store: &Path) {
    let inverted: Vec<u8> = fs::read(store).expect("the store is there").iter().map(|byte| !byte).collect();
    fs::write(store, inverted).expect("the store is there");
}

fn cut(store: &Path) {
    let file = fs::OpenOptions::new().write(true).open(store).expect("the store is there");
    file.set_len(file.metadata().expect("the store is there").len() / 3).expect("the store is there");
}

#[test]
fn a_damaged_or_newer_store_is_moved_aside_and_named_and_the_user_decides_where_to_start() {
    let wheres = [(&["--from", "end"], "3\n"), (&["--from", "beginning"], "1\n2\n3\n")];
    let harms: [(fn(&Path), _, _); 4] = [
        (invert, false, "unreadable"),
        (invert, true, "unreadable"),
        (cut, false, "unreadable"),
        (make_newer, false, "newer log-tail"),
    ];
    for ((args, expected), (harm, is_killed, why)) in
        wheres.into_iter().flat_map(|place| harms.map(|harm| (place, harm)))
    {
        let (_place, log, state) = place();
        create(&log, "1\n");
        if is_killed {
            let tail = keeping(&state, &log, &[]).follow();
            tail.wait_for_stdout("1\n");
            state.wait_for_offset(&log, 2);
            tail.signal(Signal::SIGKILL);
            drop(tail.wait());
        } else {
            run(keeping(&state, &log, &[]), "1\n");
        }
        let store = state.path().join("checkpoints.redb");
        harm(&store);
        let damaged = fs::read(&store).unwrap();
        append(&log, "2\n");
        let tail = keeping(&state, &log, args).follow();
        append(&log, "3\n");
        tail.wait_for_stdout(expected);
        let finished = tail.terminate();
        finished.assert_says(&["the checkpoints were unreadable", why, "checkpoints.redb.bad-"]);
        let entries = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().path());
        let bad: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().contains(".bad-")).collect();
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert_eq!(fs::read(&bad[0]).unwrap(), damaged);
        finished.assert_says(&[bad[0].to_str().unwrap()]);
        append(&log, "4\n");
        let again = run(keeping(&state, &log, args), "4\n");
        assert!(!again.stderr.iter().any(|line| line.contains("unreadable")), "{again:?}");
    }
}

#[test]
fn a_file_is_listed_shown_and_forgotten_and_not_forgotten_while_it_is_followed() {
    let (_place, log, state) = place();
    let name = log.to_str().unwrap();
    create(&log, "1\n2\n");
    let tail = keeping(&state, &log, &[]).follow();
    tail.wait_for_stdout("1\n2\n");
    state.wait_for_offset(&log, 4);
    append(&log, "3\n");
    tail.wait_for_stdout("1\n2\n3\n");
    state.wait_for_offset(&log, 6);
    let shown = state.ask(&["show", name]);
    assert!(shown.assert_exit(0).text().contains("offset      6\n"), "{}", shown.text());
    let pid = format!("process id {}", tail.pid());
    state.ask(&["forget", name]).assert_exit(1).assert_says(&["in use", &pid]);
    tail.terminate();
    assert_eq!(state.offset_of(&log), Some(6));

    append(&log, "4\n");
    run(keeping(&state, &log, &["--from", "beginning"]), "4\n");
    state.ask(&["forget", name]).assert_exit(0);
    assert_eq!(state.list(), []);
    state.ask(&["show", name]).assert_exit(1).assert_says(&["nothing is known of", name]);
    run(keeping(&state, &log, &["--from", "beginning"]), "1\n2\n3\n4\n");
    state.ask(&["forget", name]).assert_exit(0);
    run(keeping(&state, &log, &["--from", "end"]), "");
    assert_eq!(state.offset_of(&log), Some(8));
}

/// Starts it with a tmpfs of a megabyte at `at` that nobody else sees.
fn in_small_tmpfs(at: &Path) -> LogTail {
    let script = "mount -t tmpfs -o size=1m none \"$0\" && dd if=/dev/zero of=\"$0/fill\" bs=4k 2>/dev/null; exec \"$@\"";
    let backend = wanted_backend().map_or("auto", Backend::word);
    LogTail::bare_at(Path::new("unshare")).args(["-m", "sh", "-c", script]).arg(at).arg(binary()).args([
        "--backend",
        backend,
        "--from",
        "beginning",
    ])
}

#[test]
fn while_the_disk_is_full_following_goes_on_and_commits_go_on_when_there_is_room() {
    let is_allowed = Command::new("unshare").args(["-m", "true"]).output();
    if !is_allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipping a full disk: unshare -m is refused here");
        return;
    }
    let (place, log, _) = place();
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    create(&log, "1\n");
    let tail = in_small_tmpfs(&disk).keeping(&StateDir::new(disk.join("state"))).arg(&log).follow();
    // As the process sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{}", tail.pid(), disk.display()));
    let state = StateDir::new(inside.join("state"));
    assert!(fs::metadata(inside.join("fill")).unwrap().len() > 900_000);
    tail.wait_for_stdout("1\n");
    let complaints = |lines: &[String]| {
        lines
            .iter()
            .filter(|line| line.contains("cannot write checkpoints") && line.contains("make room"))
            .count()
    };
    tail.wait_for_stderr("that the disk is full", |lines| complaints(lines) == 1);
    append(&log, "2\n");
    tail.wait_for_stdout("1\n2\n");
    assert_eq!(state.list(), []);
    fs::remove_file(inside.join("fill")).unwrap();
    let again =
        |lines: &[String]| lines.iter().any(|line| line.contains("written to") && line.contains("again"));
    tail.wait_for_stderr("that it is not full any more", again);
    state.wait_for_offset(&log, 4);
    // Full once more, of what is its own as well: an old commit stays readable, and the next one succeeds.
    let mut fill = File::create(inside.join("fill")).unwrap();
    while fill.write_all(&[0; 4096]).is_ok() {}
    append(&log, "3\n");
    tail.wait_for_stdout("1\n2\n3\n");
    drop(fill);
    fs::remove_file(inside.join("fill")).unwrap();
    state.wait_for_offset(&log, 6);
    let stderr = tail.terminate().stderr;
    assert!(complaints(&stderr) <= 2, "{stderr:#?}");
}

#[test]
fn a_run_that_could_not_commit_says_so_at_its_end_and_the_next_one_repeats() {
    let is_allowed = Command::new("unshare").args(["-m", "true"]).output();
    if !is_allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipping the end on a full disk: unshare -m is refused here");
        return;
    }
    let (place, log, _) = place();
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    create(&log, "1\n");
    for _ in 0..2 {
        let tail = in_small_tmpfs(&disk).keeping(&StateDir::new(disk.join("state"))).arg(&log).follow();
        tail.wait_for_stdout("1\n");
        tail.signal(Signal::SIGTERM);
        tail.wait().assert_exit(1).assert_says(&["cannot write checkpoints", "make room"]);
    }
}
