//! Reads one file forward, in whole lines, without ever holding more than one line and one block.
//!
//! A line whose newline has not been written yet is held back. A line longer than `max_line_bytes` is
//! handed on in pieces, so memory is bounded whatever is written.

mod read;

use std::{fs::File, io, num::NonZeroUsize, os::unix::fs::FileExt};

use bytes::{Bytes, BytesMut};

use super::{
    print::{HEAD_BYTES, Print},
    trail::Trail,
    zeros::Zeros,
};
use crate::record::Ending;
use read::{CONTEXT_BYTES, Context, Read, read_at, read_on, text_of};

/// Bytes asked for at once: large enough that system calls do not count, small enough to stay in the
/// processor's second-level cache until it is written.
pub const BLOCK_BYTES: usize = 256 << 10;

/// A block with less room than this is not read into: the next one is taken.
const LEAST_ROOM_BYTES: usize = 64 << 10;

/// Of a line that is held, so many bytes at most are copied to where the next block is read.
const COPIED_BYTES: usize = 4096;

/// How far a file has been read.
#[derive(Debug, Default)]
pub struct Position {
    /// Offset of the first byte that was not handed on.
    handed_on: u64,
    /// The bytes from there on that are not a whole line yet.
    held: BytesMut,
    /// A piece of the line at `handed_on` was handed on.
    within_line: bool,
    /// The last read gave less than there was room for: there was nothing behind it then.
    at_end: bool,
    /// What lies before the offset was seen to be something else than what was read there.
    is_other: bool,
    context: Context,
    /// Up to here there was nothing but zeros behind what was read, where that is further.
    zeros_to: u64,
    /// What the bytes that were read are recognised by.
    pub print: Print,
    /// Where their lines ended, where nobody tells of truncations.
    pub trail: Trail,
}

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes to hand on. There may be more.
    Block { offset: u64, bytes: Bytes, ending: Ending },
    /// Bytes came, but no line is complete. There may be more.
    Held,
    /// Nothing more to read at present.
    EndOfFile,
    /// What was read is not to be trusted: the observer says that the file changed meanwhile. The
    /// position is what it was.
    Changed,
    /// The bytes before the offset are gone, or are no longer what they were. The position is what it was.
    Rewritten,
}

/// Where the bytes of a file come from.
#[derive(Debug)]
pub enum Input<'a> {
    /// A file, which can be read anywhere.
    File(&'a File),
    /// A stream that stands at the offset, and can only be read forward.
    Stream(&'a mut dyn Stream),
}

/// A stream that can be read forward.
pub trait Stream: io::Read + std::fmt::Debug {}

impl<T: io::Read + std::fmt::Debug> Stream for T {}

impl Position {
    /// Starts at an offset.
    pub fn at(offset: u64) -> Self {
        Self { handed_on: offset, ..Self::default() }
    }

    /// Starts at an offset up to which the content is known.
    pub fn known(offset: u64, print: Print) -> Self {
        Self { handed_on: offset, print, ..Self::default() }
    }

    /// Whether what was read up to here lies in this file, as far as is known.
    pub fn is_in(&self, file: &File) -> bool {
        let is_long_enough = || file.metadata().map_or(true, |metadata| metadata.len() >= self.read_to());
        let is_the_same =
            || self.print.marks().is_empty() || self.print.is_of(file, self.read_to()).unwrap_or(true);
        self.handed_on == 0 || (is_long_enough() && is_the_same())
    }

    /// Up to where this file, which is not what was read any more, still is.
    ///
    /// # Errors
    /// pread(2)'s.
    pub fn unchanged_to(&self, file: &File, at_most: u64) -> io::Result<u64> {
        match self.trail.unchanged_to(file, at_most)? {
            // It ends before the first line that is known whole.
            0 => self.print.unchanged_to(file, at_most.min(self.trail.first().unwrap_or(u64::MAX))),
            end => Ok(end),
        }
    }

    /// With the bytes that lie before the offset in this file, to compare them from now on. Where they are not what was
    /// read there, as far as that is known, the file has changed since somebody looked: the next read says so.
    pub fn primed(mut self, file: &File) -> Self {
        if self.context.length > 0 {
            return self;
        }
        let to = self.read_to();
        let mut before = [0; CONTEXT_BYTES];
        let before = &mut before[..usize::try_from(to).map_or(CONTEXT_BYTES, |to| to.min(CONTEXT_BYTES))];
        match file.read_exact_at(before, to - before.len() as u64) {
            // In this order: where what is known still holds now, that is what was read before.
            Ok(()) if self.trail.holds_at(file, to) && self.print.holds_at(file, to) => {
                self.context.set(before);
                self.print.note(to, before);
            }
            Ok(()) => self.is_other = true,
            Err(error) => self.is_other = error.kind() == io::ErrorKind::UnexpectedEof,
        }
        self
    }

    /// Nothing is made of it any more that the file is not what was read.
    pub fn settle(&mut self) {
        self.is_other = false;
    }

    /// Whether the bytes that were read last lie before this offset in the file.
    pub fn is_context_at(&self, file: &File, offset: u64) -> bool {
        let mut found = [0; CONTEXT_BYTES];
        let context = self.context.get();
        let found = &mut found[..context.len()];
        let from = offset.checked_sub(context.len() as u64);
        !context.is_empty()
            && from.is_some_and(|from| file.read_exact_at(found, from).is_ok())
            && found == context
    }

    /// The first byte that was not handed on lies at another offset of the file now. It is recognised from now on by
    /// what lies there.
    pub fn move_to(&mut self, offset: u64, file: &File) {
        self.handed_on = offset;
        self.zeros_to = 0;
        self.trail.truncate_to(0);
        self.print = Print::default();
        let mut piece = [0; HEAD_BYTES];
        let mut before = |end: u64, most: usize| {
            let piece = &mut piece[..usize::try_from(end).map_or(most, |end| end.min(most))];
            file.read_exact_at(piece, end - piece.len() as u64).is_ok().then(|| piece.to_vec())
        };
        if let Some(head) = before(offset.min(HEAD_BYTES as u64), HEAD_BYTES) {
            self.print.note_head(&head);
        }
        if let Some(last) = before(offset, CONTEXT_BYTES) {
            self.print.note(offset, &last);
        }
    }

    /// Offset of the first byte that was not handed on.
    pub fn handed_on(&self) -> u64 {
        self.handed_on
    }

    /// Offset of the first byte that was not read.
    pub fn read_to(&self) -> u64 {
        self.handed_on + self.held.len() as u64
    }

    /// Offset up to which nothing more is to be read: behind the zeros at the end, which wait for something else.
    pub fn looked_to(&self) -> u64 {
        self.read_to().max(self.zeros_to)
    }

    /// Bytes held back because their line is not complete.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// The file's life has ended, or it was truncated: what was held back is all there will be of its line.
    pub fn give_up_rest(&mut self) -> Option<(u64, Bytes)> {
        self.within_line = false;
        if self.held.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.held).freeze();
        Some((self.note_handed_on(&rest), rest))
    }

    /// There may be more behind what was read.
    pub fn goes_on(&mut self) {
        self.at_end = false;
    }

    /// Nothing was handed on, and what was read is to be read again.
    pub fn start_over(&mut self) {
        let mut trail = std::mem::take(&mut self.trail);
        trail.truncate_to(0);
        *self = Self { trail, ..Self::default() };
    }

    /// So many bytes of a hole are no text.
    fn pass_over(&mut self, hole: u64) {
        self.handed_on += hole;
        let zeros = usize::try_from(hole).map_or(CONTEXT_BYTES, |hole| hole.min(CONTEXT_BYTES));
        self.context.set(&[0; CONTEXT_BYTES][..zeros]);
    }

    /// What lies before the offset is now taken to be what it should be: the file was written over there.
    pub fn forget_context(&mut self) {
        self.context.length = 0;
        self.is_other = false;
    }

    fn hand_on(&mut self, bytes: Bytes, ending: Ending) -> Step {
        self.within_line = ending == Ending::Piece;
        let offset = self.note_handed_on(&bytes);
        if ending == Ending::Newline {
            self.trail.note(offset, &bytes);
        }
        Step::Block { offset, bytes, ending }
    }

    /// Returns where they began.
    fn note_handed_on(&mut self, bytes: &[u8]) -> u64 {
        let offset = self.handed_on;
        self.handed_on += bytes.len() as u64;
        if offset == 0 {
            self.print.note_head(bytes);
        }
        self.print.note(self.handed_on, bytes);
        offset
    }
}

/// Reads blocks; shared by all files, since only one is read at a time.
#[derive(Debug)]
pub struct Reader {
    block: BytesMut,
    max_line_bytes: NonZeroUsize,
}

impl Reader {
    /// # Panics
    /// Never.
    pub fn new(max_line_bytes: NonZeroUsize) -> Self {
        Self { block: BytesMut::new(), max_line_bytes }
    }

    /// Reads the next block. `changed` is asked after the bytes were read, and before they are believed.
    ///
    /// # Errors
    /// pread(2)'s, or the stream's.
    pub fn step(
        &mut self,
        input: Input<'_>,
        position: &mut Position,
        changed: impl FnOnce() -> bool,
    ) -> io::Result<Step> {
        if position.is_other {
            return Ok(Step::Rewritten);
        }
        if std::mem::take(&mut position.at_end) {
            return Ok(Step::EndOfFile);
        }
        // The beginning of a line goes in front of the next block. A long one is read on in its own buffer, so that one
        // that is written bit by bit is never copied again and again.
        let before = position.held.len();
        let shared = before < COPIED_BYTES;
        let mut buffer = std::mem::take(if shared { &mut self.block } else { &mut position.held });
        if shared {
            // Where what was read is on its way still, what small reads have left of the block is good for more of them.
            let room = COPIED_BYTES + BLOCK_BYTES;
            if !buffer.try_reclaim(room) && buffer.capacity() < before + LEAST_ROOM_BYTES {
                buffer.reserve(room);
            }
            buffer.extend_from_slice(&position.held);
        } else {
            buffer.reserve(BLOCK_BYTES.min(before));
        }
        let offset = position.handed_on + before as u64;
        let file = if let Input::File(file) = &input { Some(*file) } else { None };
        let read = match input {
            Input::File(file) => read_at(file, &mut buffer, offset, position.context.get()),
            Input::Stream(stream) => read_on(stream, &mut buffer),
        };
        let zeros = match (&read, file) {
            (Ok(Read::Bytes { .. }), Some(file)) => text_of(file, offset, &buffer[before..]),
            _ => Ok(Zeros::none(buffer.len() - before)),
        };
        let outcome = match read.and_then(|read| Ok((read, zeros?))) {
            Err(error) => Err(error),
            Ok((Read::Bytes { .. }, _)) if changed() => Ok(Step::Changed),
            // In the middle of a line they are as much a part of it as the rest.
            Ok((Read::Bytes { .. }, Zeros::Hole(length))) if before == 0 && !position.within_line => {
                position.pass_over(length);
                Ok(Step::Held)
            }
            Ok((Read::Bytes { to_end }, text)) => {
                if let Zeros::Text { bytes, end } = text {
                    position.at_end = to_end && end == 0;
                    buffer.truncate(before + bytes);
                    position.zeros_to = end;
                }
                if buffer.len() > before {
                    position.context.set(&buffer[before..]);
                    return Ok(self.cut(position, buffer, before, shared));
                }
                Ok(Step::EndOfFile)
            }
            Ok((Read::Nothing, _)) => {
                position.zeros_to = 0;
                Ok(Step::EndOfFile)
            }
            Ok((Read::OtherContext, _)) => Ok(Step::Rewritten),
        };
        buffer.truncate(if shared { 0 } else { before });
        *(if shared { &mut self.block } else { &mut position.held }) = buffer;
        outcome
    }

    /// Hands on the whole lines of what was read, and holds the rest.
    fn cut(&mut self, position: &mut Position, mut buffer: BytesMut, before: usize, shared: bool) -> Step {
        if let Some(newline) = memchr::memrchr(b'\n', &buffer[before..]) {
            let whole = buffer.split_to(before + newline + 1).freeze();
            self.hold(position, buffer, shared);
            return position.hand_on(whole, Ending::Newline);
        }
        if buffer.len() < self.max_line_bytes.get() {
            self.hold(position, buffer, shared);
            return Step::Held;
        }
        let piece = buffer.split().freeze();
        self.hold(position, buffer, shared);
        position.hand_on(piece, Ending::Piece)
    }

    /// Keeps the bytes behind the last newline: in a buffer of their own size where they lie in the
    /// shared block, which is then free for the next read.
    fn hold(&mut self, position: &mut Position, mut rest: BytesMut, shared: bool) {
        if shared {
            if rest.is_empty() {
                // Most files have nothing held most of the time: then it takes no memory.
                position.held = BytesMut::new();
            } else {
                position.held.clear();
                position.held.extend_from_slice(&rest);
            }
            rest.clear();
            self.block = rest;
        } else {
            position.held = rest;
        }
    }
}

#[cfg(test)]
mod tests;
