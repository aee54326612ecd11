//! The store's file as bytes: reading and checking it in memory, without touching what is on disk.
//!
//! redb's own checks find most damage; the rest is found by a seal that is written with every commit: how many
//! checkpoints there are, and the exclusive or of their values' checksums. [`read`] succeeds only where all of it
//! is right, so whoever opens the file on disk afterwards opens a sound one, and a damaged one stays as it is.

use std::collections::BTreeMap;

use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, StorageBackend as _, TableDefinition,
    backends::InMemoryBackend,
};

use crate::state::{Checkpoint, CheckpointId, guard::guarded};

/// The version of the tables that this program writes, and the only one so far.
const FORMAT: u64 = 1;

/// Checkpoints by their ids.
const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");

/// Numbers about the store.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("log-tail");
const META_FORMAT: &str = "format";
const META_NEXT_ID: &str = "next_id";
const META_COUNT: &str = "count";
const META_DIGEST: &str = "digest";

/// What redb may keep of the file in memory, in bytes. Its default is a gigabyte.
const CACHE_BYTES: usize = 1 << 20;

/// Checkpoints by their ids; `None` forgets one.
pub type Changes = BTreeMap<CheckpointId, Option<Checkpoint>>;

/// All that a store says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Greater than every id that was ever committed.
    pub next_id: u64,
    /// The checkpoints.
    pub checkpoints: BTreeMap<CheckpointId, Checkpoint>,
}

impl Contents {
    /// What a store says after `changes`.
    pub fn apply(&mut self, changes: &Changes) {
        for (id, change) in changes {
            self.next_id = self.next_id.max(id.0.saturating_add(1));
            match change {
                Some(checkpoint) => self.checkpoints.insert(*id, checkpoint.clone()),
                None => self.checkpoints.remove(id),
            };
        }
    }

    /// What has to be changed in `self` so that it says what `other` says.
    pub fn changes_to(&self, other: &Self) -> Changes {
        let gone = self.checkpoints.keys().filter(|id| !other.checkpoints.contains_key(id));
        let mut changes: Changes = gone.map(|id| (*id, None)).collect();
        let other = other.checkpoints.iter();
        let new = other.filter(|(id, checkpoint)| self.checkpoints.get(id) != Some(*checkpoint));
        changes.extend(new.map(|(id, checkpoint)| (*id, Some(checkpoint.clone()))));
        changes
    }
}

/// What redb is told whenever a file is opened.
pub fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Reads a store from the bytes of its file.
///
/// # Errors
/// What is wrong with it, in words for the user.
pub fn read(file: &[u8]) -> Result<Contents, String> {
    if file.is_empty() {
        return Err("it is empty".to_owned());
    }
    let backend = InMemoryBackend::new();
    backend
        .set_len(file.len() as u64)
        .and_then(|()| backend.write(0, file))
        .map_err(|error| format!("it does not fit into memory: {error}"))?;
    // redb takes an empty file for a new one, and any other without its magic number for a foreign one.
    let mut database = checked(|| Ok(builder().create_with_backend(backend)?))?;
    let is_sound = checked(|| Ok(database.check_integrity()?));
    let contents = is_sound.and_then(|is_sound| {
        if is_sound {
            checked(|| contents(&database))?
        } else {
            Err("it is damaged: a checksum is wrong".to_owned())
        }
    });
    // Closing may panic although everything could be read: then it is not sound.
    checked(|| {
        drop(database);
        Ok(())
    })?;
    contents
}

/// What redb says or panics with, in words for the user.
fn checked<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, String> {
    match guarded(work) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("it is damaged, or not a store of log-tail: {error}")),
        Err(panic) => Err(format!("it is damaged: {panic}")),
    }
}

/// The inner error is the user's, the outer one redb's.
fn contents(database: &Database) -> Result<Result<Contents, String>, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => {
            return Ok(Err("it is a redb database, but not one of log-tail".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|number| number.value()));
    match number(META_FORMAT)? {
        Some(FORMAT) => {}
        Some(format) => {
            return Ok(Err(format!(
                "it is of format {format}, and this log-tail reads format {FORMAT}; a newer log-tail wrote it"
            )));
        }
        None => return Ok(Err("it does not say its format".to_owned())),
    }
    let mut contents = Contents { next_id: number(META_NEXT_ID)?.unwrap_or(0), ..Contents::default() };
    let mut digest = 0;
    for entry in transaction.open_table(CHECKPOINTS)?.iter()? {
        let (id, bytes) = entry?;
        let id = CheckpointId(id.value());
        let checkpoint = match Checkpoint::decode(id, bytes.value()) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Ok(Err(error.to_string())),
        };
        digest ^= seal(bytes.value());
        contents.checkpoints.insert(id, checkpoint);
    }
    let count = contents.checkpoints.len() as u64;
    if (number(META_COUNT)?, number(META_DIGEST)?) != (Some(count), Some(digest)) {
        return Ok(Err("it is damaged: checkpoints in it are missing or old".to_owned()));
    }
    let last = contents.checkpoints.last_key_value();
    if last.is_some_and(|(id, _)| id.0 >= contents.next_id) {
        return Ok(Err("it is damaged: an id in it was never given out".to_owned()));
    }
    Ok(Ok(contents))
}

/// Makes `changes` in one transaction that has reached the disk when this returns. Panics only where the
/// database is damaged.
///
/// # Errors
/// redb's word. Afterwards the database is unusable.
pub fn write(database: &Database, changes: &Changes) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(redb::Durability::Immediate)?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut table = transaction.open_table(CHECKPOINTS)?;
        let number = |name, meta: &redb::Table<'_, &str, u64>| {
            Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |number| number.value()))
        };
        let mut next_id = number(META_NEXT_ID, &meta)?;
        let mut count = number(META_COUNT, &meta)?;
        let mut digest = number(META_DIGEST, &meta)?;
        for (id, change) in changes {
            next_id = next_id.max(id.0.saturating_add(1));
            let old = match change {
                Some(checkpoint) => {
                    let bytes = checkpoint.encode(*id);
                    digest ^= seal(&bytes);
                    count += 1;
                    table.insert(id.0, bytes.as_slice())?
                }
                None => table.remove(id.0)?,
            };
            if let Some(old) = old {
                digest ^= seal(old.value());
                count = count.saturating_sub(1);
            }
        }
        for (name, number) in
            [(META_FORMAT, FORMAT), (META_NEXT_ID, next_id), (META_COUNT, count), (META_DIGEST, digest)]
        {
            meta.insert(name, number)?;
        }
    }
    Ok(transaction.commit()?)
}

/// What a value adds to the digest: its own checksum, which covers its id as well.
fn seal(value: &[u8]) -> u64 {
    value.last_chunk().copied().map_or(0, u32::from_le_bytes).into()
}

#[cfg(test)]
mod tests;
