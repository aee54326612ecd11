//! Where in a file that is already there following starts, with exactly the meaning `tail` gives `-n` and `-c`.
//!
//! Reads of the file what it must: from the end for the last lines, from the front to reach a line by its
//! number, nothing for bytes. Does not move the file's offset.

use std::fs::File;
use std::io;

use memchr::{memchr_iter, memrchr_iter};

use super::print::read_full;
use crate::count::{self, CountError};

/// How much is read at a time, in bytes.
const STEP_BYTES: usize = 64 * 1024;

/// Where following starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Before the last so many lines. A last line without its newline counts.
    LastLines(u64),
    /// At the line of this number. The first is 1; 0 means the same.
    FromLine(u64),
    /// Before the last so many bytes.
    LastBytes(u64),
    /// At the byte of this number. The first is 1; 0 means the same.
    FromByte(u64),
}

impl Start {
    /// What `tail -n` takes: `N` or `-N`, the last lines; `+N`, from a line on.
    pub fn from_lines(text: &str) -> Result<Self, CountError> {
        signed(text, Self::LastLines, Self::FromLine)
    }

    /// What `tail -c` takes: `N` or `-N`, the last bytes; `+N`, from a byte on.
    pub fn from_bytes(text: &str) -> Result<Self, CountError> {
        signed(text, Self::LastBytes, Self::FromByte)
    }
}

fn signed(text: &str, last: fn(u64) -> Start, from: fn(u64) -> Start) -> Result<Start, CountError> {
    match text.strip_prefix('+') {
        Some(number) => count::parse(number).map(from),
        None => count::parse(text.strip_prefix('-').unwrap_or(text)).map(last),
    }
}

/// The offset of the first byte to deliver from `file`, of which `size` bytes are looked at. Never past `size`.
///
/// # Errors
/// What pread(2) said. A file that gets shorter meanwhile is none: what is left of it is looked at.
pub fn start_offset(file: &File, size: u64, start: Start) -> io::Result<u64> {
    match start {
        Start::LastBytes(bytes) => Ok(size.saturating_sub(bytes)),
        Start::FromByte(number) => Ok(size.min(number.saturating_sub(1))),
        Start::LastLines(0) => Ok(size),
        Start::LastLines(lines) => last_lines(file, size, lines),
        Start::FromLine(number) => from_line(file, size, number),
    }
}

/// `lines` is at least 1.
fn last_lines(file: &File, mut size: u64, lines: u64) -> io::Result<u64> {
    let mut buffer = vec![0; STEP_BYTES];
    'shorter: loop {
        // Newlines that end one of the lines wanted. The one before them ends the line in front of all these.
        let mut passed = 0;
        let mut end = size;
        while end > 0 {
            // Reads start at multiples of the step, where the page cache's pages start too.
            let from = (end - 1) / STEP_BYTES as u64 * STEP_BYTES as u64;
            let step = &mut buffer[..usize::try_from(end - from).unwrap_or(STEP_BYTES)];
            let read = read_full(file, step, from)?;
            if read < step.len() {
                size = from + read as u64;
                continue 'shorter;
            }
            if end == size && !step.ends_with(b"\n") {
                // The last line counts without its newline too.
                passed = 1;
            }
            for newline in memrchr_iter(b'\n', step) {
                if passed == lines {
                    return Ok(from + newline as u64 + 1);
                }
                passed += 1;
            }
            end = from;
        }
        return Ok(0);
    }
}

fn from_line(file: &File, size: u64, number: u64) -> io::Result<u64> {
    let mut to_skip = number.saturating_sub(1);
    if to_skip == 0 {
        return Ok(0);
    }
    let mut buffer = vec![0; STEP_BYTES];
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
        let read = read_full(file, &mut buffer[..length], at)?;
        for newline in memchr_iter(b'\n', &buffer[..read]) {
            to_skip -= 1;
            if to_skip == 0 {
                return Ok(at + newline as u64 + 1);
            }
        }
        at += read as u64;
        if read < length {
            break;
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn file_with(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(content).expect("written");
        file
    }

    fn offset(content: &[u8], start: Start) -> u64 {
        start_offset(file_with(content).as_file(), content.len() as u64, start).expect("offset")
    }

    #[test]
    fn an_option_means_what_it_means_to_tail() {
        assert_eq!(Start::from_lines("10"), Ok(Start::LastLines(10)));
        assert_eq!(Start::from_lines("-10"), Ok(Start::LastLines(10)));
        assert_eq!(Start::from_lines("+1"), Ok(Start::FromLine(1)));
        assert_eq!(Start::from_bytes("1K"), Ok(Start::LastBytes(1024)));
        assert_eq!(Start::from_bytes("+2b"), Ok(Start::FromByte(1024)));
        assert_eq!(Start::from_bytes("+-1"), Err(CountError::NoNumber));
        assert_eq!(Start::from_lines("5q"), Err(CountError::NoMultiplier("q".into())));
    }

    #[test]
    fn no_lines_are_the_end_and_all_lines_are_the_start() {
        assert_eq!(offset(b"a\nb\n", Start::LastLines(0)), 4);
        assert_eq!(offset(b"a\nb\n", Start::LastLines(u64::MAX)), 0);
        assert_eq!(offset(b"a\nb\n", Start::FromLine(0)), 0);
        assert_eq!(offset(b"a\nb\n", Start::FromByte(0)), 0);
        assert_eq!(offset(b"a\nb\n", Start::FromLine(u64::MAX)), 4);
        assert_eq!(offset(b"", Start::LastLines(10)), 0);
    }

    #[test]
    fn a_last_line_without_its_newline_is_a_line() {
        assert_eq!(offset(b"a\nb\nc", Start::LastLines(1)), 4);
        assert_eq!(offset(b"a\nb\nc", Start::LastLines(2)), 2);
        assert_eq!(offset(b"a\nb\nc\n", Start::LastLines(1)), 4);
    }

    #[test]
    fn what_is_appended_after_the_size_was_taken_is_not_looked_at() {
        let file = file_with(b"a\nb\nc\n");
        assert_eq!(start_offset(file.as_file(), 4, Start::LastLines(1)).expect("offset"), 2);
        assert_eq!(start_offset(file.as_file(), 4, Start::FromLine(9)).expect("offset"), 4);
    }

    #[test]
    fn a_file_that_got_shorter_is_looked_at_as_it_is() {
        let file = file_with(b"a\nb\n");
        for size in [5, 1 << 20] {
            assert_eq!(start_offset(file.as_file(), size, Start::LastLines(1)).expect("offset"), 2);
            assert_eq!(start_offset(file.as_file(), size, Start::FromLine(9)).expect("offset"), 4);
        }
        let empty = file_with(b"");
        assert_eq!(start_offset(empty.as_file(), 1 << 20, Start::LastLines(3)).expect("offset"), 0);
    }

    /// What `tail` itself prints is the truth.
    fn tail_prints(file: &tempfile::NamedTempFile, start: Start) -> Vec<u8> {
        let option = match start {
            Start::LastLines(lines) => format!("-n{lines}"),
            Start::FromLine(number) => format!("-n+{number}"),
            Start::LastBytes(bytes) => format!("-c{bytes}"),
            Start::FromByte(number) => format!("-c+{number}"),
        };
        let output = Command::new("tail").arg(option).arg(file.path()).output().expect("tail runs");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn any_start(most: u64) -> impl Strategy<Value = Start> {
        prop_oneof![
            (0..most).prop_map(Start::LastLines),
            (0..most).prop_map(Start::FromLine),
            (0..most).prop_map(Start::LastBytes),
            (0..most).prop_map(Start::FromByte),
        ]
    }

    proptest! {
        #[test]
        fn short_files_start_where_tail_starts(
            content in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60),
            start in any_start(64),
        ) {
            let from = usize::try_from(offset(&content, start)).expect("small");
            prop_assert_eq!(&content[from..], tail_prints(&file_with(&content), start));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Lines of such lengths that they end at, before and after the borders of the steps.
        #[test]
        fn long_files_start_where_tail_starts(
            lengths in prop::collection::vec(
                prop_oneof![0..200_usize, STEP_BYTES - 2..STEP_BYTES + 2, 0..3 * STEP_BYTES], 0..12),
            has_last_newline in any::<bool>(),
            start in any_start(14),
        ) {
            let mut content = Vec::new();
            for length in lengths {
                content.resize(content.len() + length, b'x');
                content.push(b'\n');
            }
            if !has_last_newline {
                content.pop();
            }
            let from = usize::try_from(offset(&content, start)).expect("small");
            prop_assert!(content[from..] == tail_prints(&file_with(&content), start), "{start:?}: {from}");
        }
    }
}
