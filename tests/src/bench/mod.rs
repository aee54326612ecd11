//! The benchmarks: each measures several cases in turn, over and over, so that what the machine does meanwhile meets
//! all of them alike. Of each case the median is told, and how far apart the runs were.
//!
//! [`main`] is the whole program `bench`. Absolute figures are of the machine that it ran on, which the report names.

mod figure;
mod write_cost;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use nix::sys::utsname::uname;
use serde_json::json;

use self::figure::Figure;

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

    /// Write the figures to this file as json
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the figures to this file as markdown tables
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// List the benchmarks
    #[arg(long)]
    list: bool,
}

/// Something that is measured.
struct Benchmark {
    name: &'static str,
    what: &'static str,
    measure: fn(u32) -> Result<Vec<Figure>>,
}

const ALL: [Benchmark; 1] = [Benchmark {
    name: "write-cost",
    what: "what a write of 100 bytes takes, by who watches the file",
    measure: write_cost::measure,
}];

fn name(name: &str) -> Result<String, String> {
    if ALL.iter().any(|benchmark| benchmark.name == name) {
        return Ok(name.to_owned());
    }
    Err("there is no such benchmark; --list lists them".into())
}

/// The program: exit status 1 where something could not be measured.
pub fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for Benchmark { name, what, .. } in ALL {
            println!("{name:<16} {what}");
        }
        return ExitCode::SUCCESS;
    }
    match bench(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    let machine = machine()?;
    let mut results = Vec::new();
    for Benchmark { name, what, measure } in ALL {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("bench: {name}: {what}");
            let figures = measure(options.runs).with_context(|| format!("measuring {name}"))?;
            ensure!(!figures.is_empty(), "{name} has measured nothing");
            results.push((name, what, figures));
        }
    }
    let text: Vec<String> =
        results.iter().map(|(name, what, figures)| figure::table(name, what, figures)).collect();
    let text = format!("{}\n{machine}\n", text.concat());
    print!("{text}");
    if let Some(path) = &options.markdown {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &options.json {
        let rows: Vec<_> = results
            .iter()
            .map(|(name, what, figures)| {
                let figures: Vec<_> = figures.iter().map(Figure::json).collect();
                json!({ "benchmark": name, "what": what, "figures": figures })
            })
            .collect();
        let text = format!("{:#}\n", json!({ "machine": machine, "benchmarks": rows }));
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// What it is measured on, in a line.
fn machine() -> Result<String> {
    let kernel = uname().context("asking for the kernel's name")?;
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_model = |line: &str| Some(line.strip_prefix("model name")?.split_once(": ")?.1.to_owned());
    let model = cpuinfo.lines().find_map(of_model).unwrap_or_else(|| "unknown processor".to_owned());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(format!("Linux {}, {processors} × {model}", kernel.release().to_string_lossy()))
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
