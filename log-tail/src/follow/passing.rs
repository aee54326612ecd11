//! What is to be remembered of a file only while it is rotated or truncated.

use std::time::{Duration, Instant};

use super::{copies::CopiedBefore, rare::Nothing, truncation::Told};
use crate::observe::{FileId, Held};

/// How soon it is asked again who has a file open for writing. Each time it is twice as long.
const ASK_AFTER: Duration = Duration::from_millis(1);

/// Of a file that is rotated or truncated.
#[derive(Debug)]
pub(super) struct Passing {
    /// It must be drained before these are read.
    pub before: Vec<FileId>,
    /// How long these may be kept waiting.
    pub hold_until: Option<Instant>,
    /// How long to wait before asking again who has it open for writing.
    pub ask_after: Duration,
    /// When its grace time is over, where it has lost its last name.
    pub leaves_at: Option<Instant>,
    /// Its size in bytes when it was given that time.
    pub leaves_with: Option<u64>,
    /// What it held when it lost its last name, where that is told and it was not open then.
    pub held: Option<Held>,
    /// Since when it differs from what was read, and no truncation has been told.
    pub untold_since: Option<Instant>,
    /// The file it is a copy of, and from which byte on it was read.
    pub copy_of: Option<(FileId, u64)>,
    /// The number of the file it is a copy of, also from the last run.
    pub copy_of_number: Option<u64>,
    /// Of each truncation that is told and not yet made something of.
    pub copied_before: Vec<CopiedBefore>,
    /// What the kernel has told of truncations so far, where that is half of it.
    pub told: Told,
}

impl Passing {
    const NOTHING: Self = Self {
        before: Vec::new(),
        hold_until: None,
        ask_after: ASK_AFTER,
        leaves_at: None,
        leaves_with: None,
        held: None,
        untold_since: None,
        copy_of: None,
        copy_of_number: None,
        copied_before: Vec::new(),
        told: Told::NOTHING,
    };
}

impl Default for Passing {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl Nothing for Passing {
    const NOTHING: &'static Self = &Self::NOTHING;
}
