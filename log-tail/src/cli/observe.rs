//! The options of `log-tail observe`.

use std::ffi::OsString;

use clap::Args;

use super::Backend;
use crate::events::{Filter, Operation, Show};

/// What to observe, and what of it to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    /// Names, directories and globs, as given: at least one, none of them empty.
    pub names: Vec<OsString>,
    /// Which events are shown.
    pub filter: Filter,
    /// What an event looks like.
    pub format: Show,
    /// How to learn of events.
    pub backend: Backend,
    /// Size of the ring in bytes, for tests of its overflow.
    pub ring_bytes: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct ObserveArgs {
    /// Files, directories, or globs in quotes
    ///
    /// A directory stands for what is in it, but not for what is below. A file need not be there yet; its directory
    /// must be.
    #[arg(required = true, value_name = "PATH|GLOB|DIR")]
    pub names: Vec<OsString>,

    /// Only what this process does; may be given more than once, as the following may
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,

    /// Only what threads of this name do: as `ps -o comm` shows it
    #[arg(long, value_name = "NAME")]
    comm: Vec<String>,

    /// Only what this user does, by number
    #[arg(long, value_name = "UID")]
    uid: Vec<u32>,

    /// Only what is done in this cgroup or below it: a path below the root of the hierarchy
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,

    /// Only this
    #[arg(long, value_name = "OPERATION", value_enum, value_delimiter = ',')]
    op: Vec<Operation>,

    /// What an event looks like
    #[arg(long, value_enum, default_value_t = Show::Text)]
    format: Show,

    /// How to learn of events
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,

    /// Size of the kernel program's ring, in bytes: a power of two, at least 4096
    #[arg(long, value_name = "BYTES", hide = true)]
    ring_bytes: Option<u32>,
}

impl From<ObserveArgs> for Observe {
    fn from(args: ObserveArgs) -> Self {
        let ObserveArgs { names, pid, comm, uid, cgroup, op, format, backend, ring_bytes } = args;
        let filter = Filter { pids: pid, comms: comm, uids: uid, cgroups: cgroup, operations: op };
        Self { names, filter, format, backend, ring_bytes }
    }
}
