//! Tells that something was mounted or unmounted where this process can see it: neither inotify nor the kernel
//! program tells that a path leads to another directory now.

use std::{fs::File, io};

use tokio::io::{Interest, unix::AsyncFd};

use super::Readiness;

/// Listens to the mount table: see "Polling" in `proc_pid_mountinfo(5)`.
#[derive(Debug)]
pub struct Mounts(AsyncFd<Readiness>);

impl Mounts {
    /// # Errors
    /// Where proc(5) is not mounted.
    pub fn new() -> io::Result<Self> {
        let table = File::open("/proc/self/mountinfo")?;
        Ok(Self(Readiness::wait_on(table.into(), Interest::PRIORITY)?))
    }

    /// Ends when something was mounted or unmounted since the last time.
    ///
    /// # Errors
    /// tokio's, when the runtime ends.
    pub async fn changed(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}
