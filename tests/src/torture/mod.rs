//! The torture: every way of rotating, truncating, removing and overloading logs, done to log-tail and to
//! others, with an exact account of what came out.
//!
//! [`main`] is the whole program `torture`. It needs nothing but the subjects: in a guest with busybox alone,
//! what needs more is skipped by name.

pub mod arena;
pub mod listen;
pub mod options;
pub mod report;
pub mod scenario;
pub mod subject;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser as _;
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};

use self::{
    arena::{Arena, Skipped},
    options::{Options, SubjectName},
    report::Row,
    scenario::Scenario,
    subject::{FLUENT_BIT, LogTail, Rsyslog, Subject, Tail, VECTOR},
};

/// The program: exit status 1 where log-tail breaks a promise, or where the torture itself could not be done.
pub fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for scenario in scenario::all() {
            println!("{:<24} {}", scenario.name, scenario.what);
        }
        return ExitCode::SUCCESS;
    }
    match torture(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether log-tail has kept all its promises.
fn torture(options: &Options) -> Result<bool> {
    // One scenario waits for it; in every thread, or it would end the process.
    SigSet::from(Signal::SIGUSR1).thread_block().context("blocking SIGUSR1")?;
    let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
    for name in &options.subject {
        subjects.push(match name {
            SubjectName::LogTail => Box::new(LogTail::new(options.backend.word())?),
            SubjectName::Tail => Box::new(Tail),
            SubjectName::Rsyslog => Box::new(Rsyslog),
            SubjectName::FluentBit => Box::new(FLUENT_BIT),
            SubjectName::Vector => Box::new(VECTOR),
        });
    }
    let scenarios: Vec<_> = scenario::all()
        .into_iter()
        .filter(|it| options.scenario.is_empty() || options.scenario.iter().any(|name| name == it.name))
        .collect();
    let rows = rounds(options, &scenarios, &subjects);
    let is_kept = report(options, &rows, &subjects)?;
    Ok(is_kept)
}

/// Everything once, and again until it is enough.
fn rounds(options: &Options, scenarios: &[Scenario], subjects: &[Box<dyn Subject>]) -> Vec<Row> {
    let began = Instant::now();
    let quiet = Duration::from_secs(options.quiet);
    let mut rows: Vec<Row> = Vec::new();
    for subject in subjects {
        let row = |it: &Scenario| Row {
            subject: subject.name(),
            scenario: it.name,
            what: it.what,
            skipped: subject.lacks(),
            ..Row::default()
        };
        rows.extend(scenarios.iter().map(row));
    }
    for round in 1.. {
        for (scenario, subject, row) in subjects
            .iter()
            .flat_map(|subject| scenarios.iter().map(move |scenario| (scenario, subject)))
            .zip(&mut rows)
            .map(|((scenario, subject), row)| (scenario, subject, row))
        {
            if row.skipped.is_none() {
                eprint!("torture: {} {} ({}) ... ", subject.name(), scenario.name, round);
                run(scenario, subject.as_ref(), options.lines, quiet, row);
            }
        }
        let is_enough = options.minutes.map_or(round >= options.runs, |time| began.elapsed() >= time);
        if is_enough {
            break;
        }
    }
    rows
}

/// One scenario, once, on one subject. What came of it is added to the row.
pub fn run(scenario: &Scenario, subject: &dyn Subject, lines: u64, quiet: Duration, row: &mut Row) {
    let began = Instant::now();
    // Writers and clients panic where the system fails them: that is a row's failure and no more.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut arena = Arena::new(subject, lines, quiet)?;
        scenario.run(&mut arena)?;
        Ok(arena.finish())
    }));
    let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("the torture itself panicked")));
    row.seconds += began.elapsed().as_secs_f64();
    let (broken, details) = match outcome {
        Ok(outcome) => {
            row.runs += 1;
            row.numbers.add(&outcome.numbers);
            if let Some(bytes) = outcome.counted_bytes {
                row.counted_bytes = Some(row.counted_bytes.unwrap_or(0) + bytes);
            }
            row.backend.clone_from(&outcome.backend);
            (scenario.promise.broken_by(&outcome), outcome.details)
        }
        Err(error) => {
            if let Some(Skipped(why)) = error.downcast_ref() {
                row.skipped = Some(why.clone());
                eprintln!("skipped: {why}");
                return;
            }
            row.runs += 1;
            (Some(format!("{error:#}")), String::new())
        }
    };
    eprintln!("{} ({:.1} s)", broken.as_deref().unwrap_or("kept"), began.elapsed().as_secs_f64());
    let Some(broken) = broken else { return };
    row.broken_runs += 1;
    row.broken.get_or_insert(broken);
    if subject.is_ours() {
        const DETAILS: usize = 100;
        for line in details.lines().take(DETAILS) {
            eprintln!("    {line}");
        }
    }
}

/// Shows the rows in all the ways that were asked for. Says whether log-tail has kept all its promises.
fn report(options: &Options, rows: &[Row], subjects: &[Box<dyn Subject>]) -> Result<bool> {
    print!("{}", report::table(rows));
    let mut versions = Vec::new();
    for subject in subjects {
        let ran = || rows.iter().filter(|row| row.subject == subject.name() && row.skipped.is_none());
        let kept = ran().filter(|row| row.is_kept()).count();
        let backend = ran().find_map(|row| row.backend.as_ref());
        let backend = backend.map_or_else(String::new, |backend| format!(", backend {backend}"));
        let version = format!("{}{backend}", subject.version());
        println!("{}: {kept} of {} kept ({version})", subject.name(), ran().count());
        versions.push((subject.name(), version));
    }
    if let Some(path) = &options.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        let versions: serde_json::Map<_, _> =
            versions.iter().map(|(name, version)| ((*name).to_owned(), json!(version))).collect();
        let text = format!("{:#}\n", json!({ "versions": versions, "rows": rows }));
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &options.markdown {
        let text = report::markdown(rows, &versions);
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let is_ours = |row: &Row| subjects.iter().any(|it| it.is_ours() && it.name() == row.subject);
    Ok(rows.iter().filter(|row| is_ours(row)).all(|row| row.broken.is_none()))
}
