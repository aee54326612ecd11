//! Records of the ring buffer, decoded. Whatever lies in one, nothing here panics.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use log_tail_common::{
    Claim, EntryHint, HELD_IS_LEAST, HINT_APPEND, HINT_CLOSE, HINT_ENTRY_CAME, HINT_ENTRY_MOVED_FROM,
    HINT_ENTRY_MOVED_TO, HINT_ENTRY_WENT, HINT_MOVE, HINT_OVERFLOW, HINT_SKIPPED, HINT_TRUNCATE, HINT_UNLINK,
    HINT_WRITTEN, Hint, NAME_MAX, Span, TruncateHint, Writer, WriterHint,
};

use crate::observe::{Change, Cookie, Held};

/// A record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// There may be new bytes; `by`: who wrote them, where that is told.
    Append { slot: u32, time_ns: u64, by: Option<Box<Written>> },
    /// Who wrote.
    Written { slot: u32, by: Box<Written> },
    /// The last writer closed it.
    Close { slot: u32 },
    /// Truncated.
    Truncate { slot: u32, cut_off_bytes: u64 },
    /// Bears another name.
    Move { slot: u32 },
    /// A name is about to be removed.
    Unlink { slot: u32 },
    /// A name in the directory changed; empty where the kernel did not let it be read.
    Entry { slot: u32, name: OsString, change: Change },
    /// The ring was full.
    Overflow,
    /// The kernel may have skipped programs.
    Skipped,
}

/// Who wrote which bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Those of this write. None where the kernel does not tell.
    pub bytes: Span,
    /// What was known of the bytes before it.
    pub last: Claim,
    /// Who wrote them.
    pub writer: Writer,
}

/// A record that is none: the kernel program is not the one this was compiled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel program sent a record of kind {kind} and {length} bytes, which this version does not know"
)]
pub struct UnknownRecord {
    kind: u32,
    length: usize,
}

/// Decodes one record.
///
/// # Errors
/// [`UnknownRecord`].
pub fn decode(bytes: &[u8]) -> Result<Record, UnknownRecord> {
    let kind = u32_at(bytes, std::mem::offset_of!(Hint, kind)).unwrap_or(0);
    record(kind, bytes).ok_or(UnknownRecord { kind, length: bytes.len() })
}

fn record(kind: u32, bytes: &[u8]) -> Option<Record> {
    let slot = u32_at(bytes, std::mem::offset_of!(Hint, slot))?;
    let time_ns = u64_at(bytes, std::mem::offset_of!(Hint, time_ns))?;
    Some(match kind {
        HINT_APPEND => Record::Append { slot, time_ns, by: written(bytes) },
        HINT_WRITTEN => Record::Written { slot, by: written(bytes)? },
        HINT_CLOSE => Record::Close { slot },
        HINT_TRUNCATE => {
            let cut_off_bytes = u64_at(bytes, std::mem::offset_of!(TruncateHint, cut_off_bytes))?;
            Record::Truncate { slot, cut_off_bytes }
        }
        HINT_MOVE => Record::Move { slot },
        HINT_UNLINK => Record::Unlink { slot },
        HINT_OVERFLOW => Record::Overflow,
        HINT_SKIPPED => Record::Skipped,
        HINT_ENTRY_CAME | HINT_ENTRY_MOVED_FROM | HINT_ENTRY_MOVED_TO | HINT_ENTRY_WENT => {
            let cookie = Cookie(u64_at(bytes, std::mem::offset_of!(EntryHint, ino))?);
            let held = u64_at(bytes, std::mem::offset_of!(EntryHint, held))?;
            let size = (held & !HELD_IS_LEAST).checked_sub(1);
            let held = size.map(|bytes| Held { bytes, is_least: held & HELD_IS_LEAST != 0 });
            let change = match kind {
                HINT_ENTRY_CAME => Change::Came,
                HINT_ENTRY_MOVED_FROM => Change::MovedFrom(cookie),
                HINT_ENTRY_MOVED_TO => Change::MovedTo(cookie, held),
                _ => Change::Went(held),
            };
            let length =
                usize::try_from(u64_at(bytes, std::mem::offset_of!(EntryHint, name_length))?).ok()?;
            let start = std::mem::offset_of!(EntryHint, name);
            let name = bytes.get(start..start + length.min(NAME_MAX))?;
            Record::Entry { slot, name: OsString::from_vec(name.to_vec()), change }
        }
        _ => return None,
    })
}

/// Who wrote, where the record is long enough to tell.
fn written(bytes: &[u8]) -> Option<Box<Written>> {
    let word = |offset| u64_at(bytes, offset);
    Some(Box::new(Written {
        bytes: Span {
            from: word(std::mem::offset_of!(WriterHint, span.from))?,
            to: word(std::mem::offset_of!(WriterHint, span.to))?,
        },
        last: Claim {
            from: word(std::mem::offset_of!(WriterHint, last.from))?,
            to: word(std::mem::offset_of!(WriterHint, last.to))?,
        },
        writer: writer_at(bytes, std::mem::offset_of!(WriterHint, writer))?,
    }))
}

pub(super) fn writer_at(bytes: &[u8], at: usize) -> Option<Writer> {
    let bytes = bytes.get(at..)?;
    let half = |offset| u32_at(bytes, offset);
    Some(Writer {
        pid: half(std::mem::offset_of!(Writer, pid))?,
        tid: half(std::mem::offset_of!(Writer, tid))?,
        uid: half(std::mem::offset_of!(Writer, uid))?,
        is_kernel: half(std::mem::offset_of!(Writer, is_kernel))?,
        cgroup: u64_at(bytes, std::mem::offset_of!(Writer, cgroup))?,
        comm: *bytes.get(std::mem::offset_of!(Writer, comm)..)?.first_chunk()?,
    })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(kind: u32, slot: u32, rest: &[u8]) -> Vec<u8> {
        [&kind.to_ne_bytes()[..], &slot.to_ne_bytes(), &9_u64.to_ne_bytes(), rest].concat()
    }

    #[test]
    fn each_kind_is_read() {
        assert_eq!(decode(&bytes(HINT_APPEND, 3, &[])), Ok(Record::Append { slot: 3, time_ns: 9, by: None }));
        assert_eq!(decode(&bytes(HINT_MOVE, 3, &[])), Ok(Record::Move { slot: 3 }));
        assert_eq!(
            decode(&bytes(HINT_TRUNCATE, 3, &7_u64.to_ne_bytes())),
            Ok(Record::Truncate { slot: 3, cut_off_bytes: 7 })
        );
        let mut name = [0; NAME_MAX + 1];
        name[..7].copy_from_slice(b"app.log");
        let held = |bytes, is_least| Some(Held { bytes, is_least });
        for (kind, word, change) in [
            (HINT_ENTRY_CAME, 0, Change::Came),
            (HINT_ENTRY_MOVED_FROM, 0, Change::MovedFrom(Cookie(42))),
            (HINT_ENTRY_MOVED_TO, 0, Change::MovedTo(Cookie(42), None)),
            (HINT_ENTRY_MOVED_TO, 8, Change::MovedTo(Cookie(42), held(7, false))),
            (HINT_ENTRY_WENT, 0, Change::Went(None)),
            (HINT_ENTRY_WENT, 1, Change::Went(held(0, false))),
            (HINT_ENTRY_WENT, 8 | HELD_IS_LEAST, Change::Went(held(7, true))),
        ] {
            let rest = [42_u64, word, 7].map(u64::to_ne_bytes).concat();
            let rest = [&rest[..], &name].concat();
            let entry = Record::Entry { slot: 5, name: "app.log".into(), change };
            assert_eq!(decode(&bytes(kind, 5, &rest)), Ok(entry));
        }
    }

    #[test]
    fn who_wrote_is_read_where_it_is_told() {
        let words = [10_u64, 14, 1, 2].map(u64::to_ne_bytes).concat();
        let ids = [7_u32, 8, 9, 1].map(u32::to_ne_bytes).concat();
        let rest = [&words[..], &ids, &77_u64.to_ne_bytes(), b"logger\0\0\0\0\0\0\0\0\0\0"].concat();
        let writer =
            Writer { pid: 7, tid: 8, uid: 9, is_kernel: 1, cgroup: 77, comm: *b"logger\0\0\0\0\0\0\0\0\0\0" };
        let by = Written { bytes: Span { from: 10, to: 14 }, last: Claim { from: 1, to: 2 }, writer };
        let appended = Record::Append { slot: 3, time_ns: 9, by: Some(Box::new(by)) };
        assert_eq!(decode(&bytes(HINT_APPEND, 3, &rest)), Ok(appended));
        assert_eq!(decode(&bytes(HINT_WRITTEN, 3, &rest)), Ok(Record::Written { slot: 3, by: Box::new(by) }));
        assert!(decode(&bytes(HINT_WRITTEN, 3, &rest[1..])).is_err());
    }

    #[test]
    fn an_unknown_kind_is_named() {
        let error = decode(&bytes(77, 0, &[])).unwrap_err();
        assert!(error.to_string().contains("kind 77 and 16 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn an_entry_with_any_length_is_survived(word: u64, length: u64, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let rest = [&[0, word, length].map(u64::to_ne_bytes).concat()[..], &rest].concat();
            let record = bytes(HINT_ENTRY_CAME, 1, &rest);
            if let Ok(Record::Entry { name, .. }) = decode(&record) {
                prop_assert!(name.len() <= NAME_MAX);
            }
        }
    }
}
