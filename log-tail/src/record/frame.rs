//! Takes the bytes of a block apart into records: a line each, or the pieces of a line that is too long.
//!
//! Nothing is left out, added or copied: the records put together are the bytes again. A record holds at most
//! `max_line_bytes`, its newline not counted.

use std::num::NonZeroUsize;

use memchr::memchr;

use crate::record::Ending;

/// A line, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where in the block the record's first byte stands.
    pub offset_in_block: usize,
    /// The bytes as written, with their newline where they have one. Never empty.
    pub bytes: &'a [u8],
    /// The line goes on in the next record.
    pub continues: bool,
}

impl<'a> Record<'a> {
    /// The record's bytes without the newline. A carriage return before it is the writer's, and stays.
    #[must_use]
    pub fn line(&self) -> &'a [u8] {
        self.bytes.strip_suffix(b"\n").unwrap_or(self.bytes)
    }
}

/// The records of a block's `bytes`, which end as `ending` says.
pub fn records(
    bytes: &[u8],
    ending: Ending,
    max_line_bytes: NonZeroUsize,
) -> impl Iterator<Item = Record<'_>> {
    let mut at = 0;
    // Where the line that `at` stands in ends, so that an overlong line is searched once, not once a piece.
    let mut line_end = 0;
    std::iter::from_fn(move || {
        if at == bytes.len() {
            return None;
        }
        if line_end <= at {
            line_end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |newline| at + newline + 1);
        }
        let line = &bytes[at..line_end];
        let (length, continues) = match line.strip_suffix(b"\n") {
            Some(text) if text.len() <= max_line_bytes.get() => (line.len(), false),
            None if line.len() <= max_line_bytes.get() => (line.len(), ending == Ending::Piece),
            _ => (piece_len(line, max_line_bytes), true),
        };
        let record = Record { offset_in_block: at, bytes: &line[..length], continues };
        at += length;
        Some(record)
    })
}

/// How many bytes of a line to take as one piece: `max_line_bytes`, or up to three fewer where the cut would
/// go through a UTF-8 character. All of `line` where it is not longer than that. Never 0 for a line that is
/// not empty.
#[must_use]
pub fn piece_len(line: &[u8], max_line_bytes: NonZeroUsize) -> usize {
    let max = max_line_bytes.get();
    if line.len() <= max {
        return line.len();
    }
    // A character is at most four bytes long, so at most three of an unfinished one stand before the cut. The
    // cut must leave something before it, or no progress is made.
    (1..=3.min(max - 1))
        .map(|back| max - back)
        .find(|&cut| is_begun_character(&line[cut..max]))
        .unwrap_or(max)
}

/// Whether `bytes` are the first bytes, but not all, of one UTF-8 character.
fn is_begun_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(bytes: &[u8], ending: Ending, max: usize) -> Vec<(&[u8], bool)> {
        records(bytes, ending, NonZeroUsize::new(max).expect("not zero"))
            .map(|record| (record.bytes, record.continues))
            .collect()
    }

    #[test]
    fn whole_lines_are_a_record_each() {
        assert_eq!(
            framed(b"one\n\ntwo\n", Ending::Newline, 16),
            [(&b"one\n"[..], false), (b"\n", false), (b"two\n", false)]
        );
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole() {
        assert_eq!(framed(b"four\n", Ending::Newline, 4), [(&b"four\n"[..], false)]);
    }

    #[test]
    fn a_longer_line_comes_in_pieces_and_only_its_last_one_ends_it() {
        assert_eq!(
            framed(b"seventeen\nx\n", Ending::Newline, 4),
            [(&b"seve"[..], true), (b"ntee", true), (b"n\n", false), (b"x\n", false)]
        );
    }

    #[test]
    fn every_record_of_a_piece_goes_on() {
        assert_eq!(framed(b"abcdef", Ending::Piece, 4), [(&b"abcd"[..], true), (b"ef", true)]);
    }

    #[test]
    fn the_last_line_of_a_file_ends_without_its_newline() {
        assert_eq!(framed(b"a\nbc", Ending::EndOfFile, 4), [(&b"a\n"[..], false), (b"bc", false)]);
    }

    #[test]
    fn no_bytes_are_no_record() {
        assert!(framed(b"", Ending::EndOfFile, 4).is_empty());
    }

    #[test]
    fn a_cut_goes_before_the_character_it_would_split() {
        assert_eq!(
            framed("abc\u{20ac}\n".as_bytes(), Ending::Newline, 5),
            [(&b"abc"[..], true), ("\u{20ac}\n".as_bytes(), false)]
        );
    }

    #[test]
    fn a_limit_smaller_than_a_character_still_ends() {
        assert_eq!(framed("\u{20ac}\n".as_bytes(), Ending::Newline, 1).len(), 3);
    }

    #[test]
    fn a_carriage_return_belongs_to_the_line() {
        let bytes = b"dos\r\n";
        let record = records(bytes, Ending::Newline, NonZeroUsize::MIN.saturating_add(15)).next();
        assert_eq!(record.map(|record| record.line()), Some(&b"dos\r"[..]));
    }

    proptest! {
        #[test]
        fn records_put_together_are_the_bytes_again(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(0xe2), any::<u8>()], 0..200),
            max in 1_usize..40,
        ) {
            let max = NonZeroUsize::new(max).expect("not zero");
            let mut at = 0;
            for record in records(&bytes, Ending::Piece, max) {
                prop_assert_eq!(record.offset_in_block, at);
                prop_assert!(!record.bytes.is_empty());
                prop_assert!(record.line().len() <= max.get());
                prop_assert_eq!(record.continues, !record.bytes.ends_with(b"\n"));
                at += record.bytes.len();
            }
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn a_line_of_utf8_is_cut_into_utf8(text in "[^\n]{0,80}", max in 4_usize..20) {
            let max = NonZeroUsize::new(max).expect("not zero");
            for record in records(text.as_bytes(), Ending::EndOfFile, max) {
                prop_assert!(std::str::from_utf8(record.bytes).is_ok());
                prop_assert!(!record.continues || record.bytes.len() + 3 >= max.get());
            }
        }
    }
}
