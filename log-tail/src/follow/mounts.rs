//! What a mount or an unmount changed: directories and names that mean others now, without anything having become of
//! those that they meant.

use std::time::{Duration, Instant};

use super::Follower;

/// Whoever starts a container mounts a dozen times.
const SETTLING: Duration = Duration::from_millis(20);
/// Looking takes at most one part in so many of the time.
const SHARE: u32 = 20;

/// When to look, because something was mounted or unmounted.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    due: Option<Instant>,
    not_before: Option<Instant>,
}

impl Mounts {
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Follower {
    /// Something was mounted or unmounted somewhere.
    pub fn mounts_changed(&mut self, now: Instant) {
        let at = (now + SETTLING).max(self.mounts.not_before.unwrap_or(now));
        self.mounts.due.get_or_insert(at);
    }

    /// Looks at all directories and names, once that is due.
    pub(super) fn look_at_mounts(&mut self, now: Instant) {
        if self.mounts.due.is_none_or(|at| now < at) {
            return;
        }
        for directory in self.changed_directories() {
            self.renew_directory(directory);
        }
        let names = self.changed_names(|_, _| {});
        self.doubtful.extend(names);
        let after = Instant::now();
        self.mounts = Mounts { due: None, not_before: Some(after + SHARE * (after - now)) };
    }
}
