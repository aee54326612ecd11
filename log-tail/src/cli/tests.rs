//! What people type, and what becomes of it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use super::*;

fn parse(args: &[&str]) -> Result<Invocation, clap::Error> {
    Invocation::parse(["log-tail"].iter().chain(args).map(OsString::from))
}

fn settings(args: &[&str]) -> Settings {
    match parse(args) {
        Ok(Invocation::Follow(settings)) => settings,
        other => panic!("{args:?} is {other:?}"),
    }
}

fn refusal(args: &[&str]) -> String {
    let error = parse(args).expect_err("refused");
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

#[test]
fn clap_finds_nothing_wrong_with_the_options() {
    Cli::command().debug_assert();
}

#[test]
fn nothing_said_is_ten_lines_followed_as_text() {
    assert_eq!(
        settings(&["a.log"]),
        Settings {
            names: vec!["a.log".into()],
            start: Start::LastLines(10),
            follow: true,
            headers: Headers::WhenSeveral,
            format: OutputFormat::Text,
            backend: Backend::Auto,
            metrics: None,
            max_line_bytes: NonZeroUsize::new(1 << 20).expect("not zero"),
            rotate_wait: Duration::from_secs(5),
            state_dir: None,
            state_retention: Duration::from_secs(7 * 24 * 60 * 60),
            sweep: None,
            kernel_log: LevelFilter::Warn,
            low_latency: false,
            ring_bytes: None,
            every_hint: false,
            measure_cost: false,
        }
    );
}

#[test]
fn a_start_is_said_as_for_tail_and_the_last_one_counts() {
    for (args, start) in [
        (&["-n", "5", "a"][..], Start::LastLines(5)),
        (&["-n5", "a"], Start::LastLines(5)),
        (&["-n", "-5", "a"], Start::LastLines(5)),
        (&["-n+1", "a"], Start::FromLine(1)),
        (&["--lines=+0", "a"], Start::FromLine(0)),
        (&["-n", "2K", "a"], Start::LastLines(2048)),
        (&["-c", "1kB", "a"], Start::LastBytes(1000)),
        (&["-c", "+7", "a"], Start::FromByte(7)),
        (&["-n", "3", "-c", "4", "a"], Start::LastBytes(4)),
        (&["-c", "4", "-n", "3", "a"], Start::LastLines(3)),
        (&["-n", "3", "-n", "4", "a"], Start::LastLines(4)),
        (&["-20", "a"], Start::LastLines(20)),
        (&["-20f", "a"], Start::LastLines(20)),
        (&["-F", "-n", "0", "a"], Start::LastLines(0)),
    ] {
        assert_eq!(settings(args).start, start, "{args:?}");
    }
    assert!(refusal(&["-n", "ten", "a"]).contains("not a number"));
    assert!(refusal(&["-c", "5x", "a"]).contains("\"x\" is no multiplier"));
    assert!(refusal(&["a", "-20"]).contains("-2"));
}

#[test]
fn habits_are_accepted_and_contradictions_are_not() {
    assert!(settings(&["-f", "a"]).follow);
    assert!(settings(&["-Fq", "a"]).follow);
    assert!(!settings(&["--no-follow", "a"]).follow);
    assert!(refusal(&["-F", "--no-follow", "a"]).contains("cannot be used with"));
}

#[test]
fn headers_are_for_several_files_unless_said_otherwise() {
    for (args, headers) in [
        (&["a"][..], Headers::WhenSeveral),
        (&["-q", "a"], Headers::Never),
        (&["--silent", "a"], Headers::Never),
        (&["-v", "a"], Headers::Always),
        (&["-q", "-v", "a"], Headers::Always),
        (&["-v", "-q", "a"], Headers::Never),
    ] {
        assert_eq!(settings(args).headers, headers, "{args:?}");
    }
    assert!(Headers::WhenSeveral.are_shown(true) && !Headers::WhenSeveral.are_shown(false));
    assert!(Headers::Always.are_shown(false) && !Headers::Never.are_shown(true));
}

#[test]
fn doctor_is_a_subcommand_only_where_it_comes_first() {
    let doctor = |json, paths: &[&str]| {
        Invocation::Doctor(Doctor { json, cost: None, paths: paths.iter().map(OsString::from).collect() })
    };
    assert_eq!(parse(&["doctor"]).expect("doctor"), doctor(false, &[]));
    assert_eq!(parse(&["doctor", "--json", "a", "b"]).expect("doctor"), doctor(true, &["a", "b"]));
    for args in [
        &["./doctor"][..],
        &["a", "doctor"],
        &["-q", "doctor"],
        &["--", "doctor"],
        &["-n", "3", "doctor"],
        &["help"],
        &["doc"],
    ] {
        let last = args.last().map(OsString::from);
        assert_eq!(settings(args).names.pop(), last, "{args:?}");
    }
}

#[test]
fn state_takes_its_directory_on_either_side_and_needs_one() {
    let list = |json| Invocation::State(State { state_dir: "d".into(), action: StateAction::List { json } });
    assert_eq!(parse(&["state", "--state-dir", "d", "list"]).expect("state"), list(false));
    assert_eq!(parse(&["state", "list", "--json", "--state-dir=d"]).expect("state"), list(true));
    let paths = vec!["a".into(), "b".into()];
    assert_eq!(
        parse(&["state", "--state-dir", "d", "forget", "a", "b"]).expect("state"),
        Invocation::State(State { state_dir: "d".into(), action: StateAction::Forget { paths } })
    );
    assert!(refusal(&["state", "list"]).contains("no state directory"));
    assert!(refusal(&["state", "list", "--state-dir", ""]).contains("a value is required"));
    assert!(refusal(&["state", "--state-dir", "d", "forget"]).contains("PATH"));
    assert_eq!(settings(&["./state"]).names, ["./state"]);
}

#[test]
fn a_name_need_not_be_utf8_or_look_like_one() {
    let bytes = OsStr::from_bytes(b"\xff\xfe.log").to_owned();
    let parsed = Invocation::parse(["log-tail".into(), "--".into(), bytes.clone(), "-x".into()]);
    let Ok(Invocation::Follow(settings)) = parsed else { panic!("{parsed:?}") };
    assert_eq!(settings.names, [bytes, "-x".into()]);
}

#[test]
fn ten_thousand_names_are_no_problem() {
    let names: Vec<String> = (0..10_000).map(|number| format!("{number}.log")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(settings(&names).names.len(), 10_000);
}

#[test]
fn no_name_says_what_to_type() {
    let text = refusal(&[]);
    assert!(text.contains("log-tail /var/log/syslog") && text.contains("Usage: log-tail"), "{text}");
    assert!(refusal(&["a", ""]).contains("empty name"));
    assert!(refusal(&["-"]).contains("./-"));
}

#[test]
fn sizes_and_times_have_their_limits() {
    for (text, bytes) in [("16", 16), ("64K", 65536), ("1GiB", 1 << 30)] {
        assert_eq!(settings(&["--max-line-bytes", text, "a"]).max_line_bytes.get(), bytes);
    }
    for text in ["0", "15", "2G", "99999999999999999999"] {
        assert!(refusal(&["--max-line-bytes", text, "a"]).contains("at least 16"), "{text}");
    }
    for (text, time) in [("0", 0), ("0.5", 500), ("5", 5000), ("250ms", 250), ("1m 30s", 90_000)] {
        let settings = settings(&["--rotate-wait", text, "a"]);
        assert_eq!(settings.rotate_wait, Duration::from_millis(time), "{text}");
    }
    for text in ["", "soon", "-1", "inf", "1.2.3", "5 parsecs"] {
        assert!(refusal(&[&format!("--rotate-wait={text}"), "a"]).contains("not a time"), "{text}");
    }
    assert!(refusal(&["--rotate-wait", "99999999999", "a"]).contains("a year"));
    assert!(refusal(&["--sweep", "0s", "a"]).contains("cannot be turned off"));
}

#[test]
fn metrics_stay_on_this_machine_unless_asked_out() {
    for (text, address) in
        [("9600", "127.0.0.1:9600"), ("0.0.0.0:1", "0.0.0.0:1"), ("[::1]:9600", "[::1]:9600")]
    {
        assert_eq!(settings(&["--metrics", text, "a"]).metrics, address.parse().ok(), "{text}");
    }
    assert!(refusal(&["--metrics", "localhost", "a"]).contains("127.0.0.1:9600"));
    assert!(refusal(&["--metrics", "70000", "a"]).contains("not an address"));
    assert!(settings(&["--metrics", "9600", "--measure-cost", "a"]).measure_cost);
    assert!(refusal(&["--measure-cost", "a"]).contains("--metrics"));
}

#[test]
fn help_and_version_are_no_errors() {
    for option in ["-h", "--help", "-V", "--version"] {
        assert_eq!(parse(&[option]).expect_err("text").exit_code(), 0, "{option}");
    }
}
