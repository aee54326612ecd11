//! What the kernel program and user space agree on: the layouts of map values and ring records.
//!
//! Every type here crosses the border between the kernel and a process, so each is `#[repr(C)]`, has
//! no implicit padding and a size that is asserted at compile time. There is no logic here.

#![no_std]

/// The kernel's own name for an inode: `(inode.i_sb.s_dev, inode.i_ino)`, and on btrfs the subvolume.
///
/// This is not always what stat(2) shows: btrfs subvolumes and overlayfs differ. User space reads the first two
/// from an inotify descriptor's fdinfo, which prints exactly these numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InodeKey {
    /// `inode.i_ino`.
    pub ino: u64,
    /// `super_block.s_dev`: the kernel's encoding, `major << 20 | minor`.
    pub dev: u32,
    /// The device number that stat(2) shows on btrfs, in the same encoding: `btrfs_root.anon_dev`, which each subvolume
    /// has its own of. 0 on other filesystems, and on kernels that do not say where btrfs keeps it.
    pub subvolume: u32,
}

/// One followed inode's doorbell: an element of the memory-mapped map `DOORBELLS`.
///
/// A cache line of its own, so that writers to different files never share one.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Doorbell {
    /// 1 while a hint is on its way that the reader has not answered; 0 otherwise.
    pub rung: u64,
    /// How often the inode was truncated since it was followed.
    pub truncations: u64,
    /// The smallest size in bytes, plus 1, it was truncated to since the reader last looked; 0 if it was not.
    pub truncated_to_plus_one: u64,
    /// Bytes that truncations cut off since it was followed, all of them together.
    pub cut_off_bytes: u64,
    /// The size, in bytes, plus 1, before the truncation that is being done; 0 where none is, or where the kernel
    /// skipped the program that notes it. Of a directory: [`EntryHint::held`] of the name that is being removed.
    pub size_before_plus_one: u64,
    /// Bytes that were cut out of it since the reader last looked, so that what follows them moved toward the front
    /// (`FALLOC_FL_COLLAPSE_RANGE`).
    pub collapsed_bytes: u64,
    /// Which bytes one process wrote last, all of them one behind the other.
    pub written: Claim,
}

/// Which bytes one process wrote: each word is made by [`claim`]. None where the two name different processes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The process, and the offset of the first byte.
    pub from: u64,
    /// The process, and the offset behind the last byte; or [`CLAIM_BY_SEVERAL`].
    pub to: u64,
}

/// Bits of a claim that hold an offset: it is told modulo 4 TiB. The others hold a process's id, which is smaller than
/// 2^22: `PID_MAX_LIMIT`, include/linux/threads.h.
pub const CLAIM_OFFSET_BITS: u32 = 42;

/// In place of a claim's end: it is not known who wrote what.
pub const CLAIM_BY_SEVERAL: u64 = 1;

/// A process's id and an offset in one word, which is stored and loaded whole.
#[must_use]
pub const fn claim(pid: u32, offset: u64) -> u64 {
    ((pid as u64) << CLAIM_OFFSET_BITS) | (offset & ((1 << CLAIM_OFFSET_BITS) - 1))
}

/// The doorbell that stands for every file: rung when the ring had no room for a hint.
pub const OVERFLOW_SLOT: u32 = 0;

/// The doorbell that is rung where the kernel may have skipped a program: see [`HINT_SKIPPED`].
pub const SKIPPED_SLOT: u32 = 1;

/// Doorbells that are no inode's: those above.
pub const RESERVED_SLOTS: u32 = 2;

/// Longest name the kernel allows for a directory's entry, in bytes: `NAME_MAX`, include/uapi/linux/limits.h.
pub const NAME_MAX: usize = 255;

/// The inode was written to: there may be new bytes.
pub const HINT_APPEND: u32 = 1;
/// The inode was truncated.
pub const HINT_TRUNCATE: u32 = 2;
/// The inode bears another name now, or the same name in another directory.
pub const HINT_MOVE: u32 = 3;
/// A name of the inode is about to be removed.
pub const HINT_UNLINK: u32 = 4;
/// The ring was full: look at everything.
pub const HINT_OVERFLOW: u32 = 5;
/// An inode bears a new name in a followed directory: created, linked.
pub const HINT_ENTRY_CAME: u32 = 6;
/// A rename is about to take a name in a followed directory from its inode.
pub const HINT_ENTRY_MOVED_FROM: u32 = 7;
/// A rename gave an inode a name in a followed directory.
pub const HINT_ENTRY_MOVED_TO: u32 = 8;
/// A name in a followed directory was removed.
pub const HINT_ENTRY_WENT: u32 = 9;

/// The kernel may have skipped programs: it does not run one on a processor where a task was preempted inside
/// it, and other tasks have run there meanwhile. How often it did is in the programs' `recursion_misses`.
pub const HINT_SKIPPED: u32 = 10;
/// Nobody has the inode open for writing any more.
pub const HINT_CLOSE: u32 = 11;
/// As [`HINT_APPEND`], of an inode whose doorbell is rung already: it only says who wrote.
pub const HINT_WRITTEN: u32 = 12;

/// Where every event is told rather than hinted at: an [`Event`].
pub const HINT_EVENT: u32 = 13;
/// The same of a name: a [`NamedEvent`].
pub const HINT_NAMED_EVENT: u32 = 14;

/// A record of the ring buffer: look at this inode.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// One of the `HINT_*` constants.
    pub kind: u32,
    /// The inode's doorbell: its index in `DOORBELLS`.
    pub slot: u32,
    /// When it happened: `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
}

/// A record of the ring buffer of kind [`HINT_TRUNCATE`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TruncateHint {
    /// Which inode.
    pub hint: Hint,
    /// [`Doorbell::cut_off_bytes`] when this one had been added to it.
    pub cut_off_bytes: u64,
}

/// Bytes of a task's name with the NUL: `TASK_COMM_LEN`, include/linux/sched.h.
pub const COMM_LENGTH: usize = 16;

/// The task that does something, and the process that it belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Writer {
    /// The process: what user space calls a pid, and the kernel a tgid; in the initial pid namespace.
    pub pid: u32,
    /// The thread: what the kernel calls a pid.
    pub tid: u32,
    /// In the initial user namespace.
    pub uid: u32,
    /// 1 for a thread of the kernel's own, which works for somebody it does not name.
    pub is_kernel: u32,
    /// The inode number of its cgroup's directory in the cgroup2 hierarchy.
    pub cgroup: u64,
    /// The thread's name, NUL-terminated.
    pub comm: [u8; COMM_LENGTH],
}

/// Bytes of a file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first.
    pub from: u64,
    /// Offset behind the last; the same where it is not known which they are.
    pub to: u64,
}

/// A record of the ring buffer of kind [`HINT_APPEND`] or [`HINT_WRITTEN`], where writers are told.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WriterHint {
    /// When it was written, and to what.
    pub hint: Hint,
    /// Which bytes.
    pub span: Span,
    /// The claim that was in the doorbell before this one.
    pub last: Claim,
    /// Who wrote them.
    pub writer: Writer,
}

/// A record of the ring buffer with one of the kinds `HINT_ENTRY_*`: look at this name in this directory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EntryHint {
    /// `slot` is the directory's.
    pub hint: Hint,
    /// `inode.i_ino` of the inode that is renamed; otherwise 0.
    pub ino: u64,
    /// Where this name was the last of a regular file, and it was removed or another file was renamed to it: that one's
    /// size in bytes then, plus 1, with [`HELD_IS_LEAST`]. Otherwise 0.
    pub held: u64,
    /// Bytes of `name` in use, without the NUL; 0 where the name could not be read.
    pub name_length: u64,
    /// The entry's name, NUL-terminated.
    pub name: [u8; NAME_MAX + 1],
}

/// In [`EntryHint::held`]: it may grow still, because somebody has it open for writing. No file is so large.
pub const HELD_IS_LEAST: u64 = 1 << 63;

/// Bytes were written.
pub const OPERATION_WRITE: u32 = 1;
/// Bytes came out of a pipe, or of another file by sendfile.
pub const OPERATION_SPLICE: u32 = 2;
/// The filesystem copied bytes of another file (`copy_file_range`).
pub const OPERATION_COPY: u32 = 3;
/// Another file's bytes are shared (`FICLONERANGE`).
pub const OPERATION_REFLINK: u32 = 4;
/// Room was made, or taken away; [`Event::detail`] is fallocate's mode.
pub const OPERATION_FALLOCATE: u32 = 5;
/// The size was set.
pub const OPERATION_TRUNCATE: u32 = 6;
/// An inode bears a new name: created, or linked. [`Event::detail`] is its mode. Named, as the next two.
pub const OPERATION_CAME: u32 = 7;
/// A rename is about to take a name from its inode.
pub const OPERATION_MOVED_FROM: u32 = 8;
/// A rename gave an inode a name.
pub const OPERATION_MOVED_TO: u32 = 9;
/// A rename gave an inode a name in a directory that is not observed.
pub const OPERATION_MOVED_AWAY: u32 = 10;
/// A name was removed. Named, but its inode is not known any more.
pub const OPERATION_WENT: u32 = 11;
/// An inode without a name is no longer open anywhere: its number may be another's now.
pub const OPERATION_FREED: u32 = 12;

/// In the map of followed inodes, where events are told: this one has a name in an observed directory that a rename
/// takes from it, and nothing else is told of it.
pub const LEAVING: u32 = 0;
/// As [`LEAVING`]: everything is told of this one, because user space asked for it.
pub const OBSERVED: u32 = 1;

/// As [`LEAVING`]: everything is told of an inode that got its name at this moment. Where user space does not want it,
/// it says so of that moment, and does not take back a name that came after.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is told of one inode within four seconds is told apart"
)]
pub fn observed_since(time_ns: u64) -> u32 {
    time_ns as u32 | 2
}

/// How many programs stand on one function where every write is told and the kernel may skip any: see
/// `log-tail-ebpf/src/events/hooks.rs`.
pub const TIMES: u32 = 8;

/// In the map of what is missing: events that found no room in the ring.
pub const MISSING_NO_ROOM: u32 = 0;
/// In the map of what is missing: how often so many tasks waited for one processor that each of the [`TIMES`] programs
/// may have been skipped.
pub const MISSING_CROWDED: u32 = 1;
/// In the map of what is missing: inodes that found no room in the map of those that are observed.
pub const MISSING_INODES: u32 = 2;
/// In the map of what is missing: calls whose beginning was seen, and whose end was not.
pub const MISSING_ENDS: u32 = 3;
/// So many counts are in that map.
pub const MISSING_KINDS: u32 = 4;

/// Bytes whose place nobody tells.
pub const NOWHERE: Span = Span { from: u64::MAX, to: u64::MAX };

/// A record of the ring buffer of kind [`HINT_EVENT`]: what was done to an observed inode.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// [`HINT_EVENT`], or [`HINT_NAMED_EVENT`] at the head of a [`NamedEvent`].
    pub kind: u32,
    /// One of the `OPERATION_*` constants.
    pub operation: u32,
    /// When it was done: `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// To which inode.
    pub inode: InodeKey,
    /// Which bytes, or [`NOWHERE`].
    pub span: Span,
    /// The inode's size in bytes, plus 1, when the call began; 0 where that is not known.
    pub size_before_plus_one: u64,
    /// Its size in bytes when the call ended.
    pub size_after: u64,
    /// Events so far, since the start, that found no room in the ring.
    pub missing: u64,
    /// See the operation.
    pub detail: u32,
    /// How many names the inode bears.
    pub links: u32,
    /// Who did it.
    pub writer: Writer,
}

/// A record of the ring buffer of kind [`HINT_NAMED_EVENT`]: what became of a name.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NamedEvent {
    /// Of the inode that bears the name, all zeros where none does any more.
    pub event: Event,
    /// The directory.
    pub directory: InodeKey,
    /// Bytes of `name` in use, without the NUL; 0 where the name could not be read.
    pub name_length: u64,
    /// NUL-terminated.
    pub name: [u8; NAME_MAX + 1],
}

/// What became of the events that concerned a followed inode, counted on each CPU.
///
/// `seen` is always the sum of the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events of followed inodes.
    pub seen: u64,
    /// A hint went into the ring.
    pub submitted: u64,
    /// A hint for the same inode was already on its way.
    pub coalesced: u64,
    /// The ring was full; the overflow doorbell was rung instead.
    pub dropped: u64,
}

const _: () = assert!(size_of::<InodeKey>() == 16);
const _: () = assert!(size_of::<Doorbell>() == 64);
const _: () = assert!(size_of::<Hint>() == 16);
const _: () = assert!(size_of::<TruncateHint>() == 24);
const _: () = assert!(size_of::<Writer>() == 40);
const _: () = assert!(size_of::<WriterHint>() == 88);
const _: () = assert!(size_of::<EntryHint>() == 296);
const _: () = assert!(size_of::<Event>() == 120);
const _: () = assert!(size_of::<NamedEvent>() == 400);
const _: () = assert!(size_of::<Counters>() == 32);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, `Copy`, no padding (asserted above), and every bit pattern is a value.
    unsafe impl aya::Pod for super::InodeKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Doorbell {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Counters {}
}
