//! The model test: a directory in memory beside the same directory on a real filesystem, and schedules of what
//! writers and rotators do to both while a real follower, with a real observer, reads.
//!
//! Everything is done by one thread in one order, so a schedule that fails fails again. What is asserted: no
//! line that somebody could have read is lost, none comes twice, none is torn, and all are in order; and in
//! the end nothing is followed that bears no name, and no hint was missed.
//!
//! `LOG_TAIL_MODEL_CASES` says how many schedules a run tries, `LOG_TAIL_MODEL_SEED` has it try others, and
//! `LOG_TAIL_MODEL_DIR` says on which filesystem.

mod file;
mod ledger;
mod operation;
mod reader;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::operation::{Operation, Schedule};

/// Schedules of one run.
const CASES: u32 = 2_000;
/// Everybody's, so that who changes something sees what that changes.
const SEED: u64 = 84;
/// Some schedules wait for a second.
const THREADS: u32 = 4;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs a schedule. Fails with what went wrong, after which operation, and what the reader said.
fn try_schedule(schedule: &Schedule) -> Result<(), String> {
    let mut run = reader::Run::new(schedule.pattern);
    let mut said = Vec::new();
    let mut at = "the start".to_owned();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for (index, operation) in schedule.operations.iter().enumerate() {
            at = format!("operation {index}, {operation:?}");
            run.perform(*operation)?;
            for notice in reader::notices(&mut run) {
                said.push(format!("  {index:>2}: {notice}"));
            }
        }
        "the end".clone_into(&mut at);
        run.finish()
    }));
    said.extend(reader::notices(&mut run).into_iter().map(|notice| format!("  end: {notice}")));
    let trouble = match outcome {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(trouble)) => trouble,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("panicked: {}", text.unwrap_or_default())
        }
    };
    Err(format!("{trouble} (at {at})\nthe reader said:\n{}", said.join("\n")))
}

fn try_many(seed: u64, thread: u32, cases: u32) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..12].copy_from_slice(&thread.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let run = TestRunner::new_with_rng(config, rng)
        .run(&operation::schedule(), |schedule| try_schedule(&schedule).map_err(TestCaseError::fail));
    run.map_err(|error| match error {
        TestError::Fail(_, schedule) => {
            let trouble = try_schedule(&schedule).err().unwrap_or_else(|| "not every time".to_owned());
            let followed = if schedule.pattern { "*.log" } else { "a.log and b.log" };
            let operations: Vec<_> = schedule
                .operations
                .iter()
                .enumerate()
                .map(|(index, operation)| format!("  {index:>2}: Operation::{operation:?},"))
                .collect();
            format!("LOG_TAIL_MODEL_SEED={seed}\nfollowing {followed}:\n{}\n{trouble}", operations.join("\n"))
        }
        TestError::Abort(reason) => reason.message().to_owned(),
    })
}

#[test]
fn whatever_writers_and_rotators_do_every_line_comes_once_and_in_order() {
    let cases = number("LOG_TAIL_MODEL_CASES").map_or(CASES, |cases| u32::try_from(cases).unwrap());
    let seed = number("LOG_TAIL_MODEL_SEED").unwrap_or(SEED);
    let troubles: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || try_many(seed, thread, cases.div_ceil(THREADS))))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect()
    });
    assert!(troubles.is_empty(), "\n{}", troubles.join("\n\n"));
}

fn holds(pattern: bool, operations: &[Operation]) {
    if let Err(trouble) = try_schedule(&Schedule { pattern, operations: operations.to_vec() }) {
        panic!("{trouble}");
    }
}

#[test]
fn schedules_that_failed_once_hold() {
    use self::operation::{
        Log::{A, B},
        Operation::{
            Append, AppendHalf, Commit, CopyTruncate, Crash, Delete, DeleteOld, Leave, Link, Look, LookAll,
            Move, Open, Rename, Restore, Shift, Truncate, Wait,
        },
    };
    // A pattern's name was forgotten, and with it what has to come first.
    holds(true, &[Open(A), Rename(A), Look(0), Append(A, 1), Look(1)]);
    holds(true, &[Append(A, 1), Shift(A), Append(A, 1), Shift(A), Look(0), Append(A, 1), Link(A)]);
    // Half a line had been read that the copy does not end.
    holds(false, &[Append(B, 1), AppendHalf(B), Look(1), CopyTruncate(B)]);
    // Renamed after it was copied.
    holds(false, &[Append(A, 1), Look(1), Append(A, 1), CopyTruncate(A), Shift(A)]);
    // And removed.
    let copied = [Append(A, 1), Look(1), Append(A, 1), CopyTruncate(A), Shift(A), DeleteOld(A)];
    holds(false, &copied);
    // Read although who was before it was not known.
    holds(false, &[Open(A), Look(0), Leave(A), Append(A, 1), Leave(A), Append(A, 1), Look(1)]);
    // Let go although it stood in a line.
    holds(false, &[AppendHalf(B), Leave(B), Append(A, 1), Move(A), Look(2), Append(B, 1), Shift(B)]);
    holds(
        false,
        &[Append(B, 1), Append(A, 1), Leave(A), Move(B), AppendHalf(B), Look(2), Append(A, 1), Leave(A)],
    );
    // Known by another name.
    holds(false, &[Append(A, 1), Look(1), Commit(0), Move(A), Crash]);
    holds(false, &[Append(A, 1), Append(B, 1), Look(1), Move(A), Commit(0), Shift(B), Crash]);
    holds(false, &[Append(B, 1), Append(A, 1), LookAll, Move(A), Commit(0), Crash, Delete(A)]);
    // A checkpoint of what was there before the truncation.
    let before = [Append(B, 1), Append(A, 1), Look(2), Truncate(B, 0), Append(A, 1), Look(2)];
    holds(false, &[&before[..], &[Commit(1), Crash]].concat());
    // It came back truncated.
    holds(false, &[Append(A, 2), Shift(A), Look(2), Restore(A), Append(A, 1), CopyTruncate(A)]);
    holds(
        false,
        &[Append(A, 1), Truncate(A, 8), Shift(A), Look(1), Restore(A), Append(A, 1), Truncate(A, 0)],
    );
    // All that was read of it was half a line.
    let half = [AppendHalf(A), Shift(A), Look(1), Restore(A), Truncate(A, 0), Append(A, 1)];
    holds(false, &half);
    // It came back when its time was over.
    holds(false, &[Append(A, 1), Shift(A), Wait, Restore(A), Look(2), Append(A, 1), Shift(A)]);
    // Copied, truncated and renamed, and so was the next one.
    let copied = [Append(A, 1), Open(A), Look(1), Commit(0), CopyTruncate(A), Shift(A), Crash];
    holds(false, &[&copied[..], &[Append(A, 1), Shift(A), LookAll]].concat());
    // The file was committed as truncated, and what was made of its copy was not.
    let copied = [Append(A, 1), Look(1), Commit(0), CopyTruncate(A), Look(1), Commit(1), Commit(0)];
    holds(false, &[&copied[..], &[Shift(A), Crash]].concat());
    // Nothing had been read of what was copied when it crashed.
    holds(false, &[Append(A, 1), Look(0), Commit(0), CopyTruncate(A), Append(A, 1), Crash]);
    // And of what had been read nothing was taken.
    let copied = [Append(A, 1), Look(1), Append(A, 1), CopyTruncate(A), Look(2), Commit(2), Crash];
    holds(false, &copied);
    // Renamed after it was copied, while nobody looked: it was read before its copy.
    let copied = [AppendHalf(A), Look(0), CopyTruncate(A), Commit(0), Crash, AppendHalf(A), Shift(A)];
    holds(false, &[&copied[..], &[Look(1), Restore(A), Append(A, 1)]].concat());
    // Truncated twice before anything was read in between.
    holds(false, &[Append(A, 2), Truncate(A, 32), Look(1), Truncate(A, 93), Look(1), Truncate(A, 0)]);
}
