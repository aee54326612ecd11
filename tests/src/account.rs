//! An exact account of numbered lines: which came out, and which were lost, repeated, torn or out of order.
//!
//! It counts on the fly and keeps no line, so that ten million of them are no matter.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Write as _},
};

use crate::write::padding;

/// Troubles that are remembered word for word; the rest are counted.
const TROUBLES_KEPT: usize = 10;

/// Takes what comes out, and counts it.
#[derive(Debug, Default)]
pub struct Account {
    writers: HashMap<String, Writer>,
    /// The beginning of a line whose end is yet to come.
    open: Vec<u8>,
    lines: u64,
    torn: u64,
    repeated: u64,
    late: u64,
    troubles: Vec<String>,
}

#[derive(Debug, Default)]
struct Writer {
    next: u64,
    /// Numbers that were passed over: first to one behind the last.
    missing: BTreeMap<u64, u64>,
}

/// What an [`Account`] says while it is still counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Lines so far, good or bad.
    pub lines: u64,
    /// Whether nothing was found wrong so far: a number that was passed over may still come.
    pub is_clean: bool,
}

impl Account {
    /// Counts `bytes`, which go on where those before ended.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(newline) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..newline], &rest[newline + 1..]);
            if self.open.is_empty() {
                self.count(line);
            } else {
                self.open.extend_from_slice(line);
                let line = std::mem::take(&mut self.open);
                self.count(&line);
            }
            rest = after;
        }
        self.open.extend_from_slice(rest);
    }

    /// The state so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        Counted { lines: self.lines, is_clean: self.troubles.is_empty() && self.torn == 0 }
    }

    fn count(&mut self, line: &[u8]) {
        self.lines += 1;
        let Some((name, number)) = parse(line) else {
            self.torn += 1;
            return self.trouble(format_args!("torn: {:?}", String::from_utf8_lossy(line)));
        };
        if !self.writers.contains_key(name) {
            self.writers.insert(name.to_owned(), Writer::default());
        }
        let Some(writer) = self.writers.get_mut(name) else { return };
        if number == writer.next {
            writer.next += 1;
        } else if number > writer.next {
            writer.missing.insert(writer.next, number);
            writer.next = number + 1;
        } else if writer.take_missing(number) {
            self.late += 1;
            let next = writer.next;
            self.trouble(format_args!("out of order: {name} {number} after {name} {}", next - 1));
        } else {
            self.repeated += 1;
            self.trouble(format_args!("repeated: {name} {number}"));
        }
    }

    fn trouble(&mut self, text: impl fmt::Display) {
        if self.troubles.len() < TROUBLES_KEPT {
            self.troubles.push(text.to_string());
        }
    }

    /// Nothing lost, repeated, torn or out of order, of writers that wrote so many lines each.
    ///
    /// # Errors
    /// What was.
    pub fn check<'a>(&self, written: impl IntoIterator<Item = (&'a str, u64)>) -> Result<(), String> {
        let Self { writers, open, lines, torn, repeated, late, troubles } = self;
        let mut report = String::new();
        let (mut expected, mut lost) = (0, 0);
        for (name, count) in written {
            expected += count;
            let (next, mut missing) = writers
                .get(name)
                .map_or((0, BTreeMap::new()), |writer| (writer.next, writer.missing.clone()));
            if next < count {
                missing.insert(next, count);
            }
            for (first, end) in missing {
                lost += end - first;
                let _ = writeln!(report, "lost: {name} {first} to {}", end - 1);
            }
        }
        if lost + torn + repeated + late == 0 && open.is_empty() && *lines == expected {
            return Ok(());
        }
        for trouble in troubles {
            let _ = writeln!(report, "{trouble}");
        }
        if !open.is_empty() {
            let _ = writeln!(report, "without its end: {:?}", String::from_utf8_lossy(open));
        }
        Err(format!(
            "{lines} lines came out where {expected} were written: {lost} lost, {repeated} repeated, {torn} \
             torn, {late} out of order\n{report}"
        ))
    }
}

impl Writer {
    fn take_missing(&mut self, number: u64) -> bool {
        let Some((&first, &end)) = self.missing.range(..=number).next_back() else { return false };
        if number >= end {
            return false;
        }
        self.missing.remove(&first);
        if first < number {
            self.missing.insert(first, number);
        }
        if number + 1 < end {
            self.missing.insert(number + 1, end);
        }
        true
    }
}

/// A line as [`crate::write::Lines`] writes it, all of it: a name, a number, and the padding of that number.
fn parse(line: &[u8]) -> Option<(&str, u64)> {
    let mut words = std::str::from_utf8(line).ok()?.splitn(3, ' ');
    let (name, number) = (words.next()?, words.next()?);
    let parsed = number.parse().ok()?;
    (words.next()? == padding(parsed)).then_some((name, parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(lines: &[u64]) -> Account {
        let mut account = Account::default();
        for number in lines {
            account.take(format!("a {number} {}\n", padding(*number)).as_bytes());
        }
        account
    }

    #[test]
    fn every_line_once_and_in_order_is_nothing_to_complain_of() {
        assert_eq!(account(&[0, 1, 2]).check([("a", 3)]), Ok(()));
        assert_eq!(account(&[]).check([("a", 0)]), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_said_exactly() {
        for (lines, complaint) in [
            (&[0, 1, 4, 5][..], "lost: a 2 to 3"),
            (&[0, 1, 2, 3, 4], "lost: a 5 to 5"),
            (&[1, 2, 3, 4, 5], "lost: a 0 to 0"),
            (&[0, 1, 2, 3, 4, 5, 3], "repeated: a 3"),
            (&[0, 3, 4, 1, 2, 5], "out of order: a 1 after a 4"),
            (&[0, 1, 2, 3, 4, 5, 6], "7 lines came out where 6 were written"),
        ] {
            let report = account(lines).check([("a", 6)]).expect_err("trouble");
            assert!(report.contains(complaint), "{lines:?}: {report}");
        }
        assert!(account(&[0, 3, 4, 1, 2, 5]).check([("a", 6)]).expect_err("order").contains(" 0 lost"));
    }

    #[test]
    fn a_line_that_is_not_whole_is_torn() {
        let mut torn = account(&[0]);
        torn.take(b"a 1 ..a 2 ..............\n");
        assert!(torn.check([("a", 1)]).expect_err("torn").contains("torn: \"a 1 ..a 2"));
        let mut open = account(&[0]);
        open.take(b"a 1 ");
        assert!(open.check([("a", 1)]).expect_err("open").contains("without its end: \"a 1 \""));
    }
}
