//! What every byte and every hint goes through, one by one: for `benches/hot.rs`, and for nobody else.

use std::{fs::File, io, num::NonZeroUsize, path::Path, sync::Arc, time::SystemTime};

use bytes::{Buf as _, Bytes};

use crate::{
    follow::reader::{Input, Position, Reader, Step},
    observe::ebpf::ring,
    output::{Format, Queue, json::Json, text::Text},
    record::{self, Ending, Source, Written, frame},
};

/// The longest line that comes out in one piece, in bytes.
const MOST: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("not zero");

/// Whole lines of one file, as they are handed on.
#[derive(Debug)]
pub struct Block(record::Block);

impl Block {
    /// Of bytes that end with a line.
    pub fn new(bytes: Vec<u8>) -> Self {
        let source = Source { path: Path::new("/var/log/app.log").into(), dev: 2049, inode: 7, number: 1 };
        let (source, bytes) = (Arc::new(source), Bytes::from(bytes));
        Self(record::Block { source, offset: 0, bytes, ending: Ending::Newline, written: Written::Unknown })
    }

    /// How many lines it is cut into.
    pub fn lines(&self) -> usize {
        frame::records(&self.0.bytes, self.0.ending, MOST).count()
    }
}

/// Where blocks become what is written.
pub struct Encoder(Box<dyn Format>, Queue);

impl Encoder {
    /// As they are.
    pub fn text() -> Self {
        Self(Box::new(Text::new(false)), Queue::default())
    }

    /// A line a record.
    pub fn json() -> Self {
        Self(Box::new(Json::new(MOST)), Queue::default())
    }

    /// How many bytes it becomes; they are written to nobody.
    pub fn encode(&mut self, block: &Block) -> usize {
        self.0.encode(&block.0, SystemTime::UNIX_EPOCH, &mut self.1);
        let bytes = self.1.remaining();
        self.1.advance(bytes);
        bytes
    }
}

/// Reads a file from its beginning to its end; gives how many bytes were handed on.
///
/// # Errors
/// pread(2)'s.
pub fn read(file: &File) -> io::Result<usize> {
    let (mut reader, mut position, mut bytes) = (Reader::new(MOST), Position::at(0), 0);
    loop {
        match reader.step(Input::File(file), &mut position, || false)? {
            Step::Block { bytes: block, .. } => bytes += block.len(),
            Step::Held => {}
            Step::EndOfFile | Step::Changed | Step::Rewritten => return Ok(bytes),
        }
    }
}

/// Whether these bytes are a record of the ring.
pub fn is_record(bytes: &[u8]) -> bool {
    ring::decode(bytes).is_ok()
}
