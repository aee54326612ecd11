//! What a path means changes when a directory or a link on the way to it does. No sweep helps: what is found
//! was hinted at.

use std::{fs, os::unix::fs::symlink, path::Path};

use log_tail_tests::prelude::*;

/// Points a link elsewhere at once, as deployments do.
fn point(link: &Path, target: &Path) {
    let beside = link.with_extension("new");
    symlink(target, &beside).expect("linked");
    fs::rename(&beside, link).expect("renamed");
}

#[test]
fn a_directory_link_pointed_elsewhere_is_followed() {
    let place = Place::new();
    for version in ["v1", "v2", "v3"] {
        fs::create_dir_all(place.path(version).join("logs")).unwrap();
        append(place.path(version).join("logs/app.log"), format!("{version}\n"));
    }
    point(&place.path("current"), &place.path("v1"));
    let tail = LogTail::without_sweep().args(["-n", "+1"]).arg(place.path("current/logs/app.log")).follow();
    tail.wait_for_stdout("v1\n");
    point(&place.path("current"), &place.path("v2"));
    tail.wait_for_stdout("v1\nv2\n");
    append(place.path("v2/logs/app.log"), "more\n");
    tail.wait_for_stdout("v1\nv2\nmore\n");
    point(&place.path("current"), &place.path("v3"));
    tail.wait_for_stdout("v1\nv2\nmore\nv3\n");
    tail.terminate();
}

#[test]
fn a_glob_below_a_directory_link_pointed_elsewhere_is_matched_again() {
    let place = Place::new();
    for version in ["v1", "v2"] {
        fs::create_dir(place.path(version)).unwrap();
        append(place.path(version).join("app.log"), format!("{version}\n"));
    }
    point(&place.path("current"), &place.path("v1"));
    let tail = LogTail::without_sweep().args(["-q", "-n", "+1"]).arg(place.path("current/*.log")).follow();
    tail.wait_for_stdout("v1\n");
    point(&place.path("current"), &place.path("v2"));
    tail.wait_for_stdout("v1\nv2\n");
    tail.terminate();
}

#[test]
fn a_directory_far_above_that_is_renamed_and_made_again_is_followed() {
    let place = Place::new();
    let log = place.path("a/b/c/app.log");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    append(&log, "one\n");
    let tail = LogTail::without_sweep().args(["-n", "+1"]).arg(&log).follow();
    tail.wait_for_stdout("one\n");
    fs::rename(place.path("a"), place.path("z")).unwrap();
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    append(&log, "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    tail.terminate();
}

#[test]
fn the_middle_of_a_chain_of_links_pointed_elsewhere_is_followed() {
    let place = Place::new();
    append(place.path("real-1"), "one\n");
    append(place.path("real-2"), "two\n");
    point(&place.path("middle"), &place.path("real-1"));
    point(&place.path("app.log"), &place.path("middle"));
    let tail = LogTail::without_sweep().args(["-n", "+1"]).arg(place.path("app.log")).follow();
    tail.wait_for_stdout("one\n");
    point(&place.path("middle"), &place.path("real-2"));
    tail.wait_for_stdout("one\ntwo\n");
    append(place.path("real-2"), "three\n");
    tail.wait_for_stdout("one\ntwo\nthree\n");
    tail.terminate();
}

/// The file that is still open keeps the removed directory's inode alive, so that nothing tells of its end.
#[test]
fn a_directory_removed_with_its_file_still_open_and_made_again_is_followed_at_once() {
    let place = Place::new();
    let log = place.path("dir/app.log");
    fs::create_dir(place.path("dir")).unwrap();
    let mut held = Lines::new(&log, "held");
    // Longer than the test waits for anything.
    let tail = LogTail::without_sweep().args(["--rotate-wait", "10m"]).counted().arg(&log).follow();
    held.write(10);
    tail.wait_for_lines(10);
    fs::remove_dir_all(place.path("dir")).unwrap();
    fs::create_dir(place.path("dir")).unwrap();
    let mut new = Lines::new(&log, "new");
    new.write(10);
    // Drained first: nobody writes to the old one any more.
    drop(held);
    tail.wait_for_lines(20);
    tail.terminate().assert_exactly([("held", 10), ("new", 10)]);
}
