//! `log-tail state` says what a state directory knows, while it is in use as well, and makes it forget.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use log_tail::state::{Checkpoint, CheckpointId, Mark, Store};
use log_tail_tests::prelude::*;
use serde_json::{Value, json};

fn checkpoint(path: impl Into<PathBuf>, offset: u64) -> Checkpoint {
    let path = path.into();
    Checkpoint {
        located: path.clone(),
        path,
        device: 0x801,
        inode: 40 + offset,
        generation: Some(9),
        born_ns: None,
        offset,
        prints: vec![Mark { end: 8, length: 8, hash: 1 }],
        seen_s: 1_700_000_000,
        looked_ns: 0,
        copy_of: None,
        finished: false,
    }
}

/// A store that knows three files of `/log/app.log` and one of another name. Open.
fn store(dir: &Path) -> Store {
    let mut store = Store::open(dir).expect("a state directory").store;
    let first =
        Checkpoint { finished: true, located: "/log/app.log.2".into(), ..checkpoint("/log/app.log", 100) };
    let second = Checkpoint { located: "/log/app.log.1".into(), ..checkpoint("/log/app.log", 2000) };
    let all = [first, second, checkpoint("/log/app.log", 7), checkpoint("/log/other.log", 8)];
    let changes: BTreeMap<_, _> = all.into_iter().map(|one| (store.next_id(), Some(one))).collect();
    store.commit(&changes).expect("a commit");
    store
}

fn state(dir: &Path, args: &[&str]) -> Finished {
    LogTail::bare().args(["state", "--state-dir"]).arg(dir).args(args).run()
}

fn known(dir: &Path) -> Vec<(String, u64)> {
    let finished = state(dir, &["list", "--json"]);
    let entries: Vec<Value> = serde_json::from_slice(&finished.assert_exit(0).stdout).expect("json");
    entries
        .iter()
        .map(|e| (e["path"].as_str().expect("a path").to_owned(), e["offset"].as_u64().expect("an offset")))
        .collect()
}

#[test]
fn the_list_has_a_line_for_every_file_although_the_store_is_in_use() {
    let place = Place::new();
    let _in_use = store(&place.path("state"));
    let finished = state(&place.path("state"), &["list"]);
    assert_eq!(
        finished.assert_exit(0).text(),
        "PATH            OFFSET  INODE  DEVICE  LAST SEEN             STATE\n\
         /log/app.log       100    140  8:1     2023-11-14T22:13:20Z  finished\n\
         /log/app.log      2000   2040  8:1     2023-11-14T22:13:20Z  rotated\n\
         /log/app.log         7     47  8:1     2023-11-14T22:13:20Z  followed\n\
         /log/other.log       8     48  8:1     2023-11-14T22:13:20Z  followed\n"
    );
}

#[test]
fn the_directory_is_named_before_or_after_what_to_do() {
    let place = Place::new();
    drop(store(&place.path("state")));
    let finished = LogTail::bare()
        .args(["state", "show", "/log/other.log", "--json", "--state-dir"])
        .arg(place.path("state"))
        .run();
    let shown: Value = serde_json::from_slice(&finished.assert_exit(0).stdout).unwrap();
    assert_eq!(
        shown,
        json!([{
            "id": 3, "path": "/log/other.log", "located": "/log/other.log", "state": "followed", "offset": 8,
            "dev": "8:1", "inode": 48, "generation": 9, "born": null, "last_seen": "2023-11-14T22:13:20Z", "prints": 1,
        }])
    );
    let finished = LogTail::bare().args(["state", "list"]).run();
    finished.assert_exit(2).assert_says(&["--state-dir /var/lib/log-tail"]);
}

#[test]
fn all_the_files_that_bore_a_name_are_shown() {
    let place = Place::new();
    drop(store(&place.path("state")));
    let finished = state(&place.path("state"), &["show", "/log/app.log"]);
    let text = finished.assert_exit(0).text();
    assert_eq!(text.matches("path        /log/app.log\n").count(), 3, "{text}");
    assert!(
        text.contains("found at    /log/app.log.2\n") && text.contains("born        unknown\n"),
        "{text}"
    );
}

#[test]
fn a_name_that_is_not_utf8_is_listed_and_forgotten() {
    let place = Place::new();
    let name = OsStr::from_bytes(b"/log/\xff\x1b.log");
    let mut store = store(&place.path("state"));
    let id: CheckpointId = store.next_id();
    store.commit(&[(id, Some(checkpoint(name, 1)))].into()).unwrap();
    drop(store);
    let text = state(&place.path("state"), &["list"]).assert_exit(0).text();
    assert!(text.contains("/log/\u{fffd}\\u{1b}.log"), "{text}");
    let finished = state(&place.path("state"), &["list", "--json"]);
    let entries: Value = serde_json::from_slice(&finished.assert_exit(0).stdout).unwrap();
    assert_eq!(entries[4]["path_base64"], "L2xvZy//Gy5sb2c=", "{entries}");
    let forget =
        LogTail::bare().args(["state", "forget", "--state-dir"]).arg(place.path("state")).arg(name).run();
    forget.assert_exit(0);
    assert_eq!(known(&place.path("state")).len(), 4);
}

#[test]
fn names_are_forgotten_all_or_none_and_only_while_nobody_uses_the_store() {
    let place = Place::new();
    let dir = place.path("state");
    let in_use = store(&dir);
    let before = known(&dir);
    let refused = state(&dir, &["forget", "/log/app.log"]);
    let pid = std::process::id().to_string();
    refused.assert_exit(1).assert_says(&[&pid]);
    drop(in_use);

    let refused = state(&dir, &["forget", "/log/app.log", "/log/no.log"]);
    refused.assert_exit(1).assert_says(&["nothing is known of '/log/no.log'"]);
    assert_eq!(known(&dir), before);

    state(&dir, &["forget", "/log/app.log"]).assert_exit(0);
    assert_eq!(known(&dir), [("/log/other.log".to_owned(), 8)]);
}

#[test]
fn what_cannot_be_read_is_said_and_left_as_it_is() {
    let place = Place::new();
    let missing = place.path("missing");
    let finished = state(&missing, &["list"]);
    finished.assert_exit(1).assert_says(&["there is no state directory"]);
    assert!(!missing.exists());

    let file = place.path("checkpoints.redb");
    fs::write(&file, "no store").unwrap();
    for args in [&["list"][..], &["show", "a"], &["forget", "a"]] {
        let finished = state(place.dir(), args);
        finished.assert_exit(1).assert_says(&["unreadable"]);
    }
    assert_eq!(fs::read(&file).unwrap(), b"no store");
    assert_eq!(fs::read_dir(place.dir()).unwrap().count(), 1);
}
