//! How soon the event loop looks for hints.
//!
//! Woken for every line of a fast writer, it would spend its time going to sleep and waking up. Where one wake-up follows
//! the other, it waits a moment first, and then reads what came meanwhile at once. What comes after a pause is never
//! held back. Whoever wants each line at once has it look without going to sleep (`--low-latency`).

use std::time::{Duration, Instant};

/// Woken so soon after its last work, it need hardly have gone to sleep.
const SOON: Duration = Duration::from_micros(50);
/// After so many wake-ups in a row that came so soon, it waits.
const IN_A_ROW: u32 = 8;
/// After a shorter pause than this, the next that comes soon waits as the last one did: who writes in portions goes on.
const LATELY: Duration = Duration::from_millis(10);
/// How long at first, before the kernel adds what it likes to (timer slack, 50 µs); twice as long after each that was
/// followed by the next one as soon.
const MOMENT: Duration = Duration::from_micros(50);
/// How long at most: what is truncated meanwhile, and is in no copy, is lost.
const LONGEST_MOMENT: Duration = Duration::from_micros(200);
/// How long it goes on looking without sleep.
const AWAKE: Duration = Duration::from_millis(2);

/// What the event loop remembers of its wake-ups.
#[derive(Debug)]
pub struct Pace {
    is_eager: bool,
    /// When its last work was done.
    done: Instant,
    /// Wake-ups in a row that came soon after.
    soon: u32,
    /// When it was last told something.
    told: Option<Instant>,
}

impl Pace {
    /// `is_eager`: it looks without going to sleep.
    pub fn new(is_eager: bool) -> Self {
        Self { is_eager, done: Instant::now(), soon: 0, told: None }
    }

    /// There is nothing left to do at present.
    pub fn done(&mut self, now: Instant) {
        self.done = now;
    }

    /// It is woken: how long to wait before it looks.
    pub fn woken(&mut self, now: Instant) -> Duration {
        self.told = Some(now);
        let pause = now.duration_since(self.done);
        let is_soon = pause < SOON;
        if is_soon {
            self.soon = self.soon.saturating_add(1);
        } else if pause >= LATELY {
            self.soon = 0;
        }
        match self.soon.checked_sub(IN_A_ROW).filter(|_| is_soon && !self.is_eager) {
            Some(more) => LONGEST_MOMENT.min(MOMENT * (1 << more.min(8))),
            None => Duration::ZERO,
        }
    }

    /// Until when it is to look without going to sleep.
    pub fn awake_until(&self) -> Option<Instant> {
        self.told.filter(|_| self.is_eager).map(|told| told + AWAKE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_in_portions_and_what_comes_after_a_pause_at_once() {
        let mut pace = Pace::new(false);
        let mut now = Instant::now();
        let mut woken_after = |pause: Duration| {
            pace.done(now);
            now += pause;
            pace.woken(now)
        };
        let soon = Duration::from_micros(10);
        for _ in 1..IN_A_ROW {
            assert_eq!(woken_after(soon), Duration::ZERO);
        }
        assert_eq!(woken_after(soon), MOMENT);
        assert_eq!(woken_after(soon), 2 * MOMENT);
        for _ in 0..100 {
            assert_eq!(woken_after(soon), LONGEST_MOMENT);
        }
        assert_eq!(woken_after(Duration::from_millis(1)), Duration::ZERO);
        assert_eq!(woken_after(soon), LONGEST_MOMENT, "it goes on");
        assert_eq!(woken_after(LATELY), Duration::ZERO);
        assert_eq!(woken_after(soon), Duration::ZERO);
    }

    #[test]
    fn only_who_is_eager_stays_awake_and_not_for_ever() {
        let now = Instant::now();
        let mut eager = Pace::new(true);
        assert_eq!(eager.awake_until(), None, "nothing has come yet");
        for _ in 0..=IN_A_ROW {
            assert_eq!(eager.woken(now), Duration::ZERO);
        }
        assert_eq!(eager.awake_until(), Some(now + AWAKE));
        let mut calm = Pace::new(false);
        calm.woken(now);
        assert_eq!(calm.awake_until(), None);
    }
}
