//! Globs go on matching, and many files are followed as one is. No sweep helps: what is found was hinted at.

use std::fs;

use log_tail_tests::prelude::*;

#[test]
fn a_glob_finds_files_that_appear_later() {
    let place = Place::new();
    let mut lines = Lines::new(place.path("x-0.log"), "w");
    let tail = LogTail::without_sweep().counted().arg("-q").arg(place.path("x-*.log")).follow();
    assert_eq!(tail.following().files, 1);
    for number in 1..=50 {
        lines.write(10);
        // One file after the other: between two files nothing says which comes first.
        tail.wait_for_lines(number * 10);
        append(place.path(format!("y-{number}.log")), "does not match\n");
        lines.go_on_in(place.path(format!("x-{number}.log")));
    }
    lines.write(10);
    tail.wait_for_lines(510);
    tail.terminate().assert_exactly([("w", 510)]);
}

#[test]
fn a_glob_finds_files_in_directories_that_appear_later() {
    let place = Place::new();
    let names: Vec<String> = (0..20).map(|number| format!("w{number}")).collect();
    let tail = LogTail::without_sweep().counted().arg("-q").arg(place.path("dir/*/x-*.log")).follow();
    assert_eq!(tail.following().files, 0);
    for name in &names {
        let dir = place.path(format!("dir/{name}"));
        fs::create_dir_all(&dir).unwrap();
        Lines::new(dir.join("x-1.log"), name).write(10);
        append(dir.join("y-1.log"), "does not match\n");
    }
    tail.wait_for_lines(200);
    tail.terminate().assert_exactly(names.iter().map(|name| (name.as_str(), 10)));
}

#[test]
fn a_file_renamed_to_match_is_found() {
    let place = Place::new();
    let tail = LogTail::without_sweep().arg(place.path("*.log")).follow();
    create(place.path("a.tmp"), "before\n");
    fs::rename(place.path("a.tmp"), place.path("a.log")).unwrap();
    let header = format!("==> {} <==\n", place.path("a.log").display());
    tail.wait_for_stdout(format!("{header}before\n"));
    append(place.path("a.log"), "after\n");
    tail.wait_for_stdout(format!("{header}before\nafter\n"));
    tail.terminate();
}

#[test]
fn a_rotation_inside_a_glob_loses_and_repeats_nothing() {
    let place = Place::new();
    let mut lines = Lines::new(place.path("app.log"), "w");
    // The rotated names match too.
    let tail = LogTail::without_sweep().counted().arg("-q").arg(place.path("app.log*")).follow();
    for rotation in 0..10 {
        lines.write(1000);
        tail.wait_for_lines(1000 * (rotation + 1));
        for older in (1..=rotation).rev() {
            fs::rename(place.path(format!("app.log.{older}")), place.path(format!("app.log.{}", older + 1)))
                .unwrap();
        }
        fs::rename(place.path("app.log"), place.path("app.log.1")).unwrap();
        lines.go_on_in(place.path("app.log"));
    }
    lines.write(1000);
    tail.wait_for_lines(11_000);
    tail.terminate().assert_exactly([("w", 11_000)]);
}

fn a_thousand_files(tail: LogTail) {
    const FILES: usize = 1000;
    const ROUNDS: u64 = 5;
    let place = Place::new();
    let names: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    let path = |name: &String| place.path(format!("{name}.log"));
    for name in &names {
        create(path(name), "");
    }
    let tail = tail.counted().arg("-q").arg(place.path("*.log")).follow();
    assert_eq!(tail.following().files, FILES as u64);
    let (left, right) = names.split_at(FILES / 2);
    std::thread::scope(|scope| {
        for names in [left, right] {
            scope.spawn(move || {
                // Opened anew for each write: this side has a limit of open files too.
                let mut writers: Vec<Lines> = Vec::new();
                for chunk in names.chunks(100) {
                    writers.clear();
                    writers.extend(chunk.iter().map(|name| Lines::new(path(name), name)));
                    for _ in 0..ROUNDS {
                        for writer in &mut writers {
                            writer.write(2);
                        }
                    }
                }
            });
        }
    });
    tail.wait_for_lines(FILES as u64 * ROUNDS * 2);
    tail.finish().assert_exactly(names.iter().map(|name| (name.as_str(), ROUNDS * 2)));
}

#[test]
fn a_thousand_files_are_followed() {
    a_thousand_files(LogTail::new());
}

#[test]
fn a_thousand_files_are_followed_with_a_limit_of_256_open_files() {
    a_thousand_files(LogTail::new().with_open_files(256));
}
