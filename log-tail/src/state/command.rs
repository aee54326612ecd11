//! `log-tail state list|show|forget`: what a state directory knows, as a table or json, and making it forget.
//!
//! Reading needs no lock and changes nothing, so it works while another log-tail follows. Forgetting does need
//! the lock: a log-tail that follows would only write what it knows again.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::{
    cli::{State, StateAction},
    record::device,
    run::Ended,
    state::{
        Checkpoint, CheckpointId,
        image::{Changes, Contents},
        snapshot,
        store::Store,
    },
};

/// Does what was asked for.
///
/// # Errors
/// Where the state directory cannot be read, or names nothing that was asked for; and where standard output
/// fails.
pub fn run(settings: &State) -> anyhow::Result<Ended> {
    let dir = &settings.state_dir;
    match &settings.action {
        StateAction::List { json } => {
            let contents = snapshot::read(dir)?;
            let entries = entries(&contents);
            print(&if *json { to_json(&entries)? } else { table(&entries) })?;
        }
        StateAction::Show { path, json } => {
            let contents = snapshot::read(dir)?;
            check_known(dir, &contents, std::slice::from_ref(path))?;
            let entries: Vec<_> =
                entries(&contents).into_iter().filter(|entry| entry.checkpoint.path == *path).collect();
            print(&if *json {
                to_json(&entries)?
            } else {
                entries.iter().map(page).collect::<Vec<_>>().join("\n")
            })?;
        }
        StateAction::Forget { paths } => forget(dir, paths)?,
    }
    Ok(Ended::Well)
}

fn forget(dir: &Path, paths: &[PathBuf]) -> anyhow::Result<()> {
    // Looked at first, because to open an unreadable store is to move it aside, and to begin a new one.
    check_known(dir, &snapshot::read(dir)?, paths)?;
    let opened = Store::open(dir)?;
    let mut store = opened.store;
    if let Some(moved) = opened.moved_aside {
        bail!("{moved}");
    }
    let wanted = store.checkpoints().filter(|(_, checkpoint)| paths.contains(&checkpoint.path));
    let changes: Changes = wanted.map(|(id, _)| (id, None)).collect();
    store.commit(&changes)?;
    Ok(())
}

/// All of the names must be known, or nothing is done.
fn check_known(dir: &Path, contents: &Contents, paths: &[PathBuf]) -> anyhow::Result<()> {
    for path in paths {
        if !contents.checkpoints.values().any(|checkpoint| checkpoint.path == *path) {
            bail!(
                "nothing is known of '{}' in '{}'; see the names that are with: log-tail state list --state-dir {}",
                plain(path),
                plain(dir),
                plain(dir)
            );
        }
    }
    Ok(())
}

/// A checkpoint and what it means beside the others.
struct Entry<'a> {
    id: CheckpointId,
    checkpoint: &'a Checkpoint,
    state: FileState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum FileState {
    /// It bears the name.
    Followed,
    /// It bore the name, and there may be more to read in it.
    Rotated,
    /// It was read to its end and let go.
    Finished,
}

impl FileState {
    fn word(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Rotated => "rotated",
            Self::Finished => "finished",
        }
    }
}

/// By name, and the files of a name in the order in which they bore it.
fn entries(contents: &Contents) -> Vec<Entry<'_>> {
    let mut latest = BTreeMap::new();
    for (id, checkpoint) in &contents.checkpoints {
        latest.insert(&checkpoint.path, *id);
    }
    let mut entries: Vec<_> = contents
        .checkpoints
        .iter()
        .map(|(id, checkpoint)| {
            let state = if checkpoint.finished {
                FileState::Finished
            } else if checkpoint.located != checkpoint.path || latest.get(&checkpoint.path) != Some(id) {
                FileState::Rotated
            } else {
                FileState::Followed
            };
            Entry { id: *id, checkpoint, state }
        })
        .collect();
    entries.sort_by_key(|entry| (&entry.checkpoint.path, entry.id));
    entries
}

fn table(entries: &[Entry<'_>]) -> String {
    let mut rows = vec![["PATH", "OFFSET", "INODE", "DEVICE", "LAST SEEN", "STATE"].map(str::to_owned)];
    rows.extend(entries.iter().map(|Entry { id: _, checkpoint, state }| {
        [
            plain(&checkpoint.path),
            checkpoint.offset.to_string(),
            checkpoint.inode.to_string(),
            device(checkpoint.device),
            time(Duration::from_secs(checkpoint.seen_s)),
            state.word().to_owned(),
        ]
    }));
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let lines = rows.iter().map(|row| {
        let [path, offset, inode, device, seen, state] = row;
        let [path_width, offset_width, inode_width, device_width, seen_width, _] = widths;
        format!(
            "{path:path_width$}  {offset:>offset_width$}  {inode:>inode_width$}  {device:device_width$}  \
             {seen:seen_width$}  {state}\n"
        )
    });
    lines.collect()
}

/// All about one checkpoint, a line a fact.
fn page(Entry { id, checkpoint, state }: &Entry<'_>) -> String {
    let unknown = || "unknown".to_owned();
    let rows = [
        ("path", plain(&checkpoint.path)),
        ("state", state.word().to_owned()),
        ("found at", plain(&checkpoint.located)),
        ("offset", checkpoint.offset.to_string()),
        ("device", device(checkpoint.device)),
        ("inode", checkpoint.inode.to_string()),
        ("generation", checkpoint.generation.map_or_else(unknown, |generation| generation.to_string())),
        ("born", checkpoint.born_ns.map_or_else(unknown, |born| time(Duration::from_nanos(born)))),
        ("last seen", time(Duration::from_secs(checkpoint.seen_s))),
        ("prints", checkpoint.prints.len().to_string()),
        ("id", id.0.to_string()),
    ];
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:10}  {value}\n")).collect();
    lines.concat()
}

/// An entry as json. The order of the fields is the order in the object.
#[derive(Serialize)]
struct Json {
    id: u64,
    /// Where a path is not UTF-8, with U+FFFD in it, and its bytes beside it.
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    located: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    located_base64: Option<String>,
    state: FileState,
    offset: u64,
    /// `MAJOR:MINOR`, as in the json of the records.
    dev: String,
    inode: u64,
    generation: Option<u32>,
    born: Option<String>,
    last_seen: String,
    prints: usize,
}

fn to_json(entries: &[Entry<'_>]) -> anyhow::Result<String> {
    let base64 = |path: &Path| path.to_str().is_none().then(|| STANDARD.encode(path.as_os_str().as_bytes()));
    let entries: Vec<Json> = entries
        .iter()
        .map(|Entry { id, checkpoint, state }| Json {
            id: id.0,
            path: checkpoint.path.to_string_lossy().into_owned(),
            path_base64: base64(&checkpoint.path),
            located: checkpoint.located.to_string_lossy().into_owned(),
            located_base64: base64(&checkpoint.located),
            state: *state,
            offset: checkpoint.offset,
            dev: device(checkpoint.device),
            inode: checkpoint.inode,
            generation: checkpoint.generation,
            born: checkpoint.born_ns.map(|born| time(Duration::from_nanos(born))),
            last_seen: time(Duration::from_secs(checkpoint.seen_s)),
            prints: checkpoint.prints.len(),
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&entries).context("writing json")?;
    text.push('\n');
    Ok(text)
}

/// UTC, since 1970. humantime panics after the year 9999, and a store may say anything.
fn time(since_epoch: Duration) -> String {
    const YEAR_10000_S: u64 = 253_402_300_800;
    match SystemTime::UNIX_EPOCH.checked_add(since_epoch) {
        Some(time) if since_epoch.as_secs() < YEAR_10000_S => humantime::format_rfc3339(time).to_string(),
        _ => format!("{} s after 1970", since_epoch.as_secs()),
    }
}

/// A path that does what it likes to neither the table nor the terminal.
fn plain(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::checkpoint::tests::checkpoint;

    #[test]
    fn the_newest_file_of_a_name_is_followed_and_the_others_are_rotated() {
        let at_home = |name: &str| Checkpoint { located: name.into(), ..checkpoint(name, 1) };
        let mut contents = Contents::default();
        let finished = Checkpoint { finished: true, ..checkpoint("a", 1) };
        for (id, checkpoint) in [(3, at_home("a")), (1, finished), (2, at_home("a")), (4, at_home("0"))] {
            contents.checkpoints.insert(CheckpointId(id), checkpoint);
        }
        let states: Vec<_> = entries(&contents).iter().map(|entry| (entry.id.0, entry.state)).collect();
        assert_eq!(
            states,
            [
                (4, FileState::Followed),
                (1, FileState::Finished),
                (2, FileState::Rotated),
                (3, FileState::Followed)
            ]
        );
    }

    #[test]
    fn any_number_is_some_time() {
        assert_eq!(time(Duration::from_secs(1_700_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(time(Duration::from_secs(253_402_300_799)), "9999-12-31T23:59:59Z");
        assert_eq!(time(Duration::from_secs(253_402_300_800)), "253402300800 s after 1970");
        assert_eq!(time(Duration::from_secs(u64::MAX)), "18446744073709551615 s after 1970");
    }

    #[test]
    fn a_name_cannot_break_the_table() {
        assert_eq!(plain(Path::new("a\n\u{1b}[2Jb\u{e4}")), "a\\n\\u{1b}[2Jbä");
    }
}
