//! Which backend the tests are about, and which one this machine allows.

use std::{path::Path, sync::OnceLock};

use crate::{place::Place, run::LogTail};

/// What tells log-tail of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel program.
    Ebpf,
    /// What it falls back to.
    Inotify,
    /// What it falls back to where there is no inotify either. Not to be asked for.
    Stat,
}

impl Backend {
    /// As `--backend` takes it, and as log-tail says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Inotify => "inotify",
            Self::Stat => "stat",
        }
    }

    /// # Panics
    /// Where it is none of them.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        match word {
            "ebpf" => Self::Ebpf,
            "inotify" => Self::Inotify,
            "stat" => Self::Stat,
            _ => panic!("{word:?} is no backend: ebpf, inotify or stat"),
        }
    }
}

/// What `LOG_TAIL_TEST_BACKEND` says, if anything.
#[must_use]
pub fn wanted_backend() -> Option<Backend> {
    let word = std::env::var("LOG_TAIL_TEST_BACKEND").ok()?;
    (word != "auto" && !word.is_empty()).then(|| Backend::of_word(&word))
}

/// What log-tail chooses on this machine when it is free to, and why not eBPF where it does not.
///
/// # Panics
/// Where log-tail does not start.
#[must_use]
pub fn chosen_here() -> &'static (Backend, Option<String>) {
    static CHOSEN: OnceLock<(Backend, Option<String>)> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let place = Place::new();
        let path = place.path("any.log");
        std::fs::write(&path, "").expect("written");
        let tail = LogTail::bare().args(["--backend", "auto"]).arg(path).follow();
        let following = tail.following().clone();
        tail.terminate();
        (following.backend, following.instead_because)
    })
}

/// What the tests run through.
#[must_use]
pub fn backend_here() -> Backend {
    wanted_backend().unwrap_or_else(|| chosen_here().0)
}

/// Whether the tests run through eBPF. Says on standard error that a test is skipped where they do not.
#[must_use]
pub fn is_ebpf_or_skip(test: &str) -> bool {
    let backend = backend_here();
    if backend != Backend::Ebpf {
        eprintln!(
            "skipping {test}: it is about the kernel program, and the backend here is {}",
            backend.word()
        );
    }
    backend == Backend::Ebpf
}

/// Whether the kernel shows where btrfs keeps what tells its subvolumes apart: it does not before 5.11.
#[must_use]
pub fn tells_subvolumes() -> bool {
    Path::new("/sys/kernel/btf/btrfs").exists()
}

/// Says on standard error what is skipped, and for want of what.
///
/// # Panics
/// Where a backend is asked for: in a guest there is everything.
#[track_caller]
pub fn skip(what: &str) {
    assert_eq!(wanted_backend(), None, "in a guest it can be had: {what}");
    eprintln!("skipping: {what}");
}
