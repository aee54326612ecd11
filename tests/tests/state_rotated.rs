//! Rotated, compressed, copied or moved elsewhere while nobody looked: what was unread is found, and read first.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use log_tail_tests::{account::Account, prelude::*, runs::Runs};
use nix::sys::signal::Signal;

/// What makes `app.log.1.gz` of `app.log.1`, by its suffix.
const COMPRESSORS: [(&str, &[&str]); 4] =
    [("gz", &["gzip"]), ("zst", &["zstd", "-q", "--rm"]), ("xz", &["xz"]), ("bz2", &["bzip2"])];

fn compress(command: &[&str], path: &Path) -> bool {
    let status = Command::new(command[0]).args(&command[1..]).arg(path).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Does something with every compressor that is here, and says which are not.
fn with_each_compressor(test: &str, mut work: impl FnMut(&dyn Fn(&Path))) {
    for (suffix, command) in COMPRESSORS {
        let place = Place::new();
        create(place.path("probe"), "Busybox has an xz that only decompresses.\n");
        if !compress(command, &place.path("probe")) {
            eprintln!("skipping {test} with .{suffix}: there is no {} that compresses", command[0]);
            continue;
        }
        eprintln!("with .{suffix}");
        work(&|path| assert!(compress(command, path), "{command:?} {}", path.display()));
    }
}

#[test]
fn a_file_rotated_once_while_nobody_looked_is_read_to_its_end_first() {
    for read_before in [0, 1, 1000] {
        let mut f = Runs::new();
        f.lines.write(read_before);
        f.run();
        f.lines.write(500);
        f.rotate("app.log.1");
        f.lines.write(500);
        f.run();
        f.assert_exactly_what_was_written();
    }
}

#[test]
fn files_rotated_three_times_while_nobody_looked_are_read_in_order() {
    let grow = |f: &mut Runs, number: u32| f.rotate(format!("app.log.{number}"));
    let shift = |f: &mut Runs, _: u32| f.shift();
    let date = |f: &mut Runs, number: u32| f.rotate(format!("app.log-2026010{number}"));
    for rotate in [grow, shift, date] {
        let mut f = Runs::new();
        f.lines.write(1000);
        f.run();
        for round in 0..2 {
            for number in 1..=3 {
                f.lines.write(100);
                let older = SystemTime::now() - Duration::from_secs(60 * u64::from(6 - round * 3 - number));
                f.lines.file().set_modified(older).unwrap();
                rotate(&mut f, round * 3 + number);
            }
            f.lines.write(100);
            f.run();
        }
        f.assert_exactly_what_was_written();
    }
}

/// Times as near as a tick do not tell which came first, and the names are read as if higher numbers were older.
#[test]
#[ignore = "not promised: nothing of generations all written within 4 ms is lost, but their order is guessed"]
fn files_rotated_within_a_tick_to_growing_numbers_while_nobody_looked_are_read_in_order() {
    let mut f = Runs::new();
    f.lines.write(1000);
    f.run();
    for number in 1..=3 {
        f.lines.write(100);
        f.rotate(format!("app.log.{number}"));
    }
    f.lines.write(100);
    f.run();
    f.assert_exactly_what_was_written();
}

#[test]
fn a_name_that_nobody_bears_any_more_is_read_under_its_new_ones_first() {
    let mut f = Runs::new();
    f.lines.write(100);
    f.run();
    f.lines.write(100);
    f.shift();
    f.lines.write(100);
    fs::rename(f.place.path("app.log.1"), f.place.path("app.log.2")).unwrap();
    fs::rename(f.log(), f.place.path("app.log.1")).unwrap();
    f.run();
    f.lines.go_on_in(f.log());
    f.lines.write(100);
    f.run();
    f.assert_exactly_what_was_written();
}

#[test]
fn the_file_that_was_being_read_is_found_although_it_was_compressed() {
    compressed_while_nobody_looked(Place::new);
}

/// There a compressed file's inode may be all that is known of it.
#[test]
fn a_compressed_file_is_not_taken_for_text_where_inodes_have_no_generation() {
    compressed_while_nobody_looked(Place::in_memory);
}

fn compressed_while_nobody_looked(place: impl Fn() -> Place) {
    with_each_compressor("a file compressed while nobody looked", |compress| {
        let mut f = Runs::within(place());
        f.lines.write(1000);
        f.run();
        f.lines.write(500);
        f.rotate("app.log.1");
        compress(&f.place.path("app.log.1"));
        f.lines.write(500);
        f.run();
        f.assert_exactly_what_was_written();
        // And it is not read again.
        f.lines.write(10);
        f.run();
        f.assert_exactly_what_was_written();
    });
}

#[test]
fn sigterm_in_the_middle_of_a_compressed_file_neither_tears_nor_reorders() {
    let mut f = Runs::new();
    f.lines.write(1000);
    f.run();
    // Compressed, more than waits in the pipe.
    f.lines.write(2_000_000);
    f.rotate("app.log.1");
    assert!(compress(&["gzip", "-1"], &f.place.path("app.log.1")), "gzip");
    f.lines.write(10);
    let running = f.start();
    running.stop_listening();
    f.end_stalled(running);
    f.run();
    f.assert_exactly_what_was_written();
}

#[test]
fn three_generations_compressed_while_nobody_looked_are_read_in_order() {
    for is_newest_plain in [false, true] {
        with_each_compressor("three compressed generations", |compress| {
            let mut f = Runs::new();
            f.lines.write(1000);
            f.run();
            let mut packed = Vec::new();
            for round in 1..=3 {
                f.lines.write(200);
                // The times of the files are all there is to tell them by, where they are compressed.
                let name = f.place.path(format!("app.log-2026010{round}"));
                f.rotate(&name);
                if round < 3 || !is_newest_plain {
                    compress(&name);
                }
                packed.push(name);
            }
            f.lines.write(200);
            f.run();
            f.assert_exactly_what_was_written();
        });
    }
}

/// It stands in the state, with nothing to know it by but an inode that is no more.
#[test]
fn a_generation_that_was_found_but_not_read_may_be_compressed() {
    for compressed in [&["app.log.1"][..], &["app.log.1", "app.log.2"]] {
        let place = Place::new();
        let (log, state) = (place.path("app.log"), StateDir::new(place.path("state")));
        let follow = || LogTail::plain().args(["--from", "beginning"]).keeping(&state).arg(&log);
        create(&log, "a 0\n");
        let first = follow().follow();
        first.wait_for_stdout("a 0\n");
        first.terminate();
        // More than fits into a pipe that nobody reads, and into what waits before it.
        let rest = (1..200_000).map(|number| format!("a {number}\n")).collect::<Vec<_>>().concat();
        append(&log, &rest);
        fs::rename(&log, place.path("app.log.2")).expect("renamed");
        create(place.path("app.log.1"), "b 0\n");
        create(&log, "c 0\n");
        let mut second = follow().unheard().follow();
        let mut pipe = second.take_stdout();
        second.signal(Signal::SIGKILL);
        drop(second.wait());
        let mut came = String::from("a 0\n");
        pipe.read_to_string(&mut came).expect("what was in the pipe");
        for name in compressed {
            assert!(compress(&["gzip"], &place.path(name)), "gzip {name}");
        }
        let third = follow().follow();
        third.wait_until_stdout("the last line", |stdout| stdout.ends_with(b"c 0\n"));
        // Half a line in the pipe comes again whole; and so does what was not committed.
        came.truncate(came.rfind('\n').map_or(0, |newline| newline + 1));
        came += &third.terminate().text();
        let mut seen = std::collections::HashSet::new();
        let firsts: Vec<&str> = came.lines().filter(|line| seen.insert(*line)).collect();
        let all = format!("a 0\n{rest}b 0\nc 0\n");
        assert!(
            firsts.iter().copied().eq(all.lines()),
            "{compressed:?}: {} of {}",
            firsts.len(),
            all.lines().count()
        );
    }
}

#[test]
fn shifted_generations_with_delayed_compression_are_read_in_order() {
    with_each_compressor("delayed compression", |compress| {
        let mut f = Runs::new();
        f.lines.write(1000);
        f.run();
        for round in 0..3 {
            f.lines.write(200);
            // `delaycompress`: app.log.1 stays plain, and what was it becomes app.log.2.gz.
            for number in (1..6).rev() {
                for suffix in ["", ".gz", ".zst", ".xz", ".bz2"] {
                    let from = f.place.path(format!("app.log.{number}{suffix}"));
                    let to = f.place.path(format!("app.log.{}{suffix}", number + 1));
                    if from.exists() {
                        fs::rename(&from, &to).unwrap();
                        if suffix.is_empty() {
                            compress(&to);
                        }
                    }
                }
            }
            f.rotate("app.log.1");
            if round == 1 {
                f.lines.write(50);
                f.run();
            }
        }
        f.lines.write(200);
        f.run();
        f.assert_exactly_what_was_written();
    });
}

#[test]
fn two_files_with_the_same_first_kilobyte_are_told_apart() {
    let banner = "the same banner for every file that this program ever writes\n".repeat(40);
    let place = Place::new();
    let state = StateDir::new(place.path("state"));
    let (a, b) = (place.path("a.log"), place.path("b.log"));
    let run = |expected: &str| {
        let tail = LogTail::plain().args(["-q", "--from", "beginning"]).keeping(&state).arg(&a).arg(&b);
        let tail = tail.follow();
        tail.wait_for_stdout(expected);
        tail.terminate();
    };
    create(&a, format!("{banner}a1\n"));
    create(&b, &banner);
    run(&format!("{banner}a1\n{banner}"));
    append(&a, "a2\n");
    append(&b, "b1\nb2\n");
    // Each has another inode now: only the content says which is which.
    for log in [&a, &b] {
        let copy = place.path("copy");
        fs::copy(log, &copy).unwrap();
        fs::rename(&copy, log).unwrap();
    }
    run("a2\nb1\nb2\n");
    // Rotated, and the new one begins as the old one did, and is longer than what was read of it.
    append(&a, "a3\n");
    fs::rename(&a, place.path("a.log.1")).unwrap();
    create(&a, format!("{banner}a4, which is longer\n"));
    run(&format!("a3\n{banner}a4, which is longer\n"));
}

/// A directory on another filesystem than `place`; `None` where there is none.
fn elsewhere(place: &Place) -> Option<tempfile::TempDir> {
    let here = fs::metadata(place.dir()).expect("the file system lets it").dev();
    ["/dev/shm", "/tmp", "/var/tmp", "/ext4"].iter().find_map(|dir| {
        let other = fs::metadata(dir).ok().filter(|metadata| metadata.dev() != here);
        other.and_then(|_| tempfile::tempdir_in(dir).ok())
    })
}

fn copy_all(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp");
    assert!(status.success());
}

#[test]
fn files_moved_to_another_filesystem_are_known_by_their_content() {
    for rotated in [false, true] {
        let place = Place::new();
        let Some(other) = elsewhere(&place) else {
            eprintln!("skipping files moved to another filesystem: there is only one here");
            return;
        };
        // The followed name stays the same; the directory it is in is a link to now one, now the other.
        let (logs, first) = (place.path("logs"), place.path("first"));
        fs::create_dir(&first).unwrap();
        std::os::unix::fs::symlink(&first, &logs).unwrap();
        let (log, state) = (logs.join("app.log"), StateDir::new(place.path("state")));
        let mut lines = Lines::new(&log, "w");
        let run = |account, written| {
            let tail = LogTail::plain().counted_on(account).args(["--from", "beginning"]).keeping(&state);
            let tail = tail.arg(&log).follow();
            tail.wait_for_lines(written);
            tail.terminate().account
        };
        lines.write(1000);
        let account = run(Account::default(), 1000);
        lines.write(500);
        if rotated {
            fs::rename(&log, logs.join("app.log.1")).unwrap();
            lines.go_on_in(&log);
            lines.write(100);
        }
        copy_all(&first, other.path());
        fs::remove_file(&logs).unwrap();
        std::os::unix::fs::symlink(other.path(), &logs).unwrap();
        lines.go_on_in(&log);
        lines.write(500);
        let account = run(account, lines.written());
        account.check([("w", lines.written())]).unwrap();
    }
}

#[test]
fn a_state_directory_moved_to_another_filesystem_is_as_good() {
    let mut f = Runs::new();
    let Some(other) = elsewhere(&f.place) else {
        eprintln!("skipping a state directory moved to another filesystem: there is only one here");
        return;
    };
    f.lines.write(1000);
    f.run();
    f.lines.write(500);
    copy_all(f.state().path(), other.path());
    fs::remove_dir_all(f.state().path()).unwrap();
    std::os::unix::fs::symlink(other.path(), f.state().path()).unwrap();
    f.run();
    f.lines.write(500);
    f.run();
    f.assert_exactly_what_was_written();
}

#[test]
fn a_glob_goes_on_in_each_of_its_files_and_reads_those_that_came() {
    let place = Place::new();
    let state = StateDir::new(place.path("state"));
    let glob = place.path("*.log");
    let mut writers =
        ["same", "gone", "rotated"].map(|name| Lines::new(place.path(name).with_extension("log"), name));
    let run = |account, lines| {
        let tail = LogTail::plain().counted_on(account).args(["-q", "--from", "beginning"]).keeping(&state);
        let tail = tail.arg(&glob).follow();
        tail.wait_for_lines(lines);
        tail.terminate().account
    };
    for writer in &mut writers {
        writer.write(100);
    }
    let account = run(Account::default(), 300);
    let [same, gone, rotated] = &mut writers;
    same.write(50);
    fs::remove_file(place.path("gone.log")).unwrap();
    rotated.write(50);
    fs::rename(place.path("rotated.log"), place.path("rotated.log.1")).unwrap();
    let mut new = Lines::new(place.path("new.log"), "new");
    new.write(100);
    let account = run(account, 500);
    rotated.go_on_in(place.path("rotated.log"));
    rotated.write(50);
    same.write(50);
    let account = run(account, 600);
    account.check([("same", 200), ("gone", gone.written()), ("rotated", 200), ("new", 100)]).unwrap();
}

#[test]
fn a_glob_that_matches_the_old_name_and_the_new_one_reads_the_file_once() {
    let mut f = Runs::new();
    let glob: PathBuf = f.place.path("app.log*");
    let state = StateDir::new(f.place.path("state"));
    f.lines.write(100);
    for round in 1..=4 {
        let account = std::mem::take(&mut f.account);
        let tail = LogTail::plain().counted_on(account).args(["-q", "--from", "beginning"]).keeping(&state);
        let tail = tail.arg(&glob).follow();
        tail.wait_for_lines(f.lines.written());
        f.account = tail.terminate().account;
        f.lines.write(100);
        if round < 4 {
            f.shift();
            f.lines.write(100);
        }
    }
    f.run();
    f.assert_exactly_what_was_written();
}

#[test]
fn a_file_that_went_while_nobody_looked_is_said_to_be_gone_once_and_is_known_when_it_is_back() {
    let place = Place::new();
    let (log, away, state) = (place.path("app.log"), place.path("away"), StateDir::new(place.path("state")));
    let run = |expected: &str| {
        let tail = LogTail::plain().args(["--from", "beginning"]).keeping(&state).arg(&log).follow();
        tail.wait_for_stdout(expected);
        let said = tail.terminate().stderr;
        said.iter()
            .filter(|line| line.contains("is gone; what it had not read of it behind byte 5 is lost"))
            .count()
    };
    create(&log, "read\n");
    assert_eq!(run("read\n"), 0);
    append(&log, "unread\n");
    fs::rename(&log, &away).unwrap();
    create(&log, "new\n");
    assert_eq!(run("new\n"), 1);
    assert_eq!(run(""), 0, "it is not said in every run");
    fs::rename(&away, place.path("app.log.1")).unwrap();
    assert_eq!(run("unread\n"), 0);
}
