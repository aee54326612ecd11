//! Writers, as programs that log are: files opened for appending, a `write` a line.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
};

/// Appends, as `>>` does.
pub fn append(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    let mut file = opened.unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
    write_once(&mut file, bytes.as_ref());
}

/// Writes anew, as `>` does: what was there is truncated.
pub fn create(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}

fn write_once(file: &mut File, bytes: &[u8]) {
    file.write_all(bytes).expect("the file system takes it");
}

/// A writer of numbered lines, which [`crate::account::Account`] knows how to count.
#[derive(Debug)]
pub struct Lines {
    file: File,
    writer: String,
    next: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Opens `path` for appending, and makes it where it is missing.
    #[must_use]
    pub fn new(path: impl AsRef<Path>, writer: &str) -> Self {
        Self::starting_at(path, writer, 0)
    }

    /// As [`Self::new`], but the first line has this number: whoever wrote the lines before it used `writer`, too.
    #[must_use]
    pub fn starting_at(path: impl AsRef<Path>, writer: &str, next: u64) -> Self {
        Self { file: open(path.as_ref()), writer: writer.to_owned(), next, line: Vec::new() }
    }

    /// Writes the next `count` lines, each with a call of its own.
    pub fn write(&mut self, count: u64) {
        for _ in 0..count {
            put_line(&mut self.line, &self.writer, self.next);
            write_once(&mut self.file, &self.line);
            self.next += 1;
        }
    }

    /// Goes on in another file: `path` is opened, and the one before closed.
    pub fn go_on_in(&mut self, path: impl AsRef<Path>) {
        self.file = open(path.as_ref());
    }

    /// The file that is written to now.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The name in its lines.
    #[must_use]
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// How many lines were written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.next
    }
}

fn open(path: &Path) -> File {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.unwrap_or_else(|error| panic!("opening {}: {error}", path.display()))
}

/// Puts one line in place of what `line` held.
pub(crate) fn put_line(line: &mut Vec<u8>, writer: &str, number: u64) {
    line.clear();
    writeln!(line, "{writer} {number} {}", padding(number)).expect("memory");
}

/// Lines of different lengths, so that they end everywhere in a block; known from the number, so that
/// bytes of two lines that run into one another show.
pub(crate) fn padding(number: u64) -> &'static str {
    const DOTS: &str = "........................................................................";
    let length = usize::try_from(number.wrapping_mul(7) % 61).unwrap_or(0);
    &DOTS[..length]
}
