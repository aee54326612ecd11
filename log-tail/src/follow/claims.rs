//! Who wrote which bytes of a file, of those that were not handed on yet.
//!
//! What is not known is said to be unknown: bytes may be read before the kernel program tells who wrote them, and
//! some ways into a file tell no offset.

use std::{
    ops::Range,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::Follower;
use crate::{
    observe::{Answer, Claim, FileId, Observer, Writer},
    record::{Block, Ending, Written},
};

/// Pieces that are remembered of one file.
const SPANS: usize = 4096;
/// Processes that are remembered of one file.
const WRITERS: usize = 16;
/// How long to wait for the kernel program to tell who wrote what was read already: it tells once the writing call has
/// come to its end, which takes less than a microsecond, unless the writer has to wait for a processor there.
const WORD_TAKES: Duration = Duration::from_millis(10);
/// After it did not come, how long nobody waits for it: the kernel may have skipped the kernel program.
const NOT_AGAIN_FOR: Duration = Duration::from_millis(100);
/// How long not to sleep meanwhile.
const WORD_TAKES_MOSTLY: Duration = Duration::from_micros(10);

#[derive(Debug)]
struct Span {
    from: u64,
    to: u64,
    writer: Arc<Writer>,
}

/// Who wrote which bytes of a file.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// In the order of their offsets; none overlaps another.
    spans: Vec<Span>,
    /// Those that were told of last.
    writers: Vec<Arc<Writer>>,
    /// Something was not told since more than one process wrote.
    several: bool,
    /// Somebody wrote since bytes were last handed on, and it was not told where, or is not remembered.
    unplaced: bool,
    /// Offset of the first byte that nobody can have written before it was to be told.
    told_from: u64,
    /// Until when it is not waited for the word about what was read.
    impatient_until: Option<Instant>,
}

impl Claims {
    /// These bytes were written by this process.
    pub fn add(&mut self, writer: &Arc<Writer>, bytes: Range<u64>) {
        self.writers.retain(|known| known.pid != writer.pid);
        self.writers.truncate(WRITERS - 1);
        self.writers.insert(0, Arc::clone(writer));
        self.unplaced |= bytes.is_empty();
        self.insert(writer, bytes);
    }

    /// Somebody who was told of before wrote these.
    pub fn claimed(&mut self, Claim { pid, from, to }: Claim) {
        if let Some(writer) = self.writers.iter().find(|writer| writer.pid == pid).cloned() {
            self.insert(&writer, from..to);
        }
    }

    fn insert(&mut self, writer: &Arc<Writer>, Range { mut start, mut end }: Range<u64>) {
        if self.spans.len() >= SPANS {
            self.unplaced = true;
            return;
        }
        if start >= end {
            return;
        }
        // Whoever wrote last wrote what is there; the same process is not told of twice.
        let at = self.spans.partition_point(|span| span.to < start);
        let behind = self.spans.partition_point(|span| span.from <= end);
        let mut pieces = Vec::new();
        for span in self.spans.drain(at..behind.max(at)) {
            if span.writer.pid == writer.pid {
                start = start.min(span.from);
                end = end.max(span.to);
                continue;
            }
            if span.from < start {
                pieces.push(Span {
                    from: span.from,
                    to: span.to.min(start),
                    writer: Arc::clone(&span.writer),
                });
            }
            if span.to > end {
                pieces.push(Span { from: span.from.max(end), to: span.to, writer: span.writer });
            }
        }
        pieces.push(Span { from: start, to: end, writer: Arc::clone(writer) });
        pieces.sort_by_key(|span| span.from);
        self.spans.splice(at..at, pieces);
    }

    /// The file holds another content now.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.several = false;
        self.told_from = 0;
    }

    /// Who wrote these bytes.
    fn by(&self, bytes: &Range<u64>) -> Written {
        let (mut to, mut writer): (u64, Option<&Arc<Writer>>) = (bytes.start, None);
        for span in self.within(bytes) {
            if writer.is_some_and(|other| other.pid != span.writer.pid) {
                return Written::BySeveral;
            }
            if span.from > to {
                return self.unknown();
            }
            (to, writer) = (span.to, Some(&span.writer));
        }
        match writer {
            Some(writer) if to >= bytes.end => Written::By(Arc::clone(writer)),
            _ => self.unknown(),
        }
    }

    fn unknown(&self) -> Written {
        if self.several { Written::BySeveral } else { Written::Unknown }
    }

    /// Whether of each it is told who wrote it.
    fn is_told(&self, bytes: &Range<u64>) -> bool {
        let mut to = bytes.start;
        for span in self.within(bytes) {
            if span.from > to {
                return false;
            }
            to = span.to;
        }
        to >= bytes.end
    }

    /// How many lie before an offset.
    fn before(&self, offset: u64) -> usize {
        self.spans.partition_point(|span| span.to <= offset)
    }

    /// Those that hold some of these bytes.
    fn within(&self, bytes: &Range<u64>) -> impl Iterator<Item = &Span> {
        self.spans[self.before(bytes.start)..].iter().take_while(|span| span.from < bytes.end)
    }

    /// Whether it is worth waiting for who wrote these.
    fn may_be_told(&self, bytes: &Range<u64>, now: Instant) -> bool {
        bytes.start >= self.told_from
            && !self.unplaced
            && self.impatient_until.is_none_or(|until| now >= until)
    }

    /// The first lines that the same process wrote, and who that is; then what is left.
    fn split(&self, mut block: Block) -> (Block, Option<Block>) {
        block.written = self.by(&range(&block));
        if let Written::By(_) = block.written {
            return (block, None);
        }
        let lines = memchr::memchr_iter(b'\n', &block.bytes).map(|newline| newline + 1);
        let ends = lines.chain((!block.bytes.ends_with(b"\n")).then_some(block.bytes.len()));
        let mut begin = 0;
        let mut first: Option<(usize, Written)> = None;
        for end in ends {
            let line = block.offset + begin as u64..block.offset + end as u64;
            let written = self.by(&line);
            if first.as_ref().is_some_and(|(_, before)| *before != written) {
                break;
            }
            first = Some((end, written));
            begin = end;
        }
        let Some((cut, written)) = first else { return (block, None) };
        block.written = written;
        if cut == block.bytes.len() {
            return (block, None);
        }
        let rest: Bytes = block.bytes.split_off(cut);
        let rest = Block {
            offset: block.offset + cut as u64,
            bytes: rest,
            written: Written::Unknown,
            ..block.clone()
        };
        (Block { ending: Ending::Newline, ..block }, Some(rest))
    }

    /// What lies before this was handed on.
    fn forget_before(&mut self, offset: u64) {
        let handed_on = self.before(offset);
        self.spans.drain(..handed_on);
        if self.spans.is_empty() {
            self.several = false;
        }
    }
}

fn range(block: &Block) -> Range<u64> {
    block.offset..block.offset + block.bytes.len() as u64
}

impl Follower {
    /// The kernel program tells who wrote these bytes, and who the ones before.
    pub(super) fn written_by(
        &mut self,
        id: FileId,
        writer: &Arc<Writer>,
        bytes: Range<u64>,
        last: Option<Claim>,
    ) {
        let Some(file) = self.file_mut(id) else { return };
        let Some(claims) = &mut file.claims else { return };
        if let Some(last) = last {
            claims.claimed(last);
        }
        claims.add(writer, bytes);
    }

    /// The kernel noted this since the file was last read.
    pub(super) fn claimed(&mut self, id: FileId, answer: &Answer) {
        if !self.observer.as_deref().is_some_and(Observer::tells_writers) {
            return;
        }
        if self.file(id).is_some_and(|file| file.claims.is_none()) {
            let told_from = self.size(id).unwrap_or(0);
            if let Some(file) = self.file_mut(id) {
                file.claims.get_or_insert_default().told_from = told_from;
            }
        }
        let Some(claims) = self.file_mut(id).and_then(|file| file.claims.as_deref_mut()) else { return };
        if answer.truncated_to.is_some() || answer.collapsed_bytes > 0 {
            // Nobody says which came first.
            return claims.clear();
        }
        claims.several |= answer.by_several;
        claims.unplaced |= answer.by_several;
        if let Some(claim) = answer.written {
            claims.claimed(claim);
        }
    }

    /// Hands on what was read, with who wrote it, where that is told.
    pub(super) fn hand_on_by_writers(&mut self, id: FileId, block: Block) {
        if self.file(id).is_none_or(|file| file.claims.is_none()) {
            return self.hand_on(block);
        }
        self.await_word(id, &range(&block));
        let mut rest = Some(block);
        while let Some(block) = rest {
            let Some(claims) = self.file(id).and_then(|file| file.claims.as_deref()) else {
                return self.hand_on(block);
            };
            let (first, others) = claims.split(block);
            let end = range(&first).end;
            self.hand_on(first);
            if let Some(claims) = self.file_mut(id).and_then(|file| file.claims.as_deref_mut()) {
                claims.forget_before(end);
            }
            rest = others;
        }
        if let Some(claims) = self.file_mut(id).and_then(|file| file.claims.as_deref_mut()) {
            claims.unplaced = false;
        }
    }

    /// Waits until it is told who wrote these bytes; not for long.
    fn await_word(&mut self, id: FileId, bytes: &Range<u64>) {
        let began = Instant::now();
        loop {
            let claim = self.observer.as_deref().and_then(|observer| observer.claim(id, bytes.start));
            let Some(claims) = self.file_mut(id).and_then(|file| file.claims.as_deref_mut()) else { return };
            if let Some(claim) = claim {
                claims.claimed(claim);
            }
            let waited = began.elapsed();
            if claims.is_told(bytes) || !claims.may_be_told(bytes, began) {
                return;
            }
            if waited > WORD_TAKES {
                claims.impatient_until = Some(began + waited + NOT_AGAIN_FOR);
                return;
            }
            if waited > WORD_TAKES_MOSTLY {
                thread::sleep(WORD_TAKES_MOSTLY);
            }
            self.take_told();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Source;

    fn writer(pid: u32) -> Arc<Writer> {
        Arc::new(Writer { pid, tid: pid, uid: 0, comm: "sh".into(), is_kernel: false, cgroup: None })
    }

    fn block(offset: u64, bytes: &'static [u8]) -> Block {
        let source = Arc::new(Source { path: std::path::Path::new("a").into(), dev: 1, inode: 2, number: 0 });
        let (bytes, ending) = (Bytes::from_static(bytes), Ending::Newline);
        Block { source, offset, bytes, ending, written: Written::Unknown }
    }

    /// Each part of the block, with the process that wrote it; 0 for several, `None` for unknown.
    fn parts(claims: &Claims, block: Block) -> Vec<(u64, Option<u32>, Vec<u8>)> {
        let mut parts = Vec::new();
        let mut rest = Some(block);
        while let Some(block) = rest {
            let (first, others) = claims.split(block);
            let by = match &first.written {
                Written::By(writer) => Some(writer.pid),
                Written::BySeveral => Some(0),
                Written::Unknown => None,
            };
            parts.push((first.offset, by, first.bytes.to_vec()));
            rest = others;
        }
        parts
    }

    #[test]
    fn lines_are_told_apart_by_who_wrote_them() {
        let mut claims = Claims::default();
        claims.add(&writer(1), 10..14);
        claims.add(&writer(2), 14..20);
        claims.claimed(Claim { pid: 1, from: 20, to: 22 });
        claims.add(&writer(1), 22..24);
        assert_eq!(
            parts(&claims, block(10, b"a\nb\nc\nd\ne\nf\ng\n")),
            [
                (10, Some(1), b"a\nb\n".to_vec()),
                (14, Some(2), b"c\nd\ne\n".to_vec()),
                (20, Some(1), b"f\ng\n".to_vec()),
            ]
        );
    }

    #[test]
    fn a_line_of_two_writers_is_by_several_and_one_that_nobody_told_of_by_nobody() {
        let mut claims = Claims::default();
        claims.add(&writer(1), 0..3);
        claims.add(&writer(2), 3..6);
        assert_eq!(
            parts(&claims, block(0, b"abcd\ne\nf\n")),
            [(0, Some(0), b"abcd\n".to_vec()), (5, None, b"e\nf\n".to_vec())]
        );
        claims.several = true;
        assert_eq!(parts(&claims, block(6, b"\nf\n")), [(6, Some(0), b"\nf\n".to_vec())]);
    }

    #[test]
    fn a_claim_of_a_process_that_was_never_named_is_of_no_use() {
        let mut claims = Claims::default();
        claims.claimed(Claim { pid: 5, from: 0, to: 2 });
        assert_eq!(parts(&claims, block(0, b"a\n")), [(0, None, b"a\n".to_vec())]);
    }

    #[test]
    fn what_is_written_over_belongs_to_whoever_wrote_last() {
        let mut claims = Claims::default();
        claims.add(&writer(1), 0..10);
        claims.add(&writer(2), 4..6);
        let whole = block(0, b"abc\n-\nabc\n");
        assert_eq!(
            parts(&claims, whole.clone()).iter().map(|(_, by, _)| *by).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(1)]
        );
        claims.add(&writer(1), 0..10);
        assert_eq!(parts(&claims, whole).len(), 1);
        assert_eq!(claims.spans.len(), 1);
    }

    #[test]
    fn what_was_handed_on_takes_no_room_and_a_flood_takes_little() {
        let mut claims = Claims::default();
        for number in 0..2 * SPANS as u64 {
            claims.add(&writer(u32::from(number % 2 == 0)), number..number + 1);
        }
        assert_eq!(claims.spans.len(), SPANS);
        claims.forget_before(SPANS as u64 - 1);
        assert_eq!(claims.spans.len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn nobody_is_said_to_have_written_what_another_did(
            writes in proptest::collection::vec((1_u32..4, 1_u64..5, proptest::bool::ANY), 1..40),
        ) {
            // The truth: each byte of the file, by who wrote it.
            let (mut claims, mut truth) = (Claims::default(), Vec::new());
            for (pid, length, is_told) in writes {
                let from = truth.len() as u64;
                truth.extend((0..length).map(|_| pid));
                if is_told {
                    claims.add(&writer(pid), from..from + length);
                }
            }
            for from in 0..truth.len() {
                for to in from + 1..=truth.len() {
                    if let Written::By(by) = claims.by(&(from as u64..to as u64)) {
                        proptest::prop_assert!(truth[from..to].iter().all(|pid| *pid == by.pid));
                    }
                }
            }
        }
    }
}
