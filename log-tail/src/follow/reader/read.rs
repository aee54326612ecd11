//! One read: the bytes behind an offset, provided that those before it are what they were.
//!
//! Every read takes the last bytes read before along once more, and compares them: a file that was
//! truncated and has grown past the old offset again has other bytes there. That costs no system call.

use std::{fs::File, io, os::fd::AsRawFd as _};

use bytes::BytesMut;

use super::Stream;
use crate::follow::zeros::{self, Zeros};

/// Bytes before the offset that are read again and compared.
pub(super) const CONTEXT_BYTES: usize = 64;

/// The last bytes before the offset that is read from next; none where nothing was read.
#[derive(Clone, Copy)]
pub(super) struct Context {
    bytes: [u8; CONTEXT_BYTES],
    pub(super) length: u8,
}

impl Default for Context {
    fn default() -> Self {
        Self { bytes: [0; CONTEXT_BYTES], length: 0 }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({} bytes)", self.length)
    }
}

impl Context {
    pub(super) fn get(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }

    pub(super) fn set(&mut self, before: &[u8]) {
        let before = &before[before.len().saturating_sub(CONTEXT_BYTES)..];
        // Where little was read, what was there before it still belongs to the context.
        let keep = usize::from(self.length).min(CONTEXT_BYTES - before.len());
        self.bytes.copy_within(usize::from(self.length) - keep..self.length.into(), 0);
        self.bytes[keep..keep + before.len()].copy_from_slice(before);
        self.length = u8::try_from(keep + before.len()).unwrap_or(0);
    }
}

/// What of the bytes that were read from a file is text.
pub(super) fn text_of(file: &File, offset: u64, bytes: &[u8]) -> io::Result<Zeros> {
    match (bytes.first(), bytes.last()) {
        (Some(0), _) | (_, Some(0)) => zeros::look(file, offset, bytes),
        _ => Ok(Zeros::none(bytes.len())),
    }
}

pub(super) enum Read {
    /// At least one byte more. `to_end`: fewer than there was room for.
    Bytes { to_end: bool },
    /// None, and the context is there.
    Nothing,
    /// The context is not there, or is another.
    OtherContext,
}

/// Appends what lies at `offset` into the buffer's spare room, however much that is, provided that
/// `context` still lies before it.
pub(super) fn read_at(file: &File, buffer: &mut BytesMut, offset: u64, context: &[u8]) -> io::Result<Read> {
    let from = libc::off_t::try_from(offset - context.len() as u64).map_err(io::Error::other)?;
    let mut found = [0_u8; CONTEXT_BYTES];
    loop {
        let spare = buffer.spare_capacity_mut();
        let room = spare.len();
        let parts = [
            libc::iovec { iov_base: found.as_mut_ptr().cast(), iov_len: context.len() },
            libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len() },
        ];
        // SAFETY: the kernel writes at most `context.len()` bytes to `found`, which is at least as long,
        // and at most `spare.len()` bytes to memory that the buffer owns alone.
        let read = unsafe { libc::preadv(file.as_raw_fd(), parts.as_ptr(), 2, from) };
        if let Ok(read) = usize::try_from(read) {
            let Some(new) = read.checked_sub(context.len()).filter(|_| found[..context.len()] == *context)
            else {
                return Ok(Read::OtherContext);
            };
            // SAFETY: the kernel has initialised that many bytes of the spare room.
            unsafe { buffer.set_len(buffer.len() + new) };
            return Ok(if new == 0 { Read::Nothing } else { Read::Bytes { to_end: new < room } });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Appends what a stream gives next.
pub(super) fn read_on(stream: &mut dyn Stream, buffer: &mut BytesMut) -> io::Result<Read> {
    let before = buffer.len();
    buffer.resize(buffer.capacity(), 0);
    let read = loop {
        match stream.read(&mut buffer[before..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
    Ok(if read? == 0 { Read::Nothing } else { Read::Bytes { to_end: false } })
}
