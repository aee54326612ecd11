//! `cargo xtask vm-test`: the end-to-end tests as root, with eBPF, on each kernel and filesystem.

mod transcript;

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};

use crate::{
    guest::{self, Filesystem, Stream},
    kernel::{Series, TESTED},
    process, static_build,
    vm::{MachineOptions, Needs},
    workspace::Executable,
};
use transcript::{MARK, Run, Transcript};

/// Where the tests put their files: a name for people, and the folder in the guest.
const FILESYSTEMS: [(&str, &str); 4] = [("ext4", "/ext4"), (TMPFS, "/tmp"), (BTRFS, "/btrfs"), (XFS, "/xfs")];
/// The disks that this takes besides the guest's own.
pub const DISKS: [Filesystem; 2] = [Filesystem::Btrfs, Filesystem::Xfs];
/// Where the kernel's number of a file is not enough to know it by.
const BTRFS: &str = "btrfs";
/// What is different there.
const ON_BTRFS: [&str; 3] = [SUBVOLUMES, "missed", "truncate"];
/// What a filesystem in memory does otherwise does not change from one kernel to the next: it is looked at on the oldest
/// and the newest one, and takes five minutes on each.
const TMPFS: &str = "tmpfs";
/// The one whose power is cut.
const XFS: &str = "xfs";
const ON_XFS: [&str; 1] = ["power"];
/// Where it is mounted.
const DISK: &str = "LOG_TAIL_TEST_DISK";
/// Needs a filesystem that has them.
const SUBVOLUMES: &str = "subvolumes";
/// Tests that have nothing to do with what a filesystem does: they run on the first one only. What is observed of each way
/// of writing on each filesystem is in `docs/coverage.md`.
const ON_ONE_FILESYSTEM: [&str; 17] = [
    "backends",
    "bad_input",
    "crash",
    "doctor",
    "ending",
    "idle",
    "limits",
    "metrics",
    "observe",
    "observe_lost",
    "output",
    "preempted",
    "promises",
    "remote",
    "state_command",
    "stress",
    "unload",
];
/// Tests that run on this machine only: what they show does not depend on the backend, and an emulated machine
/// takes minutes for them. `cargo xtask torture --vm` restarts through eBPF.
const NOT_IN_GUESTS: [&str; 6] =
    ["crash_copied", "state", "state_copied", "state_dir", "state_rotated", "torture"];
/// What the tests need besides what every guest has: containers write through overlays, and others behind FUSE and NFS.
const MODULES: [&str; 4] = ["overlay", "fuse", "nfs", "nfsv3"];
/// Tests at once: more than the guest has processors, because many wait for a sweep.
const THREADS: u32 = 4;
/// How much the doorbell's stress test writes, and how much `observe` is to see all of; passed on to the guest where
/// they are set.
const WRITES: [&str; 2] = ["LOG_TAIL_STRESS_WRITES", "LOG_TAIL_OBSERVED_WRITES"];
/// How often the crash test kills and the power is cut, and how often where that is not set: a guest is twenty times
/// slower.
const TIMES: [(&str, &str); 2] = [("LOG_TAIL_CRASHES", "20"), ("LOG_TAIL_POWER_CUTS", "6")];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this kernel; may be given more than once. Without it: every kernel that we test on.
    #[arg(long)]
    kernel: Vec<Series>,

    /// Only the tests whose names contain this.
    #[arg(long, value_name = "FILTER")]
    test: Option<String>,

    #[command(flatten)]
    machine: MachineOptions,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { kernel, test, machine } = options;
    let programs = static_build::all()?;
    let kernels = if kernel.is_empty() { tested()? } else { kernel.clone() };
    let reports = on_each(&kernels, machine, &programs, test.as_deref());
    for report in &reports {
        report.print_failures();
    }
    println!("\n{}", Row::HEADER);
    for row in reports.iter().flat_map(|report| &report.rows) {
        println!("{row}");
    }
    Ok(if reports.iter().all(Report::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Boots each kernel and runs all tests there, some kernels at once. The reports are in the kernels' order.
pub fn on_each(
    kernels: &[Series],
    machine: &MachineOptions,
    programs: &static_build::Programs,
    filter: Option<&str>,
) -> Vec<Report> {
    guest::side_by_side(kernels, |kernel| on(kernel, machine, programs, filter))
}

/// All kernels that we test on.
pub fn tested() -> Result<Vec<Series>> {
    TESTED.iter().map(|version| version.parse()).collect()
}

/// What came of one kernel.
pub struct Report {
    pub rows: Vec<Row>,
    /// Each with the whole output of what failed.
    failures: Vec<String>,
}

impl Report {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    pub fn print_failures(&self) {
        for failure in &self.failures {
            println!("\n{failure}");
        }
    }
}

/// One kernel with one filesystem.
#[derive(Debug, Default)]
pub struct Row {
    kernel: String,
    filesystem: String,
    passed: u32,
    failed: u32,
    ignored: u32,
    seconds: f64,
    /// What went wrong besides tests that failed.
    remark: String,
}

impl Row {
    pub const HEADER: &str = "kernel                          filesystem  passed  failed  ignored  seconds";
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kernel, filesystem, passed, failed, ignored, seconds, remark } = self;
        let line = format!(
            "{kernel:<31} {filesystem:<10}  {passed:>6}  {failed:>6}  {ignored:>7}  {seconds:>7.1}  {remark}"
        );
        f.write_str(line.trim_end())
    }
}

/// Boots one kernel and runs all tests there. Whatever goes wrong is in the report.
pub fn on(
    series: &Series,
    machine: &MachineOptions,
    programs: &static_build::Programs,
    filter: Option<&str>,
) -> Report {
    try_on(series, machine, programs, filter).unwrap_or_else(|error| {
        let failure = format!("kernel {series}: {error:#}");
        eprintln!("xtask: {failure}");
        let remark = "not run".to_owned();
        Report {
            rows: vec![Row { kernel: series.to_string(), remark, ..Row::default() }],
            failures: vec![failure],
        }
    })
}

fn try_on(
    series: &Series,
    machine: &MachineOptions,
    programs: &static_build::Programs,
    filter: Option<&str>,
) -> Result<Report> {
    let filesystems: Vec<_> = filesystems_of(series).collect();
    let script = script(&filesystems, &programs.tests, filter, machine.timeout);
    let modules = MODULES.map(str::to_owned).into();
    let needs = Needs { files: programs.clone().into_files(), modules, filesystems: DISKS.into() };
    let guest = machine.guest(series, needs, script)?;
    let release = guest.kernel.release.clone();
    println!("kernel {release}: booting");
    let booted = Instant::now();
    let mut transcript = Transcript::default();
    let outcome = guest.boot(&mut |stream, bytes| {
        match stream {
            Stream::Stdout => transcript.take(bytes, &mut |line| println!("kernel {release}: {line}")),
            Stream::Stderr => eprint!("{}", String::from_utf8_lossy(bytes)),
        }
        Ok(())
    });
    let ended = outcome.with_context(|| format!("could not boot {release}"))?.status();
    println!("kernel {release}: ended after {:.1} s", booted.elapsed().as_secs_f64());

    let runs = transcript.finish();
    let mut failures: Vec<_> = runs.iter().filter_map(|run| run.failure(&release)).collect();
    let mut rows: Vec<_> = filesystems.iter().map(|(name, _)| row(&release, name, &runs)).collect();
    let expected = filesystems.iter().map(|(name, _)| tests_on(name, &programs.tests).count()).sum::<usize>();
    if let Err(lost) = ended {
        failures.push(format!("kernel {release}: {lost:#}"));
    } else if runs.len() != expected {
        failures.push(format!("kernel {release}: {} test executables ran of {expected}", runs.len()));
    }
    // A filter may leave nothing for some.
    let is_filtered = filter.is_some() && rows.iter().any(|row| row.passed + row.failed > 0);
    for row in rows.iter_mut().filter(|_| !is_filtered) {
        if row.passed + row.failed == 0 {
            failures.push(format!("kernel {release}, {}: not a single test ran", row.filesystem));
            "nothing ran".clone_into(&mut row.remark);
        }
    }
    if let Some(last) = rows.last_mut().filter(|row| row.remark.is_empty() && !failures.is_empty()) {
        "see above".clone_into(&mut last.remark);
    }
    Ok(Report { rows, failures })
}

fn row(release: &str, filesystem: &str, runs: &[Run]) -> Row {
    let mut row = Row { kernel: release.to_owned(), filesystem: filesystem.to_owned(), ..Row::default() };
    for run in runs.iter().filter(|run| run.filesystem == filesystem) {
        let counts = run.counts.clone().unwrap_or_default();
        row.passed += counts.passed;
        row.failed += counts.failed;
        row.ignored += counts.ignored;
        row.seconds += run.seconds;
        if run.counts.is_none() {
            row.remark = format!("{} did not finish", run.executable);
        }
    }
    row
}

fn filesystems_of(series: &Series) -> impl Iterator<Item = (&'static str, &'static str)> {
    let name = series.to_string();
    let is_at_an_end = [TESTED.first(), TESTED.last()].iter().flatten().any(|end| **end == name);
    FILESYSTEMS.into_iter().filter(move |(filesystem, _)| is_at_an_end || *filesystem != TMPFS)
}

fn tests_on<'a>(filesystem: &str, tests: &'a [Executable]) -> impl Iterator<Item = &'a Executable> {
    let is_first = filesystem == FILESYSTEMS[0].0;
    tests.iter().filter(move |test| {
        let name = test.name.as_str();
        if filesystem == BTRFS {
            return ON_BTRFS.contains(&name);
        }
        if filesystem == XFS {
            return ON_XFS.contains(&name);
        }
        name != SUBVOLUMES
            && !ON_XFS.contains(&name)
            && !NOT_IN_GUESTS.contains(&name)
            && (is_first || !ON_ONE_FILESYSTEM.contains(&name))
    })
}

/// Runs every executable where it is to run, with marks that tell whose output is whose.
fn script(
    filesystems: &[(&str, &str)],
    tests: &[Executable],
    filter: Option<&str>,
    guest_seconds: u64,
) -> String {
    // One executable that hangs must not take the others' time.
    let seconds = guest_seconds * 2 / 3;
    let filter = filter.map(process::quoted).unwrap_or_default();
    let mut lines = vec!["export LOG_TAIL_TEST_BACKEND=ebpf RUST_BACKTRACE=1".to_owned()];
    for (name, otherwise) in TIMES {
        let times = std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
        lines.push(format!("export {name}={}", process::quoted(&times)));
    }
    for name in WRITES {
        if let Ok(writes) = std::env::var(name) {
            lines.push(format!("export {name}={}", process::quoted(&writes)));
        }
    }
    for &(filesystem, folder) in filesystems {
        lines.push(format!("export LOG_TAIL_TEST_DIR={folder}"));
        if filesystem == XFS {
            lines.push(format!("export {DISK}={folder}"));
        }
        for Executable { name, .. } in tests_on(filesystem, tests) {
            lines.push(format!("echo '{MARK} begin {filesystem} {name}'"));
            lines.push(format!(
                "timeout -s KILL {seconds} /tests/{name} --test-threads={THREADS} {filter} 2>&1"
            ));
            // After a test that was ended in the middle of a line, too.
            lines.push(format!("code=$?; echo; echo \"{MARK} end $code\""));
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_executable_runs_on_every_filesystem_that_matters_to_it() {
        let tests = ["follow", "rotate", "output", "truncate", "subvolumes", "power"]
            .map(|name| Executable { name: name.into(), path: "/x".into() });
        let script = script(&FILESYSTEMS, &tests, Some("a b"), 900);
        for expected in ["begin ext4 follow", "begin ext4 rotate", "begin tmpfs follow", "begin tmpfs rotate"]
        {
            assert!(script.contains(expected), "{expected}");
        }
        let marked = |filesystem: &str| script.matches(&format!("begin {filesystem} ")).count();
        assert_eq!(FILESYSTEMS.map(|(filesystem, _)| marked(filesystem)), [4, 3, 2, 1], "{script}");
        assert!(script.contains("begin ext4 output") && !script.contains("begin tmpfs output"), "{script}");
        assert!(script.contains("/tests/rotate --test-threads=4 'a b' 2>&1"), "{script}");
    }

    #[test]
    fn the_oldest_and_the_newest_kernel_have_all_filesystems() {
        let counts = TESTED.map(|series| filesystems_of(&series.parse().expect("a version")).count());
        assert_eq!(counts, [4, 3, 3, 3, 4]);
    }

    #[test]
    fn a_row_stands_below_its_header() {
        let row = Row {
            kernel: "6.12.107+deb13-cloud-amd64".into(),
            filesystem: "tmpfs".into(),
            passed: 12,
            failed: 0,
            ignored: 1,
            seconds: 34.06,
            remark: String::new(),
        };
        let line = row.to_string();
        assert_eq!(line, "6.12.107+deb13-cloud-amd64      tmpfs           12       0        1     34.1");
        assert_eq!(line.len(), Row::HEADER.len());
    }
}
