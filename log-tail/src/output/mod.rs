//! From blocks to the bytes that leave the program: a [`Format`] says how they look, a sink writes them.
//!
//! Between the two stands a [`Queue`]. It knows how much it holds, so whoever reads can stop reading while it
//! is full; nothing in it is ever dropped.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::SystemTime;

use bytes::{Buf, Bytes};

use crate::record::{Block, Lost, Reached};

pub mod json;
pub mod stdout;
pub mod text;
pub mod writer;

/// How blocks look when they leave the program.
pub trait Format {
    /// Puts `block`, which was read at `time`, at the end of `out`.
    fn encode(&mut self, block: &Block, time: SystemTime, out: &mut Queue);

    /// Puts a record of what was lost, which was found out at `time`, at the end of `out`; where the format
    /// knows none, standard error alone tells.
    fn lost(&mut self, _: &Lost, _: SystemTime, _: &mut Queue) {}
}

/// Bytes that wait to be written, in order, without being copied together.
///
/// [`Buf`] is the way out: [`Buf::chunks_vectored`] to look at the front, [`Buf::advance`] once it is written.
#[derive(Debug, Default)]
pub struct Queue {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// Bytes that were ever put in, and those that have left.
    total_in: u64,
    total_out: u64,
    /// Places in files, and how many bytes must have left for each to be acknowledged.
    marks: VecDeque<(u64, Reached)>,
}

impl Queue {
    /// Puts `chunk` at the end. An empty one leaves the queue as it is.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.total_in += chunk.len() as u64;
            self.chunks.push_back(chunk);
        }
    }

    /// Everything of a file up to this place has been put in.
    pub fn mark(&mut self, mark: Reached) {
        match self.marks.back_mut() {
            Some((total_in, last))
                if *total_in == self.total_in
                    && last.number == mark.number
                    && !last.is_back
                    && !mark.is_back =>
            {
                *last = mark;
            }
            _ => self.marks.push_back((self.total_in, mark)),
        }
    }

    /// The next place up to which everything has left.
    pub fn take_acknowledged(&mut self) -> Option<Reached> {
        let (total_in, mark) = *self.marks.front()?;
        if total_in > self.total_out {
            return None;
        }
        self.marks.pop_front();
        Some(mark)
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether everything has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Buf for Queue {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "advanced by {count} of {} bytes", self.bytes);
        self.bytes -= count;
        self.total_out += count as u64;
        while let Some(front) = self.chunks.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        slices.iter_mut().zip(&self.chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_acknowledged_once_all_before_it_has_left() {
        let mark = |number, offset| Reached { number, offset, is_back: false };
        let mut queue = Queue::default();
        queue.push(Bytes::from_static(b"one"));
        queue.mark(mark(1, 3));
        queue.push(Bytes::from_static(b"two"));
        queue.mark(mark(2, 3));
        queue.mark(mark(1, 0));
        queue.advance(2);
        assert_eq!(queue.take_acknowledged(), None);
        queue.advance(3);
        assert_eq!((queue.take_acknowledged(), queue.take_acknowledged()), (Some(mark(1, 3)), None));
        queue.advance(1);
        assert_eq!(queue.take_acknowledged(), Some(mark(2, 3)));
        assert_eq!(queue.take_acknowledged(), Some(mark(1, 0)));
    }

    #[test]
    fn a_queue_is_written_across_its_chunks_in_any_steps() {
        let mut queue = Queue::default();
        for chunk in ["one", "", "two", "three"] {
            queue.push(Bytes::from_static(chunk.as_bytes()));
        }
        assert_eq!(queue.len(), 11);
        queue.advance(4);
        assert_eq!((queue.len(), queue.chunk()), (7, &b"wo"[..]));
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(queue.chunks_vectored(&mut slices), 2);
        queue.advance(7);
        assert!(queue.is_empty());
        assert_eq!(queue.chunk(), b"");
    }
}
