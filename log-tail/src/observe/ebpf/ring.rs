//! Records of the ring buffer, decoded. Whatever lies in one, nothing here panics.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use log_tail_common::{
    EntryHint, HINT_APPEND, HINT_ENTRY_CAME, HINT_ENTRY_MOVED_FROM, HINT_ENTRY_MOVED_TO, HINT_ENTRY_WENT,
    HINT_MOVE, HINT_OVERFLOW, HINT_SKIPPED, HINT_TRUNCATE, HINT_UNLINK, Hint, NAME_MAX,
};

use crate::observe::{Change, Cookie};

/// A record of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// There may be new bytes.
    Append { slot: u32, time_ns: u64 },
    /// Truncated.
    Truncate { slot: u32 },
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
        HINT_APPEND => Record::Append { slot, time_ns },
        HINT_TRUNCATE => Record::Truncate { slot },
        HINT_MOVE => Record::Move { slot },
        HINT_UNLINK => Record::Unlink { slot },
        HINT_OVERFLOW => Record::Overflow,
        HINT_SKIPPED => Record::Skipped,
        HINT_ENTRY_CAME | HINT_ENTRY_MOVED_FROM | HINT_ENTRY_MOVED_TO | HINT_ENTRY_WENT => {
            let cookie = Cookie(u64_at(bytes, std::mem::offset_of!(EntryHint, ino))?);
            let change = match kind {
                HINT_ENTRY_CAME => Change::Came,
                HINT_ENTRY_MOVED_FROM => Change::MovedFrom(cookie),
                HINT_ENTRY_MOVED_TO => Change::MovedTo(cookie),
                _ => Change::Went,
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

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
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
        assert_eq!(decode(&bytes(HINT_APPEND, 3, &[])), Ok(Record::Append { slot: 3, time_ns: 9 }));
        assert_eq!(decode(&bytes(HINT_MOVE, 3, &[])), Ok(Record::Move { slot: 3 }));
        let mut name = [0; NAME_MAX + 1];
        name[..7].copy_from_slice(b"app.log");
        let rest = [&42_u64.to_ne_bytes()[..], &7_u64.to_ne_bytes(), &name].concat();
        for (kind, change) in [
            (HINT_ENTRY_CAME, Change::Came),
            (HINT_ENTRY_MOVED_FROM, Change::MovedFrom(Cookie(42))),
            (HINT_ENTRY_MOVED_TO, Change::MovedTo(Cookie(42))),
            (HINT_ENTRY_WENT, Change::Went),
        ] {
            let entry = Record::Entry { slot: 5, name: "app.log".into(), change };
            assert_eq!(decode(&bytes(kind, 5, &rest)), Ok(entry));
        }
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
        fn an_entry_with_any_length_is_survived(length: u64, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let rest = [&0_u64.to_ne_bytes()[..], &length.to_ne_bytes(), &rest].concat();
            let record = bytes(HINT_ENTRY_CAME, 1, &rest);
            if let Ok(Record::Entry { name, .. }) = decode(&record) {
                prop_assert!(name.len() <= NAME_MAX);
            }
        }
    }
}
