//! What comes out looks as it should: headers as tail prints them, json records, files read once to their ends;
//! and it comes out however slow, or gone, whoever reads it is.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use log_tail_tests::{prelude::*, run::records};
use serde_json::Value;

/// What GNU tail prints, where there is one.
fn gnu_tail(dir: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let version = Command::new("tail").arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains("GNU coreutils") {
        return None;
    }
    Some(Command::new("tail").args(args).current_dir(dir).output().ok()?.stdout)
}

#[test]
fn headers_are_those_of_tail() {
    let place = Place::new();
    create(place.path("a.log"), "a1\na2\na3\n");
    create(place.path("b.log"), "b1\nb2\n");
    for (args, expected) in [
        (&["-n", "2", "a.log", "b.log"][..], "==> a.log <==\na2\na3\n\n==> b.log <==\nb1\nb2\n"),
        (&["-n", "1", "a.log"], "a3\n"),
        (&["-v", "-n", "1", "a.log"], "==> a.log <==\na3\n"),
        (&["-q", "-n", "1", "a.log", "b.log"], "a3\nb2\n"),
        (&["-c", "3", "a.log", "b.log"], "==> a.log <==\na3\n\n==> b.log <==\nb2\n"),
    ] {
        let finished = LogTail::bare().in_dir(place.dir()).arg("--no-follow").args(args).run();
        finished.assert_exit(0);
        assert_eq!(finished.text(), expected, "{args:?}");
        if let Some(printed) = gnu_tail(place.dir(), args) {
            assert_eq!(finished.text(), String::from_utf8_lossy(&printed), "{args:?}");
        }
    }
}

#[test]
fn a_header_comes_wherever_the_file_changes() {
    let place = Place::new();
    for name in ["a.log", "b.log"] {
        create(place.path(name), "");
    }
    let tail = LogTail::new().in_dir(place.dir()).args(["-n", "0", "a.log", "b.log"]).follow();
    let mut expected = String::new();
    for (name, line, header) in [
        ("a.log", "1\n", "==> a.log <==\n"),
        ("a.log", "2\n", ""),
        ("b.log", "3\n", "\n==> b.log <==\n"),
        ("b.log", "4\n", ""),
        ("a.log", "5\n", "\n==> a.log <==\n"),
    ] {
        append(place.path(name), line);
        expected = expected + header + line;
        tail.wait_for_stdout(&expected);
    }
    tail.finish();
}

/// The bytes in the file that a record stands for.
fn bytes_of(record: &Value) -> Vec<u8> {
    let mut bytes = match (record.get("line"), record.get("line_base64")) {
        (Some(line), None) => line.as_str().expect("text").as_bytes().to_vec(),
        (None, Some(base64)) => STANDARD.decode(base64.as_str().expect("text")).expect("base64"),
        _ => panic!("neither or both of line and line_base64: {record}"),
    };
    if record["length"] == bytes.len() + 1 {
        bytes.push(b'\n');
    }
    assert_eq!(record["length"], bytes.len(), "{record}");
    bytes
}

#[test]
fn json_says_where_every_byte_is_from() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "before\n");
    let start = std::time::SystemTime::now();
    let tail =
        LogTail::new().args(["--format", "json", "--max-line-bytes", "16", "-n", "0"]).arg(&log).follow();
    let written =
        b"plain\n\nsay \"hi\"\\\tand\r\nnot \xff utf-8\nnul\0\na line that is longer than sixteen bytes\n";
    append(&log, written);
    tail.wait_until_stdout("all bytes", |stdout| {
        records(stdout).iter().map(|record| record["length"].as_u64().unwrap()).sum::<u64>()
            >= written.len() as u64
    });
    let records = records(&tail.finish().stdout);

    let metadata = fs::metadata(&log).unwrap();
    let dev = format!("{}:{}", nix::sys::stat::major(metadata.dev()), nix::sys::stat::minor(metadata.dev()));
    let mut offset = "before\n".len() as u64;
    let mut bytes = Vec::new();
    for record in &records {
        assert_eq!(record["path"], log.to_str().unwrap());
        assert_eq!(record["dev"], dev);
        assert_eq!(record["inode"], metadata.ino());
        assert_eq!(record["offset"], offset, "{record}");
        let time = humantime::parse_rfc3339(record["time"].as_str().unwrap()).expect("a time");
        // Microseconds: what is cut off may be before the start.
        assert!(time + std::time::Duration::from_micros(1) >= start && time <= std::time::SystemTime::now());
        let of_record = bytes_of(record);
        offset += of_record.len() as u64;
        bytes.extend(of_record);
    }
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(written));
    assert_eq!(bytes, written);
    let not_utf8: Vec<_> = records.iter().filter(|record| record.get("line_base64").is_some()).collect();
    assert_eq!(not_utf8.len(), 1, "{not_utf8:?}");
    assert_eq!(records.iter().filter(|record| record["continues"] == true).count(), 2);
}

#[test]
fn a_name_that_is_not_utf8_is_followed() {
    let place = Place::new();
    let name = OsStr::from_bytes(b"caf\xe9-\xff.log");
    let log = place.path(name);
    create(&log, "");
    let text = LogTail::new().arg("-v").arg(&log).follow();
    let json = LogTail::new().args(["--format", "json"]).arg(place.path("*.log")).follow();
    append(&log, "one\n");
    let mut expected = b"==> ".to_vec();
    expected.extend_from_slice(log.as_os_str().as_bytes());
    expected.extend_from_slice(b" <==\none\n");
    text.wait_for_stdout(&expected);
    json.wait_until_stdout("a record", |stdout| stdout.ends_with(b"\n"));
    let record = records(&json.finish().stdout).pop().unwrap();
    assert_eq!(record["line"], "one");
    assert_eq!(record["path"], log.to_string_lossy().as_ref());
    let path = STANDARD.decode(record["path_base64"].as_str().unwrap()).unwrap();
    assert_eq!(path, log.as_os_str().as_bytes());
    text.finish();
}

#[test]
fn without_following_files_come_out_as_cat_prints_them() {
    let place = Place::new();
    let contents: [&[u8]; 4] = [b"a\nb\n", b"", b"\xff\0\r\n", &b"0123456789\n".repeat(100_000)];
    let paths: Vec<_> = (0..contents.len()).map(|number| place.path(format!("{number}.log"))).collect();
    paths.iter().zip(contents).for_each(|(path, content)| create(path, content));
    let finished = LogTail::bare().args(["--no-follow", "-q", "-n", "+1"]).args(&paths).run();
    finished.assert_exit(0);
    assert!(finished.stdout == contents.concat(), "{} bytes came out", finished.stdout.len());
    assert!(finished.stderr.is_empty(), "{:?}", finished.stderr);
}

#[test]
fn without_following_a_missing_file_is_said_and_the_others_come_out() {
    let place = Place::new();
    let (there, missing) = (place.path("there.log"), place.path("missing.log"));
    create(&there, "here\nhalf");
    let finished = LogTail::bare().args(["--no-follow", "-q"]).arg(&missing).arg(&there).run();
    finished.assert_exit(1).assert_says(&["missing.log", "no such file"]);
    assert_eq!(finished.text(), "here\nhalf");
    LogTail::bare().arg("--no-follow").arg(&missing).run().assert_exit(1).assert_says(&["missing.log"]);
}

#[test]
fn a_closed_output_ends_it_quietly() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "one\n");
    let mut tail = LogTail::plain().unheard().arg(&log).follow();
    let said = tail.stderr().len();
    drop(tail.take_stdout());
    append(&log, "nobody reads this\n");
    let finished = tail.wait();
    finished.assert_exit(0);
    assert_eq!(finished.stderr.len(), said, "{:?}", finished.stderr);
}

#[test]
fn an_output_closed_while_nothing_is_written_ends_it_quietly() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let mut tail = LogTail::plain().unheard().arg(&log).follow();
    let said = tail.stderr().len();
    drop(tail.take_stdout());
    let finished = tail.wait();
    finished.assert_exit(0);
    assert_eq!(finished.stderr.len(), said, "{:?}", finished.stderr);
}

#[test]
fn an_output_closed_while_it_is_full_ends_it_quietly() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "a line\n".repeat(1_000_000));
    let mut tail = LogTail::new().unheard().args(["-n", "+1"]).arg(&log).follow();
    tail.wait_for_metrics("a full output", |scrape| scrape.get("log_tail_lag_bytes") > 0);
    drop(tail.take_stdout());
    tail.wait().assert_exit(0);
}

#[test]
fn an_output_that_nobody_reads_for_a_while_loses_nothing() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    tail.stop_listening();
    lines.write(20_000);
    fs::rename(&log, place.path("app.log.1")).unwrap();
    lines.go_on_in(&log);
    lines.write(20_000);
    // It still answers, and knows what it has not been able to hand on.
    let lagging = |scrape: &Scrape| scrape.get("log_tail_lag_bytes") > 256 << 10;
    let sweeps = tail.wait_for_metrics("a lag", lagging).get("log_tail_sweeps_total");
    tail.wait_for_metrics("a sweep meanwhile", |scrape| {
        assert!(lagging(scrape), "nobody listens, and the lag is gone");
        scrape.get("log_tail_sweeps_total") >= sweeps + 2
    });
    tail.listen_again();
    tail.wait_for_lines(40_000);
    tail.wait_for_metrics("no lag", |scrape| scrape.get("log_tail_lag_bytes") == 0);
    tail.finish().assert_exactly([("w", 40_000)]);
}
