//! What few have at a time: a pointer's room where there is none, for those who are many and mostly idle.

use std::ops::{Deref, DerefMut};

/// Has a value that stands for nothing.
pub(super) trait Nothing: Default + 'static {
    /// The same as the default.
    const NOTHING: &'static Self;
}

impl<T: 'static> Nothing for Vec<T> {
    const NOTHING: &'static Self = &Self::new();
}

/// Reads like a `T`. Takes its room when it is first written to.
#[derive(Debug, Default)]
pub(super) struct Rare<T>(Option<Box<T>>);

impl<T> Rare<T> {
    /// To change it only where there is something.
    pub fn where_there(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}

impl<T: Nothing> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::NOTHING)
    }
}

impl<T: Nothing> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_only_while_it_is_something() {
        let mut rare = Rare::<Vec<u8>>::default();
        assert!(rare.is_empty() && rare.where_there().is_none());
        rare.push(7);
        assert_eq!(*rare, [7]);
        assert_eq!(rare.where_there().unwrap().pop(), Some(7));
        assert_eq!(size_of_val(&rare), size_of::<usize>());
    }
}
