//! Reading a store without a lock, while another process may be writing to it.
//!
//! The file is copied into memory and checked there. A commit may run during the copy and tear it; a torn copy
//! fails its checks, and is made again. Nothing is written, and nothing is moved.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::state::{
    image::{self, Contents},
    store,
};

/// How often to copy. Commits are a quarter of a second apart and take a fraction of it, so it would take bad
/// luck to be torn twice.
const ATTEMPTS: usize = 10;

/// Longer than a commit usually takes.
const PAUSE: Duration = Duration::from_millis(60);

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The directory or the file in it.
    #[error("cannot read '{}': {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The directory is not there.
    #[error("there is no state directory '{}'; name the one that was given to log-tail with --state-dir", .0.display())]
    Missing(PathBuf),
    /// The store is damaged.
    #[error(
        "the checkpoints in '{}' are unreadable: {why}; the next log-tail that uses the directory moves them aside",
        path.display()
    )]
    Damaged { path: PathBuf, why: String },
}

/// What a state directory says at this moment.
///
/// # Errors
/// [`SnapshotError`].
pub fn read(dir: &Path) -> Result<Contents, SnapshotError> {
    let path = dir.join(store::FILE);
    let failed = |path: &Path, source| SnapshotError::Io { path: path.to_owned(), source };
    let mut attempt = 0;
    loop {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Nothing was ever committed; or nothing is there at all.
                return match fs::metadata(dir) {
                    Ok(_) => Ok(Contents::default()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        Err(SnapshotError::Missing(dir.to_owned()))
                    }
                    Err(error) => Err(failed(dir, error)),
                };
            }
            Err(error) => return Err(failed(&path, error)),
        };
        attempt += 1;
        match image::read(&bytes) {
            Ok(contents) => return Ok(contents),
            Err(why) if attempt == ATTEMPTS => return Err(SnapshotError::Damaged { path, why }),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
