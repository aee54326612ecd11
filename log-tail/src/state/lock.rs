//! One process at a time in a state directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// The name of the file that is locked. It stays when the lock is gone: removing it would let two in.
const NAME: &str = "lock";

/// Held for as long as this lives. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Closing would not do: a child that was forked just now has the descriptor until it executes its program.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Why a directory could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it, and this is its id, where it could be read.
    Held(Option<u32>),
    /// The system's word.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock, or says who holds it. Never waits.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(NAME))
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(LockError::Held(text.trim().parse().ok()));
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        // The id is only for the message of whoever comes second; a full disk is no reason to stay out.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_let_go_although_a_child_has_its_descriptor_still() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let _of_child = lock.file.try_clone().unwrap();
        assert!(
            matches!(Lock::take(dir.path()), Err(LockError::Held(Some(pid))) if pid == std::process::id())
        );
        drop(lock);
        Lock::take(dir.path()).unwrap();
    }
}
