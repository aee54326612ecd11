//! Every single event, told as it happens: what `log-tail observe` shows. Nothing is coalesced, and there are no
//! doorbells: the map of followed inodes says which ones are observed.

mod calls;
mod hooks;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::{bpf_get_current_task, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, HashMap},
};
use log_tail_common::{
    Event, HINT_EVENT, HINT_NAMED_EVENT, InodeKey, LEAVING, MISSING_CROWDED, MISSING_INODES, MISSING_KINDS,
    MISSING_NO_ROOM, NOWHERE, NamedEvent, OPERATION_CAME, OPERATION_FREED, OPERATION_MOVED_AWAY,
    OPERATION_MOVED_FROM, OPERATION_MOVED_TO, OPERATION_WENT, OPERATION_WRITE, Span, observed_since,
};

use self::calls::end;
pub use self::calls::{Counted, Level, Which, begin, closed, failed};
use crate::{
    kernel::{Dentry, File, Inode, write_calls},
    maps::{FOLLOWED, HINTS, add},
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
#[inline(always)]
fn will_come(dentry: Dentry, inode: Inode) {
    comes(dentry, inode, false);
}

/// The inode bears the name of `dentry`. Nothing is left to be done, unless the kernel skipped [`will_come`].
#[inline(always)]
pub fn has_come(dentry: Dentry, inode: Inode) {
    comes(dentry, inode, true);
}

#[inline(never)]
fn comes(dentry: Dentry, inode: Inode, unless_known: bool) {
    // A name without an inode: 5.10 faults on reading through NULL. And what has no name yet (O_TMPFILE) is bound to one
    // of the kernel's own, in the directory that it is made for.
    if inode.0.is_null() || inode.links() == 0 {
        return;
    }
    let directory = dentry.parent().inode();
    if is_observed(directory) {
        observe(inode, OPERATION_CAME, directory, dentry, unless_known);
    }
}

/// A rename gave the inode the name of `dentry`.
#[inline(never)]
pub fn moved(dentry: Dentry) {
    let (inode, directory) = (dentry.inode(), dentry.parent().inode());
    if is_observed(directory) {
        return observe(inode, OPERATION_MOVED_TO, directory, dentry, false);
    }
    let Some(since) = FOLLOWED.get_ptr(inode.key()) else { return };
    // SAFETY: a non-NULL map value, which is replaced whole.
    if unsafe { *since } == LEAVING {
        let _ = FOLLOWED.remove(inode.key());
    }
    tell(event(inode, OPERATION_MOVED_AWAY));
}

#[inline(always)]
fn observe(inode: Inode, operation: u32, directory: Inode, dentry: Dentry, unless_known: bool) {
    let event = event(inode, operation);
    let flags = if unless_known { BPF_NOEXIST.into() } else { 0 };
    if FOLLOWED.insert(inode.key(), observed_since(event.time_ns), flags).is_err() {
        if unless_known {
            return;
        }
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
        let none = InodeKey { ino: 0, dev: 0, subvolume: 0 };
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
        (*record).name_length = dentry.read_name(&raw mut (*record).name);
    }
    entry.submit(0);
}
