//! `log-tail observe`, started, and what it shows.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    PATIENCE,
    backend::wanted_backend,
    run::{LogTail, Running, records},
};

/// Starts it, with json output, and waits until it observes.
#[must_use]
pub fn observe(args: &[&str], paths: &[&Path]) -> Running {
    let backend = wanted_backend().map_or_else(Vec::new, |backend| vec!["--backend", backend.word()]);
    observing(|| {
        let observer = LogTail::bare().arg("observe").args(&backend).args(["--format", "json"]);
        observer.args(args).args(paths)
    })
}

/// Starts one with these options, and waits until it observes.
///
/// # Panics
/// Where it does not, but for other tests' observers: the kernel takes four at once.
#[must_use]
pub fn observing(observer: impl Fn() -> LogTail) -> Running {
    let is_observing = |line: &String| line.starts_with("log-tail: observing ");
    let is_one_too_many = |line: &String| line.contains("end one of them");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let running = observer().start();
        running.wait_for_stderr("what is observed", |lines| {
            lines.iter().any(|line| is_observing(line) || is_one_too_many(line))
        });
        if running.stderr().iter().any(is_observing) {
            return running;
        }
        assert!(Instant::now() < deadline, "{:?}", running.stderr());
        thread::sleep(Duration::from_millis(200));
    }
}

/// Those of the lines that tell of an event, and not of events that are missing.
#[must_use]
pub fn only_events(stdout: &[u8]) -> Vec<Value> {
    records(stdout).into_iter().filter(|line| line.get("op").is_some()).collect()
}

/// How many events are missing at most because the kernel skipped some, by what is shown. Each time that another test's
/// observer comes or goes, it skips those that are under way.
#[must_use]
pub fn missing(stdout: &[u8]) -> u64 {
    ["skipped", "name_lost"].map(|reason| missing_because(stdout, reason)).into_iter().sum()
}

/// How many events are missing at most for this reason, by what is shown.
#[must_use]
pub fn missing_because(stdout: &[u8], reason: &str) -> u64 {
    let missing = records(stdout).into_iter().filter(|line| line["reason"] == reason);
    missing.map(|line| line["missing"].as_u64().expect("a number")).sum()
}

/// The event that was shown last; null before there is one.
#[must_use]
pub fn last(stdout: &[u8]) -> Value {
    let mut lines = stdout.rsplit(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    lines.find(|line: &Value| line.get("op").is_some()).unwrap_or_default()
}

/// How many lines there are.
#[must_use]
pub fn lines(stdout: &[u8]) -> usize {
    stdout.split(|byte| *byte == b'\n').count() - 1
}

/// What was done to which file, by their last names.
#[must_use]
pub fn deeds(events: &[Value]) -> Vec<String> {
    let last = |value: &Value| {
        let path = Path::new(value.as_str().unwrap_or("?")).file_name();
        path.map_or_else(|| "?".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let deed = |event: &Value| {
        let from = event.get("from").map(|from| format!("{} -> ", last(from))).unwrap_or_default();
        format!("{} {from}{}", event["op"].as_str().unwrap_or("?"), last(&event["path"]))
    };
    events.iter().map(deed).collect()
}
