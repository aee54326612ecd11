//! The store in a state directory: one process opens it, knows all it says, and commits changes durably.
//!
//! The file is checked in memory before redb may touch it, so damage is found at once and a damaged file is moved
//! aside as it was found. It is opened for writing with the first commit: log-tail starts although the disk is
//! full. After a commit that failed, the next one starts from the file as it then is; where that is unreadable or
//! gone, a new file is made from what this process knows, and takes the old one's place in one rename.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use redb::Database;

use crate::state::{
    Checkpoint, CheckpointId,
    guard::guarded,
    image::{self, Changes, Contents},
    lock::{Lock, LockError},
};

/// The store's file in the state directory.
pub const FILE: &str = "checkpoints.redb";
/// Where a new one is made.
const NEW_FILE: &str = "checkpoints.redb.new";

/// A state directory that is this process's own.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// What was read and committed.
    known: Contents,
    /// The next id to give out.
    next_id: u64,
    /// `None` until the first commit, and after one that failed.
    open: Option<OpenFile>,
    _lock: Lock,
}

/// The file while it is written to.
#[derive(Debug)]
struct OpenFile {
    database: Database,
    /// Device and inode.
    identity: (u64, u64),
}

/// What was found in a state directory.
#[derive(Debug)]
pub struct Opened {
    /// To commit to.
    pub store: Store,
    /// All that was known, in the order of the ids.
    pub checkpoints: Vec<(CheckpointId, Checkpoint)>,
    /// Set where the store was unreadable and a new one is begun: to be said, because files are now read from
    /// where `--from` says.
    pub moved_aside: Option<MovedAside>,
}

/// An unreadable store that was renamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoints were unreadable ({why}); they were moved to '{}' and new ones are begun", to.display())]
pub struct MovedAside {
    /// Its path now.
    pub to: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error(
        "the state directory '{}' is in use by {}; give this one another with --state-dir, or end the other",
        dir.display(),
        pid.map_or_else(|| "another log-tail".to_owned(), |pid| format!("the log-tail with process id {pid}"))
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other process, where it has said.
        pid: Option<u32>,
    },
    /// The system's word. Nothing was changed or moved.
    #[error("cannot use the state directory '{}': '{}': {source}{}", dir.display(), path.display(), advice(source))]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What in it the error is about.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// Why changes could not be committed. They are to be committed again: none of them is known to be durable.
#[derive(Debug, thiserror::Error)]
#[error("cannot write checkpoints to '{}': {why}{advice}", dir.display())]
pub struct CommitError {
    dir: PathBuf,
    why: String,
    advice: &'static str,
}

impl CommitError {
    /// Where nobody is left to commit.
    pub(super) fn without_thread(dir: PathBuf) -> Self {
        let why = "the thread that writes them ended, which is a bug in log-tail".to_owned();
        Self { dir, why, advice: "" }
    }

    /// Where what they acknowledge is not durable.
    pub(super) fn of_output(dir: PathBuf, error: &io::Error) -> Self {
        let why = format!("standard output could not be made durable before: {error}");
        Self { dir, why, advice: "" }
    }
}

/// What to do about an error, as the rest of a sentence.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; give the user that runs log-tail the right to write there",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "; name a directory with --state-dir",
        io::ErrorKind::ReadOnlyFilesystem => "; name a directory on a writable filesystem with --state-dir",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there",
        io::ErrorKind::Unsupported => "; name a directory on a local filesystem with --state-dir",
        _ => "",
    }
}

impl Store {
    /// Takes a state directory, makes it where it is missing, and reads what it knows.
    ///
    /// # Errors
    /// [`OpenError`]; an unreadable store is none, but [`Opened::moved_aside`].
    pub fn open(dir: &Path) -> Result<Opened, OpenError> {
        let failed =
            |path: &Path, source| OpenError::Io { dir: dir.to_owned(), path: path.to_owned(), source };
        make_dir(dir).map_err(|error| failed(dir, error))?;
        let lock = Lock::take(dir).map_err(|error| match error {
            LockError::Held(pid) => OpenError::InUse { dir: dir.to_owned(), pid },
            LockError::Io(error) => failed(dir, error),
        })?;
        let path = dir.join(FILE);
        let mut moved_aside = None;
        let known = match read_writable(&path).map_err(|error| failed(&path, error))? {
            None => Contents::default(),
            Some(bytes) => match image::read(&bytes) {
                Ok(contents) => contents,
                Err(why) => {
                    let to = move_aside(&path).map_err(|error| failed(&path, error))?;
                    moved_aside = Some(MovedAside { to, why });
                    Contents::default()
                }
            },
        };
        let checkpoints =
            known.checkpoints.iter().map(|(id, checkpoint)| (*id, checkpoint.clone())).collect();
        let next_id = known.next_id;
        let store = Self { dir: dir.to_owned(), known, next_id, open: None, _lock: lock };
        Ok(Opened { store, checkpoints, moved_aside })
    }

    /// The state directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All that is committed.
    pub fn checkpoints(&self) -> impl Iterator<Item = (CheckpointId, &Checkpoint)> {
        self.known.checkpoints.iter().map(|(id, checkpoint)| (*id, checkpoint))
    }

    /// An id that no checkpoint bears or ever bore.
    pub fn next_id(&mut self) -> CheckpointId {
        let id = CheckpointId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        id
    }

    /// Commits changes in one transaction, `None` to forget a checkpoint. They are durable when this returns.
    ///
    /// # Errors
    /// [`CommitError`]. A later commit may well succeed.
    pub fn commit(&mut self, changes: &Changes) -> Result<(), CommitError> {
        match self.try_commit(changes) {
            Ok(()) => {
                self.known.apply(changes);
                self.next_id = self.next_id.max(self.known.next_id);
                Ok(())
            }
            Err(error) => {
                self.close();
                let advice = match &error {
                    redb::Error::Io(error) => advice(error),
                    redb::Error::DatabaseAlreadyOpen => "; another process has the file open: end it",
                    _ => "",
                };
                Err(CommitError { dir: self.dir.clone(), why: error.to_string(), advice })
            }
        }
    }

    fn try_commit(&mut self, changes: &Changes) -> Result<(), redb::Error> {
        let path = self.dir.join(FILE);
        // The file may have been removed or put back from a backup: the next run reads what bears the name.
        let identity = fs::metadata(&path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        if self.open.as_ref().is_some_and(|open| Some(open.identity) != identity) {
            self.close();
        }
        let open = match &mut self.open {
            Some(open) => open,
            empty => empty.insert(open_file(&self.dir, &self.known)?),
        };
        caught(|| image::write(&open.database, changes))
    }

    /// Lets go of the file. Its last commit stands.
    fn close(&mut self) {
        let open = self.open.take();
        // What closing may have to say was said by what failed before it, or is found by the next open.
        let _ = guarded(|| drop(open));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens the file and makes it say what is `known`, or makes a new one that does.
fn open_file(dir: &Path, known: &Contents) -> Result<OpenFile, redb::Error> {
    let path = dir.join(FILE);
    let on_disk = match fs::read(&path) {
        Ok(bytes) => image::read(&bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(redb::Error::Io(error)),
    };
    if on_disk.is_none() {
        make_file(dir, known)?;
    }
    let database = caught(|| Ok(image::builder().open(&path)?))?;
    let metadata = fs::metadata(&path)?;
    // A commit that failed may be in the file nevertheless, or only its forerunner.
    let changes = on_disk.map_or_else(Changes::default, |on_disk| on_disk.changes_to(known));
    if !changes.is_empty() {
        caught(|| image::write(&database, &changes))?;
    }
    Ok(OpenFile { database, identity: (metadata.dev(), metadata.ino()) })
}

/// Makes a file that says what is `known`. It bears its name only once it is whole and on the disk.
fn make_file(dir: &Path, known: &Contents) -> Result<(), redb::Error> {
    make_dir(dir)?;
    let new = dir.join(NEW_FILE);
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    caught(|| {
        let database = image::builder().create_file(file)?;
        image::write(&database, &Contents::default().changes_to(known))?;
        drop(database);
        Ok(())
    })?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    File::open(dir)?.sync_all()?;
    Ok(())
}

/// A panic in redb is damage that its checks did not find.
fn caught<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    guarded(work).unwrap_or_else(|panic| Err(redb::Error::Corrupted(panic)))
}

/// Paths of logs are nobody else's business: only the owner may enter.
fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The bytes of a file, if there is one, and if it can be written to as well: where it cannot, that is better
/// said now.
fn read_writable(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(mut file) => {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut file, &mut bytes)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renames an unreadable file to a name that says when, and that nothing bears yet.
fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(':', "-");
    let mut number = 1;
    loop {
        let mut to = path.as_os_str().to_owned();
        to.push(format!(".bad-{now}"));
        if number > 1 {
            to.push(format!("-{number}"));
        }
        // Unlike rename, link never replaces what is there.
        match fs::hard_link(path, &to) {
            Ok(()) => {
                fs::remove_file(path)?;
                return Ok(to.into());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            // Not every filesystem has links. The lock is ours, so nobody else takes the name in between.
            Err(_) if !fs::exists(&to)? => {
                fs::rename(path, &to)?;
                return Ok(to.into());
            }
            Err(_) => number += 1,
        }
    }
}

#[cfg(test)]
mod tests;
