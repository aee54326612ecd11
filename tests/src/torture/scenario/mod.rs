//! What is done to the files under a follower. A file a family; each scenario says what it promises.

mod copy;
mod crowd;
mod grace;
mod links;
mod logrotate;
mod overflow;
mod remove;
mod rename;
mod restart;
mod truncate;

use anyhow::Result;

use super::arena::{Arena, Outcome};

/// One thing that happens to logs.
pub struct Scenario {
    /// As `--scenario` takes it.
    pub name: &'static str,
    /// In a few words.
    pub what: &'static str,
    /// What a lossless follower makes of it.
    pub promise: Promise,
    run: fn(&mut Arena<'_>) -> Result<()>,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Nothing lost, repeated, torn or out of order.
    Exact,
    /// The same, but lines may come twice: nobody can tell whether they had been taken.
    RepeatsAllowed,
    /// What is lost was destroyed before anyone could read it, and is counted; all else is exact.
    LossCounted,
}

impl Promise {
    /// What is broken of it, if anything.
    #[must_use]
    pub fn broken_by(self, outcome: &Outcome) -> Option<String> {
        let Outcome { numbers, counted_bytes, counts_exactly, complaints, .. } = outcome;
        let mut broken = complaints.clone();
        let mut must_be_none = |what: &str, count: u64| {
            if count > 0 {
                broken.push(format!("{count} {what}"));
            }
        };
        if self != Self::LossCounted {
            must_be_none("lost", numbers.lost);
        }
        if self != Self::RepeatsAllowed {
            must_be_none("repeated", numbers.repeated);
        }
        must_be_none("torn", numbers.torn);
        must_be_none("out of order", numbers.out_of_order);
        if self == Self::LossCounted {
            let lost = numbers.lost_bytes;
            match *counted_bytes {
                None if lost > 0 => broken.push(format!("{lost} bytes lost and not counted")),
                Some(counted) if counted > lost || (*counts_exactly && counted < lost) => {
                    broken.push(format!("{lost} bytes lost and {counted} counted"));
                }
                None | Some(_) => {}
            }
        }
        (!broken.is_empty()).then(|| broken.join(", "))
    }
}

impl Scenario {
    /// Does it, and leaves the account to be settled.
    ///
    /// # Errors
    /// Where it could not be done; [`super::arena::Skipped`] where that is as it must be.
    pub fn run(&self, arena: &mut Arena<'_>) -> Result<()> {
        (self.run)(arena)
    }
}

/// All of them, in the order of the tables.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        rename::SCENARIOS,
        grace::SCENARIOS,
        remove::SCENARIOS,
        truncate::SCENARIOS,
        copy::SCENARIOS,
        links::SCENARIOS,
        logrotate::SCENARIOS,
        crowd::SCENARIOS,
        overflow::SCENARIOS,
        restart::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .map(|&(name, what, promise, run)| Scenario { name, what, promise, run })
    .collect()
}

/// A scenario as its family lists it: name, what it is, what it promises, and what it does.
type Listed = (&'static str, &'static str, Promise, fn(&mut Arena<'_>) -> Result<()>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Numbers;

    fn outcome(lost: u64, counted: Option<u64>, counts_exactly: bool) -> Outcome {
        let numbers = Numbers { lost, lost_bytes: lost * 10, ..Numbers::default() };
        Outcome { numbers, counted_bytes: counted, counts_exactly, ..Outcome::default() }
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut names: Vec<_> = all().iter().map(|scenario| scenario.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_loss_breaks_the_promise_of_none() {
        assert_eq!(Promise::Exact.broken_by(&outcome(0, None, false)), None);
        assert_eq!(Promise::Exact.broken_by(&outcome(2, Some(20), true)), Some("2 lost".into()));
        assert_eq!(Promise::RepeatsAllowed.broken_by(&outcome(2, None, false)), Some("2 lost".into()));
    }

    #[test]
    fn a_loss_that_nobody_could_avoid_must_be_counted() {
        let broken =
            |lost, counted, exactly| Promise::LossCounted.broken_by(&outcome(lost, counted, exactly));
        assert_eq!(broken(0, None, false), None);
        assert_eq!(broken(3, Some(30), true), None);
        // A lower bound is enough where the kernel does not say more; too much is never right.
        assert_eq!(broken(3, Some(29), false), None);
        assert!(broken(3, Some(29), true).is_some());
        assert!(broken(3, Some(31), false).is_some());
        assert!(broken(3, None, false).is_some());
    }

    #[test]
    fn repeats_are_no_trouble_only_where_they_are_allowed() {
        let numbers = Numbers { repeated: 1, ..Numbers::default() };
        let outcome = Outcome { numbers, ..Outcome::default() };
        assert_eq!(Promise::RepeatsAllowed.broken_by(&outcome), None);
        assert_eq!(Promise::Exact.broken_by(&outcome), Some("1 repeated".into()));
        assert_eq!(Promise::LossCounted.broken_by(&outcome), Some("1 repeated".into()));
    }
}
