//! A directory of a test's own, gone when the test is.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// An empty directory, removed with all that is in it when dropped.
#[derive(Debug)]
pub struct Place(tempfile::TempDir);

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// Makes one, in `LOG_TAIL_TEST_DIR` where that is set. Everybody may enter it: some tests run log-tail
    /// as another user.
    #[must_use]
    pub fn new() -> Self {
        let parent = std::env::var_os("LOG_TAIL_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self::within(&parent)
            .unwrap_or_else(|error| panic!("making a directory in {}: {error}", parent.display()))
    }

    /// Makes one where other tests make none: log-tail hears of what comes and goes in every directory on the
    /// way to a followed one.
    #[must_use]
    pub fn quiet() -> Self {
        let quiet = ["/run", "/dev/shm"].into_iter().find_map(|parent| Self::within(Path::new(parent)).ok());
        quiet.unwrap_or_else(Self::new)
    }

    /// Makes one on tmpfs, where there is one: its inodes have no generation, and their numbers are not used again.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::within(Path::new("/dev/shm")).unwrap_or_else(|_| Self::new())
    }

    fn within(parent: &Path) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("log-tail-").tempdir_in(parent)?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        Ok(Self(dir))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }
}
