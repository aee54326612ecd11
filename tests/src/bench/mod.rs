//! The benchmarks: each measures several cases in turn, over and over, so that what the machine does meanwhile meets
//! all of them alike. Of each case the median is told, and how far apart the runs were.
//!
//! [`main`] is the whole program `bench`. Absolute figures are of the machine that it ran on, which the report names.

mod backfill;
mod bare;
mod burst;
mod content;
mod counts;
mod figure;
mod floor;
mod follow;
mod goal;
mod idle;
mod latency;
mod least;
mod memory;
mod process;
mod report;
mod rival;
mod write_cost;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use nix::sys::utsname::uname;
use serde_json::json;

use self::{figure::Figure, goal::Goal};
use crate::backend::{Backend, chosen_here};

/// Measure log-tail, case beside case, in turn.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Options {
    /// Only this benchmark; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = name)]
    only: Vec<String>,

    /// Measure every case so many times
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Less of everything: to see that all of it works, and what does not depend on the machine's speed
    #[arg(long)]
    quick: bool,

    /// Write a page with tables and plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write the figures to this file as json
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the figures to this file as markdown tables
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// List the benchmarks
    #[arg(long)]
    list: bool,

    /// Measure nothing, and be what others are measured by
    #[arg(long, value_name = "FILE", num_args = 1.., hide = true)]
    follow_in_a_loop: Vec<PathBuf>,
}

/// How much is measured, and through what.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Of every case.
    runs: u32,
    is_quick: bool,
    has_ebpf: bool,
    /// The processors take turns on one of the host's.
    is_emulated: bool,
}

impl Plan {
    /// What log-tail uses here, as `--backend` takes it.
    fn backend(self) -> &'static str {
        if self.has_ebpf { Backend::Ebpf.word() } else { Backend::Inotify.word() }
    }

    /// Lines of a file that is read from its beginning: with their 107 bytes, 1 GB.
    fn lines(self) -> u64 {
        if self.is_quick { 1_000_000 } else { 10_000_000 }
    }
}

/// What a benchmark found.
#[derive(Debug, Clone, Default)]
struct Measured {
    figures: Vec<Figure>,
    goals: Vec<Goal>,
    curves: Vec<Curve>,
}

/// How something grows with something else. Those of one title share a plot.
#[derive(Debug, Clone)]
struct Curve {
    title: &'static str,
    /// What the axes show, with the unit.
    x: &'static str,
    y: &'static str,
    /// Of the line.
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// Something that is measured.
struct Benchmark {
    name: &'static str,
    what: &'static str,
    measure: fn(Plan) -> Result<Measured>,
}

const ALL: [Benchmark; 9] = [
    Benchmark {
        name: "counts",
        what: "system calls, allocations and instructions: what does not depend on the machine's speed",
        measure: counts::measure,
    },
    Benchmark {
        name: "backfill",
        what: "a file of 10 million lines from its beginning, out of the page cache into a pipe",
        measure: backfill::measure,
    },
    Benchmark {
        name: "memory",
        what: "the most memory that reading takes, of a file of 10 million lines and of one of 100 GB",
        measure: memory::measure,
    },
    Benchmark {
        name: "follow",
        what: "200,000 lines a second into 1, 100 and 10,000 files",
        measure: follow::measure,
    },
    Benchmark { name: "burst", what: "a million lines as fast as one writer can", measure: burst::measure },
    Benchmark {
        name: "latency",
        what: "from before a line is written until it comes out, one line at a time",
        measure: latency::measure,
    },
    Benchmark {
        name: "write-cost",
        what: "what a write of 100 bytes takes, by who watches the file",
        measure: write_cost::measure,
    },
    Benchmark { name: "idle", what: "100,000 files that nobody writes to", measure: idle::measure },
    Benchmark { name: "growth", what: "1,000 files, and more, up to a million", measure: idle::growth },
];

fn name(name: &str) -> Result<String, String> {
    if ALL.iter().any(|benchmark| benchmark.name == name) {
        return Ok(name.to_owned());
    }
    Err("there is no such benchmark; --list lists them".into())
}

/// The program: exit status 1 where something could not be measured, or is not what it must be on any machine.
pub fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for Benchmark { name, what, .. } in ALL {
            println!("{name:<16} {what}");
        }
        return ExitCode::SUCCESS;
    }
    let done = match options.follow_in_a_loop.as_slice() {
        [] => bench(&options),
        files => least::follow(files),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    let processor = processor();
    let machine = machine(&processor)?;
    let has_ebpf = chosen_here().0 == Backend::Ebpf;
    if !has_ebpf {
        eprintln!("bench: without eBPF, which this kernel refuses ('log-tail doctor' tells why)");
    }
    let is_emulated = processor.contains("QEMU TCG");
    let plan = Plan { runs: options.runs, is_quick: options.quick, has_ebpf, is_emulated };
    let (mut results, mut text) = (Vec::new(), String::new());
    for Benchmark { name, what, measure } in ALL {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("bench: {name}: {what}");
            let measured = measure(plan).with_context(|| format!("measuring {name}"))?;
            ensure!(!measured.figures.is_empty(), "{name} has measured nothing");
            let table = figure::table(name, what, &measured.figures) + &goal::table(&measured.goals) + "\n";
            // The others may take long, or fail.
            print!("{table}");
            text += &table;
            results.push((name, what, measured));
        }
    }
    println!("{machine}");
    let _ = writeln!(text, "{machine}");
    let write = |path: &Option<PathBuf>, text: String| match path {
        Some(path) => write(path, &text),
        None => Ok(()),
    };
    write(&options.markdown, text)?;
    write(&options.json, format!("{:#}\n", json(&machine, &results)))?;
    write(&options.html, report::page(&machine, &results)?)?;
    let goals = results.iter().flat_map(|(_, _, measured)| &measured.goals);
    let missed = goals.filter(|goal| goal.is_binding && !goal.is_met()).map(|goal| goal.what.as_str());
    let missed: Vec<&str> = missed.collect();
    ensure!(missed.is_empty(), "more than on any machine is to be: {}", missed.join("; "));
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn json(machine: &str, results: &[(&str, &str, Measured)]) -> serde_json::Value {
    let rows: Vec<_> = results
        .iter()
        .map(|(name, what, Measured { figures, goals, curves })| {
            let figures: Vec<_> = figures.iter().map(Figure::json).collect();
            let goals: Vec<_> = goals.iter().map(Goal::json).collect();
            let curves: Vec<_> = curves
                .iter()
                .map(|Curve { title, x, y, name, points }| {
                    json!({ "title": title, "x": x, "y": y, "name": name, "points": points })
                })
                .collect();
            json!({ "benchmark": name, "what": what, "figures": figures, "goals": goals, "curves": curves })
        })
        .collect();
    json!({ "machine": machine, "benchmarks": rows })
}

/// What it is measured on, in a line.
fn machine(processor: &str) -> Result<String> {
    let kernel = uname().context("asking for the kernel's name")?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(format!("Linux {}, {processors} × {processor}", kernel.release().to_string_lossy()))
}

/// Its model.
fn processor() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_model = |line: &str| Some(line.strip_prefix("model name")?.split_once(": ")?.1.to_owned());
    cpuinfo.lines().find_map(of_model).unwrap_or_else(|| "unknown processor".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_option_is_said() {
        for (line, complaint) in
            [("bench --only nonsense", "--list lists them"), ("bench --runs 0", "0 is not in 1..")]
        {
            let error = Options::try_parse_from(line.split(' ')).expect_err(line).to_string();
            assert!(error.contains(complaint), "{line}: {error}");
        }
    }
}
