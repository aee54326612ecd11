//! Which file is it? Opening a name safely, and telling one inode from another.
//!
//! Only regular files are followed. Anything else is refused with what it is and what to do, before it
//! is opened: opening a FIFO would wait for a writer, and opening a device may act on it.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Device and inode as stat(2) shows them, which are unique among the files that exist at one moment; and
/// the time of birth, because an inode number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Nanoseconds since 1970, where the filesystem keeps them; 0 where it does not.
    pub born_ns: u64,
}

impl Identity {
    /// Of a file that was looked at.
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.and_then(|born| u64::try_from(born.as_nanos()).ok()).unwrap_or(0);
        Self { device: metadata.dev(), inode: metadata.ino(), born_ns }
    }
}

/// Why a name cannot be followed at present.
#[derive(Debug, thiserror::Error)]
pub enum NotFollowable {
    /// There is nothing by that name: it is waited for.
    #[error("cannot open '{}': no such file; waiting for it to appear", .0.display())]
    Missing(PathBuf),
    /// Reading is refused: it is waited for, because permissions change.
    #[error("cannot open '{}': permission denied; give the user that runs log-tail the right to read it, or use sudo", .0.display())]
    Denied(PathBuf),
    /// It is something that cannot be followed, and will not become a file by waiting.
    #[error("cannot follow '{}': it is {what}; {advice}", path.display())]
    Kind { path: PathBuf, what: &'static str, advice: &'static str },
    /// Too many open descriptors: says nothing about the file.
    #[error("cannot open '{}': {source}; raise the limit of open files (ulimit -n)", path.display())]
    Descriptors { path: PathBuf, source: io::Error },
    /// The system's word.
    #[error("cannot open '{}': {source}", path.display())]
    System { path: PathBuf, source: io::Error },
}

/// Whether there are too many descriptors, of the process or of the system.
pub fn is_spent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

impl NotFollowable {
    /// Whether the name may become a file that can be followed while nobody gives up on it.
    pub fn may_change(&self) -> bool {
        !matches!(self, Self::Kind { .. })
    }

    /// The sentence for a run that waits for nothing.
    pub fn at_once(&self) -> String {
        match self {
            Self::Missing(path) => format!("cannot open '{}': no such file", path.display()),
            other => other.to_string(),
        }
    }

    /// Of an error that met whoever opened it.
    pub fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Self::Missing(path),
            Some(libc::EACCES | libc::EPERM) => Self::Denied(path),
            _ if is_spent(&source) => Self::Descriptors { path, source },
            _ => Self::System { path, source },
        }
    }
}

/// Looks at what a name means now, without opening it.
///
/// # Errors
/// [`NotFollowable`].
pub fn look(path: &Path) -> Result<Metadata, NotFollowable> {
    let metadata = std::fs::metadata(path).map_err(|error| NotFollowable::from_io(path, error))?;
    let refuse = |what, advice| Err(NotFollowable::Kind { path: path.to_owned(), what, advice });
    let kind = metadata.file_type();
    if kind.is_file() {
        Ok(metadata)
    } else if kind.is_dir() {
        refuse("a directory", "name the files in it, as in 'DIRECTORY/*.log' in quotes")
    } else if kind.is_fifo() {
        refuse("a FIFO, which keeps nothing to follow", "read it with cat")
    } else if kind.is_socket() {
        refuse("a socket", "name a regular file")
    } else {
        refuse("a device", "name a regular file")
    }
}

/// Opens whatever bears the name for reading, with these flags of open(2) besides.
///
/// # Errors
/// open(2)'s.
pub(super) fn open_with(path: &Path, flags: libc::c_int) -> io::Result<File> {
    // It may be something else than it was: a FIFO must not block, a terminal not become ours.
    let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    // A read after each write would write the time of access each time. Only the owner and root may leave it be.
    match open(flags | libc::O_NOATIME) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => open(flags),
        other => other,
    }
}

/// Opens a name for reading, if it means a regular file.
///
/// # Errors
/// [`NotFollowable`].
pub fn open(path: &Path) -> Result<(File, Metadata), NotFollowable> {
    look(path)?;
    let file = open_with(path, 0).map_err(|error| NotFollowable::from_io(path, error))?;
    let metadata = file.metadata().map_err(|error| NotFollowable::from_io(path, error))?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(look(path).err().unwrap_or(replaced(path))) }
}

fn replaced(path: &Path) -> NotFollowable {
    NotFollowable::System {
        path: path.to_owned(),
        source: io::Error::other("it was replaced while being opened"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use nix::{sys::stat::Mode, unistd::mkfifo};

    #[test]
    fn a_fifo_is_refused_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let message = open(&path).unwrap_err().to_string();
        assert!(
            message.ends_with("it is a FIFO, which keeps nothing to follow; read it with cat"),
            "{message}"
        );
    }

    #[test]
    fn reading_leaves_the_time_of_access_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        fs::write(&path, "one\n").unwrap();
        let before = fs::metadata(&path).unwrap().accessed().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let (mut file, _) = open(&path).unwrap();
        io::copy(&mut file, &mut io::sink()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().accessed().unwrap(), before);
        fs::read(&path).unwrap();
        println!("others write it: {}", fs::metadata(&path).unwrap().accessed().unwrap() != before);
    }

    #[test]
    fn a_directory_and_a_device_are_refused_for_good() {
        for (path, what) in [("/", "a directory"), ("/dev/null", "a device")] {
            let error = open(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert!(!error.may_change());
        }
    }

    #[test]
    fn a_missing_file_and_a_missing_parent_are_waited_for() {
        for path in ["/nonexistent", "/nonexistent/file", "/dev/null/file"] {
            let error = open(Path::new(path)).unwrap_err();
            assert!(matches!(error, NotFollowable::Missing(_)), "{error}");
            assert!(error.may_change());
        }
    }
}
