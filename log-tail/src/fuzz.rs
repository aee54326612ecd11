//! What reads bytes that anybody may have written: the values and the file of the store, log files, and the
//! kernel program's ring.
//!
//! Each function takes any bytes and must return: `fuzz/` hands them what libFuzzer thinks up, the tests below
//! what a seeded generator does. Where something is promised of what comes out, that is asserted.

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
};

use redb::{StorageBackend, backends::InMemoryBackend};

use crate::{
    observe::ebpf::ring,
    record::{Ending, frame},
    state::{Checkpoint, CheckpointId, Mark, checkpoint, image},
};

/// A checkpoint's value, and a store's file.
///
/// The first byte says what the others are: a value as it is, the fields of one that has the right checksum, a
/// file as it is, or damage to a file that was sound.
pub fn state(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => value(rest),
        1 => {
            let mut sealed = rest.to_vec();
            sealed.extend_from_slice(&checkpoint::crc(ID, rest).to_le_bytes());
            value(&sealed);
        }
        2 => drop(image::read(rest)),
        _ => damaged_image(rest),
    }
}

const ID: CheckpointId = CheckpointId(7);

/// What can be read can be written, and then says the same.
fn value(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::decode(ID, bytes) {
        let again = Checkpoint::decode(ID, &checkpoint.encode(ID));
        assert_eq!(again.as_ref(), Ok(&checkpoint));
    }
}

/// Four bytes each: where, and what is there instead. It is refused, or says what was once committed.
fn damaged_image(damage: &[u8]) {
    static SOUND: OnceLock<(Vec<u8>, Vec<image::Contents>)> = OnceLock::new();
    let (sound, history) = SOUND.get_or_init(sound_image);
    let mut file = sound.clone();
    for change in damage.chunks_exact(4) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % file.len();
        file[at] = change[3];
    }
    if let Ok(contents) = image::read(&file) {
        assert!(history.contains(&contents), "never committed: {contents:#?}");
    }
}

/// A store's file, and what it said after each commit, nothing first.
fn sound_image() -> (Vec<u8>, Vec<image::Contents>) {
    let kept = Kept::default();
    let mut history = vec![image::Contents::default()];
    let database = image::builder().create_with_backend(kept.clone()).expect("a store in memory");
    for commit in 1..=20 {
        let checkpoint = Checkpoint {
            path: "/var/log/app.log".into(),
            located: "/var/log/app.log.1".into(),
            device: 2049,
            inode: commit,
            generation: Some(5),
            born_ns: Some(commit),
            offset: commit * 1000,
            prints: vec![Mark { end: 9, length: 4, hash: commit }; 8],
            seen_s: 1_700_000_000,
            looked_ns: 1_700_000_000_000_000_000,
            copy_of: (commit % 3 == 0).then_some(CheckpointId(commit % 7)),
            finished: commit % 2 == 0,
        };
        let changes = [(CheckpointId(commit % 7), Some(checkpoint))].into();
        image::write(&database, &changes).expect("a commit in memory");
        let mut contents = history.last().cloned().unwrap_or_default();
        contents.apply(&changes);
        history.push(contents);
    }
    drop(database);
    let length = kept.0.len().expect("memory");
    let mut file = vec![0; usize::try_from(length).expect("memory")];
    kept.0.read(0, &mut file).expect("memory");
    (file, history)
}

/// A file in memory that outlives its database.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<InMemoryBackend>);

impl StorageBackend for Kept {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// The lines of a block. The first byte says how it ends, the second how long a line may be.
///
/// The records put together are the block again, none is empty, and none is too long.
pub fn frame(bytes: &[u8]) {
    let [ending, most, bytes @ ..] = bytes else { return };
    let ending = [Ending::Newline, Ending::Piece, Ending::EndOfFile][usize::from(*ending) % 3];
    let most = NonZeroUsize::MIN.saturating_add(usize::from(*most));
    let mut at = 0;
    for record in frame::records(bytes, ending, most) {
        assert_eq!(record.offset_in_block, at);
        assert!(!record.bytes.is_empty() && record.line().len() <= most.get());
        assert!(!record.continues || !record.bytes.ends_with(b"\n"));
        assert_eq!(record.bytes, &bytes[at..at + record.bytes.len()]);
        at += record.bytes.len();
    }
    assert_eq!(at, bytes.len());
}

/// A record of the kernel program's ring.
pub fn ring(bytes: &[u8]) {
    if let Ok(ring::Record::Entry { name, .. }) = ring::decode(bytes) {
        assert!(name.len() <= log_tail_common::NAME_MAX.min(bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::*,
        test_runner::{RngAlgorithm, TestRng, TestRunner},
    };

    use super::*;

    /// The same bytes in every run: what fails once fails again.
    fn survives(cases: u32, entry: fn(&[u8]), bytes: impl Strategy<Value = Vec<u8>>) {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[42; 32]);
        let survived = TestRunner::new_with_rng(config, rng).run(&bytes, |bytes| {
            entry(&bytes);
            Ok(())
        });
        survived.unwrap_or_else(|error| panic!("{error}"));
    }

    fn after(first: impl Strategy<Value = Vec<u8>>, most: usize) -> impl Strategy<Value = Vec<u8>> {
        let rest = prop::collection::vec(prop_oneof![2 => any::<u8>(), 1 => 0..8_u8], 0..most);
        (first, rest).prop_map(|(first, rest)| [first, rest].concat())
    }

    #[test]
    fn any_value_of_a_checkpoint_is_survived() {
        survives(5000, state, after((0..2_u8).prop_map(|kind| vec![kind]), 300));
        // Of our version, so that the fields are looked at.
        survives(5000, state, after(Just(vec![1, 1]), 300));
    }

    #[test]
    fn any_file_of_a_store_is_survived() {
        survives(100, state, after(Just(vec![2]), 10_000));
        survives(300, state, after(Just(vec![3]), 40));
    }

    #[test]
    fn any_block_is_framed() {
        survives(
            5000,
            frame,
            after((any::<u8>(), 0..40_u8).prop_map(|(ending, most)| vec![ending, most]), 300),
        );
    }

    #[test]
    fn any_record_of_the_ring_is_survived() {
        survives(5000, ring, after((0..12_u8).prop_map(|kind| vec![kind, 0, 0, 0]), 320));
    }
}
