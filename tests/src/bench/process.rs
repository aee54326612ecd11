//! What a process takes: while it runs, by /proc, and when it has ended.

use std::{fs, io, process::Child, time::Instant};

use anyhow::{Context as _, Result, ensure};

/// What a process took from its start to its end.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Processors' time of all its threads, in user space and in the kernel, in seconds.
    pub cpu_s: f64,
    /// The most memory it had at once, in KiB: `ru_maxrss`. Whoever started it hands its own down: it is no less than that.
    pub most_memory_kib: f64,
}

/// Waits until it has ended, well.
///
/// # Errors
/// It ended otherwise.
#[expect(clippy::cast_precision_loss, reason = "less than 2^52 of any unit")]
pub fn wait(child: Child) -> Result<Ended> {
    let pid = i32::try_from(child.id()).context("a process's number")?;
    // It is waited for here, and nobody else may.
    drop(child);
    let mut status = 0;
    // SAFETY: all zeros is a value of this plain structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both are written to by the call, and live as long as it takes.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    ensure!(waited == pid, "waiting for process {pid}: {}", io::Error::last_os_error());
    ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "process {pid} ended with status {status:#x}"
    );
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Ended {
        cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        most_memory_kib: usage.ru_maxrss as f64,
    })
}

/// What a process has taken so far.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Processors' time of all its threads in seconds: the first field of schedstat.
    pub cpu_s: f64,
    /// How often its threads went to sleep, and so were woken.
    pub sleeps: u64,
    /// What it has in memory now, in KiB: `VmRSS`.
    pub memory_kib: u64,
    /// Descriptors that it has open.
    pub descriptors: usize,
}

impl Taken {
    /// By a process that is there.
    ///
    /// # Errors
    /// It is not.
    pub fn by(pid: u32) -> Result<Self> {
        let of = |path: String| fs::read_to_string(&path).with_context(|| format!("reading {path}"));
        let (mut cpu_s, mut sleeps) = (0.0, 0);
        for thread in fs::read_dir(format!("/proc/{pid}/task")).context("looking at its threads")? {
            let thread = thread?.path();
            let schedstat = of(format!("{}/schedstat", thread.display()))?;
            let nanoseconds: Option<f64> = schedstat.split(' ').next().and_then(|word| word.parse().ok());
            cpu_s += nanoseconds.with_context(|| format!("schedstat says {schedstat:?}"))? / 1e9;
            sleeps += number(&of(format!("{}/status", thread.display()))?, "voluntary_ctxt_switches")?;
        }
        let memory_kib = number(&of(format!("/proc/{pid}/status"))?, "VmRSS")?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).context("looking at its files")?.count();
        Ok(Self { cpu_s, sleeps, memory_kib, descriptors })
    }
}

/// Inotify watches of a process that is there.
pub fn inotify_watches(pid: u32) -> Result<usize> {
    let mut watches = 0;
    for descriptor in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("looking at its files")? {
        let path = descriptor?.path();
        let info = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        watches += info.lines().filter(|line| line.starts_with("inotify wd:")).count();
    }
    Ok(watches)
}

/// The number behind this name in a status file.
fn number(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let word = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    word.with_context(|| format!("no {name} in its status"))
}

/// Seconds since then.
pub fn seconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use std::process::Command;

    #[test]
    fn a_process_that_counts_takes_time_and_memory() {
        let count = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let child = Command::new("sh").args(["-c", count]).spawn().expect("sh");
        let ended = wait(child).expect("it ends well");
        assert!(ended.cpu_s > 0.0 && ended.most_memory_kib > 100.0, "{ended:?}");
        let failing = Command::new("sh").args(["-c", "exit 3"]).spawn().expect("sh");
        assert!(wait(failing).is_err());
    }

    #[test]
    fn what_this_process_takes_is_known() {
        let taken = Taken::by(std::process::id()).expect("it is there");
        assert!(taken.cpu_s > 0.0 && taken.memory_kib > 100 && taken.descriptors > 2, "{taken:?}");
    }

    #[test]
    fn every_watch_of_this_process_is_counted() {
        let before = inotify_watches(std::process::id()).expect("it is there");
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).expect("inotify");
        for path in ["/", "/proc"] {
            inotify.add_watch(path, AddWatchFlags::IN_CREATE).expect("a watch");
        }
        assert_eq!(inotify_watches(std::process::id()).expect("it is there"), before + 2);
    }
}
