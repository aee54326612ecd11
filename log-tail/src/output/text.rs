//! Text: the bytes exactly as they were written, with headers that name the file as `tail` prints them.
//!
//! The bytes are passed on, never copied. One byte is ours: where the last line of what was written has no
//! newline and what follows does not go on from there, a newline is put between, so that lines of two files
//! never run into one another.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};

use crate::output::{Format, Queue};
use crate::record::{Block, Source};

/// Headers are made in memory of so many bytes at a time, because there may be one for every line.
const HEADERS_BYTES: usize = 8192;

/// The text format.
#[derive(Debug)]
pub struct Text {
    /// Where headers are made, if there are any.
    headers: Option<BytesMut>,
    last: Option<Last>,
}

/// What was written last.
#[derive(Debug)]
struct Last {
    source: Arc<Source>,
    /// Where in the source the next byte would stand.
    end: u64,
    line_is_open: bool,
}

impl Last {
    fn goes_on_with(&self, block: &Block) -> bool {
        self.end == block.offset && (Arc::ptr_eq(&self.source, &block.source) || self.source == block.source)
    }
}

impl Text {
    /// With `headers`, a header comes before the first bytes and wherever the file's name changes. A new file
    /// under the same name needs none.
    #[must_use]
    pub fn new(headers: bool) -> Self {
        Self { headers: headers.then(BytesMut::new), last: None }
    }
}

impl Format for Text {
    fn encode(&mut self, block: &Block, _time: SystemTime, out: &mut Queue) {
        let Some(last_byte) = block.bytes.last() else { return };
        if self.last.as_ref().is_some_and(|last| last.line_is_open && !last.goes_on_with(block)) {
            out.push(Bytes::from_static(b"\n"));
        }
        if let Some(headers) = &mut self.headers {
            // As they are written: to compare paths part by part takes longer than to write them.
            let shown = self.last.as_ref().map(|last| last.source.path.as_os_str());
            if shown != Some(block.source.path.as_os_str()) {
                out.push(header(headers, &block.source.path, shown.is_none()));
            }
        }
        out.push(block.bytes.clone());
        self.last = Some(Last {
            source: Arc::clone(&block.source),
            end: block.end().offset,
            line_is_open: *last_byte != b'\n',
        });
    }
}

fn header(headers: &mut BytesMut, path: &Path, is_first: bool) -> Bytes {
    let before: &[u8] = if is_first { b"==> " } else { b"\n==> " };
    let parts = [before, path.as_os_str().as_bytes(), b" <==\n"];
    let bytes = parts.iter().map(|part| part.len()).sum();
    if headers.capacity() < bytes {
        headers.reserve(HEADERS_BYTES.max(bytes));
    }
    for part in parts {
        headers.extend_from_slice(part);
    }
    headers.split().freeze()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use bytes::Buf as _;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Ending, Written};

    fn source(path: &[u8], inode: u64) -> Arc<Source> {
        Arc::new(Source { path: Path::new(OsStr::from_bytes(path)).into(), dev: 0, inode, number: 0 })
    }

    fn block(source: &Arc<Source>, offset: u64, text: &'static str) -> Block {
        let ending = if text.ends_with('\n') { Ending::Newline } else { Ending::Piece };
        Block { source: Arc::clone(source), offset, bytes: text.into(), ending, written: Written::Unknown }
    }

    fn written(mut format: Text, blocks: &[Block]) -> Vec<u8> {
        let mut out = Queue::default();
        for block in blocks {
            format.encode(block, SystemTime::UNIX_EPOCH, &mut out);
        }
        out.copy_to_bytes(out.len()).to_vec()
    }

    #[test]
    fn headers_look_as_tail_prints_them() {
        let (a, b) = (source(b"a.log", 1), source(b"b\xff.log", 2));
        let blocks = [block(&a, 0, "1\n"), block(&a, 2, "2\n"), block(&b, 0, "3\n"), block(&a, 4, "4\n")];
        assert_eq!(
            written(Text::new(true), &blocks),
            b"==> a.log <==\n1\n2\n\n==> b\xff.log <==\n3\n\n==> a.log <==\n4\n"
        );
    }

    #[test]
    fn without_headers_only_the_bytes_come_out() {
        let (a, b) = (source(b"a", 1), source(b"b", 2));
        assert_eq!(written(Text::new(false), &[block(&a, 0, "1\n"), block(&b, 0, "2\n")]), b"1\n2\n");
    }

    #[test]
    fn a_piece_that_another_file_interrupts_keeps_its_headers() {
        let (a, b) = (source(b"a", 1), source(b"b", 2));
        let blocks = [block(&a, 0, "begun"), block(&b, 0, "whole\n"), block(&a, 5, " ended\n")];
        assert_eq!(
            written(Text::new(true), &blocks),
            b"==> a <==\nbegun\n\n==> b <==\nwhole\n\n==> a <==\n ended\n"
        );
        assert_eq!(written(Text::new(false), &blocks), b"begun\nwhole\n ended\n");
    }

    #[test]
    fn a_new_file_under_the_same_name_starts_a_line_but_no_header() {
        let (old, new) = (source(b"a", 1), source(b"a", 2));
        let blocks = [block(&old, 0, "cut"), block(&new, 3, "new\n")];
        assert_eq!(written(Text::new(true), &blocks), b"==> a <==\ncut\nnew\n");
    }

    #[test]
    fn a_file_that_starts_over_starts_a_line() {
        let a = source(b"a", 1);
        assert_eq!(written(Text::new(false), &[block(&a, 0, "cut"), block(&a, 0, "new\n")]), b"cut\nnew\n");
    }

    #[test]
    fn a_block_without_bytes_changes_nothing() {
        let (a, b) = (source(b"a", 1), source(b"b", 2));
        let blocks = [block(&a, 0, "one"), block(&b, 0, ""), block(&a, 3, "line\n")];
        assert_eq!(written(Text::new(true), &blocks), b"==> a <==\noneline\n");
    }

    #[test]
    fn the_bytes_are_not_copied() {
        let block = block(&source(b"a", 1), 0, "line\n");
        let mut out = Queue::default();
        Text::new(false).encode(&block, SystemTime::UNIX_EPOCH, &mut out);
        assert_eq!(out.chunk().as_ptr(), block.bytes.as_ptr());
    }

    proptest! {
        #[test]
        fn blocks_cut_anywhere_come_out_as_the_file_was(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
        ) {
            let source = source(b"a", 1);
            let mut offset = 0;
            let blocks: Vec<Block> = pieces
                .iter()
                .map(|bytes| {
                    let source = Arc::clone(&source);
                    let block = Block { source, offset, bytes: bytes.clone().into(), ending: Ending::Piece, written: Written::Unknown };
                    offset = block.end().offset;
                    block
                })
                .collect();
            prop_assert_eq!(written(Text::new(false), &blocks), pieces.concat());
        }
    }
}
