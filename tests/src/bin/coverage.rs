//! Does everything that can be done to a followed file, and prints what log-tail made of each.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;
use log_tail_tests::{
    backend::backend_here,
    ways::{
        self,
        measure::{Outcome, measure},
        places::{Kind, Place},
    },
};

/// Does everything that can be done to a followed file, and prints what log-tail made of each
#[derive(Parser)]
struct Options {
    /// On which filesystem
    dir: PathBuf,
    /// What is to stand between writer, follower and filesystem
    #[arg(long, value_enum, default_value = "plain")]
    kind: Kind,
    /// Where an overlay's upper directory is to be, if not on the same filesystem
    #[arg(long)]
    upper: Option<PathBuf>,
    /// Only the ways whose names hold this; may be given more than once
    #[arg(long, value_name = "WORDS")]
    way: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let Options { dir, kind, upper, way } = Options::parse();
    let mut all = ways::all();
    if !way.is_empty() {
        all.retain(|known| way.iter().any(|words| known.name.contains(words)));
    }
    let place = Place::new(kind, &dir, upper.as_ref().unwrap_or(&dir));
    let place = place.with_context(|| format!("setting up {kind:?} in {}", dir.display()))?;
    let outcomes = measure(&all, &place, backend_here()).context("making the files that are followed")?;
    let mut status = ExitCode::SUCCESS;
    for (way, outcome) in outcomes {
        println!("{}\t{outcome}", way.name);
        if matches!(outcome, Outcome::Wrong(_)) {
            status = ExitCode::FAILURE;
        }
    }
    Ok(status)
}
