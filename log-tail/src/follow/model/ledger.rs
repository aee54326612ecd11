//! The ledger: every line that was ever complete, what may become of it, and how often it came.

use std::collections::{BTreeMap, BTreeSet};

use super::file::FileKey;

/// Lines are numbered in the order in which they were completed.
pub type LineKey = usize;

/// A line that was complete at some moment.
#[derive(Debug)]
pub struct Line {
    pub text: Vec<u8>,
    pub file: FileKey,
    /// Offset behind its newline in that file.
    pub end: u64,
    pub came: u32,
    pub may_come: u32,
    /// Why it need not come.
    pub excused: Option<&'static str>,
    /// It was truncated away, and this copy holds it.
    pub held_by: Option<FileKey>,
    /// What the reader remembers of it over a crash.
    pub committed: bool,
}

impl Line {
    /// It has to come, and has not yet.
    pub fn is_due(&self) -> bool {
        self.came == 0 && self.excused.is_none()
    }
}

/// All lines.
#[derive(Debug, Default)]
pub struct Ledger {
    pub lines: Vec<Line>,
    by_text: BTreeMap<Vec<u8>, LineKey>,
    /// Every last line without a newline that any file ever had.
    tails: BTreeSet<Vec<u8>>,
    next_id: usize,
}

impl Ledger {
    /// A line's text that no other has, in no 64 bytes of it, with its newline.
    pub fn new_text(&mut self) -> Vec<u8> {
        self.next_id += 1;
        let id = self.next_id;
        let padding = format!("{id}.").repeat([1, 3, 12, 40][id % 4]);
        format!("<{id} {padding} {id}>\n").into_bytes()
    }

    /// It is complete now.
    pub fn complete(
        &mut self,
        text: &[u8],
        file: FileKey,
        end: u64,
        excused: Option<&'static str>,
    ) -> LineKey {
        let key = self.lines.len();
        let line = Line {
            text: text.to_vec(),
            file,
            end,
            came: 0,
            may_come: 1,
            excused,
            held_by: None,
            committed: false,
        };
        self.lines.push(line);
        self.by_text.insert(text.to_vec(), key);
        key
    }

    pub fn tail(&mut self, text: &[u8]) {
        if !text.is_empty() {
            self.tails.insert(text.to_vec());
        }
    }

    pub fn find(&self, text: &[u8]) -> Option<LineKey> {
        self.by_text.get(text).copied()
    }

    pub fn was_tail(&self, text: &[u8]) -> bool {
        self.tails.contains(text)
    }

    pub fn excuse(&mut self, lines: impl Iterator<Item = LineKey>, why: &'static str) {
        for key in lines {
            if self.lines[key].is_due() {
                self.lines[key].excused = Some(why);
            }
        }
    }

    /// They may come once more than they have.
    pub fn allow_again(&mut self, lines: impl Iterator<Item = LineKey>) {
        for key in lines {
            let line = &mut self.lines[key];
            line.may_come = line.may_come.max(line.came.max(1) + 1);
            line.committed = false;
        }
    }

    pub fn due_of(&self, file: FileKey) -> impl Iterator<Item = LineKey> {
        let of = move |line: &Line| line.file == file && line.is_due();
        self.lines.iter().enumerate().filter(move |(_, line)| of(line)).map(|(key, _)| key)
    }

    pub fn show(&self, key: LineKey) -> String {
        let text = String::from_utf8_lossy(&self.lines[key].text);
        shorten(&text)
    }
}

/// A text as a failure shows it.
pub fn shorten(text: &str) -> String {
    let text = text.trim_end();
    if text.len() < 24 { text.to_owned() } else { format!("{}..{}", &text[..10], &text[text.len() - 8..]) }
}
