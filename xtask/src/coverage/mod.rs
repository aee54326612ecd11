//! `cargo xtask coverage`: does everything that can be done to a followed file, on every kernel and in every place,
//! and writes what log-tail made of it to `docs/coverage.md`.
//!
//! The program that does it is `coverage` of the tests' package.

mod places;
mod table;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    guest::{self, Filesystem, Modules, Stream},
    kernel::Series,
    static_build,
    vm::{MachineOptions, Needs},
    vm_test, workspace,
};
use places::{MARK, PLACES, script};
use table::{Cell, Measured};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this kernel; may be given more than once. Without it: every kernel that we test on.
    #[arg(long)]
    kernel: Vec<Series>,

    /// The file to write.
    #[arg(long, value_name = "FILE", default_value = "docs/coverage.md")]
    output: PathBuf,

    #[command(flatten)]
    machine: MachineOptions,
}

/// Filesystems that would be places of their own, where a kernel had them.
const WANTED: [&str; 1] = ["f2fs"];

/// What is booted once.
struct Boot {
    kernel: Series,
    backend: &'static str,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let programs = static_build::with("coverage")?;
    let kernels = if options.kernel.is_empty() { vm_test::tested()? } else { options.kernel.clone() };
    let newest = kernels.last().cloned();
    let mut boots: Vec<_> = kernels.into_iter().map(|kernel| Boot { kernel, backend: "ebpf" }).collect();
    // For comparison.
    boots.extend(newest.map(|kernel| Boot { kernel, backend: "inotify" }));
    let measured = guest::side_by_side(&boots, |boot| {
        measure(boot, options, &programs).with_context(|| format!("kernel {}", boot.kernel))
    });
    let measured = measured.into_iter().collect::<Result<Vec<Measured>>>()?;
    let path = workspace::root().join(&options.output);
    let page = table::page(&measured);
    fs::write(&path, &page.text).with_context(|| format!("could not write {}", path.display()))?;
    println!("{}", page.summary);
    println!("the tables are in {}", path.display());
    for gap in &page.unexplained {
        println!("not explained: {gap}");
    }
    Ok(if page.unexplained.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(boot: &Boot, options: &Options, programs: &[(String, PathBuf)]) -> Result<Measured> {
    let needs = Needs {
        files: programs.to_vec(),
        modules: ["overlay", "loop"].map(str::to_owned).into(),
        filesystems: vec![Filesystem::Xfs, Filesystem::Btrfs],
    };
    let guest = options.machine.guest(&boot.kernel, needs, script(boot.backend))?;
    let release = guest.kernel.release.clone();
    let modules = Modules::of(&guest.kernel.modules())?;
    let lacks = WANTED.into_iter().filter(|filesystem| !modules.has(filesystem)).collect();
    eprintln!("xtask: {release}, {}: booting", boot.backend);
    let (mut text, mut said) = (String::new(), String::new());
    let outcome = guest.boot(&mut |stream, bytes| {
        let bytes = String::from_utf8_lossy(bytes);
        match stream {
            Stream::Stdout => {
                for place in bytes.lines().filter_map(|line| line.strip_prefix(MARK)) {
                    eprintln!("xtask: {release}, {}: {}", boot.backend, place.trim());
                }
                text.push_str(&bytes);
            }
            Stream::Stderr => said.push_str(&bytes),
        }
        Ok(())
    })?;
    let status = outcome.status()?;
    let kept = workspace::target().join(format!("coverage/{release}-{}.txt", boot.backend));
    fs::create_dir_all(workspace::target().join("coverage"))
        .and_then(|()| fs::write(&kept, &text))
        .with_context(|| format!("could not write {}", kept.display()))?;
    let cells = cells(&text);
    if status != 0 || cells.is_empty() {
        bail!("the guest ended with status {status} after {} results; it said: {said}", cells.len());
    }
    Ok(Measured { release, backend: boot.backend, lacks, cells })
}

/// What the guest printed: a line a place, and below it a line each for what was done there.
fn cells(text: &str) -> Vec<Cell> {
    let mut place = None;
    let mut cells = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(MARK) {
            place = PLACES.iter().position(|place| place.name == name.trim());
        } else if let (Some(place), Some((way, outcome))) = (place, line.split_once('\t')) {
            cells.push(Cell { place, way: way.to_owned(), outcome: outcome.to_owned() });
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_belong_to_the_place_above_them() {
        let text =
            format!("{MARK} xfs\nwrite\thint\nlibaio\tsweep\nsome other line\n{MARK} tmpfs\nwrite\thint\n");
        let found: Vec<_> =
            cells(&text).into_iter().map(|cell| (PLACES[cell.place].name, cell.way, cell.outcome)).collect();
        let expected = [("xfs", "write", "hint"), ("xfs", "libaio", "sweep"), ("tmpfs", "write", "hint")];
        assert_eq!(found, expected.map(|(place, way, outcome)| (place, way.to_owned(), outcome.to_owned())));
    }
}
