//! Every single event, told as it happens: what `log-tail observe` shows. Nothing is coalesced, and there are no
//! doorbells: the map of followed inodes says which ones are observed.
//!
//! # What is told once
//! One call may come through several hooks: a splice that writes through `vfs_iter_write`, say. Each hook notes before
//! its function that a call of this task begins on this inode ([`begin`]), and whichever ends first, the innermost,
//! tells of it ([`wrote`]); the others find that noted. So do the programs that stand on one function several times
//! (see [`hooks`]).

mod hooks;

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, LruHashMap},
};
use log_tail_common::{
    Event, HINT_EVENT, HINT_NAMED_EVENT, InodeKey, MISSING_CROWDED, MISSING_INODES, MISSING_NO_ROOM, NOWHERE,
    NamedEvent, OBSERVED, OPERATION_CAME, OPERATION_FREED, OPERATION_MOVED_AWAY, OPERATION_MOVED_FROM,
    OPERATION_MOVED_TO, OPERATION_WENT, Span,
};

use crate::{
    kernel::{Dentry, File, Inode},
    maps::{FOLLOWED, HINTS, add, read_name},
    written::{self, Place},
};

/// 1 where events are told, and not hinted at.
#[unsafe(no_mangle)]
static TELL_EVENTS: Global<u64> = Global::new(0);

/// Whether events are told, and not hinted at. The verifier takes out what is not wanted.
#[inline(always)]
pub fn are_told() -> bool {
    TELL_EVENTS.load() == 1
}

/// A call that a task is inside of.
#[derive(Clone, Copy)]
#[repr(C)]
struct Call {
    /// `bpf_get_current_pid_tgid`.
    task: u64,
    /// The inode's number: one call may be on an overlay's inode and on the real one.
    inode: u64,
}

/// What is known of it.
#[repr(C)]
struct Begun {
    /// The inode's size in bytes, plus 1.
    size_plus_one: u64,
    /// 1 once it was told of.
    told: u64,
    /// The offset behind the bytes that were told of.
    to: u64,
}

/// The calls that tasks are inside of, and the last ones they were. Sized by the loader.
#[map]
static BEGUN: LruHashMap<Call, Begun> = LruHashMap::with_max_entries(1, 0);

/// Counts what is not told, each for its reason: the constants `MISSING_*`.
#[map]
static MISSING: Array<u64> = Array::with_max_entries(3, 0);

#[inline(always)]
fn is_observed(inode: Inode) -> bool {
    // SAFETY: a non-NULL map value; user space replaces it whole or not at all.
    FOLLOWED.get_ptr(inode.key()).is_some_and(|value| unsafe { *value } == OBSERVED)
}

#[inline(always)]
fn call(inode: Inode) -> Call {
    Call { task: bpf_get_current_pid_tgid(), inode: inode.number() }
}

/// This task's call on the inode begins.
#[inline(never)]
pub fn begin(inode: Inode) {
    if is_observed(inode) {
        let _ = BEGUN.insert(call(inode), Begun { size_plus_one: inode.size() + 1, told: 0, to: 0 }, 0);
    }
}

/// This task's call on the inode, which reached up to this offset, ended: the size, plus 1, when it began, 0 where that is
/// not known. `None` where another program has told of it.
#[inline(always)]
fn end(inode: Inode, to: u64) -> Option<u64> {
    let call = call(inode);
    let Some(begun) = BEGUN.get_ptr_mut(call) else {
        let _ = BEGUN.insert(call, Begun { size_plus_one: 0, told: 1, to }, 0);
        return Some(0);
    };
    // SAFETY: a non-NULL map value of this task's.
    let begun = unsafe { &mut *begun };
    let Begun { size_plus_one, told, to: told_to } = *begun;
    if told != 0 && told_to == to {
        return None;
    }
    begun.told = 1;
    begun.to = to;
    // Told up to elsewhere, it was another call, and the beginning of this one was skipped.
    Some(if told == 0 { size_plus_one } else { 0 })
}

/// The call failed: what was noted of it is another's by the next.
#[inline(never)]
pub fn failed(inode: Inode) {
    if is_observed(inode) {
        let _ = BEGUN.remove(call(inode));
    }
}

/// A call that writes to `file` returned how many bytes it wrote there, or an error.
#[inline(always)]
pub fn returned(operation: u32, file: File, returned: i64, place: Place) -> i32 {
    let inode = file.inode();
    if inode.is_regular() {
        if returned > 0 {
            let span = place.span(returned as u64).unwrap_or(NOWHERE);
            wrote(inode, operation, span.from, span.to, 0);
        } else {
            failed(inode);
        }
    }
    0
}

/// The call wrote these bytes, or did something else to the inode that has a place in it.
#[inline(never)]
pub fn wrote(inode: Inode, operation: u32, from: u64, to: u64, detail: u32) {
    if !is_observed(inode) {
        return;
    }
    let Some(size_before_plus_one) = end(inode, to) else { return };
    tell(Event { span: Span { from, to }, size_before_plus_one, detail, ..event(inode, operation) });
}

/// Bytes were written by a call that ends elsewhere, or whose place nobody tells: nothing is known of its beginning.
#[inline(never)]
pub fn completed(inode: Inode, operation: u32, from: u64, to: u64) {
    if is_observed(inode) {
        tell(Event { span: Span { from, to }, ..event(inode, operation) });
    }
}

/// The inode bears the name of `dentry` now. In an observed directory it is observed from now on, without user space,
/// which may be late.
#[inline(never)]
pub fn came(dentry: Dentry, operation: u32) {
    let inode = dentry.inode();
    // A name without an inode: 5.10 faults on reading through NULL.
    if inode.0.is_null() {
        return;
    }
    let directory = dentry.parent().inode();
    if is_observed(directory) {
        if FOLLOWED.insert(inode.key(), OBSERVED, 0).is_err() {
            miss(MISSING_INODES);
        }
        tell_named(event(inode, operation), directory.key(), dentry);
    } else if operation == OPERATION_MOVED_TO && is_observed(inode) {
        tell(event(inode, OPERATION_MOVED_AWAY));
    }
}

/// As [`came`], of a name that was created, or linked.
#[inline(always)]
pub fn created(dentry: Dentry) -> i32 {
    came(dentry, OPERATION_CAME);
    0
}

/// As [`came`], of a rename.
#[inline(always)]
pub fn moved(dentry: Dentry) {
    came(dentry, OPERATION_MOVED_TO);
}

/// A rename is about to take the name from its inode.
#[inline(never)]
pub fn will_move(dentry: Dentry) {
    let directory = dentry.parent().inode();
    if is_observed(directory) {
        tell_named(event(dentry.inode(), OPERATION_MOVED_FROM), directory.key(), dentry);
    }
}

/// The name was removed. `dentry` may have no inode any more.
#[inline(never)]
pub fn went(dentry: Dentry) {
    let directory = dentry.parent().inode();
    if is_observed(directory) {
        let none = InodeKey { ino: 0, dev: 0, zero: 0 };
        tell_named(blank(none, OPERATION_WENT), directory.key(), dentry);
    }
}

/// An inode leaves the memory. Where it has no name any more, its number may become another's.
#[inline(never)]
fn freed(inode: Inode) {
    if inode.links() == 0 && FOLLOWED.remove(inode.key()).is_ok() {
        tell(blank(inode.key(), OPERATION_FREED));
    }
}

#[inline(always)]
fn event(inode: Inode, operation: u32) -> Event {
    Event {
        size_after: inode.size(),
        detail: u32::from(inode.mode()),
        links: inode.links(),
        ..blank(inode.key(), operation)
    }
}

#[inline(always)]
fn blank(inode: InodeKey, operation: u32) -> Event {
    Event {
        kind: HINT_EVENT,
        operation,
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        inode,
        span: NOWHERE,
        size_before_plus_one: 0,
        size_after: 0,
        missing: missing_so_far(),
        detail: 0,
        links: 0,
        writer: written::current(),
    }
}

#[inline(always)]
fn missing_so_far() -> u64 {
    // SAFETY: a non-NULL map value, read whole.
    MISSING.get_ptr(MISSING_NO_ROOM).map_or(0, |missing| unsafe { missing.read_volatile() })
}

#[inline(always)]
fn miss(why: u32) {
    if let Some(missing) = MISSING.get_ptr_mut(why) {
        add(missing, 1);
    }
}

/// So many tasks wait for this processor that each of the programs on one function may be skipped.
#[inline(always)]
pub fn crowded() {
    miss(MISSING_CROWDED);
}

#[inline(always)]
fn tell(event: Event) {
    let Some(mut entry) = HINTS.reserve::<Event>(0) else { return miss(MISSING_NO_ROOM) };
    entry.write(event);
    entry.submit(0);
}

#[inline(always)]
fn tell_named(event: Event, directory: InodeKey, dentry: Dentry) {
    let Some(mut entry) = HINTS.reserve::<NamedEvent>(0) else { return miss(MISSING_NO_ROOM) };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to reserved memory as large as the type; every member is written but
    // the unused end of the name.
    unsafe {
        (*record).event = Event { kind: HINT_NAMED_EVENT, ..event };
        (*record).directory = directory;
        (*record).name_length = read_name(dentry, &raw mut (*record).name);
    }
    entry.submit(0);
}
