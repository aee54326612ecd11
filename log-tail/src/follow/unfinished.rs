//! The last line of a file, where its newline is missing: whether it was written so, or is being written.
//!
//! A write becomes visible piece by piece. That time has passed says little: a reader that had no processor meanwhile
//! would take half a line for all of it. So it is looked at again, and is all there is if nothing was added.

use std::time::{Duration, Instant};

/// How long a write may take from its first byte to its last.
const WRITE_TAKES: Duration = Duration::from_millis(10);

/// A line that waits for its newline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unfinished {
    /// Offset behind it.
    to: u64,
    since: Instant,
    /// When somebody looks again.
    looks_at: Instant,
    is_all: bool,
}

impl Unfinished {
    /// The end of the file was seen to be here, behind such a line. Says when to look again, unless that is known.
    pub fn seen(known: &mut Option<Box<Self>>, to: u64, now: Instant) -> Option<Instant> {
        let it = known.get_or_insert_with(|| Box::new(Self { to, since: now, looks_at: now, is_all: false }));
        if it.to != to {
            (it.to, it.since, it.is_all) = (to, now, false);
        }
        it.is_all |= now - it.since >= WRITE_TAKES;
        let is_to_look = !it.is_all && it.looks_at <= now;
        is_to_look.then(|| {
            it.looks_at = now + WRITE_TAKES;
            it.looks_at
        })
    }

    /// Whether what was read up to here was written so.
    pub fn is_all_up_to(&self, to: u64) -> bool {
        self.is_all && self.to == to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_all_there_is_where_it_is_the_same_when_somebody_looks_again() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut known = None;
        let mut seen = |to, millis| {
            let looks_at = Unfinished::seen(&mut known, to, at(millis));
            (looks_at, known.as_ref().is_some_and(|it| it.is_all_up_to(to)))
        };
        assert_eq!(seen(5, 0), (Some(at(10)), false));
        assert_eq!(seen(5, 3), (None, false), "somebody looks again already");
        assert_eq!(seen(7, 9), (None, false), "it grew");
        assert_eq!(seen(7, 10), (Some(at(20)), false));
        assert_eq!(seen(7, 20), (None, true));
        assert_eq!(seen(7, 50), (None, true));
        // A reader that had no processor for long.
        assert_eq!(seen(9, 90), (Some(at(100)), false));
        assert!(!known.expect("it is there").is_all_up_to(12));
    }
}
