//! Noting, committing and failing, against a real store.

use std::path::Path;

use super::*;
use crate::state::{checkpoint::tests::checkpoint, snapshot};

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn keeper(dir: &Path) -> Keeper {
    Keeper::start(Store::open(dir).unwrap(), WEEK, None).unwrap().0
}

/// Does what an event loop does until `is_done`.
fn turn(keeper: &mut Keeper, mut is_done: impl FnMut(&mut Keeper) -> bool) {
    let start = Instant::now();
    while !is_done(keeper) {
        assert!(start.elapsed() < Duration::from_secs(60), "{keeper:?}");
        if let Some(due) = keeper.due() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        keeper.commit();
    }
}

fn offsets(dir: &Path) -> Vec<(u64, u64)> {
    let contents = snapshot::read(dir).unwrap();
    contents.checkpoints.iter().map(|(id, checkpoint)| (id.0, checkpoint.offset)).collect()
}

#[test]
fn the_latest_of_each_file_is_committed_and_nothing_is_due_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(dir.path());
    assert_eq!(keeper.due(), None);
    let (a, b) = (keeper.next_id(), keeper.next_id());
    for offset in 0..1000 {
        keeper.note(a, checkpoint("a", offset));
    }
    keeper.note(b, checkpoint("b", 1));
    keeper.forget(b);
    turn(&mut keeper, |keeper| keeper.due().is_none());
    assert_eq!(offsets(dir.path()), [(a.0, 999)]);
    let counters = keeper.counters();
    assert_eq!((counters.commits, counters.failures, counters.last_commit.is_some()), (1, 0, true));
    assert_eq!(keeper.take_trouble(), None);
    keeper.finish().unwrap();
}

#[test]
fn commits_are_no_closer_than_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(dir.path());
    let id = keeper.next_id();
    let start = Instant::now();
    let mut offset = 0;
    turn(&mut keeper, |keeper| {
        offset += 1;
        keeper.note(id, checkpoint("a", offset));
        keeper.counters().commits == 3
    });
    assert!(start.elapsed() >= 2 * INTERVAL, "{:?}", start.elapsed());
    keeper.finish().unwrap();
    assert_eq!(offsets(dir.path()), [(id.0, offset)]);
}

#[test]
fn finishing_commits_what_is_left_and_lets_go_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(dir.path());
    let id = keeper.next_id();
    keeper.note(id, checkpoint("a", 1));
    keeper.commit();
    keeper.note(id, checkpoint("a", 2));
    keeper.finish().unwrap();
    let mut opened = Store::open(dir.path()).unwrap();
    assert_eq!(opened.checkpoints, [(id, checkpoint("a", 2))]);
    assert!(opened.store.next_id() > id);
}

#[test]
fn what_could_not_be_committed_is_when_it_can_be_and_both_are_said_once() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    let mut keeper = keeper(&dir);
    let (a, b) = (keeper.next_id(), keeper.next_id());
    // Nobody, not even root, makes a file below a file.
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "").unwrap();
    keeper.note(a, checkpoint("a", 1));
    keeper.note(b, checkpoint("b", 1));
    turn(&mut keeper, |keeper| keeper.counters().failures == 2);
    let trouble = keeper.take_trouble().unwrap();
    assert!(trouble.contains(dir.to_str().unwrap()) && trouble.contains("following goes on"), "{trouble}");
    assert_eq!(keeper.take_trouble(), None);

    keeper.note(a, checkpoint("a", 2));
    std::fs::remove_file(&dir).unwrap();
    turn(&mut keeper, |keeper| keeper.due().is_none());
    assert!(keeper.take_trouble().unwrap().ends_with("again"));
    assert_eq!(offsets(&dir), [(a.0, 2), (b.0, 1)]);
    keeper.finish().unwrap();
}

#[test]
fn what_was_not_seen_for_longer_than_the_retention_is_dropped_however_long_the_machine_was_off() {
    let dir = tempfile::tempdir().unwrap();
    let seen = |name, seen_s| Checkpoint { seen_s, ..checkpoint(name, 1) };
    let mut old = keeper(dir.path());
    // Long ago by any clock.
    for (name, seen_s) in
        [("gone", 1_000_000), ("there", 1_000_000 + WEEK.as_secs() + 1), ("just", 1_000_001)]
    {
        let id = old.next_id();
        old.note(id, seen(name, seen_s));
    }
    old.finish().unwrap();
    let (keeper, left) = Keeper::start(Store::open(dir.path()).unwrap(), WEEK, None).unwrap();
    let names: Vec<_> = left.iter().map(|(_, checkpoint)| checkpoint.path.to_str().unwrap()).collect();
    assert_eq!(names, ["there", "just"]);
    keeper.finish().unwrap();
    assert_eq!(offsets(dir.path()).len(), 2);
}

#[test]
fn a_file_that_exists_is_known_however_long_ago_it_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("quiet.log");
    std::fs::write(&path, "line\n").unwrap();
    let Identity { device, inode, born_ns } = Identity::of(&path.metadata().unwrap());
    let quiet = Checkpoint {
        path: path.clone(),
        located: path,
        device,
        inode,
        born_ns: Some(born_ns),
        seen_s: 1_000_000,
        ..checkpoint("quiet", 5)
    };
    let mut old = keeper(dir.path());
    for checkpoint in [quiet, Checkpoint { seen_s: 1_000_000 + 2 * WEEK.as_secs(), ..checkpoint("busy", 1) }]
    {
        let id = old.next_id();
        old.note(id, checkpoint);
    }
    old.finish().unwrap();
    let (keeper, left) = Keeper::start(Store::open(dir.path()).unwrap(), WEEK, None).unwrap();
    assert_eq!(left.len(), 2);
    keeper.finish().unwrap();
}

#[test]
fn what_is_not_durable_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    // No pipe can be made durable.
    let (_reader, writer) = io::pipe().unwrap();
    let output = File::from(std::os::fd::OwnedFd::from(writer));
    let (mut keeper, _) = Keeper::start(Store::open(dir.path()).unwrap(), WEEK, Some(output)).unwrap();
    let id = keeper.next_id();
    keeper.note(id, checkpoint("a", 1));
    let mut said = None;
    turn(&mut keeper, |keeper| {
        said = keeper.take_trouble();
        said.is_some()
    });
    assert!(said.as_ref().is_some_and(|said| said.contains("could not be made durable")), "{said:?}");
    assert!(keeper.finish().is_err());
    assert_eq!(offsets(dir.path()), []);
}
