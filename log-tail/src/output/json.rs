//! Json: a line a record, for programs that want to know which byte of which file they are looking at.
//!
//! Everything can be had back: the decoded `line` (or `line_base64`), and a newline where `length` says there
//! was one, are the bytes of the file, and `offset + length` is where the next record starts.
//!
//! A record without its newline is either a piece (`continues`) or the last line of a file that never got one.
//! Many short lines in one block grow most: a record's names and numbers take some 150 bytes beside its path.

use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Serialize, Serializer};

use crate::output::{Format, Queue, writer::ByWhom};
use crate::record::{Block, Lost, device, frame};

/// What a record takes at most beside what is shared, its line, and what is escaped in that.
const RECORD_BYTES: usize = 128;

/// The json format.
#[derive(Debug)]
pub struct Json {
    max_line_bytes: NonZeroUsize,
    /// Its memory is used again once everything written from it has left the queue.
    buffer: BytesMut,
}

impl Json {
    /// A line longer than `max_line_bytes` becomes several records.
    #[must_use]
    pub fn new(max_line_bytes: NonZeroUsize) -> Self {
        Self { max_line_bytes, buffer: BytesMut::new() }
    }
}

impl Format for Json {
    fn encode(&mut self, block: &Block, time: SystemTime, out: &mut Queue) {
        let Named { path, path_base64 } = Named::of(&block.source.path);
        let shared = Shared {
            time: &rfc3339(time),
            path: &path,
            path_base64,
            dev: &device(block.source.dev),
            inode: block.source.inode,
        };
        let shared = members(&shared);
        let writer =
            ByWhom::of(&block.written, &block.source.path).map(|writer| members(&ByWriter { writer }));
        let buffer = &mut self.buffer;
        for record in frame::records(&block.bytes, block.ending, self.max_line_bytes) {
            let line = record.line();
            buffer.reserve(shared.len() + line.len() + RECORD_BYTES);
            buffer.put_u8(b'{');
            buffer.put_slice(&shared);
            buffer.put_slice(b",\"offset\":");
            put_number(buffer, block.offset + record.offset_in_block as u64);
            buffer.put_slice(b",\"length\":");
            put_number(buffer, record.bytes.len() as u64);
            if let Ok(line) = std::str::from_utf8(line) {
                buffer.put_slice(b",\"line\":");
                put(buffer, line);
            } else {
                buffer.put_slice(b",\"line_base64\":");
                put(buffer, &Base64(line));
            }
            if record.continues {
                buffer.put_slice(b",\"continues\":true");
            }
            if let Some(writer) = &writer {
                buffer.put_u8(b',');
                buffer.put_slice(writer);
            }
            buffer.put_slice(b"}\n");
        }
        out.push(self.buffer.split().freeze());
    }

    fn lost(&mut self, lost: &Lost, time: SystemTime, out: &mut Queue) {
        let Named { path, path_base64 } = Named::of(&lost.path);
        let entry = LostEntry {
            time: &rfc3339(time),
            path: &path,
            path_base64,
            dev: lost.source.as_ref().map(|source| device(source.dev)),
            inode: lost.source.as_ref().map(|source| source.inode),
            offset: lost.offset,
            lost_bytes: lost.bytes,
            reason: lost.reason.word(),
            exact: lost.exact,
        };
        put(&mut self.buffer, &entry);
        self.buffer.put_u8(b'\n');
        out.push(self.buffer.split().freeze());
    }
}

/// Puts a value at the end of `buffer`.
fn put(buffer: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    let written = serde_json::to_writer(buffer.writer(), value);
    debug_assert!(written.is_ok(), "memory takes all it is given: {written:?}");
}

fn put_number(buffer: &mut BytesMut, number: u64) {
    buffer.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The members of an object, without the braces around them.
fn members(object: &impl Serialize) -> Bytes {
    let mut text = BytesMut::new();
    put(&mut text, object);
    text.truncate(text.len() - 1);
    text.freeze().slice(1..)
}

/// A record of bytes that nobody can read any more.
#[derive(Serialize)]
struct LostEntry<'a> {
    /// When that was found out.
    time: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<Base64<'a>>,
    /// This and the next are not known of a file that nobody could open.
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    /// Where in the file reading goes on.
    offset: u64,
    /// How many bytes; at least so many where `exact` is false.
    lost_bytes: u64,
    reason: &'a str,
    exact: bool,
}

/// What a record calls a file.
struct Named<'a> {
    path: std::borrow::Cow<'a, str>,
    path_base64: Option<Base64<'a>>,
}

impl<'a> Named<'a> {
    fn of(path: &'a Path) -> Self {
        Self {
            path: path.to_string_lossy(),
            path_base64: path.to_str().is_none().then_some(Base64(path.as_os_str().as_bytes())),
        }
    }
}

/// What all records of a block begin with: put into words once. After it come, in this order:
///
/// * `offset`: of the record's first byte, in the file.
/// * `length`: bytes in the file, the newline among them.
/// * `line`: without its newline; or `line_base64`, where that is not UTF-8.
/// * `continues`, where the line goes on in the next record of this file.
/// * `writer`: who wrote it, where that is known.
#[derive(Serialize)]
struct Shared<'a> {
    /// When the bytes were read, not when they were written: UTC, with microseconds.
    time: &'a str,
    /// Where the path is not UTF-8, with U+FFFD in it, and `path_base64` beside it.
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<Base64<'a>>,
    dev: &'a str,
    inode: u64,
}

/// What all records of a block end with.
#[derive(Serialize)]
struct ByWriter<'a> {
    writer: ByWhom<'a>,
}

/// Bytes that are written as base64, without a copy of it in between.
#[derive(Clone, Copy)]
pub struct Base64<'a>(pub &'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// A clock set before 1970 or past 9999 has no such form; it is shown as the nearest time that has.
pub fn rfc3339(time: SystemTime) -> String {
    const LAST_SECOND_OF_9999: u64 = 253_402_300_799;
    let first = SystemTime::UNIX_EPOCH;
    let last = first + Duration::from_secs(LAST_SECOND_OF_9999);
    humantime::format_rfc3339_micros(time.clamp(first, last)).to_string()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::sync::Arc;

    use base64::Engine as _;
    use bytes::{Buf as _, Bytes};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::record::{Ending, Source, Written};

    fn source(path: &[u8]) -> Arc<Source> {
        Arc::new(Source {
            path: Path::new(OsStr::from_bytes(path)).into(),
            dev: libc::makedev(254, 3),
            inode: 42,
            number: 0,
        })
    }

    fn block(offset: u64, bytes: &[u8], ending: Ending) -> Block {
        Block {
            source: source(b"/var/log/a.log"),
            offset,
            bytes: Bytes::copy_from_slice(bytes),
            ending,
            written: Written::Unknown,
        }
    }

    fn written(block: &Block, max: usize) -> String {
        let mut out = Queue::default();
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_042);
        Json::new(NonZeroUsize::new(max).expect("not zero")).encode(block, time, &mut out);
        String::from_utf8(out.copy_to_bytes(out.len()).to_vec()).expect("json is UTF-8")
    }

    #[test]
    fn a_record_is_a_line_with_its_place_in_the_file() {
        assert_eq!(
            written(&block(100, b"say \"hi\"\r\nbye", Ending::EndOfFile), 64),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.000042Z","path":"/var/log/a.log","dev":"254:3","inode":42,"#,
                r#""offset":100,"length":10,"line":"say \"hi\"\r"}"#,
                "\n",
                r#"{"time":"2023-11-14T22:13:20.000042Z","path":"/var/log/a.log","dev":"254:3","inode":42,"#,
                r#""offset":110,"length":3,"line":"bye"}"#,
                "\n",
            )
        );
    }

    #[test]
    fn what_is_not_utf8_comes_as_base64() {
        let block = Block { source: source(b"/tmp/\xff"), ..block(0, b"\xfe\xff\n", Ending::Newline) };
        let line: Value = serde_json::from_str(&written(&block, 64)).expect("json");
        assert_eq!(line["path"], "/tmp/\u{fffd}");
        assert_eq!(line["path_base64"], "L3RtcC//");
        assert_eq!(line["line_base64"], "/v8=");
        assert_eq!((line.get("line"), &line["length"]), (None, &Value::from(3)));
    }

    #[test]
    fn only_pieces_say_that_they_continue() {
        let text = written(&block(0, b"0123456789\n", Ending::Newline), 8);
        let continues: Vec<bool> = text.lines().map(|line| line.contains(r#""continues":true"#)).collect();
        assert_eq!(continues, [true, false]);
        assert!(!text.contains("false"));
    }

    #[test]
    fn a_clock_outside_of_the_calendar_is_no_panic() {
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(rfc3339(late), "9999-12-31T23:59:59.000000Z");
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(early), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn the_buffer_is_used_again_once_it_is_written() {
        let mut json = Json::new(NonZeroUsize::MIN);
        let mut places = Vec::new();
        for _ in 0..8 {
            let mut out = Queue::default();
            json.encode(&block(0, b"\n", Ending::Newline), SystemTime::UNIX_EPOCH, &mut out);
            places.push(out.chunk().as_ptr());
        }
        places.dedup();
        assert!(places.len() < 8, "a new allocation for every block");
    }

    proptest! {
        #[test]
        fn decoded_lines_are_the_bytes_of_the_file_again(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'"'), any::<u8>()], 0..300),
            cuts in prop::collection::vec(1_usize..50, 1..20),
            max in 1_usize..40,
        ) {
            let (mut decoded, mut offset, mut rest, mut cuts) = (Vec::new(), 0, &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().expect("not empty"));
                for line in written(&block(offset, &rest[..cut], Ending::Piece), max).lines() {
                    let line: Value = serde_json::from_str(line).expect("json");
                    let content = match line["line"].as_str() {
                        Some(text) => text.as_bytes().to_vec(),
                        None => STANDARD.decode(line["line_base64"].as_str().expect("text")).expect("base64"),
                    };
                    let (start, length) = (line["offset"].as_u64(), line["length"].as_u64());
                    prop_assert_eq!(start, Some(decoded.len() as u64));
                    let has_newline = length == Some(content.len() as u64 + 1);
                    prop_assert!(has_newline || length == Some(content.len() as u64));
                    prop_assert_eq!(line.get("continues").is_some(), !has_newline);
                    decoded.extend(content);
                    decoded.extend(has_newline.then_some(b'\n'));
                }
                (offset, rest) = (offset + cut as u64, &rest[cut..]);
            }
            prop_assert_eq!(decoded, bytes);
        }
    }
}
