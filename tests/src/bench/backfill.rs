//! A file that is there already, from its beginning to its end, out of the page cache into a pipe that somebody reads
//! as fast as it comes.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};

use super::{
    Measured, Plan, bare,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
    process::{self, seconds_since},
    rival::{self, Rival},
};
use crate::{
    place::Place,
    run::binary,
    torture::subject::{FLUENT_BIT, Subject as _},
};

/// Of those that take long, so many runs at most.
const SLOW_RUNS: u32 = 3;

/// What is measured of a program that ends at the end of the file.
struct Case {
    figure: Figure,
    words: Vec<String>,
    cpu: Vec<f64>,
    memory: Vec<f64>,
}

impl Case {
    fn new(name: &str, words: &[&str]) -> Self {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Self { figure: Figure::new(name, "s"), words, cpu: Vec::new(), memory: Vec::new() }
    }

    fn run(&mut self, file: &Path) -> Result<()> {
        let (program, args) = self.words.split_first().context("a command has a program")?;
        let mut command = Command::new(program);
        command.args(args).arg(file).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
        let began = Instant::now();
        let mut producer = command.spawn().with_context(|| format!("starting {program}"))?;
        let pipe = producer.stdout.take().context("a pipe")?;
        let mut consumer =
            Command::new("cat").stdin(pipe).stdout(Stdio::null()).spawn().context("starting cat")?;
        let ended = process::wait(producer).with_context(|| format!("running {:?}", self.words))?;
        consumer.wait().context("waiting for cat")?;
        self.figure.values.push(seconds_since(began));
        self.cpu.push(ended.cpu_s);
        self.memory.push(ended.most_memory_kib / 1024.0);
        Ok(())
    }

    fn memory(&self) -> Figure {
        Figure { values: self.memory.clone(), ..Figure::new(format!("{}: memory", self.figure.case), "MiB") }
    }
}

/// Measures every case in turn, so many times.
#[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
pub fn measure(plan: Plan) -> Result<Measured> {
    let lines = plan.lines();
    let place = Place::new();
    let file = place.path("app.log");
    content::file(&file, lines)?;
    let log_tail = binary().display().to_string();
    let from_start = [log_tail.as_str(), "--no-follow", "-n", "+1"];
    let mut cases = [
        Case::new("cat", &["cat"]),
        Case::new("wc -l", &["wc", "-l"]),
        Case::new("tail -n +1", &["tail", "-n", "+1"]),
        Case::new("log-tail, text", &from_start),
        Case::new("log-tail, json", &[&from_start[..], &["--format", "json"]].concat()),
    ];
    // Once for the page cache, and for those who start for the first time.
    for case in &mut cases {
        case.run(&file)?;
        (case.figure.values, case.cpu, case.memory) = Default::default();
    }
    let mut bare = bare::LOOPS.map(|(what, by)| (Figure::new(what, "s"), by));
    let followers = rival::all("inotify")?;
    let mut slow: Vec<_> = followers
        .iter()
        .filter(|subject| !subject.is_ours() && subject.name() != "tail")
        .map(|subject| (subject, Figure::new(subject.name(), "s")))
        .collect();
    for run in 0..plan.runs {
        for case in &mut cases {
            case.run(&file)?;
        }
        for (figure, by) in &mut bare {
            figure.values.push(bare::copy(&file, *by)?);
        }
        if run < SLOW_RUNS {
            for (subject, figure) in &mut slow {
                let began = Instant::now();
                let rival = Rival::start(subject.as_ref(), vec![file.clone()], None)?;
                rival.wait_for(lines * LINE_BYTES as u64)?;
                figure.values.push(seconds_since(began));
            }
        }
    }
    let [_, _, tail, text, json] = &cases;
    let megabytes = (lines * LINE_BYTES as u64) as f64 / 1e6;
    let per_core = Figure {
        values: json.cpu.iter().map(|cpu| megabytes / cpu).collect(),
        ..Figure::new("log-tail, json: of input by one processor", "MB/s")
    };
    let mut goals = vec![
        Goal::ratio(&tail.figure, &text.figure, Limit::AtLeast(3.0)),
        Goal::ratio(&text.figure, &bare[0].0, Limit::AtMost(1.1)),
        Goal::of(&per_core, Limit::AtLeast(400.0)),
        Goal::of(&text.memory(), Limit::AtMost(24.0)).binding(),
        Goal::of(&json.memory(), Limit::AtMost(24.0)).binding(),
    ];
    for (subject, slow) in &slow {
        goals.push(Goal::ratio(slow, &text.figure, Limit::AtLeast(10.0)));
        if subject.name() == FLUENT_BIT.name() {
            goals.push(Goal::ratio(slow, &json.figure, Limit::AtLeast(5.0)));
        }
    }
    let memory = [text.memory(), json.memory()];
    let mut figures: Vec<Figure> = bare.into_iter().map(|(figure, _)| figure).collect();
    figures.extend(cases.into_iter().map(|case| case.figure));
    figures.extend(slow.into_iter().map(|(_, figure)| figure));
    figures.push(per_core);
    figures.extend(memory);
    Ok(Measured { figures, goals, curves: Vec::new() })
}
