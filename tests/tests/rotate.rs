//! A name is followed over everything that is done to it: rotated, truncated, removed, replaced, linked.

use std::{
    fs,
    fs::{File, OpenOptions},
    os::unix::fs::symlink,
};

use log_tail_tests::{backend::is_ebpf_or_skip, prelude::*, run::records};

#[test]
fn a_file_renamed_and_made_again_every_ten_thousand_lines_is_followed() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    for rotation in 0..10 {
        lines.write(1);
        tail.wait_for_lines(10_000 * rotation + 1);
        lines.write(9_999);
        fs::rename(&log, place.path(format!("app.log.{rotation}"))).unwrap();
        lines.go_on_in(&log);
    }
    lines.write(10_000);
    tail.wait_for_lines(110_000);
    tail.finish().assert_exactly([("w", 110_000)]);
}

/// Files may come and go before anyone has looked at them; under their later names they still are there.
#[test]
fn files_renamed_faster_than_anyone_looks_are_followed() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    for rotation in 0..10 {
        lines.write(10_000);
        fs::rename(&log, place.path(format!("app.log.{rotation}"))).unwrap();
        lines.go_on_in(&log);
    }
    lines.write(10_000);
    tail.wait_for_lines(110_000);
    tail.finish().assert_exactly([("w", 110_000)]);
}

#[test]
fn a_writer_that_goes_on_in_the_renamed_file_is_heard_out() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut old = Lines::new(&log, "w");
    let tail = LogTail::new().counted().args(["--rotate-wait", "60s"]).arg(&log).follow();
    old.write(5_000);
    fs::rename(&log, place.path("app.log.1")).unwrap();
    // Numbered as they are to come out: those of the old file first.
    let mut new = Lines::starting_at(&log, "w", 10_000);
    for _ in 0..50 {
        old.write(100);
        new.write(100);
    }
    drop(old);
    tail.wait_for_lines(15_000);
    tail.finish().assert_exactly([("w", 15_000)]);
}

#[test]
fn a_rotated_file_is_let_go_the_moment_its_last_writer_closes_it() {
    if !is_ebpf_or_skip("a_rotated_file_is_let_go_the_moment_its_last_writer_closes_it") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    let [mut one, mut other] = ["one", "other"].map(|writer| Lines::new(&log, writer));
    // Nothing else lets it go, and nobody asks again.
    let tail = LogTail::without_sweep().counted().args(["--rotate-wait", "1h"]).arg(&log).follow();
    one.write(1);
    other.write(1);
    tail.wait_for_lines(2);
    fs::rename(&log, place.path("app.log.1")).unwrap();
    let mut new = Lines::new(&log, "new");
    new.write(1);
    drop(one);
    other.write(1);
    tail.wait_for_lines(3);
    drop(other);
    tail.wait_for_lines(4);
    let is_let_go = |scrape: &Scrape| scrape.get("log_tail_files") == 1;
    let scrape = tail.wait_for_metrics("the old file to be let go", is_let_go);
    assert_eq!(scrape.get("log_tail_hints_total{kind=\"close\"}"), 1);
    tail.terminate().assert_exactly([("one", 1), ("other", 2), ("new", 1)]);
}

#[test]
fn a_truncated_file_is_read_from_its_beginning() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = LogTail::new().arg(&log).follow();
    let mut expected = String::new();
    for round in 0..10 {
        let lengthy = format!("a lengthy line before truncation {round}\n").repeat(10);
        append(&log, &lengthy);
        expected += &lengthy;
        tail.wait_for_stdout(&expected);
        if round % 2 == 0 {
            // As `> app.log` does.
            File::create(&log).unwrap();
        } else {
            // As copytruncate does, under a writer that holds it open.
            OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
        }
        let after = format!("after {round}\n");
        append(&log, &after);
        expected += &after;
        tail.wait_for_stdout(&expected);
    }
    tail.finish();
}

#[test]
fn a_writer_that_holds_a_truncated_file_open_is_followed() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    let mut written = 0;
    // Each time less than before, so that the file is seen to be shorter whenever it is looked at.
    for count in [1000, 500, 200, 50, 20] {
        lines.write(count);
        written += count;
        tail.wait_for_lines(written);
        lines.file().set_len(0).unwrap();
    }
    lines.write(1);
    tail.wait_for_lines(written + 1);
    tail.finish().assert_exactly([("w", written + 1)]);
}

#[test]
fn the_kernel_program_sees_a_truncation_although_the_file_grew_past_it() {
    if !is_ebpf_or_skip("truncation with regrowth") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = LogTail::new().arg(&log).follow();
    let mut expected = String::new();
    for round in 0..20_usize {
        let lines = format!("{round} is longer and longer\n").repeat(10 * (round + 1));
        // Truncated and longer than before by the time anyone looks.
        create(&log, &lines);
        expected += &lines;
        tail.wait_for_stdout(&expected);
    }
    tail.finish();
}

#[test]
fn a_file_unlinked_and_made_again_is_followed() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    for round in 0..20 {
        lines.write(1);
        // Nobody could read a file that was gone before anyone had opened it.
        tail.wait_for_lines(500 * round + 1);
        lines.write(499);
        fs::remove_file(&log).unwrap();
        lines.go_on_in(&log);
    }
    lines.write(500);
    tail.wait_for_lines(21 * 500);
    tail.finish().assert_exactly([("w", 21 * 500)]);
}

#[test]
fn what_is_written_to_an_unlinked_file_still_comes_out() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().args(["--rotate-wait", "60s"]).arg(&log).follow();
    lines.write(100);
    fs::remove_file(&log).unwrap();
    lines.write(100);
    tail.wait_for_lines(200);
    tail.finish().assert_exactly([("w", 200)]);
}

#[test]
fn a_file_renamed_over_the_followed_one_is_followed() {
    let place = Place::new();
    let (log, new) = (place.path("app.log"), place.path("app.log.new"));
    create(&log, "0\n");
    let tail = LogTail::new().arg(&log).follow();
    let mut expected = String::from("0\n");
    tail.wait_for_stdout(&expected);
    for round in 1..=20 {
        create(&new, format!("{round}\n"));
        fs::rename(&new, &log).unwrap();
        append(&log, format!("and {round}\n"));
        expected.extend([format!("{round}\nand {round}\n")]);
        tail.wait_for_stdout(&expected);
    }
    tail.finish();
}

#[test]
fn a_file_renamed_away_and_back_is_not_read_twice() {
    let place = Place::new();
    let (log, away) = (place.path("app.log"), place.path("away"));
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    for round in 1..=20 {
        lines.write(100);
        fs::rename(&log, &away).unwrap();
        lines.write(100);
        if round % 2 == 0 {
            tail.wait_for_lines(round * 200);
        }
        fs::rename(&away, &log).unwrap();
    }
    tail.wait_for_lines(4000);
    tail.finish().assert_exactly([("w", 4000)]);
}

#[test]
fn a_hard_link_under_two_followed_names_comes_out_once() {
    let place = Place::new();
    let (first, second) = (place.path("first.log"), place.path("second.log"));
    let mut lines = Lines::new(&first, "w");
    fs::hard_link(&first, &second).unwrap();
    let tail = LogTail::new().counted().arg("-q").arg(&first).arg(&second).follow();
    lines.write(1000);
    lines.go_on_in(&second);
    lines.write(1000);
    tail.wait_for_lines(2000);
    // One of its names goes, and it is still followed under the other.
    fs::remove_file(&first).unwrap();
    lines.write(1000);
    tail.wait_for_lines(3000);
    tail.finish().assert_exactly([("w", 3000)]);
}

#[test]
fn a_symbolic_link_is_followed_to_whatever_it_points_at() {
    let place = Place::new();
    fs::create_dir(place.path("elsewhere")).unwrap();
    let (one, two) = (place.path("elsewhere/one.log"), place.path("elsewhere/two.log"));
    let (link, new) = (place.path("current.log"), place.path("current.log.new"));
    let mut lines = Lines::new(&one, "w");
    symlink(&one, &link).unwrap();
    let tail = LogTail::new().counted().arg(&link).follow();
    lines.write(1000);
    tail.wait_for_lines(1000);
    lines.go_on_in(&two);
    symlink(&two, &new).unwrap();
    fs::rename(&new, &link).unwrap();
    lines.write(1000);
    tail.wait_for_lines(2000);
    lines.write(1000);
    tail.wait_for_lines(3000);
    tail.finish().assert_exactly([("w", 3000)]);
}

#[test]
fn the_target_of_a_symbolic_link_may_appear_later() {
    let place = Place::new();
    fs::create_dir(place.path("elsewhere")).unwrap();
    let (target, link) = (place.path("elsewhere/app.log"), place.path("current.log"));
    symlink(&target, &link).unwrap();
    let tail = LogTail::without_sweep().arg(&link).follow();
    assert_eq!(tail.following().files, 0);
    append(&target, "one\n");
    tail.wait_for_stdout("one\n");
    append(&target, "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    // Gone for a while, and back.
    fs::rename(&target, place.path("elsewhere/app.log.1")).unwrap();
    tail.wait_for_stderr("that it is gone", |lines| {
        lines.iter().filter(|line| line.contains("no such file")).count() > 1
    });
    append(&target, "three\n");
    tail.wait_for_stdout("one\ntwo\nthree\n");
    tail.terminate();
}

#[test]
fn the_target_of_a_symbolic_link_may_be_rotated() {
    let place = Place::new();
    fs::create_dir(place.path("elsewhere")).unwrap();
    let (target, link) = (place.path("elsewhere/app.log"), place.path("current.log"));
    let mut lines = Lines::new(&target, "w");
    symlink(&target, &link).unwrap();
    let tail = LogTail::new().counted().arg(&link).follow();
    for rotation in 0..5 {
        lines.write(1);
        tail.wait_for_lines(1000 * rotation + 1);
        lines.write(999);
        fs::rename(&target, place.path(format!("elsewhere/app.log.{rotation}"))).unwrap();
        lines.go_on_in(&target);
    }
    lines.write(1000);
    tail.wait_for_lines(6000);
    tail.finish().assert_exactly([("w", 6000)]);
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let place = Place::new();
    let log = place.path("later.log");
    let tail = LogTail::without_sweep().arg(&log).follow();
    assert_eq!(tail.following().files, 0);
    append(&log, "here\n");
    tail.wait_for_stdout("here\n");
    append(&log, "and more\n");
    tail.wait_for_stdout("here\nand more\n");
    let finished = tail.terminate();
    finished.assert_says(&["later.log", "no such file", "waiting"]).assert_says(&["later.log", "appeared"]);
}

#[test]
fn a_file_in_a_directory_that_is_not_there_yet_is_waited_for() {
    let place = Place::new();
    let log = place.path("one/two/three/app.log");
    let tail = LogTail::without_sweep().arg(&log).follow();
    fs::create_dir(place.path("one")).unwrap();
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    append(&log, "here\n");
    tail.wait_for_stdout("here\n");
    append(&log, "and more\n");
    tail.wait_for_stdout("here\nand more\n");
    tail.terminate();
}

#[test]
fn a_directory_removed_and_made_again_is_followed() {
    let place = Place::new();
    let (dir, log) = (place.path("dir"), place.path("dir/app.log"));
    fs::create_dir(&dir).unwrap();
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::without_sweep().counted().arg(&log).follow();
    for round in 1..=5 {
        lines.write(100);
        tail.wait_for_lines(round * 100);
        fs::remove_file(&log).unwrap();
        fs::remove_dir(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        lines.go_on_in(&log);
    }
    lines.write(100);
    tail.wait_for_lines(600);
    tail.terminate().assert_exactly([("w", 600)]);
}

/// Files that come to several names at once, some of them by way of a directory that was made again, go under the names
/// that they came to.
#[test]
fn files_in_different_directories_do_not_take_each_others_names() {
    for _ in 0..5 {
        let place = Place::new();
        let dirs: Vec<_> = (0..6).map(|number| place.path(format!("{number}"))).collect();
        for dir in &dirs {
            fs::create_dir(dir).unwrap();
            create(dir.join("app.log"), "old\n");
        }
        let logs = dirs.iter().map(|dir| dir.join("app.log"));
        let tail = LogTail::without_sweep().args(["--format", "json", "-n", "0"]).args(logs).follow();
        let mut expected = Vec::new();
        for (number, dir) in dirs.iter().enumerate() {
            let log = dir.join("app.log");
            match number % 3 {
                0 => fs::rename(&log, dir.join("app.log.1")).unwrap(),
                1 => fs::remove_file(&log).unwrap(),
                _ => {
                    fs::remove_dir_all(dir).unwrap();
                    fs::create_dir(dir).unwrap();
                }
            }
            create(&log, format!("{number}\n"));
            expected.push((log.to_str().unwrap().to_owned(), number.to_string()));
        }
        let told = |stdout: &[u8]| {
            let pair = |record: &serde_json::Value| {
                Some((record["path"].as_str()?.to_owned(), record["line"].as_str()?.to_owned()))
            };
            let mut told: Vec<_> = records(stdout).iter().filter_map(pair).collect();
            told.sort();
            told
        };
        tail.wait_until_stdout("a line of each", |stdout| told(stdout).len() >= expected.len());
        assert_eq!(told(&tail.terminate().stdout), expected);
    }
}

#[test]
fn a_directory_renamed_away_and_replaced_is_followed() {
    let place = Place::new();
    let (dir, log) = (place.path("dir"), place.path("dir/app.log"));
    fs::create_dir(&dir).unwrap();
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::without_sweep().counted().arg(&log).follow();
    for round in 1..=5 {
        lines.write(100);
        tail.wait_for_lines(round * 200 - 100);
        fs::rename(&dir, place.path(format!("dir.{round}"))).unwrap();
        fs::create_dir(&dir).unwrap();
        lines.go_on_in(&log);
        lines.write(100);
        tail.wait_for_lines(round * 200);
    }
    tail.terminate().assert_exactly([("w", 1000)]);
}
