//! What is appended comes out: all of it, exactly as it was written, in whole lines, from where it was asked for.

use log_tail_tests::prelude::*;

#[test]
fn what_is_appended_comes_out_as_it_is_written() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "old\n");
    let tail = LogTail::new().arg(&log).follow();
    assert_eq!(tail.following().files, 1);
    tail.wait_for_stdout("old\n");
    append(&log, "one\n");
    tail.wait_for_stdout("old\none\n");
    append(&log, "two\nthree\n");
    tail.wait_for_stdout("old\none\ntwo\nthree\n");
    tail.finish();
}

#[test]
fn a_line_waits_for_its_newline() {
    let place = Place::new();
    let (log, other) = (place.path("app.log"), place.path("other.log"));
    create(&log, "");
    create(&other, "");
    let tail = LogTail::new().args(["-q", "-n", "0"]).arg(&log).arg(&other).follow();
    append(&log, "beg");
    append(&other, "other\n");
    tail.wait_for_stdout("other\n");
    append(&log, "inn");
    append(&other, "again\n");
    tail.wait_for_stdout("other\nagain\n");
    append(&log, "ing\nnext");
    tail.wait_for_stdout("other\nagain\nbeginning\n");
    append(&log, " one\n");
    tail.wait_for_stdout("other\nagain\nbeginning\nnext one\n");
    tail.finish();
}

#[test]
fn a_last_line_without_its_newline_comes_out_at_the_end() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let tail = LogTail::plain().arg(&log).follow();
    append(&log, "whole\nhalf");
    tail.wait_for_stdout("whole\n");
    assert_eq!(tail.terminate().text(), "whole\nhalf");
}

#[test]
fn following_starts_where_it_is_told_to() {
    let place = Place::new();
    for (number, (args, expected)) in [
        (&["-n", "2"][..], "4\n5\n"),
        (&["-n", "100"], "1\n2\n3\n4\n5\n"),
        (&["-n", "+3"], "3\n4\n5\n"),
        (&["-n", "+1"], "1\n2\n3\n4\n5\n"),
        (&["-c", "3"], "\n5\n"),
        (&["-c", "+4"], "\n3\n4\n5\n"),
        (&["-n", "0"], ""),
        (&["-c", "0"], ""),
        (&["-n", "+100"], ""),
    ]
    .into_iter()
    .enumerate()
    {
        let log = place.path(format!("{number}.log"));
        create(&log, "1\n2\n3\n4\n5\n");
        let tail = LogTail::quick().args(args).arg(&log).follow();
        append(&log, "new\n");
        tail.wait_for_stdout(format!("{expected}new\n"));
        tail.terminate();
    }
}

#[test]
fn a_number_of_lines_may_be_said_as_in_the_old_days() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "1\n2\n3\n");
    let finished = LogTail::bare().args(["-2", "--no-follow"]).arg(&log).run();
    assert_eq!(finished.assert_exit(0).text(), "2\n3\n");
}

#[test]
fn ten_lines_are_shown_when_nothing_is_said() {
    let place = Place::new();
    let log = place.path("app.log");
    let numbers =
        |range: std::ops::Range<u32>| range.fold(String::new(), |text, n| text + &n.to_string() + "\n");
    create(&log, numbers(0..100));
    let tail = LogTail::plain().arg(&log).follow();
    tail.wait_for_stdout(numbers(90..100));
    tail.terminate();
}

#[test]
fn bytes_come_out_exactly_whatever_they_are() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, b"");
    let tail = LogTail::new().arg(&log).follow();
    let mut expected = Vec::new();
    let every_byte: Vec<u8> = (0..=255).chain([b'\n']).collect();
    for bytes in [
        &b"dos\r\n"[..],
        b"nul\0nul\n",
        b"\xff\xfe\xc3\x28\n",
        b"\n\n\n",
        b"\r\r\n",
        "\u{feff}\u{1f600}\n".as_bytes(),
        b"\x1b[31mred\x1b[0m\n",
        &every_byte,
    ] {
        append(&log, bytes);
        expected.extend_from_slice(bytes);
        tail.wait_for_stdout(&expected);
    }
    tail.finish();
}

#[test]
fn a_line_longer_than_the_limit_comes_out_whole() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, b"");
    let tail = LogTail::new().args(["--max-line-bytes", "4096"]).arg(&log).follow();
    let mut line: Vec<u8> =
        (0..100_000_u32).map(|n| b"abcdefghijklmnopqrstuvwxyz"[n as usize % 26]).collect();
    line.push(b'\n');
    append(&log, "short\n");
    for piece in line.chunks(7001) {
        append(&log, piece);
    }
    append(&log, "short\n");
    tail.wait_for_stdout([&b"short\n"[..], &line, b"short\n"].concat());
    tail.finish();
}

#[test]
fn a_line_of_several_mebibytes_comes_out_whole() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, b"");
    let tail = LogTail::new().arg(&log).follow();
    let mut line = vec![b'x'; 5 << 20];
    line.push(b'\n');
    append(&log, &line);
    tail.wait_until_stdout("all of the line", |stdout| stdout.len() == line.len());
    // It takes so long to write that another test's kernel program may come meanwhile: then no hint tells of it.
    let finished = tail.terminate();
    assert!(finished.stdout == line, "{} bytes came out changed", finished.stdout.len());
}

#[test]
fn a_burst_comes_out_whole() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    lines.write(200_000);
    tail.wait_for_lines(200_000);
    tail.finish().assert_exactly([("w", 200_000)]);
}

#[test]
fn a_burst_comes_out_whole_through_a_slow_reader() {
    let place = Place::new();
    let log = place.path("app.log");
    let mut lines = Lines::new(&log, "w");
    let tail = LogTail::new().counted().arg(&log).follow();
    tail.listen_slowly(2 << 10, std::time::Duration::from_millis(1));
    lines.write(50_000);
    tail.wait_for_lines(50_000);
    tail.finish().assert_exactly([("w", 50_000)]);
}
