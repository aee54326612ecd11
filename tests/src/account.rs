//! An exact account of numbered lines: which came out, and which were lost, repeated, torn or out of order.
//!
//! It counts on the fly and keeps no line, so that ten million of them are no matter.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Write as _},
};

use crate::write::{padding, put_line};

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
    /// What was repeated, apart from the others: where that is allowed, they would be hidden behind it.
    repeats: Vec<String>,
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

/// What became of the lines that were written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Lines that went into the files.
    pub written: u64,
    /// Different ones of them that came out.
    pub delivered: u64,
    /// Those that did not.
    pub lost: u64,
    /// Bytes of the lost lines, newlines counted.
    pub lost_bytes: u64,
    /// Lines that had come out before.
    pub repeated: u64,
    /// What came out and was never written like that: pieces of lines, and lines that ran into one another.
    pub torn: u64,
    /// Lines that came out after a later one of the same writer.
    pub out_of_order: u64,
}

impl Numbers {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        let Self { written, delivered, lost, lost_bytes, repeated, torn, out_of_order } = other;
        self.written += written;
        self.delivered += delivered;
        self.lost += lost;
        self.lost_bytes += lost_bytes;
        self.repeated += repeated;
        self.torn += torn;
        self.out_of_order += out_of_order;
    }
}

fn keep(troubles: &mut Vec<String>, text: impl fmt::Display) {
    if troubles.len() < TROUBLES_KEPT {
        troubles.push(text.to_string());
    }
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
        Counted { lines: self.lines, is_clean: self.torn + self.late + self.repeated == 0 }
    }

    /// Different lines that came out so far. What is repeated for ever is no progress.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.lines - self.torn - self.repeated
    }

    fn count(&mut self, line: &[u8]) {
        self.lines += 1;
        let Some((name, number)) = parse(line) else {
            self.torn += 1;
            return keep(&mut self.troubles, format_args!("torn: {:?}", String::from_utf8_lossy(line)));
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
            let before = next - 1;
            keep(&mut self.troubles, format_args!("out of order: {name} {number} after {name} {before}"));
        } else {
            self.repeated += 1;
            keep(&mut self.repeats, format_args!("repeated: {name} {number}"));
        }
    }

    /// Nothing lost, repeated, torn or out of order, of writers that wrote so many lines each.
    ///
    /// # Errors
    /// What was.
    pub fn check<'a>(&self, written: impl IntoIterator<Item = (&'a str, u64)>) -> Result<(), String> {
        let written: Vec<_> = written.into_iter().collect();
        let numbers = self.numbers(written.iter().copied());
        let Numbers { written: expected, lost, repeated, torn, out_of_order, .. } = numbers;
        if lost + torn + repeated + out_of_order == 0 && self.lines == expected {
            return Ok(());
        }
        let Self { open, lines, troubles, repeats, .. } = self;
        let mut report = String::new();
        for (name, missing) in self.missing(written) {
            for (first, end) in missing {
                let _ = writeln!(report, "lost: {name} {first} to {}", end - 1);
            }
        }
        for trouble in troubles.iter().chain(repeats) {
            let _ = writeln!(report, "{trouble}");
        }
        if !open.is_empty() {
            let _ = writeln!(report, "without its end: {:?}", String::from_utf8_lossy(open));
        }
        Err(format!(
            "{lines} lines came out where {expected} were written: {lost} lost, {repeated} repeated, {torn} \
             torn, {out_of_order} out of order\n{report}"
        ))
    }

    /// What became of the lines of writers that wrote so many each.
    #[must_use]
    pub fn numbers<'a>(&self, written: impl IntoIterator<Item = (&'a str, u64)>) -> Numbers {
        let written: Vec<_> = written.into_iter().collect();
        let mut numbers = Numbers {
            repeated: self.repeated,
            torn: self.torn + u64::from(!self.open.is_empty()),
            out_of_order: self.late,
            ..Numbers::default()
        };
        let mut line = Vec::new();
        for (name, missing) in self.missing(written.iter().copied()) {
            for number in missing.into_iter().flat_map(|(first, end)| first..end) {
                put_line(&mut line, name, number);
                numbers.lost += 1;
                numbers.lost_bytes += line.len() as u64;
            }
        }
        numbers.written = written.iter().map(|(_, count)| count).sum();
        numbers.delivered = numbers.written - numbers.lost;
        // Whatever else came out whole was never written.
        let came = self.writers.values().map(Writer::came).sum::<u64>();
        numbers.torn += came.saturating_sub(numbers.delivered);
        numbers
    }

    /// How many of the lines in these bytes have not come out.
    #[must_use]
    pub fn lacking(&self, bytes: &[u8]) -> u64 {
        // What has no newline is half a line, or looks whole and was cut off just there.
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return 0 };
        let lines = bytes[..end].split(|byte| *byte == b'\n').filter_map(parse);
        lines
            .filter(|(name, number)| self.writers.get(*name).is_none_or(|writer| writer.lacks(*number)))
            .count() as u64
    }

    /// Whether every line that these writers wrote has come out.
    #[must_use]
    pub fn is_complete<'a>(&self, written: impl IntoIterator<Item = (&'a str, u64)>) -> bool {
        written.into_iter().all(|(name, count)| {
            let writer = self.writers.get(name);
            count <= writer.map_or(0, |writer| writer.missing.keys().next().copied().unwrap_or(writer.next))
        })
    }

    /// One more than the highest number of a writer that has come out.
    #[must_use]
    pub fn reached(&self, writer: &str) -> u64 {
        self.writers.get(writer).map_or(0, |writer| writer.next)
    }

    /// Forgets the beginning of a line whose end will never come, because who printed it was killed.
    pub fn cut(&mut self) {
        self.open.clear();
    }

    /// The numbers of each writer that did not come out: first to one behind the last.
    fn missing<'a>(
        &self,
        written: impl IntoIterator<Item = (&'a str, u64)>,
    ) -> impl Iterator<Item = (&'a str, Vec<(u64, u64)>)> {
        written.into_iter().map(|(name, count)| {
            let writer = self.writers.get(name);
            let next = writer.map_or(0, |writer| writer.next);
            let passed_over = writer.into_iter().flat_map(|writer| &writer.missing);
            let never_reached = (next < count).then_some((next, count));
            let within = passed_over.map(|(&first, &end)| (first, end.min(count))).chain(never_reached);
            (name, within.filter(|(first, end)| first < end).collect())
        })
    }
}

impl Writer {
    /// Different numbers that came out.
    fn came(&self) -> u64 {
        self.next - self.missing.iter().map(|(first, end)| end - first).sum::<u64>()
    }

    fn lacks(&self, number: u64) -> bool {
        let passed_over = self.missing.range(..=number).next_back();
        number >= self.next || passed_over.is_some_and(|(_, end)| number < *end)
    }

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
    fn what_lies_in_a_file_and_did_not_come_out_is_counted() {
        let text = |numbers: &[u64]| -> Vec<u8> {
            let line = |number: &u64| format!("a {number} {}\n", padding(*number));
            numbers.iter().map(line).collect::<String>().into_bytes()
        };
        let account = account(&[0, 1, 4, 5]);
        assert_eq!(account.lacking(&text(&[0, 1, 4, 5])), 0);
        assert_eq!(account.lacking(&text(&[1, 2, 3, 5, 6])), 3);
        assert_eq!(account.lacking(b"nobody's\na 2"), 0);
        let cut = text(&[6]);
        assert_eq!((account.lacking(&cut), account.lacking(&cut[..cut.len() - 1])), (1, 0));
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

    #[test]
    fn the_numbers_add_up() {
        let numbers = account(&[0, 3, 4, 1, 1, 6]).numbers([("a", 8), ("b", 2)]);
        // a 2, a 5, a 7 and both of b's, each as long as it was written.
        let lost = [("a", 2), ("a", 5), ("a", 7), ("b", 0), ("b", 1)];
        let lost_bytes =
            lost.map(|(name, number)| format!("{name} {number} {}\n", padding(number)).len() as u64);
        let expected = Numbers {
            written: 10,
            delivered: 5,
            lost: 5,
            lost_bytes: lost_bytes.iter().sum(),
            repeated: 1,
            torn: 0,
            out_of_order: 1,
        };
        assert_eq!(numbers, expected);
        let mut twice = numbers;
        twice.add(&numbers);
        assert_eq!((twice.written, twice.lost_bytes), (20, 2 * numbers.lost_bytes));
    }

    #[test]
    fn what_nobody_wrote_is_torn() {
        // A number behind the last, a writer that there is not, and the beginning of a line.
        let mut account = account(&[0, 1, 2]);
        account.take(b"b 0 \na ");
        let numbers = account.numbers([("a", 2)]);
        assert_eq!((numbers.delivered, numbers.lost, numbers.torn), (2, 0, 3));
        account.cut();
        assert_eq!(account.numbers([("a", 2)]).torn, 2);
    }

    #[test]
    fn it_is_complete_when_nothing_is_missing() {
        assert!(account(&[0, 2, 1]).is_complete([("a", 3)]));
        assert!(account(&[0, 1]).is_complete([("a", 2), ("b", 0)]));
        assert!(!account(&[0, 2]).is_complete([("a", 3)]));
        assert!(!account(&[0, 1]).is_complete([("a", 2), ("b", 1)]));
        assert_eq!(account(&[0, 2, 2, 2]).reached("a"), 3);
        assert_eq!(account(&[0, 2, 2, 2]).progress(), 2);
    }
}
