//! In which order the siblings of a file came, by their times and their names.

use std::cmp::Ordering;

use super::{SECOND_NS, Sibling, newer_than};

/// Times as near as this say nothing about the order: a tick of a kernel built with HZ=250.
const TICK_NS: i128 = 4_000_000;

/// Whether one of `siblings`, which [`super::rotated`] gave, is older than another, by its place among them and by its
/// name.
pub fn is_older(siblings: &[Sibling], sibling: &Sibling, than: &Sibling) -> bool {
    let newer = newer_than(siblings, sibling);
    newer.iter().any(|newer| newer.same_inode(than))
        && sibling.generation.order(&than.generation, false) == Ordering::Less
}

/// Oldest first.
pub(super) fn sort(siblings: &mut Vec<Sibling>) {
    let growing = numbers_grow(siblings);
    let mut timed = in_their_turn(std::mem::take(siblings), growing);
    timed.sort_by(|(a, of_a), (b, of_b)| a.cmp(b).then_with(|| of_a.path.cmp(&of_b.path)));
    let mut from = 0;
    while from < timed.len() {
        // All whose times may be the same, be it by way of each other.
        let (mut to, mut latest) = (from + 1, blurred(timed[from].0).1);
        while timed.get(to).is_some_and(|next| next.0 <= latest) {
            latest = latest.max(blurred(timed[to].0).1);
            to += 1;
        }
        // Stable: what the names do not tell apart stays in the order of times.
        timed[from..to].sort_by(|(_, a), (_, b)| a.generation.order(&b.generation, growing));
        from = to;
    }
    siblings.extend(timed.into_iter().map(|(_, sibling)| sibling));
}

/// Each with the time at which it was last written to while it had the followed name: whoever holds on to it may write
/// to it later, when the next one was born already.
fn in_their_turn(mut siblings: Vec<Sibling>, growing: bool) -> Vec<(i128, Sibling)> {
    siblings.sort_by(|a, b| b.generation.order(&a.generation, growing));
    let mut timed: Vec<(i128, Sibling)> = Vec::with_capacity(siblings.len());
    // When the first of those was born that are newer by their names.
    let mut next_born_ns = i128::MAX;
    for sibling in siblings {
        if timed.last().is_some_and(|(_, newer)| !newer.generation.is_alike(&sibling.generation)) {
            next_born_ns = i128::MAX;
        }
        let mut turn_ns = sibling.modified_ns;
        if let Some(born_ns) = sibling.made_ns() {
            // Otherwise the times of birth do not say what the names say.
            if born_ns < next_born_ns {
                turn_ns = turn_ns.min(next_born_ns);
            }
            next_born_ns = next_born_ns.min(born_ns);
        }
        timed.push((turn_ns, sibling));
    }
    timed
}

/// Between which times something was modified, as far as its time can be believed: bzip2 and older tools keep whole
/// seconds only.
fn blurred(modified_ns: i128) -> (i128, i128) {
    let blur = if modified_ns % SECOND_NS == 0 { SECOND_NS - 1 } else { TICK_NS };
    (modified_ns, modified_ns + blur)
}

impl Sibling {
    pub(super) fn clearly_older_than(&self, other: &Self) -> bool {
        blurred(self.modified_ns).1 < other.modified_ns
    }

    /// When it was made, where that says when it came. What was compressed or restored was born anew.
    fn made_ns(&self) -> Option<i128> {
        self.born_ns.filter(|born_ns| self.compressed.is_none() && *born_ns <= self.modified_ns)
    }

    /// Where times of birth and of the last write say the same: one that is written to still may look newer than the next
    /// one, and a copy is made after the file that it came before.
    fn clearly_came_before(&self, other: &Self) -> bool {
        let was_made = self.made_ns().zip(other.made_ns()).is_none_or(|(made, other)| made < other);
        was_made && self.clearly_older_than(other)
    }
}

/// Whether a higher number is newer, by those neighbours in number whose times clearly differ.
fn numbers_grow(siblings: &[Sibling]) -> bool {
    let mut numbered: Vec<(u64, &Sibling)> =
        siblings.iter().filter_map(|sibling| Some((sibling.generation.number()?, sibling))).collect();
    numbered.sort_by_key(|(number, _)| *number);
    let votes: i64 = numbered
        .windows(2)
        .filter(|pair| pair[0].0 < pair[1].0)
        .map(|pair| match (pair[0].1, pair[1].1) {
            (lower, higher) if lower.clearly_came_before(higher) => 1,
            (lower, higher) if higher.clearly_came_before(lower) => -1,
            _ => 0,
        })
        .sum();
    votes > 0
}
