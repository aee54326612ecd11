//! Several guests, some of them at once.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

/// Guests at once: each runs its processors in turns, and so takes one of ours.
const GUESTS: usize = 2;

/// Does something with each of these, on as many threads as guests are to run at once. The answers are in their
/// order.
pub fn side_by_side<T: Sync, A: Send + Sync>(all: &[T], act: impl Fn(&T) -> A + Sync) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let answers: Vec<_> = all.iter().map(|_| OnceLock::new()).collect();
    std::thread::scope(|scope| {
        for _ in 0..GUESTS {
            scope.spawn(|| {
                while let Some((one, answer)) = {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    all.get(turn).zip(answers.get(turn))
                } {
                    let _ = answer.set(act(one));
                }
            });
        }
    });
    answers.into_iter().filter_map(OnceLock::into_inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_the_answers_are_in_their_order() {
        let numbers: Vec<u32> = (0..50).collect();
        assert_eq!(side_by_side(&numbers, |number| number * 2), (0..50).map(|n| n * 2).collect::<Vec<_>>());
    }
}
