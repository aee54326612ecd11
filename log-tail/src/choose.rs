//! Which observer: the kernel program where the kernel lets us, inotify elsewhere, and the reason said aloud.

use anyhow::Context as _;

use crate::{
    cli,
    observe::{
        Observer,
        ebpf::{
            EbpfObserver,
            load::{Attached, LoadOptions},
        },
        inotify::InotifyObserver,
        stat::Looking,
    },
};

/// An observer, and why it is not the better one.
pub struct Chosen {
    pub observer: Box<dyn Observer>,
    /// Why the kernel program is not used, where it was wanted.
    pub instead_because: Option<String>,
    /// What the kernel program cannot see on this kernel.
    pub unseen: Vec<String>,
}

/// Files and directories to make room for at least: a doorbell is 64 bytes.
const LEAST_ROOM: u32 = (1 << 16) - 1;

/// Room for what is followed now, and for as many files again that appear later.
pub fn room(names: usize) -> u32 {
    u32::try_from(names.saturating_mul(4)).unwrap_or(1 << 24).clamp(LEAST_ROOM, 1 << 24)
}

/// Makes the observer that was asked for, or the best there is.
///
/// # Errors
/// Where the one that was asked for is not to be had, or none is.
pub fn choose(wanted: cli::Backend, options: LoadOptions) -> anyhow::Result<Chosen> {
    let inotify = || -> anyhow::Result<Box<dyn Observer>> { Ok(Box::new(InotifyObserver::new()?)) };
    if wanted == cli::Backend::Inotify {
        return Ok(Chosen { observer: inotify()?, instead_because: None, unseen: Vec::new() });
    }
    match EbpfObserver::new(options) {
        Ok(observer) => {
            let unseen = observer.hooks().iter().filter_map(Attached::unseen).collect();
            Ok(Chosen { observer: Box::new(observer), instead_because: None, unseen })
        }
        Err(error) if wanted == cli::Backend::Ebpf => {
            let hint =
                "'log-tail doctor' tells what this kernel allows; --backend auto falls back to inotify";
            Err(error).context(format!("the eBPF backend is not available here ({hint})"))
        }
        Err(error) => {
            let (observer, instead_because) = match inotify() {
                Ok(observer) => (observer, error.to_string()),
                Err(inotify) => {
                    let looking = Looking::new().with_context(|| {
                        format!(
                            "eBPF is not available ({error}), neither is inotify ({inotify:#}), nor looking"
                        )
                    })?;
                    let because =
                        format!("{error}; inotify: {inotify:#}; so every file is looked at every second");
                    (Box::new(looking) as Box<dyn Observer>, because)
                }
            };
            Ok(Chosen { observer, instead_because: Some(instead_because), unseen: Vec::new() })
        }
    }
}
