//! How often the sweep looks at every file.
//!
//! Unless it is said how often, the longer one takes, the later comes the next: they take a thousandth of a processor. But no
//! file is left alone for longer than [`RARELY`], whatever that takes.

use std::time::{Duration, Instant};

/// How often, where that is not said and files are few.
const EVERY: Duration = Duration::from_secs(60);
/// How often at least.
const RARELY: Duration = Duration::from_secs(600);
/// After a sweep, so many times as long as it took.
const REST: u32 = 1000;
/// Asked so long before it is due, it is done: the next time may be long after that.
const EARLY: Duration = Duration::from_secs(30);

/// When the next one is due.
#[derive(Debug)]
pub struct Sweeps {
    /// How often, where that was said.
    said: Option<Duration>,
    due: Instant,
}

impl Sweeps {
    /// `said`: how often, where it was said. Every file was looked at as following began, just now, which took so much of a
    /// processor: a sweep takes no more.
    pub fn new(said: Option<Duration>, took: Duration) -> Self {
        let mut sweeps = Self { said, due: Instant::now() };
        sweeps.done(sweeps.due, took);
        sweeps
    }

    /// How often to ask whether one is due.
    pub fn every(&self) -> Duration {
        self.said.unwrap_or(EVERY)
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.said.is_some() || now + EARLY >= self.due
    }

    /// One began then, and took so much of a processor.
    pub fn done(&mut self, began: Instant, took: Duration) {
        self.due = began + took.saturating_mul(REST).clamp(EVERY, RARELY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_that_takes_long_is_followed_by_a_longer_rest() {
        let rest = |took_ms| {
            let sweeps = Sweeps::new(None, Duration::from_millis(took_ms));
            (1..=20).find(|times| sweeps.is_due(Instant::now() + sweeps.every() * *times)).unwrap() * 60
        };
        assert_eq!([1, 60, 120, 290, 600, 5000].map(rest), [60, 60, 120, 300, 600, 600]);
    }

    #[test]
    fn what_was_said_is_done_however_long_it_takes() {
        let sweeps = Sweeps::new(Some(Duration::from_secs(1)), Duration::from_secs(10));
        assert!(sweeps.is_due(Instant::now()));
        assert_eq!(sweeps.every(), Duration::from_secs(1));
    }
}
