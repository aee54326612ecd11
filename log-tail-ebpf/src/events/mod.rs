//! Every single event, told as it happens: what `log-tail observe` shows. Nothing is coalesced, and there are no
//! doorbells: the map of followed inodes says which ones are observed.
//!
//! # What is told once
//! One call may come through several hooks: a splice that writes through `vfs_iter_write`, say. Each hook notes before
//! its function that a call of this task begins on this inode ([`begin`]), and whichever ends first, the innermost,
//! tells of it ([`wrote`]); the others find that noted. So do the programs that stand on one function several times
//! (see [`hooks`]). Which call it is ([`Which`]) must not rest on [`begin`] alone, which the kernel may skip.
//!
//! # What is not told
//! A call that is under way when anybody attaches a program to its function, or takes one away, comes to its end unseen:
//! the kernel makes the function's trampoline anew, and in the old one leaves out whatever is to run after the function
//! (kernel/bpf/trampoline.c, `bpf_tramp_image_put`: "First, patch the trampoline to avoid calling into fexit progs").
//! So where a task begins a call, or closes the file, and its last one has no end, that is counted ([`begin`],
//! [`closed`]). Names are told before the kernel's functions for them wherever that can be.

mod hooks;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, HashMap, LruHashMap},
};
use log_tail_common::{
    Event, HINT_EVENT, HINT_NAMED_EVENT, InodeKey, LEAVING, MISSING_CROWDED, MISSING_ENDS, MISSING_INODES,
    MISSING_KINDS, MISSING_NO_ROOM, NOWHERE, NamedEvent, OPERATION_CAME, OPERATION_FREED,
    OPERATION_MOVED_AWAY, OPERATION_MOVED_FROM, OPERATION_MOVED_TO, OPERATION_WENT, OPERATION_WRITE, Span,
    observed_since,
};

use crate::{
    kernel::{Dentry, File, Inode, write_calls},
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
    /// One call may be on an overlay's inode and on the real one.
    inode: InodeKey,
}

/// What is known of it.
#[repr(C)]
struct Begun {
    /// The inode's size in bytes, plus 1.
    size_plus_one: u64,
    /// 1 once it was told of.
    told: u64,
    /// The [`Level`] that it was begun on.
    level: u64,
    /// Of the last one that was told: the offset behind its bytes.
    to: u64,
    /// Of the last one that was told: its number, if it has one.
    number: u64,
}

/// How deep inside of others a call can lie: those on one level never lie in each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u64);

impl Level {
    /// A system call is made of it, and of nothing around it.
    pub const CALL: Self = Self(0);
    /// Copies what others copy by.
    pub const COPY: Self = Self(1);
    /// What those write by, and overlays.
    pub const WRITE: Self = Self(2);
}

/// How a call is known from the one before it, on the same inode by the same task. Not an enum: a value that is not
/// set is none that the verifier lets pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Which(u64);

impl Which {
    /// Of those that lie in each other: they reach up to the same offset.
    pub const UP_TO: Self = Self(0);
    /// Nobody else tells of it.
    const ALONE: Self = Self(u64::MAX);

    /// By the number of the system call, of which so many have been counted.
    #[inline(always)]
    fn counted(calls: u64, counted: Counted) -> Self {
        // One that is counted behind its function, and the one that came before it, would have one number.
        Self(calls * 2 + 1 + u64::from(counted == Counted::Behind))
    }
}

/// Whether the kernel counts a system call within the function, or behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Within,
    Behind,
}

/// The calls that tasks are inside of, and the last ones they were. Sized by the loader.
#[map]
static BEGUN: LruHashMap<Call, Begun> = LruHashMap::with_max_entries(1, 0);

/// Counts what is not told, each for its reason: the constants `MISSING_*`.
#[map]
static MISSING: Array<u64> = Array::with_max_entries(MISSING_KINDS, 0);

/// Inodes that user space does not want, although they have a name in an observed directory: since when they had it.
/// Sized by the loader.
#[map]
static IGNORED: HashMap<InodeKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

#[inline(always)]
fn is_observed(inode: Inode) -> bool {
    let key = inode.key();
    let Some(since) = FOLLOWED.get_ptr(key) else { return false };
    // SAFETY: a non-NULL map value, which is replaced whole.
    let since = unsafe { *since };
    // SAFETY: as above.
    since != LEAVING && IGNORED.get_ptr(key).is_none_or(|ignored| unsafe { *ignored } != since)
}

#[inline(always)]
fn call(inode: Inode) -> Call {
    Call { task: bpf_get_current_pid_tgid(), inode: inode.key() }
}

/// This task's call on the inode begins.
#[inline(always)]
pub fn begin(inode: Inode, Level(level): Level) {
    begin_on(inode, level);
}

#[inline(never)]
fn begin_on(inode: Inode, level: u64) {
    if !is_observed(inode) {
        return;
    }
    let size_plus_one = inode.size() + 1;
    if let Some(begun) = BEGUN.get_ptr_mut(call(inode)) {
        // SAFETY: a non-NULL map value of this task's.
        let begun = unsafe { &mut *begun };
        let is_within = begun.told == 0 && begun.level < level;
        if !is_within {
            unless_ended(begun);
            begun.level = level;
        }
        // What was told stays known: it may be the call that this one is a part of.
        begun.size_plus_one = size_plus_one;
        begun.told = 0;
    } else {
        let _ = BEGUN.insert(call(inode), Begun { size_plus_one, told: 0, level, to: 0, number: 0 }, 0);
    }
}

/// Counts it where its end has not been seen by now, and will not be.
#[inline(always)]
fn unless_ended(begun: &Begun) {
    if begun.told == 0 {
        miss(MISSING_ENDS);
    }
}

/// This task closes a file for good: it is inside of no call on it.
#[inline(never)]
pub fn closed(inode: Inode) {
    if is_observed(inode)
        && let Some(begun) = BEGUN.get_ptr_mut(call(inode))
    {
        // SAFETY: a non-NULL map value of this task's.
        let begun = unsafe { &mut *begun };
        unless_ended(begun);
        begun.told = 1;
    }
}

/// This task's call on the inode, which reached up to this offset, ended: the size, plus 1, when it began, 0 where that is
/// not known. `None` where another program has told of it.
#[inline(always)]
fn end(inode: Inode, to: u64, which: Which) -> Option<u64> {
    let Which(number) = which;
    let Some(begun) = BEGUN.get_ptr_mut(call(inode)) else {
        let _ = BEGUN.insert(call(inode), Begun { size_plus_one: 0, told: 1, level: 0, to, number }, 0);
        return Some(0);
    };
    // SAFETY: a non-NULL map value of this task's.
    let begun = unsafe { &mut *begun };
    let is_begun = begun.told == 0;
    let is_told = match which {
        Which::UP_TO => begun.to == to,
        Which::ALONE => false,
        Which(number) => begun.number == number,
    };
    if is_told && !is_begun {
        return None;
    }
    begun.told = 1;
    begun.to = to;
    begun.number = number;
    // Where it was told already, that was another call, and the beginning of this one was skipped.
    Some(if is_begun { begun.size_plus_one } else { 0 })
}

/// The call failed: it changes nothing of what was told of the one that it may be a part of.
#[inline(never)]
pub fn failed(inode: Inode) {
    if is_observed(inode)
        && let Some(begun) = BEGUN.get_ptr_mut(call(inode))
    {
        // SAFETY: a non-NULL map value of this task's.
        unsafe { (*begun).told = 1 };
    }
}

/// A system call to write to `file` returned how many bytes it wrote there, or an error.
#[inline(always)]
pub fn called_to_write(file: File, returned_value: i64, place: Place, counted: Counted) -> i32 {
    // SAFETY: a helper without arguments; what it gives is an address to be read with another helper only.
    let which = match write_calls(unsafe { bpf_get_current_task() }) {
        Some(calls) => Which::counted(calls, counted),
        None => Which::UP_TO,
    };
    returned(OPERATION_WRITE, file, returned_value, place, which)
}

/// A call that writes to `file` returned how many bytes it wrote there, or an error.
#[inline(always)]
pub fn returned(operation: u32, file: File, returned: i64, place: Place, which: Which) -> i32 {
    let inode = file.inode();
    if inode.is_regular() {
        if returned > 0 {
            let span = place.span(returned as u64).unwrap_or(NOWHERE);
            wrote(inode, operation, span.from, span.to, which.0);
        } else {
            failed(inode);
        }
    }
    0
}

/// The call wrote these bytes, as far as nobody else has told so.
#[inline(never)]
fn wrote(inode: Inode, operation: u32, from: u64, to: u64, which: u64) {
    ended(inode, operation, Span { from, to }, 0, Which(which));
}

/// The call did something to the inode that has a place in it.
#[inline(never)]
pub fn did(inode: Inode, operation: u32, from: u64, to: u64, detail: u32) {
    ended(inode, operation, Span { from, to }, detail, Which::ALONE);
}

#[inline(always)]
fn ended(inode: Inode, operation: u32, span: Span, detail: u32, which: Which) {
    if is_observed(inode)
        && let Some(size_before_plus_one) = end(inode, span.to, which)
    {
        tell(Event { span, size_before_plus_one, detail, ..event(inode, operation) });
    }
}

/// Bytes were written by a call that ends elsewhere, or whose place nobody tells: nothing is known of its beginning.
#[inline(never)]
pub fn completed(inode: Inode, operation: u32, from: u64, to: u64) {
    if is_observed(inode) {
        tell(Event { span: Span { from, to }, ..event(inode, operation) });
    }
}

/// The inode is about to bear the name of `dentry`, and nobody else has it open. In an observed directory it is observed
/// from now on, without user space, which may be late.
#[inline(never)]
fn will_come(dentry: Dentry, inode: Inode) {
    // A name without an inode: 5.10 faults on reading through NULL.
    if inode.0.is_null() {
        return;
    }
    let directory = dentry.parent().inode();
    if is_observed(directory) {
        observe(inode, OPERATION_CAME, directory, dentry);
    }
}

/// A rename gave the inode the name of `dentry`.
#[inline(never)]
pub fn moved(dentry: Dentry) {
    let (inode, directory) = (dentry.inode(), dentry.parent().inode());
    if is_observed(directory) {
        return observe(inode, OPERATION_MOVED_TO, directory, dentry);
    }
    let Some(since) = FOLLOWED.get_ptr(inode.key()) else { return };
    // SAFETY: a non-NULL map value, which is replaced whole.
    if unsafe { *since } == LEAVING {
        let _ = FOLLOWED.remove(inode.key());
    }
    tell(event(inode, OPERATION_MOVED_AWAY));
}

#[inline(always)]
fn observe(inode: Inode, operation: u32, directory: Inode, dentry: Dentry) {
    let event = event(inode, operation);
    if FOLLOWED.insert(inode.key(), observed_since(event.time_ns), 0).is_err() {
        miss(MISSING_INODES);
    }
    tell_named(event, directory.key(), dentry);
}

/// A rename is about to take the name from its inode.
#[inline(never)]
pub fn will_move(dentry: Dentry) {
    let directory = dentry.parent().inode();
    if is_observed(directory) {
        let inode = dentry.inode();
        // So that it is told where it goes, too.
        let _ = FOLLOWED.insert(inode.key(), LEAVING, BPF_NOEXIST.into());
        tell_named(event(inode, OPERATION_MOVED_FROM), directory.key(), dentry);
    }
}

/// The filesystem has removed the name.
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
        let _ = IGNORED.remove(inode.key());
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

/// Another event tells of the same to whoever observes, or nobody has to be told.
#[inline(always)]
fn is_half(operation: u32) -> bool {
    operation == OPERATION_MOVED_FROM || operation == OPERATION_FREED
}

#[inline(always)]
fn no_room(operation: u32) {
    if !is_half(operation) {
        miss(MISSING_NO_ROOM);
    }
}

#[inline(always)]
fn tell(event: Event) {
    let Some(mut entry) = HINTS.reserve::<Event>(0) else { return no_room(event.operation) };
    entry.write(event);
    entry.submit(0);
}

#[inline(always)]
fn tell_named(event: Event, directory: InodeKey, dentry: Dentry) {
    let Some(mut entry) = HINTS.reserve::<NamedEvent>(0) else { return no_room(event.operation) };
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
