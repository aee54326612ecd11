//! Zeros that nobody wrote: holes, and room that was reserved before there are bytes for it.
//!
//! A file grows before its bytes are there where room is reserved (fallocate, or a larger size), and a writer that
//! does not append leaves a hole behind when its file is truncated. Both read as zeros, and neither is text:
//!
//! * zeros at the end are left where they are, until something follows them or takes their place;
//! * zeros that something follows are passed over where the filesystem has a hole among them (`SEEK_HOLE`); otherwise
//!   somebody wrote them, and they come out like all bytes.

use std::{fs::File, io, os::fd::AsRawFd as _};

use super::{print::read_full, reader::BLOCK_BYTES};

/// Bytes that are looked at at once.
const STEP_BYTES: usize = 64 << 10;

/// What to make of bytes that begin or end with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// So many of them are text, perhaps none. What is behind has not been written yet, up to this end of the file; 0
    /// where all are text.
    Text { bytes: usize, end: u64 },
    /// They begin with so many bytes of a hole, which may go on behind what was read.
    Hole(u64),
}

impl Zeros {
    /// All of so many bytes are text.
    pub fn none(bytes: usize) -> Self {
        Self::Text { bytes, end: 0 }
    }
}

/// Looks at bytes that were read at `offset`, to the end of the file or of the block.
///
/// # Errors
/// lseek(2)'s or pread(2)'s.
pub fn look(file: &File, offset: u64, bytes: &[u8]) -> io::Result<Zeros> {
    let end = offset + bytes.len() as u64;
    let Some(first) = bytes.iter().position(|byte| *byte != 0) else {
        return Ok(match next_text(file, end)? {
            Some(text) if has_hole(file, offset, text)? => Zeros::Hole(text - offset),
            Some(_) => Zeros::none(bytes.len()),
            None => Zeros::Text { bytes: 0, end: file.metadata()?.len() },
        });
    };
    if first > 0 && has_hole(file, offset, offset + first as u64)? {
        return Ok(Zeros::Hole(first as u64));
    }
    let text = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    if text == bytes.len() {
        return Ok(Zeros::none(text));
    }
    Ok(match next_text(file, end)? {
        // Somebody wrote them.
        Some(next) if !has_hole(file, offset + text as u64, next)? => Zeros::none(bytes.len()),
        Some(_) => Zeros::none(text),
        None => Zeros::Text { bytes: text, end: file.metadata()?.len() },
    })
}

/// The first byte from `offset` on that is not zero. Behind more than a block of zeros that were written it is not looked
/// for: where the file ends with text, an offset before it is given; where it ends with zeros, that is room reserved by
/// writing.
fn next_text(file: &File, offset: u64) -> io::Result<Option<u64>> {
    let mut at = offset;
    let mut block = vec![0; STEP_BYTES];
    let mut left = BLOCK_BYTES;
    while left > 0 {
        match seek(file, at, libc::SEEK_DATA)? {
            Some(data) => at = data,
            None => return Ok(None),
        }
        let read = read_full(file, &mut block, at)?;
        if let Some(text) = block[..read].iter().position(|byte| *byte != 0) {
            return Ok(Some(at + text as u64));
        }
        if read == 0 {
            return Ok(None);
        }
        at += read as u64;
        left = left.saturating_sub(read);
    }
    let end = at.max(file.metadata()?.len().saturating_sub(STEP_BYTES as u64));
    let read = read_full(file, &mut block, end)?;
    Ok(block[..read].iter().any(|byte| *byte != 0).then_some(at))
}

/// Whether there is a hole between these offsets.
fn has_hole(file: &File, from: u64, to: u64) -> io::Result<bool> {
    Ok(seek(file, from, libc::SEEK_HOLE)?.is_some_and(|hole| hole < to))
}

/// lseek(2) with `SEEK_DATA` or `SEEK_HOLE`; `None` where there is nothing more of it. A filesystem without holes says
/// that all is data. The offset that it sets belongs to this descriptor alone, and nobody reads by it.
fn seek(file: &File, offset: u64, whence: libc::c_int) -> io::Result<Option<u64>> {
    let from = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: touches no memory of this process.
    let found = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
    match u64::try_from(found) {
        Ok(found) => Ok(Some(found)),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn file(parts: &[(u64, &[u8])], size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in parts {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    fn looked_at(file: &File, offset: u64) -> Zeros {
        let mut bytes = vec![0; BLOCK_BYTES];
        let read = read_full(file, &mut bytes, offset).unwrap();
        look(file, offset, &bytes[..read]).unwrap()
    }

    #[test]
    fn zeros_that_somebody_wrote_are_text_however_many_there_are() {
        for zeros in [100_000, 600_000, 10_000_000] {
            let written = file(&[(0, &vec![0; zeros]), (zeros as u64, b"text\n")], 0);
            assert_eq!(looked_at(&written, 0), Zeros::none(BLOCK_BYTES.min(zeros + 5)), "{zeros}");
            let after_a_hole = file(&[(1 << 20, &vec![0; zeros]), ((1 << 20) + zeros as u64, b"text\n")], 0);
            let Zeros::Hole(length) = looked_at(&after_a_hole, 0) else { panic!("{zeros}") };
            assert!(length >= 1 << 20 && length <= (1 << 20) + zeros as u64, "{zeros}: {length}");
        }
    }

    #[test]
    fn zeros_at_the_end_wait() {
        for end in [100_000, 100 << 30] {
            assert_eq!(looked_at(&file(&[(0, b"text\n")], end), 0), Zeros::Text { bytes: 5, end });
        }
        assert_eq!(looked_at(&file(&[(0, &[0; 9000])], 9000), 0), Zeros::Text { bytes: 0, end: 9000 });
    }

    #[test]
    fn a_hole_before_text_is_passed_over_however_large() {
        for size in [10_000, 1 << 20, 100 << 30] {
            let hole = file(&[(0, b"text\n"), (size, b"more\n")], 0);
            assert_eq!(looked_at(&hole, 5), Zeros::Hole(size - 5), "{size}");
            assert_eq!(looked_at(&hole, size), Zeros::none(5), "{size}");
        }
    }

    #[test]
    fn zeros_that_were_written_come_out() {
        assert_eq!(looked_at(&file(&[(0, b"\0\0text\0\0\n")], 0), 0), Zeros::none(9));
        let written = [vec![0; 100_000], b"text\n".to_vec()].concat();
        assert_eq!(looked_at(&file(&[(0, &written)], 0), 0), Zeros::none(100_005));
    }
}
