//! What is remembered of a file, and its form in the store.
//!
//! A value is a byte for the format's version, the fields in postcard, and a CRC-32 over the checkpoint's id,
//! the version and the fields: a flipped bit or a value under another id is an error. So are bytes that nobody
//! wrote as a checkpoint. Reading never panics.

use std::{
    borrow::Cow,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::follow::Mark;

/// The version of a value that this program writes.
const VERSION: u8 = 2;
/// Lacks [`OfSecond`].
const FIRST_VERSION: u8 = 1;

const SECOND_NS: u64 = 1_000_000_000;

const CRC_BYTES: usize = size_of::<u32>();

/// Names a checkpoint for as long as the store lives. Given out in ascending order and never again, so it also
/// says which of the files that bore a name came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointId(pub u64);

/// How far one file was read and acknowledged, and how to find that file again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The followed name that the file bore. Not always UTF-8.
    pub path: PathBuf,
    /// Where the file was last found. Another name than `path` where it was rotated.
    pub located: PathBuf,
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// What `FS_IOC_GETVERSION` says, where the filesystem knows it: differs when an inode number is used again.
    pub generation: Option<u32>,
    /// When the file was made, in nanoseconds since 1970, where statx(2) knows it.
    pub born_ns: Option<u64>,
    /// Bytes from the file's beginning that were acknowledged.
    pub offset: u64,
    /// What the content was, to know it again under another name.
    pub prints: Vec<Mark>,
    /// When the file was last known to exist, in seconds since 1970.
    pub seen_s: u64,
    /// Copies of it that were made up to then are known, in nanoseconds since 1970. See [`crate::follow::Known`].
    pub looked_ns: u64,
    /// It is a copy of this one, and was read before it.
    pub copy_of: Option<CheckpointId>,
    /// The file was read to its end and let go.
    pub finished: bool,
}

/// Why bytes are no checkpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Too short, the wrong checksum, or fields that make no sense.
    #[error("a checkpoint in it is damaged")]
    Damaged,
    /// A version that is not ours.
    #[error("a checkpoint in it is of version {0}, and this log-tail reads version {VERSION}")]
    Version(u8),
}

/// A checkpoint as it is written, but for what came with the second version: that follows. Paths are bytes, because serde takes only those that are UTF-8. The order of
/// the fields is the format.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    path: Cow<'a, [u8]>,
    #[serde(borrow)]
    located: Cow<'a, [u8]>,
    device: u64,
    inode: u64,
    generation: Option<u32>,
    born_ns: Option<u64>,
    offset: u64,
    #[serde(borrow)]
    prints: Cow<'a, [Mark]>,
    seen_s: u64,
    finished: bool,
}

/// What follows in the second version.
#[derive(Serialize, Deserialize)]
struct OfSecond {
    looked_ns: u64,
    copy_of: Option<u64>,
}

impl Checkpoint {
    /// The value to store under `id`.
    pub fn encode(&self, id: CheckpointId) -> Vec<u8> {
        let Self {
            path,
            located,
            device,
            inode,
            generation,
            born_ns,
            offset,
            prints,
            seen_s,
            looked_ns,
            copy_of,
            finished,
        } = self;
        let written = Written {
            path: Cow::Borrowed(path.as_os_str().as_bytes()),
            located: Cow::Borrowed(located.as_os_str().as_bytes()),
            device: *device,
            inode: *inode,
            generation: *generation,
            born_ns: *born_ns,
            offset: *offset,
            prints: Cow::Borrowed(prints),
            seen_s: *seen_s,
            finished: *finished,
        };
        let bytes = postcard::to_extend(&written, vec![VERSION]);
        let of_second = OfSecond { looked_ns: *looked_ns, copy_of: copy_of.map(|CheckpointId(id)| id) };
        let bytes = bytes.and_then(|bytes| postcard::to_extend(&of_second, bytes));
        debug_assert!(bytes.is_ok(), "a vector takes all it is given: {bytes:?}");
        // Were it ever otherwise, the empty value would be found damaged, not believed.
        let mut bytes = bytes.unwrap_or_default();
        let crc = crc(id, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads what [`Self::encode`] wrote under `id`.
    ///
    /// # Errors
    /// For all other bytes.
    pub fn decode(id: CheckpointId, bytes: &[u8]) -> Result<Self, DecodeError> {
        let (covered, stored) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(DecodeError::Damaged)?;
        if u32::from_le_bytes(*stored) != crc(id, covered) {
            return Err(DecodeError::Damaged);
        }
        let (version, fields) = covered.split_first().ok_or(DecodeError::Damaged)?;
        if ![FIRST_VERSION, VERSION].contains(version) {
            return Err(DecodeError::Version(*version));
        }
        let (written, rest) =
            postcard::take_from_bytes::<Written<'_>>(fields).map_err(|_| DecodeError::Damaged)?;
        let (of_second, rest) = if *version == FIRST_VERSION {
            let looked_ns = written.seen_s.saturating_add(1).saturating_mul(SECOND_NS);
            (OfSecond { looked_ns, copy_of: None }, rest)
        } else {
            postcard::take_from_bytes(rest).map_err(|_| DecodeError::Damaged)?
        };
        if !rest.is_empty() {
            return Err(DecodeError::Damaged);
        }
        let Written { path, located, device, inode, generation, born_ns, offset, prints, seen_s, finished } =
            written;
        Ok(Self {
            path: to_path(&path),
            located: to_path(&located),
            device,
            inode,
            generation,
            born_ns,
            offset,
            prints: prints.into_owned(),
            seen_s,
            looked_ns: of_second.looked_ns,
            copy_of: of_second.copy_of.map(CheckpointId),
            finished,
        })
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}

/// What a value of `id` ends with.
pub(crate) fn crc(id: CheckpointId, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.0.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One that has something in every field.
    pub fn checkpoint(name: &str, offset: u64) -> Checkpoint {
        Checkpoint {
            path: name.into(),
            located: format!("{name}.1").into(),
            device: 2049,
            inode: 77 + offset,
            generation: Some(5),
            born_ns: Some(1_700_000_000_123_456_789),
            offset,
            prints: vec![Mark { end: 1024, length: 1024, hash: offset }, Mark { end: 9, length: 4, hash: 1 }],
            seen_s: 1_700_000_000,
            looked_ns: 1_700_000_000_000_000_001,
            copy_of: Some(CheckpointId(3)),
            finished: false,
        }
    }

    fn any_path() -> impl Strategy<Value = PathBuf> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| to_path(&bytes))
    }

    fn any_checkpoint() -> impl Strategy<Value = Checkpoint> {
        let mark = (any::<u64>(), any::<u16>(), any::<u64>()).prop_map(|(end, length, hash)| Mark {
            end,
            length,
            hash,
        });
        (
            (any_path(), any_path(), any::<u64>(), any::<u64>(), any::<Option<u32>>()),
            (any::<Option<u64>>(), any::<u64>(), proptest::collection::vec(mark, 0..5)),
            (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<bool>()),
        )
            .prop_map(
                |(
                    (path, located, device, inode, generation),
                    (born_ns, offset, prints),
                    (seen_s, looked_ns, copy_of, finished),
                )| {
                    Checkpoint {
                        path,
                        located,
                        device,
                        inode,
                        generation,
                        born_ns,
                        offset,
                        prints,
                        seen_s,
                        looked_ns,
                        copy_of: copy_of.map(CheckpointId),
                        finished,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(checkpoint in any_checkpoint(), id: u64) {
            let id = CheckpointId(id);
            prop_assert_eq!(Checkpoint::decode(id, &checkpoint.encode(id)), Ok(checkpoint));
        }

        #[test]
        fn a_flipped_bit_is_noticed(checkpoint in any_checkpoint(), id: u64, at: prop::sample::Index) {
            let id = CheckpointId(id);
            let mut bytes = checkpoint.encode(id);
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Checkpoint::decode(id, &bytes), Err(DecodeError::Damaged));
        }

        #[test]
        fn any_bytes_with_the_right_checksum_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let id = CheckpointId(7);
            let mut bytes = bytes;
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            bytes.extend(crc(id, &bytes).to_le_bytes());
            let _ = Checkpoint::decode(id, &bytes);
        }
    }

    #[test]
    fn a_value_is_of_one_id_only() {
        let bytes = checkpoint("a.log", 1).encode(CheckpointId(1));
        assert_eq!(Checkpoint::decode(CheckpointId(2), &bytes), Err(DecodeError::Damaged));
    }

    #[test]
    fn a_value_cut_or_prolonged_is_noticed() {
        let id = CheckpointId(1);
        let mut bytes = checkpoint("a.log", 1).encode(id);
        for length in 0..bytes.len() {
            assert_eq!(Checkpoint::decode(id, &bytes[..length]), Err(DecodeError::Damaged), "{length}");
        }
        bytes.push(0);
        assert_eq!(Checkpoint::decode(id, &bytes), Err(DecodeError::Damaged));
    }

    #[test]
    fn a_newer_version_is_called_by_its_number() {
        let id = CheckpointId(1);
        let mut bytes = checkpoint("a.log", 1).encode(id);
        bytes.truncate(bytes.len() - CRC_BYTES);
        bytes[0] = VERSION + 1;
        bytes.extend(crc(id, &bytes).to_le_bytes());
        let error = Checkpoint::decode(id, &bytes).unwrap_err();
        assert_eq!(error, DecodeError::Version(3));
        assert!(error.to_string().contains("version 3"), "{error}");
    }

    #[test]
    fn the_first_version_is_read() {
        let id = CheckpointId(1);
        let now = Checkpoint { looked_ns: 0, copy_of: None, ..checkpoint("a.log", 1) };
        let mut bytes = now.encode(id);
        bytes.truncate(bytes.len() - CRC_BYTES - 2);
        bytes[0] = FIRST_VERSION;
        bytes.extend(crc(id, &bytes).to_le_bytes());
        // Copies of that second are taken to have been seen to.
        let looked_ns = 1_700_000_001_000_000_000;
        assert_eq!(Checkpoint::decode(id, &bytes), Ok(Checkpoint { looked_ns, ..now }));
    }
}
