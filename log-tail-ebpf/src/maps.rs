//! The maps, and the few steps every hook takes over them: find the doorbell, ring it, count it.
//!
//! # Why no wake-up is lost
//! The writer's side (here) makes its bytes visible, then tests `rung`. The reader's side clears `rung`,
//! then reads to the end of the file. Two processors that each store, then load what the other stored,
//! both miss each other's store unless a full barrier stands between the two on both sides (Dekker's
//! pattern). The reader's is its atomic swap. Here there are two ways:
//!
//! * [`Ring::Exchange`], kernels from 5.12: `xchg` is a full barrier on every architecture ([set], "fully ordered";
//!   [jit]: on x86 an `xchg` with memory, which locks).
//! * [`Ring::Plain`], older kernels, whose verifier knows no `xchg`: a plain load, then a plain store.
//!   The hook runs after the write has dropped the inode's lock, and `up_write` is a locked read-modify-write
//!   ([rwsem], `__up_write`: `atomic_long_fetch_add_release`; [atomic], `arch_atomic64_fetch_add`: `lock xadd`), which on
//!   x86 orders every earlier store before every later load ([barriers], "memory operations"). Direct I/O that ends after
//!   its system call drops `i_dio_count` with a locked instruction after the size was set ([dio], `iomap_dio_complete`:
//!   `inode_dio_end`), and its hooks run after that. Kernels that old run fexit programs on x86 alone (arm64 from
//!   6.0). Two writers may both find `rung` clear: the second hint is answered for nothing.
//!
//! [set]: https://github.com/torvalds/linux/blob/v6.12/Documentation/bpf/standardization/instruction-set.rst
//! [jit]: https://github.com/torvalds/linux/blob/v5.12/arch/x86/net/bpf_jit_comp.c
//! [rwsem]: https://github.com/torvalds/linux/blob/v5.10/kernel/locking/rwsem.c
//! [atomic]: https://github.com/torvalds/linux/blob/v5.10/arch/x86/include/asm/atomic64_64.h
//! [barriers]: https://github.com/torvalds/linux/blob/v5.10/Documentation/memory-barriers.txt
//! [dio]: https://github.com/torvalds/linux/blob/v5.10/fs/iomap/direct-io.c

use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};

use aya_ebpf::{
    EbpfContext, Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE},
    helpers::bpf_ktime_get_ns,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use aya_log_ebpf::{debug, warn};
use log_tail_common::{
    Claim, Counters, Doorbell, EntryHint, HINT_APPEND, HINT_OVERFLOW, HINT_SKIPPED, HINT_TRUNCATE,
    HINT_WRITTEN, Hint, InodeKey, OVERFLOW_SLOT, Span, TruncateHint, WriterHint,
};

use crate::{
    kernel::{Dentry, Dio, Inode},
    written::{self, Place},
};

/// Which inodes are followed, and the index of each one's doorbell. Sized by the loader.
#[map]
pub static FOLLOWED: HashMap<InodeKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Which of them the last writer is awaited of. Sized by the loader.
#[map]
static CLOSING: HashMap<InodeKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The doorbells, mapped into the reader's memory. Sized by the loader.
#[map]
static DOORBELLS: Array<Doorbell> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Hints on their way to the reader. Sized by the loader.
#[map]
pub static HINTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// One element: this processor's counters.
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Direct I/O of followed files that is ending, by [`Dio::address`]: their doorbells' indices. What is lost of it for
/// want of room, the sweep finds.
#[map]
static ENDING: LruHashMap<u64, u32> = LruHashMap::with_max_entries(1024, 0);

/// 1 where a hint is submitted for each write, also while one is on its way: to test what coalescing leaves out.
#[unsafe(no_mangle)]
static EVERY_HINT: Global<u64> = Global::new(0);

/// How a doorbell is tested and set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    Exchange,
    Plain,
}

/// A followed inode's doorbell.
#[derive(Clone, Copy)]
pub struct Bell {
    slot: u32,
    state: *mut Doorbell,
}

enum Outcome {
    Submitted,
    Coalesced,
    Dropped,
}

#[inline(always)]
pub fn bell_at(slot: u32) -> Option<Bell> {
    Some(Bell { slot, state: DOORBELLS.get_ptr_mut(slot)? })
}

/// The inode's doorbell, if it is followed.
#[inline(always)]
pub fn bell_of(inode: Inode) -> Option<Bell> {
    bell_in(&FOLLOWED, inode)
}

/// The inode's doorbell, if it is followed and its last writer is awaited.
#[inline(always)]
pub fn closing_bell_of(inode: Inode) -> Option<Bell> {
    bell_in(&CLOSING, inode)
}

#[inline(always)]
fn bell_in(slots: &HashMap<InodeKey, u32>, inode: Inode) -> Option<Bell> {
    let slot = slots.get_ptr(inode.key())?;
    // SAFETY: a non-NULL map value; user space replaces it whole or not at all.
    bell_at(unsafe { *slot })
}

/// Notes whose direct I/O this is: nobody can say any more when it has ended.
#[inline(always)]
pub fn will_end(dio: Dio) {
    if let Some(bell) = bell_of(dio.file().inode()) {
        let _ = ENDING.insert(dio.address(), bell.slot, 0);
    }
}

/// The doorbell of the inode whose direct I/O this was, if it is followed.
#[inline(always)]
pub fn ended(dio: Dio) -> Option<Bell> {
    // SAFETY: a non-NULL map value; that of another one, where it was used again meanwhile, is an index as well.
    let slot = unsafe { *ENDING.get_ptr(dio.address())? };
    let _ = ENDING.remove(dio.address());
    bell_at(slot)
}

impl Bell {
    /// There may be `length` new bytes: submits a hint unless one is already on its way.
    #[inline(always)]
    pub fn appended(self, ctx: &impl EbpfContext, ring: Ring, place: Place, length: u64) {
        // SAFETY: `state` is a map element, and `rung` its first member.
        let rung = unsafe { &raw mut (*self.state).rung };
        let before = match ring {
            // SAFETY: `rung` is aligned and lives as long as the map.
            Ring::Exchange => unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(rung, 1) },
            Ring::Plain => {
                // SAFETY: as above; the module's head argues why this suffices.
                let before = unsafe { rung.read_volatile() };
                if before == 0 {
                    // SAFETY: as above.
                    unsafe { rung.write_volatile(1) };
                }
                before
            }
        };
        if written::are_told() {
            return self.told(ctx, before != 0, place.span(length));
        }
        if before != 0 && EVERY_HINT.load() == 0 {
            return count(Outcome::Coalesced);
        }
        if !self.submit(ctx, hint(HINT_APPEND, self.slot)) && before == 0 {
            self.unring();
        }
    }

    /// The overflow makes the reader look at this file too; the next write may ring again.
    #[inline(always)]
    fn unring(self) {
        // SAFETY: `state` is a map element.
        unsafe { (&raw mut (*self.state).rung).write_volatile(0) };
    }

    /// As [`Bell::appended`], where it is to be told who wrote: a hint for each process that writes in between, too.
    #[inline(always)]
    fn told(self, ctx: &impl EbpfContext, is_rung: bool, span: Option<Span>) {
        let last = match span {
            // SAFETY: `state` is a map element.
            Some(span) => unsafe { written::add(self.state, span) },
            None => Some(Claim { from: 0, to: 0 }),
        };
        let span = span.unwrap_or(Span { from: 0, to: 0 });
        match (is_rung, last) {
            (true, None) => return count(Outcome::Coalesced),
            (true, Some(_)) if !half_is_free() => {
                // SAFETY: as above.
                unsafe { written::give_up(self.state) };
                return count(Outcome::Coalesced);
            }
            _ => {}
        }
        // Both wake the reader if it has drained the ring. A record that did not (BPF_RB_NO_WAKEUP) would keep those
        // behind it from waking it either: kernel/bpf/ringbuf.c, `bpf_ringbuf_commit`.
        let record = WriterHint {
            hint: hint(if is_rung { HINT_WRITTEN } else { HINT_APPEND }, self.slot),
            span,
            last: last.unwrap_or(Claim { from: 0, to: 0 }),
            writer: written::current(),
        };
        if !self.submit(ctx, record) && !is_rung {
            self.unring();
        }
    }

    /// The inode is about to be truncated or extended from `size` bytes. Its lock is held until
    /// [`Bell::truncated`], so nobody else comes in between.
    #[inline(always)]
    pub fn will_truncate(self, size: u64) {
        self.note(size + 1);
    }

    /// Of a name in this directory that is being removed: [`EntryHint::held`]. The directory's lock is held until
    /// [`Bell::removed`].
    #[inline(always)]
    pub fn will_remove(self, held: u64) {
        self.note(held);
    }

    /// What was noted of the name that is removed now: its dentry may have lost the inode.
    #[inline(always)]
    pub fn removed(self) -> u64 {
        let held = self.noted();
        self.note(0);
        held
    }

    /// Notes something for a program that comes later, while the lock is held.
    #[inline(always)]
    fn note(self, word: u64) {
        // SAFETY: `state` is a map element.
        unsafe { (&raw mut (*self.state).size_before_plus_one).write_volatile(word) };
    }

    #[inline(always)]
    fn noted(self) -> u64 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.state).size_before_plus_one).read_volatile() }
    }

    /// The inode has `length` bytes now. That is noted because a file may have grown past its old size by
    /// the time the reader looks, and then nothing else tells; how much was cut off nobody can tell later.
    #[inline(always)]
    pub fn truncated(self, ctx: &impl EbpfContext, length: u64) {
        let before_plus_one = self.noted();
        // SAFETY: `state` is a map element.
        let cut_off = unsafe { &raw mut (*self.state).cut_off_bytes };
        if before_plus_one == 0 || length + 1 < before_plus_one {
            // SAFETY: as above.
            let (truncations, shortest) =
                unsafe { (&raw mut (*self.state).truncations, &raw mut (*self.state).truncated_to_plus_one) };
            add(truncations, 1);
            add(cut_off, before_plus_one.saturating_sub(length + 1));
            // SAFETY: as above; the inode's lock keeps other truncations out. The reader may clear it at
            // any moment: then this one's hint makes it look again.
            let so_far = unsafe { shortest.read_volatile() };
            if so_far == 0 || length < so_far - 1 {
                // SAFETY: as above.
                unsafe { shortest.write_volatile(length + 1) };
            }
        }
        self.will_not_truncate();
        // SAFETY: as above; nobody else adds to it.
        let cut_off_bytes = unsafe { cut_off.read_volatile() };
        self.submit(ctx, TruncateHint { hint: hint(HINT_TRUNCATE, self.slot), cut_off_bytes });
    }

    /// What was announced was done, or refused. Comes after what is noted of it: until then the reader waits for
    /// that. And a size that was noted for another truncation is worse than none.
    #[inline(always)]
    pub fn will_not_truncate(self) {
        self.note(0);
    }

    /// So many bytes were cut out of it: what the reader knows by its offset lies elsewhere now.
    #[inline(always)]
    pub fn collapsed(self, length: u64) {
        // SAFETY: `state` is a map element.
        add(unsafe { &raw mut (*self.state).collapsed_bytes }, length);
    }

    /// The kernel may have skipped a program: submits a hint unless one is already on its way. That is no
    /// event of a file's, so it is not counted.
    #[inline(always)]
    pub fn skipped(self, ctx: &impl EbpfContext) {
        // SAFETY: `state` is a map element.
        let rung = unsafe { &raw mut (*self.state).rung };
        // SAFETY: as above. Two processors may both find it clear, and both submit.
        if unsafe { rung.read_volatile() } != 0 {
            return;
        }
        // SAFETY: as above.
        unsafe { rung.write_volatile(1) };
        if let Some(mut entry) = HINTS.reserve::<Hint>(0) {
            entry.write(hint(HINT_SKIPPED, self.slot));
            entry.submit(0);
        } else {
            // SAFETY: as above.
            unsafe { rung.write_volatile(0) };
            overflowed(ctx, self.slot);
        }
    }

    /// Something happened to the inode that happens rarely: a hint each time.
    #[inline(always)]
    pub fn tell(self, ctx: &impl EbpfContext, kind: u32) {
        debug!(ctx, "hint {} for slot {}", kind, self.slot);
        self.submit(ctx, hint(kind, self.slot));
    }

    /// Something became of the name of `dentry` in this directory.
    #[inline(always)]
    pub fn tell_of_entry(self, ctx: &impl EbpfContext, dentry: Dentry, kind: u32, ino: u64, held: u64) {
        let Some(mut entry) = HINTS.reserve::<EntryHint>(0) else {
            return overflowed(ctx, self.slot);
        };
        let record = entry.as_mut_ptr();
        // SAFETY: `record` points to reserved memory as large as the type; every member is written but
        // the unused end of the name.
        unsafe {
            (*record).hint = hint(kind, self.slot);
            (*record).ino = ino;
            (*record).held = held;
            (*record).name_length = dentry.read_name(&raw mut (*record).name);
        }
        entry.submit(0);
        count(Outcome::Submitted);
    }

    #[inline(always)]
    fn submit<T: 'static>(self, ctx: &impl EbpfContext, record: T) -> bool {
        let Some(mut entry) = HINTS.reserve::<T>(0) else {
            overflowed(ctx, self.slot);
            return false;
        };
        entry.write(record);
        entry.submit(0);
        count(Outcome::Submitted);
        true
    }
}

/// Whether half of the ring is free: what may be left out leaves the other half to what must not be.
#[inline(always)]
fn half_is_free() -> bool {
    HINTS.query(BPF_RB_AVAIL_DATA.into()) < HINTS.query(BPF_RB_RING_SIZE.into()) / 2
}

#[inline(always)]
fn hint(kind: u32, slot: u32) -> Hint {
    // SAFETY: a helper without arguments.
    Hint { kind, slot, time_ns: unsafe { bpf_ktime_get_ns() } }
}

/// The ring had no room. The bell is rung before the ring is tried once more: either that hint gets in
/// and wakes the reader, or the ring is still full, and the reader sees the bell once it has drained it.
#[inline(never)]
fn overflowed(ctx: &impl EbpfContext, slot: u32) {
    count(Outcome::Dropped);
    let Some(everything) = bell_at(OVERFLOW_SLOT) else { return };
    // SAFETY: `state` is a map element.
    let first = unsafe { (&raw const (*everything.state).rung).read_volatile() } == 0;
    // SAFETY: as above.
    unsafe { (&raw mut (*everything.state).rung).write_volatile(1) };
    if let Some(mut entry) = HINTS.reserve::<Hint>(0) {
        entry.write(hint(HINT_OVERFLOW, OVERFLOW_SLOT));
        entry.submit(0);
    }
    if first {
        warn!(
            ctx,
            "the ring is full (a hint for slot {} did not fit): the reader will look at every file", slot
        );
    }
}

#[inline(always)]
fn count(outcome: Outcome) {
    let Some(counters) = COUNTERS.get_ptr_mut(0) else { return };
    // SAFETY: a map element of this processor.
    let (seen, which) = unsafe {
        let which = match outcome {
            Outcome::Submitted => &raw mut (*counters).submitted,
            Outcome::Coalesced => &raw mut (*counters).coalesced,
            Outcome::Dropped => &raw mut (*counters).dropped,
        };
        (&raw mut (*counters).seen, which)
    };
    add(seen, 1);
    add(which, 1);
}

/// Atomic also where the counter belongs to one processor: a program may be preempted by another.
#[inline(always)]
pub fn add(counter: *mut u64, value: u64) {
    // SAFETY: an aligned member of a map element. Relaxed, and the old value unused: this is the
    // `lock add` that every kernel's verifier knows, not the fetching one of 5.12.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
}
