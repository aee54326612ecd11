//! What a file's content is recognised by: hashes of a few short pieces of it.
//!
//! A [`Print`] tells how far a truncated and regrown file is still what was read of it, and whether another
//! file is a copy of it. It holds at most [`MOST_MARKS`] marks, dense near the newest, ever sparser toward the
//! front, and allocates nothing before the first. It proves difference; that two contents are the same it
//! says only of the pieces it has kept.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::FileExt,
};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// Most marks of one file: 768 bytes, enough for steps of less than threefold from a line to a terabyte.
pub const MOST_MARKS: usize = 32;
/// How many are left when there are more: to look through all of them is not for every read.
const LEFT_MARKS: usize = 24;
/// Most bytes one mark stands for.
pub const MARK_BYTES: usize = 64;
/// Most bytes the head stands for: enough to tell files that begin with the same banner.
pub const HEAD_BYTES: usize = 1024;

/// Bytes a forward pass reads at a time.
const STEP_BYTES: usize = 64 << 10;

/// One piece of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Offset of the first byte behind the piece.
    pub end: u64,
    /// Bytes in the piece: up to 64, where it starts at offset 0 up to 1024.
    pub length: u16,
    /// XXH3, 64 bits, of the piece.
    pub hash: u64,
}

impl Mark {
    /// Of the last `most` bytes of `before`, which lie before `end`.
    fn of(end: u64, before: &[u8], most: usize) -> Option<Self> {
        let within = usize::try_from(end).unwrap_or(usize::MAX).min(before.len()).min(most);
        let piece = &before[before.len() - within..];
        let length = u16::try_from(piece.len()).ok()?;
        (length > 0).then(|| Self { end, length, hash: XxHash3_64::oneshot(piece) })
    }

    fn start(self) -> u64 {
        self.end - u64::from(self.length)
    }

    fn is_possible(self) -> bool {
        let most = if self.end == u64::from(self.length) { HEAD_BYTES } else { MARK_BYTES };
        self.length > 0 && u64::from(self.length) <= self.end && usize::from(self.length) <= most
    }

    /// Whether it is the beginning of the content.
    pub fn is_at_front(self) -> bool {
        self.start() == 0
    }

    fn holds(self, piece: &[u8]) -> bool {
        XxHash3_64::oneshot(piece) == self.hash
    }
}

/// Content that can be read anywhere.
pub trait ReadAt {
    /// pread(2): up to `buffer.len()` bytes from `offset` on, 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// The marks of one file's content, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Print {
    marks: Vec<Mark>,
}

impl Print {
    /// Of marks that were kept somewhere. What no content can have is left out.
    pub fn from_marks(mut marks: Vec<Mark>) -> Self {
        marks.retain(|mark| mark.is_possible());
        marks.sort_by_key(|mark| mark.end);
        marks.dedup_by_key(|mark| mark.end);
        let mut print = Self { marks };
        print.make_room();
        print
    }

    /// The marks, ascending by their ends, each end once.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Marks the last up to 64 bytes of `before`, which were read up to `end`; near the front all bytes from
    /// offset 0 on, where `before` has them, because short files of one kind end alike.
    pub fn note(&mut self, end: u64, before: &[u8]) {
        let to_front = end <= HEAD_BYTES as u64 && before.len() as u64 >= end;
        let most = if to_front { HEAD_BYTES } else { MARK_BYTES };
        if let Some(mark) = Mark::of(end, before, most) {
            // The head stands for more of the same bytes.
            let may_be_head = end <= HEAD_BYTES as u64;
            if !may_be_head || self.head().is_none_or(|head| self.marks[head].end != end) {
                self.insert(mark);
            }
        }
    }

    /// Marks the head, where no longer one is marked: the whole lines among the first 1024 bytes. And the first
    /// of them alone: by that a copy is known that was made when there was no more.
    pub fn note_head(&mut self, bytes_from_zero: &[u8]) {
        let head = &bytes_from_zero[..bytes_from_zero.len().min(HEAD_BYTES)];
        let lines = memchr::memrchr(b'\n', head).map_or(head, |newline| &head[..=newline]);
        let longest = self.head().map_or(0, |index| self.marks[index].end);
        if let Some(mark) = Mark::of(lines.len() as u64, lines, HEAD_BYTES)
            && mark.end > longest
        {
            // Until now they were the first: they may hold by chance where the bytes before them do not.
            self.marks.retain(|other| other.is_at_front() || other.end > mark.end);
            self.insert(mark);
            let first = memchr::memchr(b'\n', lines).map_or(lines, |newline| &lines[..=newline]);
            if let Some(mark) = Mark::of(first.len() as u64, first, HEAD_BYTES) {
                self.insert(mark);
            }
        }
    }

    /// The content is no longer than `end`: forgets what was behind it.
    pub fn truncate_to(&mut self, end: u64) {
        let keep = self.marks.partition_point(|mark| mark.end <= end);
        self.marks.truncate(keep);
        if self.marks.is_empty() {
            self.marks = Vec::new();
        }
    }

    /// The end of the last mark, up to `at_most`, to which all marks hold; 0 where not even the first one
    /// does. This is where to go on in a file that was truncated, perhaps to its middle, and perhaps has
    /// grown again.
    ///
    /// A mark that holds behind one that does not counts for nothing: in a file of ever the same lines it
    /// holds by chance, and to go on there would lose what is before it.
    ///
    /// # Errors
    /// pread(2)'s.
    pub fn unchanged_to(&self, content: &impl ReadAt, at_most: u64) -> io::Result<u64> {
        let mut unchanged = 0;
        for mark in self.up_to(at_most) {
            if !holds_in(content, *mark)? {
                break;
            }
            unchanged = mark.end;
        }
        Ok(unchanged)
    }

    /// Whether the piece that ends here is what it was, if one is marked. What cannot be read is not doubted.
    pub fn holds_at(&self, content: &impl ReadAt, at: u64) -> bool {
        let Ok(index) = self.marks.binary_search_by_key(&at, |mark| mark.end) else { return true };
        holds_in(content, self.marks[index]).unwrap_or(true)
    }

    /// Whether the content is at least `offset` bytes long, and all marks up to there hold in it: it is this
    /// file, or a copy of it. Where there is no mark nothing is known, and the answer is no.
    ///
    /// # Errors
    /// pread(2)'s.
    pub fn is_of(&self, content: &impl ReadAt, offset: u64) -> io::Result<bool> {
        let marks = self.up_to(offset);
        if marks.is_empty() || read_full(content, &mut [0], offset - 1)? == 0 {
            return Ok(false);
        }
        // The newest first: that is where two files of the same kind differ soonest.
        for mark in marks.iter().rev() {
            if !holds_in(content, *mark)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a content that begins so may be this one, as far as the first piece tells.
    pub fn may_begin(&self, head: &[u8]) -> bool {
        let piece = |mark: &Mark| {
            let [start, end] = [mark.start(), mark.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            head.get(start..end).is_none_or(|piece| mark.holds(piece))
        };
        self.first().is_none_or(piece)
    }

    /// The first piece that is known.
    pub fn first(&self) -> Option<&Mark> {
        self.marks.first()
    }

    /// [`Print::is_of`] for content that can only be read forward, from its first byte on. Where the answer
    /// is yes, exactly `offset` bytes were read.
    ///
    /// # Errors
    /// Those of `content`.
    pub fn is_of_forward(&self, content: &mut impl Read, offset: u64) -> io::Result<bool> {
        let marks = self.up_to(offset);
        if marks.is_empty() {
            return Ok(false);
        }
        // Always ends where reading has come to, and holds as much before it as a mark can ask for.
        let mut window = Vec::new();
        let mut at = 0;
        for mark in marks {
            while at < mark.end {
                if window.len() > STEP_BYTES {
                    window.drain(..window.len() - HEAD_BYTES);
                }
                let wanted = (mark.end - at).min(STEP_BYTES as u64);
                let read = content.take(wanted).read_to_end(&mut window)? as u64;
                at += read;
                if read < wanted {
                    return Ok(false);
                }
            }
            if !mark.holds(&window[window.len() - usize::from(mark.length)..]) {
                return Ok(false);
            }
        }
        let rest = offset - at;
        Ok(io::copy(&mut content.take(rest), &mut io::sink())? == rest)
    }

    fn up_to(&self, offset: u64) -> &[Mark] {
        &self.marks[..self.marks.partition_point(|mark| mark.end <= offset)]
    }

    /// The longest mark from offset 0 on.
    fn head(&self) -> Option<usize> {
        let may_be = self.marks.iter().take_while(|mark| mark.end <= HEAD_BYTES as u64).count();
        self.marks[..may_be].iter().rposition(|mark| mark.is_at_front())
    }

    fn insert(&mut self, mark: Mark) {
        // Mostly it is the newest. Of many files, the others are in no cache.
        let place = match self.marks.last() {
            Some(newest) if newest.end >= mark.end => {
                self.marks.binary_search_by_key(&mark.end, |other| other.end)
            }
            _ => Err(self.marks.len()),
        };
        match place {
            Ok(same) => self.marks[same] = mark,
            Err(place) => {
                if self.marks.capacity() == 0 {
                    // All that there is of a file to which nothing is added.
                    self.marks.reserve_exact(1);
                }
                self.marks.insert(place, mark);
                self.make_room();
            }
        }
    }

    fn make_room(&mut self) {
        if self.marks.len() > MOST_MARKS {
            while self.marks.len() > LEFT_MARKS {
                self.thin();
            }
        }
    }

    /// Drops the mark without which the distances from the newest grow most evenly. The newest, the first
    /// line and the head stay.
    fn thin(&mut self) {
        let Some(newest) = self.marks.last().map(|mark| mark.end) else { return };
        let head = self.head();
        let first = usize::from(self.marks.first().is_some_and(|mark| mark.is_at_front()));
        // Not 0 for the newest itself: nearer than a mark's length there is nothing to tell apart.
        #[expect(clippy::cast_precision_loss, reason = "of two that are about as good either may go")]
        #[expect(clippy::cast_possible_wrap, reason = "the kernel's offsets are signed")]
        let distance = |end: u64| (newest - end) as i64 as f64 + MARK_BYTES as f64;
        // The least quotient of the distances on both sides, found without dividing.
        let ((mut least, mut beside), mut drop) = ((f64::INFINITY, 1.0), None);
        let (mut older, mut own) = (distance(0), distance(self.marks[0].end));
        for index in 0..self.marks.len() - 1 {
            let newer = distance(self.marks[index + 1].end);
            if older * beside < least * newer && index >= first && Some(index) != head {
                ((least, beside), drop) = ((older, newer), Some(index));
            }
            (older, own) = (own, newer);
        }
        // Of more than three marks one is none of these.
        self.marks.remove(drop.unwrap_or(0));
    }
}

fn holds_in(content: &impl ReadAt, mark: Mark) -> io::Result<bool> {
    let mut piece = [0; HEAD_BYTES];
    let piece = &mut piece[..usize::from(mark.length)];
    Ok(read_full(content, piece, mark.start())? == piece.len() && mark.holds(piece))
}

/// Fills `buffer` from `offset` on. Returns less than its length only where the content ends.
pub fn read_full(content: &impl ReadAt, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match content.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests;
