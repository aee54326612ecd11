//! What the end-to-end tests have in common: a directory to work in, the real `log-tail` on real files, and
//! an exact account of what came out of it.
//!
//! The environment says where and how the tests run, so that the same executables run on a developer's
//! machine and inside a guest that holds nothing but them, `log-tail` and busybox:
//!
//! | variable | meaning | otherwise |
//! |---|---|---|
//! | `LOG_TAIL_BIN` | the `log-tail` to test | the one that `cargo build` left beside the tests |
//! | `LOG_TAIL_TEST_BACKEND` | `ebpf` or `inotify`: every test then asserts that it is the one in use | the one that `log-tail` chooses here |
//! | `LOG_TAIL_TEST_DIR` | where the temporary files go | the system's temporary directory |
//! | `LOG_TAIL_STRESS_WRITES` | how much the stress test writes | 200,000 |
//! | `LOG_TAIL_OBSERVED_WRITES` | how many writes by 8 processes `observe` must show, all of them: with no other test that observes beside it | 16,000, of which some may be said to be missing |
//! | `LOG_TAIL_CRASHES` | how often the crash test kills | 200 |
//! | `LOG_TAIL_CRASH_SEED` | when it does | a fixed number |
//!
//! Nothing here waits for time: every wait is for a condition, and fails when nothing has happened for so
//! long ([`PATIENCE`]) that nothing will, however slow the machine.

pub mod account;
pub mod backend;
pub mod bench;
pub mod cgroup;
pub mod disk;
pub mod held;
pub mod metrics;
pub mod observe;
pub mod place;
pub mod remote;
pub mod run;
pub mod runs;
pub mod seeded;
pub mod state;
pub mod torture;
pub mod ways;
pub mod write;

use std::time::Duration;

/// How long nothing may happen before a test gives up. An emulated guest is twenty times slower than the
/// machine it runs on.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What an environment variable says, or this where it is not set.
///
/// # Panics
/// Where it says something else.
#[must_use]
pub fn variable<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// What a test needs, in one line.
pub mod prelude {
    pub use crate::{
        PATIENCE,
        account::{Account, Counted},
        backend::{Backend, wanted_backend},
        metrics::Scrape,
        place::Place,
        run::{Finished, LogTail, Running},
        state::{Known, StateDir},
        write::{Lines, append, create},
    };
}
