//! Damage of every kind, and power loss at any write: what is read was committed, or is refused.

use std::{
    io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;

use super::*;
use crate::state::checkpoint::tests::checkpoint;

/// What reached a disk, in order.
#[derive(Clone, Debug)]
enum Event {
    Length(u64),
    Write(u64, Vec<u8>),
    Sync,
    /// The changes up to this one were acknowledged as durable.
    Committed(usize),
}

/// A disk that remembers how it came to hold what it holds.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Disk {
    fn note(&self, event: Event) {
        play(&mut self.bytes.lock().unwrap(), &event);
        self.events.lock().unwrap().push(event);
    }
}

fn play(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
        Event::Write(at, data) => {
            let at = usize::try_from(*at).unwrap();
            // A write may have reached the disk although the growth before it has not.
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[at..at + data.len()].copy_from_slice(data);
        }
        Event::Sync | Event::Committed(_) => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let bytes = self.bytes.lock().unwrap();
        out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.note(Event::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(Event::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// Commits `commits` times to a new store on a disk, and says what it contained after each, nothing first.
fn life(commits: u64) -> (Disk, Vec<Contents>) {
    let disk = Disk::default();
    let mut history = vec![Contents::default()];
    let database = builder().create_with_backend(disk.clone()).unwrap();
    for commit in 1..=commits {
        let mut changes: Changes = (0..5)
            .map(|step| {
                (CheckpointId((commit * 3 + step) % (commits / 2 + 5)), Some(checkpoint("a.log", commit)))
            })
            .collect();
        changes.insert(CheckpointId(commit / 2), None);
        write(&database, &changes).unwrap();
        let mut contents = history.last().unwrap().clone();
        contents.apply(&changes);
        history.push(contents);
        disk.note(Event::Committed(history.len() - 1));
    }
    drop(database);
    (disk, history)
}

fn file() -> (Vec<u8>, Vec<Contents>) {
    let (disk, history) = life(40);
    let bytes = disk.bytes.lock().unwrap().clone();
    (bytes, history)
}

/// xorshift64*: the same damage in every run, so that what fails once fails again.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % bound
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn is_lucky(&mut self) -> bool {
        self.below(10) < 6
    }
}

#[test]
fn a_file_says_what_was_committed_last() {
    let (file, history) = file();
    assert_eq!(read(&file).as_ref(), Ok(history.last().unwrap()));
    assert!(history.last().unwrap().checkpoints.len() > 10);
}

/// Either refused, or what one of the last two commits said: redb keeps two roots, and goes back to the older
/// one where the newer is unreadable.
fn is_refused_or_was_committed(file: &[u8], history: &[Contents], what: &str) -> bool {
    match read(file) {
        Err(_) => true,
        Ok(contents) => {
            assert!(history.iter().rev().take(2).any(|known| *known == contents), "{what}: {contents:#?}");
            false
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_or_says_what_was_committed() {
    let (file, history) = file();
    let mut lengths: Vec<usize> = (0..9000).step_by(37).collect();
    lengths.extend((0..file.len()).step_by(4096));
    lengths.extend((0..file.len()).step_by(10_007));
    lengths.extend(file.len() - 20..file.len());
    let all = lengths.len();
    let refused = lengths
        .into_iter()
        .filter(|length| is_refused_or_was_committed(&file[..*length], &history, &format!("cut at {length}")))
        .count();
    eprintln!("{refused} of {all} refused");
    assert!(refused > 0);
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_or_means_nothing() {
    let (file, history) = file();
    let mut random = Random::new();
    // Most of the file was never used: the bits that mean something are where it is not zero.
    let used: Vec<usize> = (0..file.len()).filter(|at| file[*at] != 0).collect();
    let mut flips: Vec<usize> = (0..512 * 8).step_by(3).collect();
    flips.extend((0..2000).map(|_| used[random.below(used.len())] * 8 + random.below(8)));
    flips.extend((0..500).map(|_| random.below(file.len() * 8)));
    let (mut all, mut refused) = (0, 0);
    let mut damaged = file.clone();
    for bit in flips {
        damaged[bit / 8] ^= 1 << (bit % 8);
        refused += usize::from(is_refused_or_was_committed(&damaged, &history, &format!("bit {bit}")));
        damaged[bit / 8] = file[bit / 8];
        all += 1;
    }
    eprintln!("{refused} of {all} refused");
    assert!(refused > 100);
}

#[test]
fn zeroed_and_garbled_blocks_are_noticed_or_mean_nothing() {
    let (file, history) = file();
    let mut random = Random::new();
    for at in (0..file.len()).step_by(512) {
        for garble in [false, true] {
            let mut damaged = file.clone();
            let end = file.len().min(at + 512);
            damaged[at..end].fill_with(|| if garble { random.byte() } else { 0 });
            is_refused_or_was_committed(&damaged, &history, &format!("block at {at}"));
        }
        if at > 200_000 {
            break;
        }
    }
}

#[test]
fn what_is_no_store_is_refused_with_what_it_is() {
    let mut random = Random::new();
    let garbage: Vec<u8> = (0..100_000).map(|_| random.byte()).collect();
    for file in [&b""[..], b"x", b"a text file\n", b"SQLite format 3\0", &vec![0; 70_000], &garbage] {
        read(file).unwrap_err();
    }
    let disk = Disk::default();
    let database = builder().create_with_backend(disk.clone()).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: TableDefinition<'_, &str, &str> = TableDefinition::new("checkpoints");
    transaction.open_table(table).unwrap().insert("a", "b").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = read(&disk.bytes.lock().unwrap()).unwrap_err();
    assert!(error.contains("not one of log-tail"), "{error}");
}

/// A store in which a number about it is another.
fn with_meta(name: &str, number: u64) -> Vec<u8> {
    let disk = Disk::default();
    let database = builder().create_with_backend(disk.clone()).unwrap();
    write(&database, &[(CheckpointId(1), Some(checkpoint("a.log", 1)))].into()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(name, number).unwrap();
    transaction.commit().unwrap();
    drop(database);
    disk.bytes.lock().unwrap().clone()
}

#[test]
fn a_newer_format_and_a_wrong_seal_are_refused() {
    let error = read(&with_meta(META_FORMAT, 2)).unwrap_err();
    assert!(error.contains("format 2") && error.contains("newer log-tail"), "{error}");
    for (name, number) in [(META_COUNT, 2), (META_COUNT, 0), (META_DIGEST, 5), (META_NEXT_ID, 1)] {
        assert!(read(&with_meta(name, number)).is_err(), "{name}");
    }
    assert!(read(&with_meta("something else", 5)).is_ok());
}

#[test]
fn after_power_loss_at_any_write_the_file_says_a_commit_no_older_than_the_acknowledged_one() {
    let (disk, history) = life(12);
    let events = disk.events.lock().unwrap().clone();
    let mut random = Random::new();
    let mut durable = Vec::new();
    let mut unsynced: Vec<&Event> = Vec::new();
    let mut acknowledged = 0;
    let mut rollbacks = 0;
    for event in &events {
        match event {
            Event::Sync => unsynced.drain(..).for_each(|event| play(&mut durable, event)),
            Event::Committed(commit) => acknowledged = *commit,
            Event::Length(_) | Event::Write(..) => unsynced.push(event),
        }
        // Before the first commit there is no file by the store's name: it gets it when it is whole.
        if acknowledged == 0 {
            continue;
        }
        for _ in 0..4 {
            let mut left = durable.clone();
            for event in &unsynced {
                match event {
                    // The disk writes sectors in any order, and the file's length when it likes.
                    Event::Write(at, data) => {
                        for (number, sector) in data.chunks(512).enumerate() {
                            if random.is_lucky() {
                                let at = *at + number as u64 * 512;
                                play(&mut left, &Event::Write(at, sector.to_vec()));
                            }
                        }
                    }
                    length => {
                        if random.is_lucky() {
                            play(&mut left, length);
                        }
                    }
                }
            }
            let contents = read(&left).unwrap_or_else(|why| panic!("after commit {acknowledged}: {why}"));
            let found = history.iter().position(|known| *known == contents);
            assert!(found.is_some_and(|found| found >= acknowledged), "{found:?}, {acknowledged}");
            rollbacks += usize::from(found == Some(acknowledged));
        }
    }
    assert!(rollbacks > 10);
}
