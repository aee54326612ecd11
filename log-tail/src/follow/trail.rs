//! Where lines ended: after a truncation of which nobody tells the size, reading goes on behind the last line
//! that is still what was read.
//!
//! A [`Trail`] holds an end for every line as long as there is room, then for every second, and so on: always
//! spread evenly over what was read. Each comes with a hash of its whole line, times of day included. What is the
//! same at the same place counts as what was read, whoever wrote it.

use std::io;

use twox_hash::XxHash3_64;

use super::print::{ReadAt, read_full};

/// Longer lines are not noted.
const LONGEST_LINE: usize = 4096;

/// Ends of lines, of all files together.
const MOST_OF_ALL: u32 = 64 << 10;
const MOST_OF_ONE: u32 = 16 << 10;
const LEAST_OF_ONE: u32 = 64;

/// The end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// Offset of the first byte behind the newline.
    at: u64,
    /// The low half of the line's XXH3, 64 bits.
    hash: u32,
    /// Bytes of the line, its newline included.
    length: u16,
}

impl End {
    fn of(at: u64, line: &[u8]) -> Option<Self> {
        if line.len() > LONGEST_LINE {
            return None;
        }
        Some(Self { at, hash: hash(line), length: u16::try_from(line.len()).ok()? })
    }

    /// Whether its line is there.
    fn is_in(self, content: &impl ReadAt, line: &mut [u8; LONGEST_LINE]) -> io::Result<bool> {
        let line = &mut line[..usize::from(self.length)];
        let read = read_full(content, line, self.at - u64::from(self.length))?;
        Ok(read == line.len() && hash(line) == self.hash)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of it is enough to tell lines apart")]
fn hash(line: &[u8]) -> u32 {
    XxHash3_64::oneshot(line) as u32
}

/// Ends of lines, ascending.
#[derive(Debug, Default)]
pub struct Trail {
    ends: Vec<End>,
    /// Most of them; none where nothing is to be noted.
    most: u32,
    /// Bytes that are to lie between two of them at least.
    gap: u32,
}

impl Trail {
    /// Holds `most` ends of lines, 16 bytes each.
    pub fn of_at_most(most: u32) -> Self {
        Self { most, ..Self::default() }
    }

    /// For one of so many files: few take more room each, and all together not much more than a mebibyte.
    pub fn for_one_of(files: usize) -> Self {
        let files = u32::try_from(files).unwrap_or(u32::MAX).max(1);
        Self::of_at_most((MOST_OF_ALL / files).clamp(LEAST_OF_ONE, MOST_OF_ONE))
    }

    /// Whole lines were handed on, of which the first begins at `offset`.
    pub fn note(&mut self, offset: u64, lines: &[u8]) {
        if self.most == 0 {
            return;
        }
        let mut from = 0;
        loop {
            let next = self.ends.last().map_or(0, |last| last.at + u64::from(self.gap));
            let skipped = usize::try_from(next.saturating_sub(offset)).unwrap_or(usize::MAX).max(from);
            let Some(rest) = lines.get(skipped..) else { break };
            let Some(newline) = memchr::memchr(b'\n', rest) else { break };
            let end = skipped + newline + 1;
            let start = memchr::memrchr(b'\n', &lines[..end - 1]).map_or(0, |before| before + 1);
            if self.ends.capacity() == 0 {
                // All that there is of a file of one line.
                self.ends.reserve_exact(1);
            }
            self.ends.extend(End::of(offset + end as u64, &lines[start..end]));
            if self.ends.len() > self.most as usize {
                self.thin();
            }
            from = end;
        }
    }

    /// The first end of a line that is known.
    pub fn first(&self) -> Option<u64> {
        self.ends.first().map(|end| end.at)
    }

    /// The content is no longer than `end`: forgets what was behind it.
    pub fn truncate_to(&mut self, end: u64) {
        self.ends.truncate(self.ends.partition_point(|known| known.at <= end));
        if self.ends.is_empty() {
            *self = Self::of_at_most(self.most);
        }
    }

    /// Whether all lines that are known up to this offset are in this content.
    ///
    /// # Errors
    /// pread(2)'s.
    pub fn is_of(&self, content: &impl ReadAt, offset: u64) -> io::Result<bool> {
        let known = self.ends[..self.ends.partition_point(|end| end.at <= offset)].last();
        Ok(self.unchanged_to(content, offset)? == known.map_or(0, |end| end.at))
    }

    /// Whether the line that ends here is what it was, if one is known. What cannot be read is not doubted.
    pub fn holds_at(&self, content: &impl ReadAt, at: u64) -> bool {
        let Ok(index) = self.ends.binary_search_by_key(&at, |end| end.at) else { return true };
        self.ends[index].is_in(content, &mut [0; LONGEST_LINE]).unwrap_or(true)
    }

    /// The end of the last line, up to `at_most`, to which all are the same as they were; 0 where not even the
    /// first one is.
    ///
    /// # Errors
    /// pread(2)'s.
    pub fn unchanged_to(&self, content: &impl ReadAt, at_most: u64) -> io::Result<u64> {
        let mut line = [0; LONGEST_LINE];
        let mut unchanged = 0;
        for end in self.ends.iter().take_while(|end| end.at <= at_most) {
            if !end.is_in(content, &mut line)? {
                break;
            }
            unchanged = end.at;
        }
        Ok(unchanged)
    }

    /// Drops every second one.
    fn thin(&mut self) {
        let mut is_kept = false;
        self.ends.retain(|_| {
            is_kept = !is_kept;
            is_kept
        });
        let span = self.ends.last().map_or(0, |last| last.at) - self.ends.first().map_or(0, |first| first.at);
        // Where that is too little, more come than there is room for, and are thinned once more.
        self.gap = u32::try_from(span / self.ends.len().max(1) as u64).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn file(content: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn lines(from: usize, to: usize) -> Vec<u8> {
        (from..to).flat_map(|number| format!("line {number}\n").into_bytes()).collect()
    }

    #[test]
    fn nothing_is_noted_without_room() {
        let mut trail = Trail::default();
        trail.note(0, b"one\n");
        assert_eq!(trail.unchanged_to(&file(b"one\n"), 4).unwrap(), 0);
    }

    #[test]
    fn a_line_that_is_the_same_behind_one_that_is_not_counts_for_nothing() {
        let mut trail = Trail::of_at_most(10);
        trail.note(0, b"one\ntwo\nsix\n");
        assert_eq!(trail.unchanged_to(&file(b"one\nTWO\nsix\n"), 12).unwrap(), 4);
    }

    #[test]
    fn an_overlong_line_is_not_noted_and_those_around_it_are() {
        let mut trail = Trail::of_at_most(10);
        let content = [b"a\n".to_vec(), vec![b'x'; LONGEST_LINE], b"\nb\n".to_vec()].concat();
        trail.note(0, &content);
        assert_eq!(trail.ends.iter().map(|end| end.length).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(trail.unchanged_to(&file(&content), content.len() as u64).unwrap(), content.len() as u64);
    }

    proptest! {
        #[test]
        fn reading_goes_on_behind_the_last_line_that_is_left(
            total in 1_usize..300, left in 0..100_usize, most in 2_usize..400, block in 1_usize..50,
        ) {
            let mut trail = Trail::of_at_most(u32::try_from(most).unwrap());
            let mut offset = 0;
            for from in (0..total).step_by(block) {
                let block = lines(from, total.min(from + block));
                trail.note(offset, &block);
                offset += block.len() as u64;
            }
            prop_assert!(trail.ends.len() <= most);
            let content = lines(0, total);
            let left = content.len() * left / 100;
            let regrown = [&content[..left], b"other\n".repeat(total).as_slice()].concat();
            let unchanged = trail.unchanged_to(&file(&regrown), offset).unwrap();
            let whole = memchr::memrchr(b'\n', &content[..left]).map_or(0, |newline| newline + 1) as u64;
            prop_assert!(unchanged <= whole);
            if total <= most {
                prop_assert_eq!(unchanged, whole);
            } else {
                // Ever twice as far apart as would just do.
                let step = 2 * (offset / most as u64 + 10);
                prop_assert!(whole - unchanged <= 2 * step, "{whole} - {unchanged} > 2 * {step}");
            }
        }
    }
}
