//! Reads one file forward, in whole lines, without ever holding more than one line and one block.
//!
//! A line whose newline has not been written yet is held back. A line longer than `max_line_bytes` is
//! handed on in pieces, so memory is bounded whatever is written.

use std::{fs::File, io, num::NonZeroUsize, os::fd::AsRawFd};

use bytes::{Bytes, BytesMut};

use crate::record::Ending;

/// Bytes asked for at once: large enough that system calls do not count, small enough to stay in the
/// processor's second-level cache until it is written.
pub const BLOCK_BYTES: usize = 256 << 10;

/// How far a file has been read.
#[derive(Debug, Default)]
pub struct Position {
    /// Offset of the first byte that was not handed on.
    handed_on: u64,
    /// The bytes from there on that are not a whole line yet.
    held: BytesMut,
    /// A piece of the line at `handed_on` was handed on.
    within_line: bool,
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
    /// What was read is not to be trusted: the file changed meanwhile. The position is what it was.
    Changed,
}

impl Position {
    /// Starts at an offset.
    pub fn at(offset: u64) -> Self {
        Self { handed_on: offset, ..Self::default() }
    }

    /// Offset of the first byte that was not handed on.
    pub fn handed_on(&self) -> u64 {
        self.handed_on
    }

    /// Offset of the first byte that was not read.
    pub fn read_to(&self) -> u64 {
        self.handed_on + self.held.len() as u64
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
        let offset = self.handed_on;
        self.handed_on += rest.len() as u64;
        Some((offset, rest))
    }

    fn hand_on(&mut self, bytes: Bytes, ending: Ending) -> Step {
        let offset = self.handed_on;
        self.handed_on += bytes.len() as u64;
        self.within_line = ending == Ending::Piece;
        Step::Block { offset, bytes, ending }
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
    /// pread(2)'s.
    pub fn step(
        &mut self,
        file: &File,
        position: &mut Position,
        changed: impl FnOnce() -> bool,
    ) -> io::Result<Step> {
        // A held line is read on in its own buffer, so that a long one written bit by bit is never copied.
        let fresh = position.held.is_empty();
        let mut buffer = std::mem::take(if fresh { &mut self.block } else { &mut position.held });
        let before = buffer.len();
        buffer.reserve(if fresh { BLOCK_BYTES } else { BLOCK_BYTES.min(before.max(4096)) });
        let read = read_at(file, &mut buffer, position.handed_on + before as u64);
        let put_back = |reader: &mut Self, position: &mut Position, buffer| {
            *(if fresh { &mut reader.block } else { &mut position.held }) = buffer;
        };
        match read {
            Err(error) => {
                put_back(self, position, buffer);
                return Err(error);
            }
            Ok(0) => {
                put_back(self, position, buffer);
                return Ok(Step::EndOfFile);
            }
            Ok(_) if changed() => {
                buffer.truncate(before);
                put_back(self, position, buffer);
                return Ok(Step::Changed);
            }
            Ok(_) => {}
        }
        if let Some(newline) = memchr::memrchr(b'\n', &buffer[before..]) {
            let whole = buffer.split_to(before + newline + 1).freeze();
            self.hold(position, buffer, fresh);
            return Ok(position.hand_on(whole, Ending::Newline));
        }
        if buffer.len() < self.max_line_bytes.get() {
            self.hold(position, buffer, fresh);
            return Ok(Step::Held);
        }
        Ok(position.hand_on(buffer.split().freeze(), Ending::Piece))
    }

    /// Keeps the bytes behind the last newline: in a buffer of their own size where they lie in the
    /// shared block, which is then free for the next read.
    fn hold(&mut self, position: &mut Position, mut rest: BytesMut, fresh: bool) {
        if fresh {
            position.held = BytesMut::from(&rest[..]);
            rest.clear();
            self.block = rest;
        } else {
            position.held = rest;
        }
    }
}

/// Appends what pread(2) gives into the buffer's spare room, however much that is.
fn read_at(file: &File, buffer: &mut BytesMut, offset: u64) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    loop {
        let spare = buffer.spare_capacity_mut();
        // SAFETY: the kernel writes at most `spare.len()` bytes to memory that this buffer owns alone.
        let read = unsafe { libc::pread(file.as_raw_fd(), spare.as_mut_ptr().cast(), spare.len(), offset) };
        if let Ok(read) = usize::try_from(read) {
            // SAFETY: the kernel has initialised that many bytes more.
            unsafe { buffer.set_len(buffer.len() + read) };
            return Ok(read);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{io::Write, os::unix::fs::FileExt};

    fn reader(max: usize) -> Reader {
        Reader::new(NonZeroUsize::new(max).unwrap())
    }

    fn block(offset: u64, bytes: &'static [u8], ending: Ending) -> Step {
        Step::Block { offset, bytes: Bytes::from_static(bytes), ending }
    }

    #[test]
    fn a_line_waits_for_its_newline() {
        let mut file = tempfile::tempfile().unwrap();
        let (mut reader, mut position) = (reader(100), Position::at(0));
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(reader.step(&file, &mut position, || false).unwrap(), block(0, b"one\n", Ending::Newline));
        assert_eq!(reader.step(&file, &mut position, || false).unwrap(), Step::EndOfFile);
        assert_eq!((position.handed_on(), position.read_to()), (4, 6));
        file.write_all(b"o\n").unwrap();
        assert_eq!(reader.step(&file, &mut position, || false).unwrap(), block(4, b"two\n", Ending::Newline));
    }

    #[test]
    fn a_line_without_end_comes_in_pieces_and_memory_stays_bounded() {
        let file = tempfile::tempfile().unwrap();
        let long = vec![b'x'; 3 << 20];
        file.write_all_at(&long, 0).unwrap();
        let (mut reader, mut position) = (reader(1 << 20), Position::at(0));
        let mut total = 0;
        loop {
            match reader.step(&file, &mut position, || false).unwrap() {
                Step::Block { bytes, ending, .. } => {
                    assert_eq!(ending, Ending::Piece);
                    assert!(bytes.len() < (1 << 20) + BLOCK_BYTES * 2);
                    total += bytes.len();
                }
                Step::Held => {}
                Step::EndOfFile | Step::Changed => break,
            }
        }
        assert_eq!(total + position.held_bytes(), long.len());
        assert!(position.held_bytes() < 1 << 20);
    }

    #[test]
    fn what_was_read_while_the_file_changed_is_read_again() {
        let mut file = tempfile::tempfile().unwrap();
        let (mut reader, mut position) = (reader(100), Position::at(0));
        file.write_all(b"one\ntw").unwrap();
        for _ in 0..2 {
            assert_eq!(reader.step(&file, &mut position, || true).unwrap(), Step::Changed);
            assert_eq!((position.handed_on(), position.read_to()), (0, 0));
        }
        assert_eq!(reader.step(&file, &mut position, || false).unwrap(), block(0, b"one\n", Ending::Newline));
        file.write_all(b"o\n").unwrap();
        assert_eq!(reader.step(&file, &mut position, || true).unwrap(), Step::Changed);
        assert_eq!((position.handed_on(), position.read_to()), (4, 6), "the held bytes are as they were");
    }

    #[test]
    fn the_rest_is_given_up_once() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"rest").unwrap();
        let (mut reader, mut position) = (reader(100), Position::at(0));
        assert_eq!(reader.step(&file, &mut position, || false).unwrap(), Step::Held);
        assert_eq!(position.give_up_rest(), Some((0, Bytes::from_static(b"rest"))));
        assert_eq!(position.give_up_rest(), None);
        assert_eq!(position.handed_on(), 4);
    }

    proptest! {
        #[test]
        fn however_it_is_written_every_byte_comes_once_and_in_order(
            writes in proptest::collection::vec("[a-c\n]{0,30}", 0..20),
            max in 1_usize..40,
        ) {
            let mut file = tempfile::tempfile().unwrap();
            let (mut reader, mut position) = (reader(max), Position::at(0));
            let mut out = Vec::new();
            for write in &writes {
                file.write_all(write.as_bytes()).unwrap();
                loop {
                    match reader.step(&file, &mut position, || false).unwrap() {
                        Step::Block { offset, bytes, ending } => {
                            prop_assert_eq!(offset, out.len() as u64);
                            prop_assert_eq!(ending == Ending::Newline, bytes.ends_with(b"\n"));
                            out.extend_from_slice(&bytes);
                        }
                        Step::Held => {}
                        Step::EndOfFile | Step::Changed => break,
                    }
                }
            }
            out.extend(position.give_up_rest().map(|(_, rest)| rest).unwrap_or_default());
            prop_assert_eq!(out, writes.concat().into_bytes());
        }
    }
}
