//! Bad input: each gets a clear message and the right exit status, and nothing hangs.

use std::{fs, net::TcpListener, path::PathBuf};

use log_tail_tests::prelude::*;
use nix::{sys::stat::Mode, unistd::mkfifo};

#[test]
fn what_is_no_file_is_refused_with_what_it_is() {
    let place = Place::new();
    let fifo = place.path("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let socket = place.path("socket");
    let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, what) in [
        (place.dir().to_owned(), "directory"),
        (fifo, "FIFO"),
        (socket, "socket"),
        (PathBuf::from("/dev/null"), "device"),
    ] {
        for follow in [&[][..], &["--no-follow"]] {
            let finished = LogTail::quick().args(follow).arg(&path).run();
            finished.assert_exit(1).assert_says(&[path.to_str().unwrap(), what]);
            assert!(finished.stdout.is_empty());
        }
    }
}

#[test]
fn what_is_no_file_does_not_keep_the_others_from_being_followed() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "one\n");
    let tail = LogTail::new().arg("-q").arg(place.dir()).arg("/dev/null").arg(&log).follow();
    assert_eq!(tail.following().files, 1);
    tail.wait_for_stdout("one\n");
    tail.finish().assert_says(&["/dev/null", "device"]);
}

#[test]
fn a_missing_parent_is_waited_for_and_said() {
    let place = Place::new();
    let tail = LogTail::quick().arg(place.path("no/such/dir/app.log")).follow();
    assert_eq!(tail.following().files, 0);
    tail.terminate().assert_says(&["no/such/dir/app.log", "no such file", "waiting"]);
}

#[test]
fn a_parent_that_is_a_file_is_said() {
    let place = Place::new();
    create(place.path("file"), "");
    let finished = LogTail::quick().arg("--no-follow").arg(place.path("file/app.log")).run();
    finished.assert_exit(1).assert_says(&["file/app.log"]);
}

#[test]
fn usage_errors_say_what_to_type_and_exit_with_2() {
    for (args, words) in [
        (&[][..], &["no file to follow"][..]),
        (&[""], &["empty name"]),
        (&["app.log", ""], &["empty name"]),
        (&["-"], &["standard input"]),
        (&["--no-such-option", "app.log"], &["--no-such-option"]),
        (&["-n", "ten", "app.log"], &["not a number"]),
        (&["--backend", "kqueue", "app.log"], &["kqueue"]),
        (&["--format", "xml", "app.log"], &["xml"]),
        (&["--metrics", "nowhere", "app.log"], &["nowhere", "address"]),
        (&["--max-line-bytes", "1", "app.log"], &["16"]),
        (&["-F", "--no-follow", "app.log"], &["cannot be used with"]),
    ] {
        let finished = LogTail::bare().args(args).run();
        finished.assert_exit(2).assert_says(words);
        assert!(finished.stdout.is_empty(), "{args:?}: {}", finished.text());
    }
}

#[test]
fn an_unclosed_bracket_is_an_error() {
    let place = Place::new();
    let finished = LogTail::quick().arg(place.path("[a-.log")).run();
    assert!(matches!(finished.status.code(), Some(1 | 2)), "{:?}", finished.status);
    finished.assert_says(&["[a-.log"]);
    // A file that is really called so is followed.
    create(place.path("[a-.log"), "one\n");
    let tail = LogTail::quick().arg(place.path("[a-.log")).follow();
    tail.wait_for_stdout("one\n");
    tail.terminate();
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let finished = LogTail::quick().args(["--metrics", &address]).arg(&log).run();
    finished.assert_exit(1).assert_says(&[&address]);
}

#[test]
fn help_and_version_are_printed_and_end_well() {
    for (arg, words) in [("--help", "Usage: log-tail"), ("-h", "Usage: log-tail"), ("--version", "log-tail ")]
    {
        let finished = LogTail::bare().arg(arg).run();
        finished.assert_exit(0);
        assert!(finished.text().contains(words), "{}", finished.text());
    }
}

#[test]
fn ten_thousand_names_are_followed() {
    const FILES: usize = 10_000;
    let place = Place::new();
    let names: Vec<String> = (0..FILES).map(|number| format!("{number}.log")).collect();
    for name in &names {
        create(place.path(name), "");
    }
    let tail = LogTail::new().in_dir(place.dir()).arg("-q").args(&names).follow();
    assert_eq!(tail.following().files, FILES as u64);
    let mut expected = String::new();
    for number in [0, 1, 4711, 9999] {
        append(place.path(format!("{number}.log")), format!("{number}\n"));
        expected.extend([number.to_string(), "\n".to_owned()]);
        tail.wait_for_stdout(&expected);
    }
    let finished = tail.finish();
    // Nothing is said file by file.
    assert!(finished.stderr.len() < 10, "{:#?}", &finished.stderr[..10]);
}

#[test]
fn ten_thousand_missing_names_are_waited_for() {
    const FILES: usize = 10_000;
    let place = Place::new();
    let names: Vec<String> = (0..FILES).map(|number| format!("{number}.log")).collect();
    let tail = LogTail::new().in_dir(place.dir()).arg("-q").args(&names).follow();
    assert_eq!(tail.following().files, 0);
    append(place.path("4711.log"), "here\n");
    tail.wait_for_stdout("here\n");
    fs::remove_file(place.path("4711.log")).unwrap();
    tail.finish().assert_says(&["4711.log"]);
}

#[test]
fn the_same_name_given_twice_comes_out_once() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "one\n");
    let tail = LogTail::new().arg("-q").arg(&log).arg(&log).arg(place.path("*.log")).follow();
    assert_eq!(tail.following().files, 1);
    append(&log, "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    tail.finish();
}

#[test]
fn a_pattern_that_cannot_be_understood_is_a_usage_error() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    LogTail::quick().arg("/l/[a").run().assert_exit(2).assert_says(&["'/l/[a'", "backslash"]);
    LogTail::quick().arg(OsStr::from_bytes(b"/l/q\xff*")).run().assert_exit(2).assert_says(&["not UTF-8"]);
}

#[test]
fn doctor_does_not_wait_for_a_fifo_and_knows_names_that_are_not_utf8() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    let place = Place::new();
    let fifo = place.path("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let odd = place.path(OsStr::from_bytes(b"n\xff"));
    create(&odd, "x\n");
    for json in [&[][..], &["--json"]] {
        let told = LogTail::bare().arg("doctor").args(json).arg(&fifo).arg(&odd).run();
        assert!(told.text().contains("a FIFO"), "{}", told.text());
        told.assert_exit(0);
    }
}
