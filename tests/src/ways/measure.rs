//! What log-tail makes of each way into a file: whether it was told, and whether the right bytes came out.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Site, Way, names, places::Place};
use crate::{
    backend::Backend,
    run::{LogTail, Running, records},
};

/// How long nothing comes out before nothing will, in an emulated guest with other work beside.
const HINT_TAKES: Duration = Duration::from_secs(8);
/// The same where the sweep is to find it.
const SWEEP_TAKES: Duration = Duration::from_secs(10);
/// How long log-tail may take to look at every file once it says that it follows.
const SETTLING: Duration = Duration::from_secs(1);
const SWEEP: &str = "2s";
/// Nobody waits for this sweep.
const NO_SWEEP: &str = "1h";

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A hint told of it, and the right bytes came out.
    Hinted,
    /// The sweep found it, and the right bytes came out.
    Swept,
    /// Other bytes came out: these.
    Wrong(String),
    /// This filesystem or this kernel does not do such a thing: its word.
    Refused(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hinted => f.write_str("hint"),
            Self::Swept => f.write_str("sweep"),
            Self::Wrong(what) => write!(f, "wrong: {what}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// Does each of them, all side by side, while log-tail follows without a sweep; and those of which not all came out
/// once more, with one. A place can be measured in once for each backend.
///
/// # Errors
/// The files cannot be made.
pub fn measure(ways: &[Way], place: &Place, backend: Backend) -> io::Result<Vec<(Way, Outcome)>> {
    let folders = ["hinted", "swept"].map(|attempt| format!("{}-{attempt}", backend.word()));
    for folder in &folders {
        let dir = place.made().join(folder);
        std::fs::create_dir(&dir)?;
        for way in ways {
            Site::make(&dir.join(way.folder()))?;
        }
    }
    place.ready()?;
    let mut outcomes = attempt(ways, place, &folders[0], backend, NO_SWEEP, HINT_TAKES);
    let is_wrong = |outcome: &Outcome| matches!(outcome, Outcome::Wrong(_));
    let again: Vec<Way> =
        ways.iter().zip(&outcomes).filter(|(_, outcome)| is_wrong(outcome)).map(|(way, _)| *way).collect();
    if !again.is_empty() {
        let swept = attempt(&again, place, &folders[1], backend, SWEEP, SWEEP_TAKES);
        let swept = swept.into_iter().map(|outcome| match outcome {
            Outcome::Hinted => Outcome::Swept,
            other => other,
        });
        for (outcome, swept) in outcomes.iter_mut().filter(|outcome| is_wrong(outcome)).zip(swept) {
            *outcome = swept;
        }
    }
    Ok(ways.iter().copied().zip(outcomes).collect())
}

/// One way, while it is done.
struct Trial {
    way: Way,
    site: Site,
    expected: Vec<u8>,
    /// It ended with this.
    ended: Option<Outcome>,
}

fn attempt(
    ways: &[Way],
    place: &Place,
    folder: &str,
    backend: Backend,
    sweep: &str,
    patience: Duration,
) -> Vec<Outcome> {
    let site = |way: &Way| {
        let within = |dir: PathBuf| dir.join(folder).join(way.folder());
        Site::at(within(place.written()), within(place.followed()))
    };
    let trial = |way: &Way| Trial { way: *way, site: site(way), expected: Vec::new(), ended: None };
    let mut trials: Vec<Trial> = ways.iter().map(trial).collect();
    let logs = trials.iter().map(|trial| trial.site.followed_log());
    let tail =
        LogTail::through(backend).args(["--sweep", sweep, "--format", "json", "-n", "0"]).args(logs).follow();
    // What is done before everything was looked at once needs no hint.
    std::thread::sleep(SETTLING);
    let rounds = ways.iter().map(|way| way.acts.len()).max().unwrap_or(0);
    for round in 0..rounds {
        for trial in trials.iter_mut().filter(|trial| trial.ended.is_none()) {
            match trial.way.acts.get(round).map(|act| act(&trial.site)) {
                Some(Ok(bytes)) => trial.expected.extend(bytes),
                Some(Err(error)) => trial.ended = Some(Outcome::Refused(error.to_string())),
                None => {}
            }
        }
        wait(&mut trials, &tail, patience);
    }
    let ended = tail.terminate();
    let came = by_path(&ended.stdout);
    for trial in trials.iter_mut().filter(|trial| trial.ended.is_none()) {
        let bytes = came.get(&trial.site.followed_log()).cloned().unwrap_or_default();
        if bytes != trial.expected {
            trial.ended = Some(Outcome::Wrong(format!("when it ended, {}", shown(&bytes))));
        }
    }
    let said = ended.stderr;
    for Trial { way, ended, .. } in &trials {
        if let Some(Outcome::Wrong(what)) = ended {
            eprintln!("{}, sweep {sweep}: {what}; log-tail said: {said:#?}", way.name);
        }
    }
    for trial in &trials {
        names::unmount(trial.site.dir());
    }
    trials.into_iter().map(|trial| trial.ended.unwrap_or(Outcome::Hinted)).collect()
}

/// Waits until all has come out, or nothing more does.
fn wait(trials: &mut [Trial], tail: &Running, patience: Duration) {
    let mut since = (Instant::now(), 0);
    loop {
        let stdout = tail.stdout();
        let came = by_path(&stdout);
        let of = |trial: &Trial| came.get(&trial.site.followed_log()).cloned().unwrap_or_default();
        let late = trials.iter_mut().filter(|trial| trial.ended.is_none() && of(trial) != trial.expected);
        let late: Vec<&mut Trial> = late.collect();
        if late.is_empty() {
            return;
        }
        if stdout.len() != since.1 {
            since = (Instant::now(), stdout.len());
        } else if since.0.elapsed() > patience {
            for trial in late {
                trial.ended = Some(Outcome::Wrong(shown(&of(trial))));
            }
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What came out of each file.
fn by_path(stdout: &[u8]) -> HashMap<PathBuf, Vec<u8>> {
    let mut files: HashMap<PathBuf, Vec<u8>> = HashMap::new();
    for record in records(stdout) {
        let Some(path) = record["path"].as_str() else { continue };
        let line = match (record["line"].as_str(), record["line_base64"].as_str()) {
            (Some(line), _) => line.as_bytes().to_vec(),
            (None, Some(line)) => STANDARD.decode(line).unwrap_or_default(),
            (None, None) => continue,
        };
        let bytes = files.entry(Path::new(path).to_owned()).or_default();
        bytes.extend(line);
        bytes.push(b'\n');
    }
    files
}

fn shown(bytes: &[u8]) -> String {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    format!("{} bytes, {start:?}", bytes.len())
}
