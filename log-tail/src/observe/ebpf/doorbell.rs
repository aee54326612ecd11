//! The doorbells: an array the kernel program rings and the reader clears, in memory both can see.
//!
//! Clearing one is an atomic swap, not a system call. The swap is a full barrier: the reader clears,
//! *then* reads the file, and the kernel program writes, *then* tests. One of the two always sees the
//! other (the kernel side of the argument is at the head of `log-tail-ebpf/src/maps.rs`).

use std::{
    io,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use log_tail_common::{CLAIM_BY_SEVERAL, Doorbell, OVERFLOW_SLOT};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::observe::{Answer, Claim};

/// The map `DOORBELLS`, mapped into this process.
#[derive(Debug)]
pub struct Doorbells {
    base: NonNull<Doorbell>,
    bytes: NonZeroUsize,
    capacity: u32,
}

impl Doorbells {
    /// Maps the array map behind `map`, which has `capacity` elements.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn map(map: impl AsFd, capacity: u32) -> io::Result<Self> {
        let bytes = usize::try_from(capacity)
            .ok()
            .and_then(|capacity| capacity.checked_mul(size_of::<Doorbell>()))
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| io::Error::other("no doorbells asked for"))?;
        // SAFETY: a fresh mapping at an address the kernel chooses.
        let base = unsafe {
            mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, map, 0)
        }?;
        Ok(Self { base: base.cast(), bytes, capacity })
    }

    /// How many there are, the overflow's included.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    fn word(&self, slot: u32, offset: usize) -> Option<&AtomicU64> {
        if slot >= self.capacity {
            return None;
        }
        // SAFETY: `slot` lies within the mapping, and `offset` within the doorbell: all callers pass
        // `offset_of!` a u64 member.
        let word =
            unsafe { self.base.as_ptr().cast::<u8>().add(slot as usize * size_of::<Doorbell>() + offset) };
        // SAFETY: aligned for u64 as every member is, mapped for as long as `self` lives, and only
        // ever accessed atomically on this side.
        Some(unsafe { AtomicU64::from_ptr(word.cast()) })
    }

    /// What it says now, 0 where there is no such doorbell.
    fn look(&self, slot: u32, offset: usize) -> u64 {
        self.word(slot, offset).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// Clears a doorbell: what is written from now on rings it again.
    pub fn answer(&self, slot: u32, near: u64) -> Answer {
        let take = |offset| self.word(slot, offset).map_or(0, |word| word.swap(0, Ordering::SeqCst));
        let rung = take(std::mem::offset_of!(Doorbell, rung)) != 0;
        // The other way round than they are set: a new end comes with its own beginning, or a newer one.
        let to = take(std::mem::offset_of!(Doorbell, written.to));
        let from = take(std::mem::offset_of!(Doorbell, written.from));
        Answer {
            rung,
            truncated_to: take(std::mem::offset_of!(Doorbell, truncated_to_plus_one)).checked_sub(1),
            cut_off_bytes: self.cut_off_bytes(slot),
            collapsed_bytes: take(std::mem::offset_of!(Doorbell, collapsed_bytes)),
            written: Claim::decoded(log_tail_common::Claim { from, to }, near),
            by_several: to == CLAIM_BY_SEVERAL,
        }
    }

    /// Bytes that truncations cut off since the doorbell is the inode's.
    pub fn cut_off_bytes(&self, slot: u32) -> u64 {
        self.look(slot, std::mem::offset_of!(Doorbell, cut_off_bytes))
    }

    /// Which bytes one process wrote last, of those near this offset.
    pub fn claim(&self, slot: u32, near: u64) -> Option<Claim> {
        let to = self.look(slot, std::mem::offset_of!(Doorbell, written.to));
        let from = self.look(slot, std::mem::offset_of!(Doorbell, written.from));
        Claim::decoded(log_tail_common::Claim { from, to }, near)
    }

    /// Whether the inode was truncated since the last answer.
    pub fn truncated(&self, slot: u32) -> bool {
        self.look(slot, std::mem::offset_of!(Doorbell, truncated_to_plus_one)) != 0
    }

    /// Whether the inode is being truncated, or extended, at this moment: what becomes of it is told afterwards.
    pub fn is_being_truncated(&self, slot: u32) -> bool {
        self.look(slot, std::mem::offset_of!(Doorbell, size_before_plus_one)) != 0
    }

    /// Whether the ring had no room for some hint since this was last asked.
    pub fn overflowed(&self) -> bool {
        self.answer(OVERFLOW_SLOT, 0).rung
    }

    /// Clears a doorbell that goes to another inode.
    pub fn reset(&self, slot: u32) {
        for offset in (0..size_of::<Doorbell>()).step_by(size_of::<u64>()) {
            if let Some(word) = self.word(slot, offset) {
                word.store(0, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Doorbells {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`, with this length; no reference outlives `self`.
        let _ = unsafe { munmap(self.base.cast(), self.bytes.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_is_cleared_by_its_answer_and_out_of_range_is_silent() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let bells = Doorbells::map(&file, 64).unwrap();
        bells.word(3, 0).unwrap().store(1, Ordering::SeqCst);
        bells
            .word(3, std::mem::offset_of!(Doorbell, truncated_to_plus_one))
            .unwrap()
            .store(1, Ordering::SeqCst);
        assert_eq!(bells.answer(3, 0), Answer { rung: true, truncated_to: Some(0), ..Answer::default() });
        assert_eq!(bells.answer(3, 0), Answer::default());
        assert_eq!(bells.answer(64, 0), Answer::default(), "one past the last");
        assert!(!bells.overflowed());
    }
}
