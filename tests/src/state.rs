//! A state directory as a user has it: given to `log-tail`, and asked with `log-tail state`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    PATIENCE,
    run::{Finished, LogTail},
};

/// A directory for `--state-dir`, there or not yet.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// What `state list` says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The followed name that it bore.
    pub path: String,
    /// Where it was last found.
    pub located: String,
    /// `followed`, `rotated` or `finished`.
    pub state: String,
    /// Bytes that were acknowledged.
    pub offset: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl StateDir {
    /// Makes nothing: that is log-tail's.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `log-tail state ARGS...`, to its end.
    #[must_use]
    pub fn ask(&self, args: &[&str]) -> Finished {
        LogTail::bare().args(["state", "--state-dir"]).arg(&self.0).args(args).run()
    }

    /// All that is known.
    ///
    /// # Panics
    /// Where it cannot be read.
    #[must_use]
    #[track_caller]
    pub fn list(&self) -> Vec<Known> {
        let finished = self.ask(&["list", "--json"]);
        finished.assert_exit(0);
        let entries: Vec<Value> = serde_json::from_slice(&finished.stdout).expect("json");
        entries.iter().map(Known::of).collect()
    }

    /// How far the file that bears a name was acknowledged; `None` where nothing is known of one.
    #[must_use]
    #[track_caller]
    pub fn offset_of(&self, path: &Path) -> Option<u64> {
        let list = self.list();
        let borne = |known: &&Known| Path::new(&known.path) == path && known.state == "followed";
        list.iter().find(borne).map(|known| known.offset)
    }

    /// Waits until the file that bears a name is acknowledged up to here.
    ///
    /// # Panics
    /// Where that does not come.
    #[track_caller]
    pub fn wait_for_offset(&self, path: &Path, offset: u64) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.offset_of(path) != Some(offset) {
            let list = self.list();
            assert!(std::time::Instant::now() < deadline, "waited for offset {offset} in vain: {list:#?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Known {
    fn of(entry: &Value) -> Self {
        let text = |field: &str| entry[field].as_str().expect("text").to_owned();
        let number = |field: &str| entry[field].as_u64().expect("a number");
        Self {
            path: text("path"),
            located: text("located"),
            state: text("state"),
            offset: number("offset"),
            inode: number("inode"),
        }
    }
}
