//! `log-tail observe` goes on seeing what it was asked for, and calls it by its name, whatever becomes of names: files
//! replaced, numbers used again, directories renamed, and links.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _, symlink},
    path::Path,
    time::{Duration, Instant},
};

use log_tail_tests::{
    PATIENCE,
    backend::is_ebpf_or_skip,
    observe::{deeds, last, missing, observe, only_events},
    prelude::*,
};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::Value;

/// What is shown of what is done while it is held still, up to the last of these.
fn shown_of(observing: Running, expected: &[&str], done: impl FnOnce()) -> Vec<Value> {
    observing.hold_still();
    done();
    observing.go_on();
    let is_last = |stdout: &[u8]| deeds(&only_events(stdout)).len() >= expected.len();
    observing.wait_until_stdout(&format!("{expected:?}"), is_last);
    let events = only_events(&observing.terminate().stdout);
    assert_eq!(deeds(&events), expected, "{events:#?}");
    events
}

#[test]
fn a_file_that_replaces_another_one_at_once_is_seen_from_then_on() {
    if !is_ebpf_or_skip("a_file_that_replaces_another_one_at_once_is_seen_from_then_on") {
        return;
    }
    let place = Place::new();
    let (log, new) = (place.path("app.log"), place.path("app.log.tmp"));
    create(&log, "");
    let observing = observe(&[], &[&log]);
    // Held still: it learns of the name that nobody wants when the file has the other one by now.
    observing.hold_still();
    create(&new, "one\n");
    fs::rename(&new, &log).unwrap();
    observing.go_on();
    observing.wait_until_stdout("the rename", |stdout| {
        deeds(&only_events(stdout)) == ["rename app.log.tmp -> app.log"]
    });
    append(&log, "two\n");
    observing.wait_until_stdout("a later write", |stdout| only_events(stdout).len() >= 2);
    let events = only_events(&observing.terminate().stdout);
    assert_eq!(deeds(&events), ["rename app.log.tmp -> app.log", "write app.log"]);
}

/// ext4 gives a file the number of the one that was removed last.
#[test]
fn files_that_get_each_others_numbers_are_seen_from_their_first_byte() {
    const THREADS: usize = 8;
    const FILES: usize = 150;
    if !is_ebpf_or_skip("files_that_get_each_others_numbers_are_seen_from_their_first_byte") {
        return;
    }
    let place = Place::new();
    let observing = observe(&[], &[place.dir()]);
    let live = |thread: usize| {
        for number in 0..FILES {
            let path = place.path(format!("f.{thread}"));
            let mut file = File::options().append(true).create_new(true).open(&path).unwrap();
            file.write_all(format!("{number}\n").as_bytes()).unwrap();
            file.set_len(1).unwrap();
            drop(file);
            fs::remove_file(&path).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || live(thread));
        }
    });
    append(place.path("last"), "x");
    let is_last = |stdout: &[u8]| deeds(&only_events(stdout)).last().is_some_and(|deed| deed == "write last");
    observing.wait_until_stdout("the last write", is_last);
    let finished = observing.terminate();
    let skipped = usize::try_from(missing(&finished.stdout)).unwrap();
    let mut counts = BTreeMap::new();
    for line in only_events(&finished.stdout) {
        let is_last = line["path"].as_str().is_some_and(|path| path.ends_with("last"));
        *counts.entry(line["op"].as_str().unwrap().to_owned()).or_default() += usize::from(!is_last);
    }
    let each = ["create", "write", "truncate", "unlink"].map(|op| (op.to_owned(), THREADS * FILES));
    let expected = BTreeMap::from(each);
    // Only where the kernel skips programs may any be missing, and then it is said how many.
    let missing =
        expected.iter().map(|(op, count)| count - counts.get(op).copied().unwrap_or(0)).sum::<usize>();
    assert!(missing <= skipped, "{counts:?}; {:#?}", finished.stderr);
    assert!(counts.iter().all(|(op, count)| *count <= expected[op]), "{counts:?}");
}

/// So many writes of more than one byte were shown, but for a few that other tests' observers came between.
fn assert_shown(observing: Running, all: usize, then: &Path) {
    append(then, "x");
    observing.wait_until_stdout("the last write", |stdout| last(stdout)["length"] == 1);
    let finished = observing.terminate();
    let shown = only_events(&finished.stdout).len() - 1;
    let skipped = usize::try_from(missing(&finished.stdout)).expect("a few");
    let unseen = all.checked_sub(shown).expect("none is shown twice");
    assert!(unseen <= skipped.min(all / 100), "{unseen} are missing; {:#?}", finished.stderr);
}

/// Writes to the file again and again, until such an event is shown.
fn append_until_shown(observing: &Running, path: &Path, is_it: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !only_events(&observing.stdout()).iter().any(&is_it) {
        assert!(Instant::now() < deadline, "'{}' is not observed", path.display());
        append(path, "line\n");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A new file can be written to before the call that makes it has returned.
#[test]
fn the_first_writes_to_a_new_file_are_shown_whoever_makes_it() {
    const THREADS: usize = 3;
    const WRITES: usize = 100;
    const FILES: usize = 10;
    if !is_ebpf_or_skip("the_first_writes_to_a_new_file_are_shown_whoever_makes_it") {
        return;
    }
    let place = Place::quiet();
    let observing = observe(&["--op", "write"], &[place.dir()]);
    for number in 0..FILES {
        let path = place.path(number.to_string());
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
                    for _ in 0..WRITES {
                        file.write_all(b"line\n").unwrap();
                    }
                });
            }
        });
    }
    assert_shown(observing, THREADS * WRITES * FILES, &place.path("last"));
}

/// Where the kernel skips the program that notes where a call begins, it is known from the one before it all the same.
#[test]
fn writes_to_one_place_are_each_shown() {
    const THREADS: usize = 12;
    const WRITES: usize = 400;
    if !is_ebpf_or_skip("writes_to_one_place_are_each_shown") {
        return;
    }
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let observing = observe(&["--op", "write"], &[&log]);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let file = File::options().write(true).open(&log).unwrap();
                for _ in 0..WRITES {
                    file.write_all_at(b"0123456789", 0).unwrap();
                }
            });
        }
    });
    assert_shown(observing, THREADS * WRITES, &log);
}

#[test]
fn what_was_done_in_a_directory_that_is_gone_by_now_is_shown() {
    if !is_ebpf_or_skip("what_was_done_in_a_directory_that_is_gone_by_now_is_shown") {
        return;
    }
    let place = Place::new();
    let observing = observe(&[], &[&place.path("*/x.log")]);
    let expected =
        ["mkdir b", "create x.log", "write x.log", "rename b -> c", "write x.log", "unlink x.log", "rmdir c"];
    let events = shown_of(observing, &expected, || {
        fs::create_dir(place.path("b")).unwrap();
        append(place.path("b/x.log"), "one\n");
        fs::rename(place.path("b"), place.path("c")).unwrap();
        append(place.path("c/x.log"), "two\n");
        fs::remove_file(place.path("c/x.log")).unwrap();
        fs::remove_dir(place.path("c")).unwrap();
    });
    let path = |index: usize| Path::new(events[index]["path"].as_str().unwrap()).to_owned();
    assert_eq!((path(2), path(4)), (place.path("b/x.log"), place.path("c/x.log")));
}

#[test]
fn a_directory_that_leaves_takes_its_files_out_of_sight() {
    if !is_ebpf_or_skip("a_directory_that_leaves_takes_its_files_out_of_sight") {
        return;
    }
    let (place, elsewhere) = (Place::new(), Place::new());
    fs::create_dir(place.path("b")).unwrap();
    create(place.path("b/x.log"), "");
    let observing = observe(&[], &[&place.path("*/x.log")]);
    fs::rename(place.path("b"), elsewhere.path("b")).unwrap();
    create(elsewhere.path("b/y.log"), "not wanted\n");
    fs::rename(elsewhere.path("b"), place.path("b")).unwrap();
    append(place.path("b/x.log"), "back\n");
    observing.wait_until_stdout("the write", |stdout| {
        only_events(stdout).iter().any(|event| event["op"] == "write")
    });
    let events = only_events(&observing.terminate().stdout);
    let paths: Vec<_> = events.iter().filter_map(|event| event["path"].as_str()).collect();
    assert!(paths.iter().all(|path| path.starts_with(place.dir().to_str().unwrap())), "{paths:?}");
    assert!(!paths.iter().any(|path| path.ends_with("y.log")), "{paths:?}");
}

/// What is brought in has yet to be found when the directory has the next name.
#[test]
fn a_directory_that_is_renamed_again_at_once_is_observed() {
    if !is_ebpf_or_skip("a_directory_that_is_renamed_again_at_once_is_observed") {
        return;
    }
    let (place, elsewhere) = (Place::new(), Place::new());
    fs::create_dir(elsewhere.path("b")).unwrap();
    create(elsewhere.path("b/x.log"), "");
    let observing = observe(&["--op", "write"], &[&place.path("*/x.log")]);
    observing.hold_still();
    fs::rename(elsewhere.path("b"), place.path("b")).unwrap();
    fs::rename(place.path("b"), place.path("c")).unwrap();
    observing.go_on();
    append_until_shown(&observing, &place.path("c/x.log"), |event| {
        event["path"] == place.path("c/x.log").to_str().unwrap()
    });
    observing.terminate();
}

#[test]
fn directories_that_lead_to_each_other_are_observed_once_each_way() {
    if !is_ebpf_or_skip("directories_that_lead_to_each_other_are_observed_once_each_way") {
        return;
    }
    let place = Place::new();
    for (directory, other) in [("a", "b"), ("b", "a")] {
        fs::create_dir(place.path(directory)).unwrap();
        for link in ["1", "2"] {
            symlink(place.path(other), place.path(directory).join(link)).unwrap();
        }
        create(place.path(directory).join("x.log"), "");
    }
    let observing = observe(&["--op", "write"], &[&place.path("**/x.log")]);
    append_until_shown(&observing, &place.path("a/x.log"), |event| event["op"] == "write");
    observing.terminate();
}

#[test]
fn a_link_to_a_directory_that_comes_later_leads_there() {
    if !is_ebpf_or_skip("a_link_to_a_directory_that_comes_later_leads_there") {
        return;
    }
    let (place, there) = (Place::new(), Place::new());
    create(there.path("x.log"), "");
    let observing = observe(&[], &[&place.path("*/x.log")]);
    symlink(there.dir(), place.path("link")).unwrap();
    observing.wait_until_stdout("the link", |stdout| deeds(&only_events(stdout)) == ["symlink link"]);
    append_until_shown(&observing, &there.path("x.log"), |event| {
        event["path"] == place.path("link/x.log").to_str().unwrap()
    });
    observing.terminate();
}

/// Of what becomes of a directory above, nothing else tells.
#[test]
fn a_named_directory_that_is_elsewhere_by_now_is_said() {
    if !is_ebpf_or_skip("a_named_directory_that_is_elsewhere_by_now_is_said") {
        return;
    }
    let place = Place::new();
    fs::create_dir_all(place.path("above/logs")).unwrap();
    let observing = observe(&[], &[&place.path("above/logs")]);
    fs::rename(place.path("above"), place.path("elsewhere")).unwrap();
    let is_said = |line: &String| line.contains("above/logs' was moved, removed or mounted over");
    observing.wait_for_stderr("that it is gone", |lines| lines.iter().any(is_said));
    observing.terminate();
}

#[test]
fn one_directory_under_two_names_shows_what_is_wanted_of_each() {
    let place = Place::new();
    symlink(place.dir(), place.path("link")).unwrap();
    let observing = observe(&[], &[&place.path("a.log"), &place.path("link/b.log")]);
    create(place.path("a.log"), "");
    create(place.path("b.log"), "");
    create(place.path("c.log"), "");
    create(place.path("a.log"), "");
    let wanted = |stdout: &[u8]| {
        let paths: Vec<_> = only_events(stdout)
            .iter()
            .filter(|event| event["op"] == "create")
            .map(|event| event["path"].clone())
            .collect();
        paths == ["a.log", "link/b.log"].map(|name| Value::from(place.path(name).to_str().unwrap()))
    };
    observing.wait_until_stdout("both", wanted);
    observing.terminate();
}

#[test]
fn a_link_stands_for_what_it_leads_to() {
    if !is_ebpf_or_skip("a_link_stands_for_what_it_leads_to") {
        return;
    }
    let (place, there) = (Place::new(), Place::new());
    for name in ["1.log", "2.log"] {
        create(there.path(name), "");
    }
    symlink(there.path("1.log"), place.path("a.log")).unwrap();
    let observing = observe(&["--op", "write"], &[&place.path("*.log")]);
    append(there.path("1.log"), "one\n");
    symlink(there.path("2.log"), place.path("new")).unwrap();
    fs::rename(place.path("new"), place.path("a.log")).unwrap();
    // The link is looked up when its new name is told.
    observing.wait_until_stdout("the first write", |stdout| !only_events(stdout).is_empty());
    let is_of_second = |event: &Value| event["inode"] == inode_of(&there.path("2.log"));
    append_until_shown(&observing, &there.path("2.log"), is_of_second);
    let events = only_events(&observing.terminate().stdout);
    assert_eq!(
        (&events[0]["inode"], &events[0]["path"]),
        (&inode_of(&there.path("1.log")).into(), &place.path("a.log").to_str().unwrap().into())
    );
}

fn inode_of(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("there"))
}

#[test]
fn a_file_is_called_by_a_name_that_it_still_has() {
    if !is_ebpf_or_skip("a_file_is_called_by_a_name_that_it_still_has") {
        return;
    }
    let place = Place::new();
    create(place.path("a"), "");
    let observing = observe(&[], &[place.dir()]);
    let expected = ["link b", "unlink b", "write a"];
    shown_of(observing, &expected, || {
        fs::hard_link(place.path("a"), place.path("b")).unwrap();
        fs::remove_file(place.path("b")).unwrap();
        append(place.path("a"), "x\n");
    });
}

#[test]
fn what_trades_places_is_told_apart() {
    if !is_ebpf_or_skip("what_trades_places_is_told_apart") {
        return;
    }
    let (place, elsewhere) = (Place::new(), Place::new());
    let [dir, file, other] = ["dir", "file", "other"].map(|name| place.path(name));
    fs::create_dir(&dir).unwrap();
    create(&file, "");
    create(&other, "");
    let observing = observe(&[], &[place.dir()]);
    let exchange = |a: &Path, b: &Path| {
        renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).unwrap();
    };
    let expected = [
        "rename dir -> file",
        "rename file -> dir",
        "rmdir file",
        "rename dir -> other",
        "rename other -> dir",
        "write dir",
        "write other",
        "mkdir sub",
        "rename sub -> ?",
        "create sub",
        "unlink sub",
    ];
    shown_of(observing, &expected, || {
        exchange(&dir, &file);
        fs::remove_dir(&file).unwrap();
        exchange(&dir, &other);
        append(&dir, "was other\n");
        append(&other, "was file\n");
        let sub = place.path("sub");
        fs::create_dir(&sub).unwrap();
        fs::rename(&sub, elsewhere.path("sub")).unwrap();
        create(&sub, "");
        fs::remove_file(&sub).unwrap();
    });
}

#[test]
fn what_is_below_directories_that_trade_places_is_told_apart() {
    if !is_ebpf_or_skip("what_is_below_directories_that_trade_places_is_told_apart") {
        return;
    }
    let (place, elsewhere) = (Place::new(), Place::new());
    let [one, two, away] = [place.path("1"), place.path("2"), elsewhere.path("3")];
    for (directory, file) in [(&one, "a.log"), (&two, "b.log"), (&away, "c.log")] {
        fs::create_dir(directory).unwrap();
        create(directory.join(file), "");
    }
    let observing = observe(&["--op", "write,rename"], &[&place.path("*/*.log")]);
    let exchange = |a: &Path, b: &Path| {
        renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).unwrap();
    };
    let written = |running: &Running, path: &Path| {
        append(path, "line\n");
        let is_it = |event: &Value| event["path"].as_str() == path.to_str();
        running.wait_until_stdout(&format!("{}", path.display()), |stdout| is_it(&last(stdout)));
    };
    exchange(&one, &two);
    written(&observing, &two.join("a.log"));
    written(&observing, &one.join("b.log"));
    exchange(&away, &two);
    written(&observing, &one.join("b.log"));
    // What it brought along is taken up when its new name is told.
    append_until_shown(&observing, &two.join("c.log"), |event| {
        event["path"].as_str() == two.join("c.log").to_str()
    });
    append(away.join("a.log"), "line\n");
    written(&observing, &one.join("b.log"));
    let events = only_events(&observing.terminate().stdout);
    let gone = events.iter().filter(|event| deeds(std::slice::from_ref(event)) == ["write a.log"]);
    assert_eq!(gone.count(), 1, "{events:#?}");
}

#[test]
fn a_file_with_another_name_where_nobody_observes_goes_on_being_seen() {
    if !is_ebpf_or_skip("a_file_with_another_name_where_nobody_observes_goes_on_being_seen") {
        return;
    }
    let place = Place::new();
    let (log, other) = (place.path("app.log"), place.path("other"));
    create(&log, "");
    let observing = observe(&[], &[place.dir()]);
    // Held still: the kernel program takes what is made in the directory for observed until it is told otherwise.
    observing.hold_still();
    fs::create_dir(&other).unwrap();
    fs::hard_link(&log, other.join("linked")).unwrap();
    observing.go_on();
    observing.wait_until_stdout("the directory", |stdout| deeds(&only_events(stdout)) == ["mkdir other"]);
    append(&log, "line\n");
    observing.wait_until_stdout("the write", |stdout| last(stdout)["op"] == "write");
    observing.terminate();
}

#[test]
fn a_file_without_a_name_is_not_shown() {
    if !is_ebpf_or_skip("a_file_without_a_name_is_not_shown") {
        return;
    }
    let place = Place::new();
    shown_of(observe(&[], &[place.dir()]), &["create named"], || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).custom_flags(libc::O_TMPFILE).open(place.dir()).unwrap();
        file.write_all(b"nobody sees it\n").unwrap();
        create(place.path("named"), "");
    });
}
