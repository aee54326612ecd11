//! Inotify, with what tests put between it and the reader: things that happen at a certain moment, and hints
//! that are lost.

use std::{
    cell::Cell,
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    rc::Rc,
};

use crate::observe::{
    Answer, Backend, DirectoryId, FileId, Hint, Interest, ObserveError, Observer, Reach,
    inotify::InotifyObserver,
};

/// Something that happens.
pub type Act = Box<dyn FnOnce()>;

/// Tells what inotify tells.
pub struct Interposed {
    inner: InotifyObserver,
    /// What happens as soon as this directory is listened to.
    pub on_directory: Option<(PathBuf, Act)>,
    /// What happens before hints are asked for the first time.
    pub on_drain: Option<Act>,
    /// While it is set, hints about names are lost, and nobody says so.
    pub is_deaf: Rc<Cell<bool>>,
    /// There is always a hint that is being made.
    pub is_telling: bool,
}

impl Interposed {
    /// Loses nothing yet.
    pub fn new() -> Self {
        Self {
            inner: InotifyObserver::new().unwrap(),
            on_directory: None,
            on_drain: None,
            is_deaf: Rc::default(),
            is_telling: false,
        }
    }
}

impl Observer for Interposed {
    fn backend(&self) -> Backend {
        // That hints were lost is told late, as the kernel program does.
        Backend::Ebpf
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.inner.readiness()
    }

    fn follow_file(&mut self, id: FileId, file: BorrowedFd<'_>, reach: Reach) -> Result<(), ObserveError> {
        self.inner.follow_file(id, file, reach)
    }

    fn leave_file(&mut self, id: FileId) {
        self.inner.leave_file(id);
    }

    fn follow_directory(
        &mut self,
        id: DirectoryId,
        path: &Path,
        directory: BorrowedFd<'_>,
        interest: Interest,
    ) -> Result<(), ObserveError> {
        self.inner.follow_directory(id, path, directory, interest)?;
        if let Some((_, act)) = self.on_directory.take_if(|(at, _)| path == at) {
            act();
        }
        Ok(())
    }

    fn leave_directory(&mut self, id: DirectoryId) {
        self.inner.leave_directory(id);
    }

    fn answer(&mut self, id: FileId, near: u64) -> Answer {
        self.inner.answer(id, near)
    }

    fn is_telling(&self) -> bool {
        self.is_telling
    }

    fn drain(&mut self, hints: &mut Vec<Hint>) -> io::Result<bool> {
        if let Some(act) = self.on_drain.take() {
            act();
        }
        let more = self.inner.drain(hints)?;
        let is_deaf = self.is_deaf.get();
        hints.retain(|hint| !(is_deaf && matches!(hint, Hint::Entry { .. })));
        Ok(more)
    }
}
