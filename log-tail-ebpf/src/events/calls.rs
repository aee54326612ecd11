//! Which calls tasks are inside of, so that each is told once, and none ends unseen without being counted.
//!
//! # What is told once
//! One call may come through several hooks: a splice that writes through `vfs_iter_write`, say. Each hook notes before
//! its function that a call of this task begins on this inode ([`begin`]), and whichever ends first, the innermost,
//! tells of it ([`end`]); the others find that noted. So do the programs that stand on one function several times
//! (see [`hooks`](super::hooks)). Which call it is ([`Which`]) must not rest on [`begin`] alone, which the kernel may skip.
//!
//! # What is not told
//! A call that is under way when anybody attaches a program to its function, or takes one away, comes to its end unseen:
//! the kernel makes the function's trampoline anew, and in the old one leaves out whatever is to run after the function
//! (kernel/bpf/trampoline.c, `bpf_tramp_image_put`: "First, patch the trampoline to avoid calling into fexit progs").
//! So where a task begins a call, or closes the file, and its last one has no end, that is counted ([`begin`],
//! [`closed`]). Names are told before the kernel's functions for them wherever that can be.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::LruHashMap};
use log_tail_common::{InodeKey, MISSING_ENDS};

use super::{is_observed, miss};
use crate::kernel::Inode;

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
    /// What `copy_file_range` splices by.
    pub const SPLICE: Self = Self(1);
    /// What those copy by.
    pub const COPY: Self = Self(2);
    /// What those write by, and overlays.
    pub const WRITE: Self = Self(3);
}

/// How a call is known from the one before it, on the same inode by the same task. Not an enum: a value that is not
/// set is none that the verifier lets pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Which(pub u64);

impl Which {
    /// Of those that lie in each other: they reach up to the same offset.
    pub const UP_TO: Self = Self(0);
    /// Whichever others lie in it have told of it, unless none of them has.
    pub const UNLESS_TOLD: Self = Self(u64::MAX - 1);
    /// Nobody else tells of it.
    pub const ALONE: Self = Self(u64::MAX);

    /// By the number of the system call, of which so many have been counted.
    #[inline(always)]
    pub fn counted(calls: u64, counted: Counted) -> Self {
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
pub fn end(inode: Inode, to: u64, which: Which) -> Option<u64> {
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
        Which::UNLESS_TOLD => true,
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
