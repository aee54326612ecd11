//! Opening, committing and failing on a real filesystem.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::state::{checkpoint::tests::checkpoint, snapshot};

fn put(id: u64, offset: u64) -> Changes {
    [(CheckpointId(id), Some(checkpoint("a.log", offset)))].into()
}

fn reopened(dir: &Path) -> Vec<(CheckpointId, Checkpoint)> {
    let opened = Store::open(dir).unwrap();
    assert_eq!(opened.moved_aside, None);
    opened.checkpoints
}

#[test]
fn what_is_committed_is_there_when_opened_again_and_ids_are_not_used_twice() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("not/there/yet");
    let mut opened = Store::open(&dir).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    assert!(opened.checkpoints.is_empty() && opened.moved_aside.is_none());
    let (first, second) = (opened.store.next_id(), opened.store.next_id());
    assert!(first < second);
    opened.store.commit(&put(first.0, 1)).unwrap();
    opened.store.commit(&put(second.0, 2)).unwrap();
    opened.store.commit(&put(first.0, 3)).unwrap();
    opened.store.commit(&[(second, None)].into()).unwrap();
    drop(opened);
    assert_eq!(reopened(&dir), [(first, checkpoint("a.log", 3))]);
    assert!(Store::open(&dir).unwrap().store.next_id() > second);
    assert_eq!(fs::metadata(dir.join(FILE)).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_second_process_is_told_who_was_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path()).unwrap();
    let message = Store::open(dir.path()).unwrap_err().to_string();
    let pid = format!("process id {}", std::process::id());
    assert!(message.contains(&pid) && message.contains("--state-dir"), "{message}");
    assert!(message.contains(dir.path().to_str().unwrap()), "{message}");
    drop(first);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_one_is_an_error_that_says_what_to_do() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    for dir in [file.clone(), file.join("below")] {
        let error = Store::open(&dir).unwrap_err().to_string();
        assert!(error.ends_with("name a directory with --state-dir"), "{error}");
    }
    // Not a file: an error, because nothing that was in it is lost.
    fs::create_dir_all(parent.path().join(FILE)).unwrap();
    Store::open(parent.path()).unwrap_err();
    assert!(parent.path().join(FILE).is_dir());
}

#[test]
fn an_unreadable_store_is_moved_aside_as_it_was_and_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut aside = Vec::new();
    for (round, bytes) in [&b"not a store"[..], b"", b"SQLite format 3\0"].into_iter().enumerate() {
        fs::write(dir.path().join(FILE), bytes).unwrap();
        let mut opened = Store::open(dir.path()).unwrap();
        let moved = opened.moved_aside.take().unwrap();
        assert!(opened.checkpoints.is_empty());
        let name = moved.to.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("checkpoints.redb.bad-2"), "{name}");
        aside.push((moved.to, bytes));
        opened.store.commit(&put(1, round as u64)).unwrap();
        drop(opened);
        assert_eq!(reopened(dir.path()), [(CheckpointId(1), checkpoint("a.log", round as u64))]);
    }
    for (path, bytes) in aside {
        assert_eq!(fs::read(path).unwrap(), bytes);
    }
}

#[test]
fn a_file_removed_or_replaced_while_open_is_made_anew_with_all_that_is_known() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    let mut store = Store::open(&dir).unwrap().store;
    store.commit(&put(1, 1)).unwrap();
    let old = fs::read(dir.join(FILE)).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    store.commit(&put(2, 2)).unwrap();
    for replacement in [&b"garbage"[..], &old] {
        fs::write(dir.join("other"), replacement).unwrap();
        fs::rename(dir.join("other"), dir.join(FILE)).unwrap();
        store.commit(&put(3, 3)).unwrap();
        let ids: Vec<_> = snapshot::read(&dir).unwrap().checkpoints.into_keys().collect();
        assert_eq!(ids, [1, 2, 3].map(CheckpointId));
    }
}

/// A tmpfs that nobody else sees, gone with its mount namespace, or `None` where mounting is refused. The
/// command runs this test again inside it, with the directory in the environment.
fn inside_small_filesystem(test: &str) -> Option<PathBuf> {
    const VARIABLE: &str = "LOG_TAIL_TEST_SMALL_FILESYSTEM";
    if let Some(dir) = env::var_os(VARIABLE) {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=3m log-tail-test '{0}' || exit 77; {VARIABLE}='{0}' exec \"$0\" --exact '{test}' --nocapture",
        dir.path().display()
    );
    let exe = env::current_exe().unwrap();
    let status = Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(exe).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) if status.code() == Some(101) => panic!("it failed inside the small filesystem"),
        refused => eprintln!("skipping {test}: no filesystem can be mounted here: {refused:?}"),
    }
    None
}

#[test]
fn a_full_disk_fails_commits_until_there_is_room_and_loses_nothing() {
    let name = "state::store::tests::a_full_disk_fails_commits_until_there_is_room_and_loses_nothing";
    let Some(mount) = inside_small_filesystem(name) else { return };
    let dir = mount.join("state");
    let filler = mount.join("filler");
    let fill = || {
        let mut file = File::create(&filler).unwrap();
        let mut size = 1 << 16;
        while size > 0 {
            if io::Write::write_all(&mut file, &vec![1; size]).is_err() {
                size /= 2;
            }
        }
    };
    let many = |from: u64, offset| -> Changes {
        (from..from + 2000).map(|id| (CheckpointId(id), Some(checkpoint("a.log", offset)))).collect()
    };
    let mut store = Store::open(&dir).unwrap().store;
    store.commit(&many(0, 1)).unwrap();
    let mut wanted = store.known.clone();
    let (mut failed, mut fitted) = (0, 0);
    for round in 1..=10 {
        fill();
        let changes = many(round * 40, round);
        for _ in 0..3 {
            match store.commit(&changes) {
                Ok(()) => fitted += 1,
                Err(error) => {
                    failed += 1;
                    let message = error.to_string();
                    assert!(
                        message.contains("No space left") && message.ends_with("make room there"),
                        "{message}"
                    );
                }
            }
        }
        // As after a crash at this moment: nothing may be moved aside because there is no room.
        let seen = snapshot::read(&dir).unwrap();
        let mut with_changes = wanted.clone();
        with_changes.apply(&changes);
        assert!(seen == wanted || seen == with_changes, "round {round}");
        if round % 3 == 0 {
            drop(store);
            let opened = Store::open(&dir).unwrap();
            assert_eq!(opened.moved_aside, None);
            store = opened.store;
        }
        fs::remove_file(&filler).unwrap();
        store.commit(&changes).unwrap();
        wanted.apply(&changes);
        assert_eq!(snapshot::read(&dir).unwrap(), wanted);
    }
    eprintln!("{failed} commits failed, {fitted} fitted although the disk was full");
    assert!(failed > 0);
}

/// Commits for ever, and prints what was committed.
fn commit_for_ever(dir: &Path) {
    let mut opened = Store::open(dir).unwrap();
    let mut offset = opened.checkpoints.iter().map(|(_, checkpoint)| checkpoint.offset).max().unwrap_or(0);
    loop {
        offset += 1;
        // All of one commit, and so of one offset, or the commit was torn.
        let changes = (0..50).map(|id| (CheckpointId(id), Some(checkpoint("a.log", offset)))).collect();
        opened.store.commit(&changes).unwrap();
        println!("committed {offset}");
    }
}

fn start_committing(test: &str, dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("LOG_TAIL_TEST_COMMIT_TO", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads lines until so many commits were acknowledged, and says which was the last.
fn wait_for_commits(child: &mut BufReader<std::process::ChildStdout>, count: usize) -> u64 {
    let offsets = child.lines().map_while(Result::ok);
    let mut offsets = offsets.filter_map(|line| line.split("committed ").nth(1)?.trim().parse().ok());
    offsets.by_ref().take(count).last().unwrap_or(0)
}

fn the_one_offset(checkpoints: &[Checkpoint]) -> u64 {
    let offset = checkpoints.first().map_or(0, |checkpoint| checkpoint.offset);
    assert!(checkpoints.iter().all(|checkpoint| checkpoint.offset == offset), "torn: {checkpoints:?}");
    offset
}

#[test]
fn after_sigkill_at_any_moment_the_store_says_the_last_commit() {
    let name = "state::store::tests::after_sigkill_at_any_moment_the_store_says_the_last_commit";
    if let Some(dir) = env::var_os("LOG_TAIL_TEST_COMMIT_TO") {
        commit_for_ever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..15 {
        let mut child = start_committing(name, dir.path());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut acknowledged = wait_for_commits(&mut output, round % 5 + 1);
        // A different moment of a commit each time.
        std::thread::sleep(std::time::Duration::from_micros(700 * round as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = acknowledged.max(wait_for_commits(&mut output, usize::MAX));
        assert!(acknowledged > 0);
        let opened = Store::open(dir.path()).unwrap();
        assert_eq!(opened.moved_aside, None);
        let checkpoints: Vec<_> = opened.checkpoints.into_iter().map(|(_, checkpoint)| checkpoint).collect();
        let found = the_one_offset(&checkpoints);
        // One more may have become durable before it could be said.
        assert!(found == acknowledged || found == acknowledged + 1, "{found} for {acknowledged}");
    }
}

#[test]
fn a_copy_made_while_another_process_commits_without_pause_is_whole() {
    let name = "state::store::tests::a_copy_made_while_another_process_commits_without_pause_is_whole";
    if let Some(dir) = env::var_os("LOG_TAIL_TEST_COMMIT_TO") {
        commit_for_ever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = start_committing(name, dir.path());
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut last = 0;
    for _ in 0..20 {
        let acknowledged = wait_for_commits(&mut output, 3);
        let contents = snapshot::read(dir.path()).unwrap();
        let found = the_one_offset(&contents.checkpoints.into_values().collect::<Vec<_>>());
        assert!(found >= acknowledged && found >= last, "{found} after {acknowledged} and {last}");
        last = found;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
