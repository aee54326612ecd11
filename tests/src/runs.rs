//! Runs of `log-tail` over one file, with one state directory, and one account of what came out of them all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;

use crate::{
    account::Account,
    place::Place,
    run::{Finished, LogTail, Running},
    state::StateDir,
    write::Lines,
};

/// A followed file `app.log`, who writes to it, and what came out so far.
#[derive(Debug)]
pub struct Runs {
    /// Where all of it lies.
    pub place: Place,
    /// Writes to `app.log`.
    pub lines: Lines,
    /// Of all runs.
    pub account: Account,
}

impl Default for Runs {
    fn default() -> Self {
        Self::new()
    }
}

impl Runs {
    /// An empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::within(Place::new())
    }

    /// An empty file in this place.
    #[must_use]
    pub fn within(place: Place) -> Self {
        let lines = Lines::new(place.path("app.log"), "w");
        Self { place, lines, account: Account::default() }
    }

    /// The followed name.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.place.path("app.log")
    }

    /// What is known from one run to the next.
    #[must_use]
    pub fn state(&self) -> StateDir {
        StateDir::new(self.place.path("state"))
    }

    /// A run. A file that is not known is read from its beginning: where one is wrongly taken for such, it is
    /// repeated.
    #[must_use]
    pub fn start(&mut self) -> Running {
        let account = std::mem::take(&mut self.account);
        let tail = LogTail::plain().counted_on(account).keeping(&self.state());
        tail.args(["--from", "beginning"]).arg(self.log()).follow()
    }

    /// A run that reads all there is, and is ended by SIGTERM.
    pub fn run(&mut self) -> Finished {
        let running = self.start();
        running.wait_for_lines(self.lines.written());
        let mut finished = running.terminate();
        self.account = std::mem::take(&mut finished.account);
        finished
    }

    /// Ends a run whose output nobody took, and takes what comes then.
    pub fn end_stalled(&mut self, running: Running) {
        running.signal(Signal::SIGTERM);
        running.listen_again();
        let mut finished = running.wait();
        finished.assert_exit(0);
        self.account = std::mem::take(&mut finished.account);
    }

    /// The file gets another name, and the writer goes on in a new one.
    ///
    /// # Panics
    /// Where the file system does not let it.
    pub fn rotate(&mut self, to: impl AsRef<Path>) {
        fs::rename(self.log(), self.place.path(to)).expect("a new name");
        self.lines.go_on_in(self.log());
    }

    /// As logrotate does: `app.log.2` becomes `app.log.3`, `app.log.1` becomes `app.log.2`, and so on.
    ///
    /// # Panics
    /// Where the file system does not let it.
    pub fn shift(&mut self) {
        for number in (1..20).rev() {
            let from = self.place.path(format!("app.log.{number}"));
            if from.exists() {
                fs::rename(from, self.place.path(format!("app.log.{}", number + 1))).expect("a new name");
            }
        }
        self.rotate("app.log.1");
    }

    /// # Panics
    /// Where anything was lost, repeated, torn or out of order.
    #[track_caller]
    pub fn assert_exactly_what_was_written(&self) {
        if let Err(report) = self.account.check([("w", self.lines.written())]) {
            panic!("{report}{:#?}", self.state().list());
        }
    }
}
