//! Reading the output of test executables in a guest: what ran, how it went, how long it took.

use std::time::Instant;

/// Begins the lines with which the guest's script says what follows. No test prints it.
pub const MARK: &str = "@@log-tail-vm-test";

/// What a test executable counted, from its own last line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub ignored: u32,
}

/// One executable on one filesystem.
#[derive(Debug)]
pub struct Run {
    pub filesystem: String,
    pub executable: String,
    pub seconds: f64,
    /// `None` where it never said how its tests went.
    pub counts: Option<Counts>,
    status: Option<i32>,
    output: String,
    began: Instant,
}

impl Run {
    /// Its whole output under a heading, where anything about it is not as it should be.
    pub fn failure(&self, kernel: &str) -> Option<String> {
        let Self { filesystem, executable, counts, status, output, .. } = self;
        let why = match (status, counts) {
            (None, _) => "did not end".to_owned(),
            (Some(status), None) => format!("ended with status {status} and without a result"),
            (Some(0), Some(Counts { failed: 0, .. })) => return None,
            (Some(status), Some(counts)) => format!("{} failed (status {status})", counts.failed),
        };
        Some(format!("kernel {kernel}, {filesystem}, {executable}: {why}\n{}", output.trim_end()))
    }
}

/// The output so far.
#[derive(Debug, Default)]
pub struct Transcript {
    runs: Vec<Run>,
    unfinished: Vec<u8>,
    running: bool,
}

impl Transcript {
    /// Takes output in pieces of any size. `tell` gets a line for each executable that ends and each
    /// test that fails.
    pub fn take(&mut self, bytes: &[u8], tell: &mut dyn FnMut(&str)) {
        self.unfinished.extend_from_slice(bytes);
        while let Some(end) = self.unfinished.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end_matches('\n'), tell);
        }
    }

    /// All runs, the last one possibly unfinished.
    pub fn finish(mut self) -> Vec<Run> {
        let rest = std::mem::take(&mut self.unfinished);
        self.line(&String::from_utf8_lossy(&rest), &mut |_| ());
        self.runs
    }

    fn line(&mut self, line: &str, tell: &mut dyn FnMut(&str)) {
        if let Some(mark) = line.strip_prefix(MARK) {
            match mark.split_whitespace().collect::<Vec<_>>()[..] {
                ["begin", filesystem, executable] => self.begin(filesystem, executable),
                ["end", status] => self.end(status.parse().ok(), tell),
                _ => {}
            }
        } else if let Some(run) = self.runs.last_mut().filter(|_| self.running) {
            run.output.push_str(line);
            run.output.push('\n');
            if let Some(counts) = counts(line) {
                run.counts = Some(counts);
            }
            if line.starts_with("test ") && line.ends_with("... FAILED")
                || line.contains("has been running for over")
            {
                tell(&format!("{}, {}: {line}", run.filesystem, run.executable));
            }
        }
    }

    fn begin(&mut self, filesystem: &str, executable: &str) {
        self.running = true;
        self.runs.push(Run {
            filesystem: filesystem.to_owned(),
            executable: executable.to_owned(),
            seconds: 0.0,
            counts: None,
            status: None,
            output: String::new(),
            began: Instant::now(),
        });
    }

    fn end(&mut self, status: Option<i32>, tell: &mut dyn FnMut(&str)) {
        self.running = false;
        if let Some(run) = self.runs.last_mut() {
            run.status = status;
            run.seconds = run.began.elapsed().as_secs_f64();
            let result = match &run.counts {
                Some(Counts { passed, failed, ignored }) => {
                    format!("{passed} passed, {failed} failed, {ignored} ignored")
                }
                None => "no result".to_owned(),
            };
            tell(&format!("{}, {}: {result}, {:.1} s", run.filesystem, run.executable, run.seconds));
        }
    }
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 1.20s`
fn counts(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    let number = |what: &str| {
        let part = rest.split("; ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Run>, Vec<String>) {
        let mut transcript = Transcript::default();
        let mut told = Vec::new();
        // Pieces as a pipe may deliver them.
        for piece in text.as_bytes().chunks(7) {
            transcript.take(piece, &mut |line| told.push(line.to_owned()));
        }
        (transcript.finish(), told)
    }

    const GOOD: &str =
        "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 1s";
    const BAD: &str = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";

    #[test]
    fn a_good_run_is_counted_and_is_no_failure() {
        let text = format!("noise\n{MARK} begin ext4 follow\nrunning\n{GOOD}\n\n{MARK} end 0\n");
        let (runs, told) = read(&text);
        assert_eq!(runs[0].counts, Some(Counts { passed: 12, failed: 0, ignored: 1 }));
        assert_eq!(runs[0].failure("6.12"), None);
        assert!(told[0].starts_with("ext4, follow: 12 passed, 0 failed, 1 ignored"), "{told:?}");
    }

    #[test]
    fn a_failing_test_is_told_at_once_and_shown_whole() {
        let text =
            format!("{MARK} begin tmpfs follow\ntest burst ... FAILED\nits reason\n{BAD}\n{MARK} end 101\n");
        let (runs, told) = read(&text);
        assert_eq!(told[0], "tmpfs, follow: test burst ... FAILED");
        let failure = runs[0].failure("6.12").unwrap();
        assert!(failure.starts_with("kernel 6.12, tmpfs, follow: 2 failed (status 101)\n"), "{failure}");
        assert!(failure.contains("its reason"), "{failure}");
    }

    #[test]
    fn an_executable_without_a_result_is_a_failure_even_with_status_0() {
        let (runs, _) = read(&format!("{MARK} begin ext4 follow\n{MARK} end 0\n"));
        assert!(runs[0].failure("6.12").unwrap().contains("without a result"));
    }

    #[test]
    fn an_executable_that_never_ended_is_a_failure_even_with_a_result() {
        let (runs, _) = read(&format!("{MARK} begin ext4 follow\n{GOOD}\ntest second ..."));
        assert!(runs[0].failure("6.12").unwrap().contains("did not end"));
    }

    #[test]
    fn a_status_that_is_not_0_is_a_failure_even_with_a_good_result() {
        let (runs, _) = read(&format!("{MARK} begin ext4 follow\n{GOOD}\n{MARK} end 137\n"));
        assert!(runs[0].failure("6.12").unwrap().contains("status 137"));
    }
}
