//! Who wrote to a file: what the kernel program tells of a process, and which bytes it says that one wrote.

use std::{num::NonZeroUsize, sync::Arc};

use log_tail_common::{CLAIM_OFFSET_BITS, Writer as Told};
use lru::LruCache;

use super::cgroup::{Cgroup, Cgroups};

/// How many are remembered: a thread has a number of its own.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// A thread that wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its process, in the initial pid namespace.
    pub pid: u32,
    /// The thread, in the initial pid namespace.
    pub tid: u32,
    /// In the initial user namespace.
    pub uid: u32,
    /// The thread's name, as ps(1) shows it in `comm`: what is not UTF-8 is U+FFFD.
    pub comm: String,
    /// A thread of the kernel's own, which works for somebody it does not name.
    pub is_kernel: bool,
    /// `None` where it is gone, or there is no cgroup2 hierarchy.
    pub cgroup: Option<Arc<Cgroup>>,
}

/// Bytes that one process wrote, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// [`Writer::pid`].
    pub pid: u32,
    /// Offset of the first.
    pub from: u64,
    /// Offset behind the last.
    pub to: u64,
}

impl Claim {
    /// What two words of a doorbell say of bytes that lie near this offset: less than 2 TiB from it.
    #[must_use]
    pub fn decoded(claim: log_tail_common::Claim, near: u64) -> Option<Self> {
        let log_tail_common::Claim { from, to } = claim;
        let pid = |word: u64| u32::try_from(word >> CLAIM_OFFSET_BITS).ok();
        let (from_pid, to_pid) = (pid(from)?, pid(to)?);
        let (from, to) = (offset(from, near), offset(to, near));
        (from_pid == to_pid && from_pid != 0 && from < to).then_some(Self { pid: from_pid, from, to })
    }
}

/// The offset whose lowest bits these are, and that lies nearest to another.
fn offset(word: u64, near: u64) -> u64 {
    let bits = word & ((1 << CLAIM_OFFSET_BITS) - 1);
    let period = 1 << CLAIM_OFFSET_BITS;
    let same = near - near % period + bits;
    let nearest = [same.checked_sub(period), Some(same), same.checked_add(period)];
    nearest.into_iter().flatten().min_by_key(|offset| offset.abs_diff(near)).unwrap_or(same)
}

/// The writers that were told of: the same one comes again and again.
#[derive(Debug)]
pub struct Writers {
    known: LruCache<Told, Arc<Writer>>,
    cgroups: Cgroups,
}

impl Writers {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { known: LruCache::new(REMEMBERED), cgroups: Cgroups::new() }
    }

    /// The one that was told of.
    pub fn of(&mut self, told: &Told) -> Arc<Writer> {
        let Self { known, cgroups } = self;
        let writer = known.get_or_insert_ref(told, || {
            let Told { pid, tid, uid, is_kernel, cgroup, comm } = *told;
            let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
            Arc::new(Writer {
                pid,
                tid,
                uid,
                comm: String::from_utf8_lossy(name).into_owned(),
                is_kernel: is_kernel != 0,
                cgroup: cgroups.of(cgroup, pid),
            })
        });
        Arc::clone(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log_tail_common::{CLAIM_BY_SEVERAL, claim};

    fn words(from: u64, to: u64) -> log_tail_common::Claim {
        log_tail_common::Claim { from, to }
    }

    #[test]
    fn a_claim_is_of_one_process_or_none() {
        let mine = words(claim(7, 100), claim(7, 200));
        assert_eq!(Claim::decoded(mine, 0), Some(Claim { pid: 7, from: 100, to: 200 }));
        for none in [
            words(0, 0),
            words(claim(7, 100), claim(8, 200)),
            words(claim(7, 100), CLAIM_BY_SEVERAL),
            words(0, CLAIM_BY_SEVERAL),
            words(claim(7, 200), claim(7, 100)),
            words(claim(7, 200), claim(7, 200)),
        ] {
            assert_eq!(Claim::decoded(none, 0), None, "{none:?}");
        }
    }

    #[test]
    fn an_offset_beyond_4_tib_is_told_by_what_it_is_near() {
        let period = 1 << CLAIM_OFFSET_BITS;
        let around = 3 * period;
        let mine = words(claim(7, around - 50), claim(7, around + 50));
        let expected = Some(Claim { pid: 7, from: around - 50, to: around + 50 });
        for near in [around - 60, around, around + 40] {
            assert_eq!(Claim::decoded(mine, near), expected, "{near}");
        }
    }

    #[test]
    fn the_largest_process_id_fits() {
        let largest = (1 << 22) - 1;
        let mine = words(claim(largest, 1), claim(largest, 2));
        assert_eq!(Claim::decoded(mine, 0), Some(Claim { pid: largest, from: 1, to: 2 }));
    }
}
