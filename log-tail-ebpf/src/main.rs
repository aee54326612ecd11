//! log-tail's kernel program: one short function a hook.
//!
//! Each runs *after* the kernel function it is named after (fexit), so that the bytes are there when the
//! reader looks. Those named `before_` run before it (fentry): to note what will be gone, or as early
//! warnings. All hooks are on functions with a BTF description, never kprobes. Which functions exist, and in
//! which form, differs between kernels: user space loads each program on its own and says which did not attach.
//!
//! A program that ends early costs least, so the order is: nothing written → not a regular file → not
//! followed → already rung.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the BPF target has no AtomicU64::swap; the intrinsic compiles to xchg"
)]

mod events;
mod kernel;
mod maps;
mod names;
mod skipped;
mod written;

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, fentry, fexit},
    programs::{BtfTracePointContext, FEntryContext, FExitContext},
};
use log_tail_common::{
    HINT_APPEND, NOWHERE, OPERATION_COPY, OPERATION_FALLOCATE, OPERATION_REFLINK, OPERATION_SPLICE,
    OPERATION_TRUNCATE, OPERATION_WRITE,
};

use crate::{
    events::{Counted, Level, Which},
    kernel::{Changes, Dentry, Dio, File, Kiocb, Request, Task},
    maps::{Ring, bell_of, ended, will_end},
    skipped::switched,
    written::Place,
};

/// A mode of fallocate: include/uapi/linux/falloc.h.
const FALLOC_FL_COLLAPSE_RANGE: i32 = 0x08;

/// What `io_write` returns of a request that has ended, with its result in it, from 5.19 on: `IOU_OK`.
const IOU_OK: i32 = 0;

/// What `io_write` returns of a request that goes on, from 5.19 on: `-EIOCBQUEUED`, io_uring/io_uring.h.
const IOU_ISSUE_SKIP_COMPLETE: i32 = -529;

/// Bytes were written to `file`, or an error is returned.
#[inline(always)]
fn wrote(ctx: &impl EbpfContext, operation: u32, file: File, returned: i64, place: Place, ring: Ring) -> i32 {
    if events::are_told() {
        return events::returned(operation, file, returned, place, Which::UP_TO);
    }
    hint(ctx, file, returned, place, ring)
}

/// As [`wrote`], of what is made of calls that tell of it themselves, unless they are on an overlay's real file.
#[inline(always)]
fn spliced(ctx: &FExitContext, ring: Ring) -> i32 {
    let (file, returned, place) = (File(ctx.arg(2)), ctx.arg(6), behind(ctx, 3));
    if events::are_told() {
        return events::returned(OPERATION_SPLICE, file, returned, place, Which::UNLESS_TOLD);
    }
    hint(ctx, file, returned, place, ring)
}

/// As [`wrote`], where hints are told.
#[inline(always)]
fn hint(ctx: &impl EbpfContext, file: File, returned: i64, place: Place, ring: Ring) -> i32 {
    let inode = file.inode();
    if returned > 0
        && inode.is_regular()
        && let Some(bell) = bell_of(inode)
    {
        bell.appended(ctx, ring, place, returned as u64);
    }
    0
}

/// Argument `n` is the address of an offset that is behind what was written by now. Up to 5.17 the verifier lets no
/// program read an argument that is a pointer to a number; a helper does.
#[inline(always)]
fn behind(ctx: &FExitContext, n: usize) -> Place {
    Place::Behind(ctx.as_ptr().cast::<*const u64>().wrapping_add(n))
}

/// Argument `n` is the offset of the first byte.
#[inline(always)]
fn start(ctx: &FExitContext, n: usize) -> Place {
    Place::Start(ctx.arg(n))
}

/// Argument `n` is the `kiocb` that the write was asked for with.
#[inline(always)]
fn at_end_of(ctx: &FExitContext, n: usize) -> Place {
    Place::End(Kiocb(ctx.arg(n)).position())
}

/// A function that does `$operation` to the file in argument `$file`, at the place that `$at` finds in argument
/// `$place`, and has `$arguments` arguments: the trampoline puts the returned value behind them (`bpf_get_func_ret` needs 5.17).
macro_rules! on_write {
    (
        $function:literal, $exchange:ident, $plain:ident, $operation:ident,
        file: $file:literal, $at:ident: $place:literal, arguments: $arguments:literal
    ) => {
        #[doc = concat!("After `", $function, "`.")]
        #[fexit(function = $function)]
        fn $exchange(ctx: FExitContext) -> i32 {
            let (file, place) = (File(ctx.arg($file)), $at(&ctx, $place));
            wrote(&ctx, $operation, file, ctx.arg($arguments), place, Ring::Exchange)
        }

        #[doc = concat!("After `", $function, "`, where the verifier knows no `xchg`.")]
        #[fexit(function = $function)]
        fn $plain(ctx: FExitContext) -> i32 {
            let (file, place) = (File(ctx.arg($file)), $at(&ctx, $place));
            wrote(&ctx, $operation, file, ctx.arg($arguments), place, Ring::Plain)
        }
    };
}

/// As [`on_write`], for functions that a system call to write is made of: the kernel counts those, so that each is known
/// from the next.
macro_rules! on_write_call {
    ($function:literal, $exchange:ident, $plain:ident, arguments: $arguments:literal, $counted:path) => {
        #[doc = concat!("After `", $function, "`.")]
        #[fexit(function = $function)]
        fn $exchange(ctx: FExitContext) -> i32 {
            call_wrote(&ctx, ctx.arg($arguments), Ring::Exchange, $counted)
        }

        #[doc = concat!("After `", $function, "`, where the verifier knows no `xchg`.")]
        #[fexit(function = $function)]
        fn $plain(ctx: FExitContext) -> i32 {
            call_wrote(&ctx, ctx.arg($arguments), Ring::Plain, $counted)
        }
    };
}

#[inline(always)]
fn call_wrote(ctx: &FExitContext, returned: i64, ring: Ring, counted: Counted) -> i32 {
    let (file, place) = (File(ctx.arg(0)), behind(ctx, 3));
    if events::are_told() {
        return events::called_to_write(file, returned, place, counted);
    }
    hint(ctx, file, returned, place, ring)
}

on_write_call!("vfs_write", vfs_write, vfs_write_plain, arguments: 4, Counted::Within);
on_write_call!("vfs_writev", vfs_writev, vfs_writev_plain, arguments: 5, Counted::Behind);
/// splice, sendfile: of the file that was named, which may be an overlay's. Before 5.11 the offset is at an address of
/// user space's, where it is none of the kernel's: then nobody says.
macro_rules! on_splice {
    ($function:literal, $exchange:ident, $plain:ident) => {
        #[doc = concat!("After `", $function, "`.")]
        #[fexit(function = $function)]
        fn $exchange(ctx: FExitContext) -> i32 {
            spliced(&ctx, Ring::Exchange)
        }

        #[doc = concat!("After `", $function, "`, where the verifier knows no `xchg`.")]
        #[fexit(function = $function)]
        fn $plain(ctx: FExitContext) -> i32 {
            spliced(&ctx, Ring::Plain)
        }
    };
}

on_splice!("do_splice", do_splice, do_splice_plain);
on_splice!("do_splice_direct", do_splice_direct, do_splice_direct_plain);
// The same, of the real file under an overlay.
on_write!(
    "iter_file_splice_write", iter_file_splice_write, iter_file_splice_write_plain, OPERATION_SPLICE,
    file: 1, behind: 2, arguments: 5
);
// What coreutils' cat and cp use.
on_write!(
    "vfs_copy_file_range", vfs_copy_file_range, vfs_copy_file_range_plain, OPERATION_COPY,
    file: 2, start: 3, arguments: 6
);
// The real file under an overlay; loop devices and nfsd.
on_write!(
    "vfs_iter_write", vfs_iter_write, vfs_iter_write_plain, OPERATION_WRITE,
    file: 0, behind: 2, arguments: 4
);
on_write!(
    "vfs_iocb_iter_write", vfs_iocb_iter_write, vfs_iocb_iter_write_plain, OPERATION_WRITE,
    file: 0, at_end_of: 1, arguments: 3
);
// What `cp --reflink` uses.
on_write!(
    "vfs_clone_file_range", vfs_clone_file_range, vfs_clone_file_range_plain, OPERATION_REFLINK,
    file: 2, start: 3, arguments: 6
);

/// After `vfs_fallocate`. What it makes room for is no text yet; but the reader's offset may be another's now.
#[fexit(function = "vfs_fallocate")]
fn vfs_fallocate(ctx: FExitContext) -> i32 {
    let inode = File(ctx.arg(0)).inode();
    if events::are_told() {
        if ctx.arg::<i32>(4) == 0 {
            let (mode, from, length): (u32, u64, u64) = (ctx.arg(1), ctx.arg(2), ctx.arg(3));
            events::did(inode, OPERATION_FALLOCATE, from, from + length, mode);
        } else {
            events::failed(inode);
        }
    } else if ctx.arg::<i32>(4) == 0
        && let Some(bell) = bell_of(inode)
    {
        if ctx.arg::<i32>(1) & FALLOC_FL_COLLAPSE_RANGE != 0 {
            bell.collapsed(ctx.arg(3));
        }
        bell.tell(&ctx, HINT_APPEND);
    }
    0
}

/// After `io_write`, io_uring's own way to a file's `write_iter`: tried once by whoever submits and again by a worker.
#[fexit(function = "io_write")]
fn io_write(ctx: FExitContext) -> i32 {
    requested(&ctx, Ring::Exchange)
}

/// After `io_write`, where the verifier knows no `xchg`.
#[fexit(function = "io_write")]
fn io_write_plain(ctx: FExitContext) -> i32 {
    requested(&ctx, Ring::Plain)
}

/// What is returned says how the request ends, not whether bytes were written: but an error is none that was.
#[inline(always)]
fn requested(ctx: &FExitContext, ring: Ring) -> i32 {
    let request = Request(ctx.arg(0));
    let file = request.file();
    let returned = ctx.arg::<i32>(2);
    // A byte that ends at 0 has no place. (Of a place with nothing in it the compiler reads what was never set.)
    let (position, length) = if returned == IOU_OK { request.written() } else { None }.unwrap_or((0, 1));
    let place = Place::End(position);
    if !events::are_told() {
        return wrote(ctx, OPERATION_WRITE, file, length as i64, place, ring);
    }
    if (returned >= 0 || returned == IOU_ISSUE_SKIP_COMPLETE) && file.inode().is_regular() {
        let span = place.span(length).unwrap_or(NOWHERE);
        events::completed(file.inode(), OPERATION_WRITE, span.from, span.to);
    }
    0
}

/// Bytes were written by a request that may have gone on after its system call, or an error is told.
#[inline(always)]
fn completed(ctx: &impl EbpfContext, kiocb: Kiocb, result: i64, ring: Ring) -> i32 {
    let (file, place) = (kiocb.file(), Place::End(kiocb.position()));
    if !events::are_told() {
        return wrote(ctx, OPERATION_WRITE, file, result, place, ring);
    }
    if result > 0 && file.inode().is_regular() {
        // Some filesystems leave the position where it was.
        let span = place.span(result as u64).unwrap_or(NOWHERE);
        events::completed(file.inode(), OPERATION_WRITE, span.from, span.to);
    }
    0
}

/// What a filesystem calls when a read or write that went on after its system call has ended: the bytes are there.
macro_rules! on_completion {
    ($function:literal, $exchange:ident, $plain:ident) => {
        #[doc = concat!("Before `", $function, "`.")]
        #[fentry(function = $function)]
        fn $exchange(ctx: FEntryContext) -> i32 {
            completed(&ctx, Kiocb(ctx.arg(0)), ctx.arg(1), Ring::Exchange)
        }

        #[doc = concat!("Before `", $function, "`, where the verifier knows no `xchg`.")]
        #[fentry(function = $function)]
        fn $plain(ctx: FEntryContext) -> i32 {
            completed(&ctx, Kiocb(ctx.arg(0)), ctx.arg(1), Ring::Plain)
        }
    };
}

// io_uring with O_DIRECT.
on_completion!("io_complete_rw", before_io_complete_rw, before_io_complete_rw_plain);
// libaio, also where the write was done within the system call. Up to 5.15 there is a third argument.
on_completion!("aio_complete_rw", before_aio_complete_rw, before_aio_complete_rw_plain);

/// Direct I/O has been done, and is about to be ended: its file's size may be the old one yet.
#[fentry(function = "iomap_dio_complete")]
fn before_iomap_dio_complete(ctx: FEntryContext) -> i32 {
    will_end(Dio(ctx.arg(0)));
    0
}

/// What frees its argument has returned. All filesystems' asynchronous direct writes come here, also those to the real
/// file under an overlay: the completions above have the overlay's.
#[inline(always)]
fn direct_io_ended(ctx: &FExitContext, ring: Ring) -> i32 {
    if let Some(bell) = ended(Dio(ctx.arg(0))) {
        bell.appended(ctx, ring, Place::Unknown, 0);
    }
    0
}

/// After `iomap_dio_complete`.
#[fexit(function = "iomap_dio_complete")]
fn iomap_dio_complete(ctx: FExitContext) -> i32 {
    direct_io_ended(&ctx, Ring::Exchange)
}

/// After `iomap_dio_complete`, where the verifier knows no `xchg`.
#[fexit(function = "iomap_dio_complete")]
fn iomap_dio_complete_plain(ctx: FExitContext) -> i32 {
    direct_io_ended(&ctx, Ring::Plain)
}

/// A program of its own for each place of the dentry: whichever argument a branch would not use, the
/// compiler may load before it, and the verifier refuses that.
macro_rules! on_truncate {
    ($before:ident, $after:ident, dentry: $dentry:literal, arguments: $arguments:literal) => {
        /// Before an inode's attributes are changed, its lock held: truncate, ftruncate, `O_TRUNC`.
        #[fentry(function = "notify_change")]
        fn $before(ctx: FEntryContext) -> i32 {
            if Changes(ctx.arg($dentry + 1)).size().is_some() {
                let inode = Dentry(ctx.arg($dentry)).inode();
                if events::are_told() {
                    events::begin(inode, Level::CALL);
                } else if let Some(bell) = bell_of(inode) {
                    bell.will_truncate(inode.size());
                }
            }
            0
        }

        /// After an inode's attributes were changed, its lock still held.
        #[fexit(function = "notify_change")]
        fn $after(ctx: FExitContext) -> i32 {
            let Some(size) = Changes(ctx.arg($dentry + 1)).size() else { return 0 };
            let (inode, returned) = (Dentry(ctx.arg($dentry)).inode(), ctx.arg::<i32>($arguments));
            if events::are_told() {
                if returned == 0 {
                    events::did(inode, OPERATION_TRUNCATE, size, size, 0);
                } else {
                    events::failed(inode);
                }
            } else if let Some(bell) = bell_of(inode) {
                if returned == 0 {
                    bell.truncated(&ctx, size);
                } else {
                    bell.will_not_truncate();
                }
            }
            0
        }
    };
}

// fs/attr.c: `notify_change(mnt_userns or idmap, dentry, attr, delegated_inode)` from 5.12.
on_truncate!(before_notify_change, notify_change, dentry: 1, arguments: 4);
// `notify_change(dentry, attr, delegated_inode)` up to 5.11.
on_truncate!(before_notify_change_dentry_first, notify_change_dentry_first, dentry: 0, arguments: 3);

/// A processor goes to another task: the end of a turn in which the kernel may have skipped the others.
/// Arguments: `(preempt, prev, next, ...)`.
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    switched(&ctx, Task(ctx.arg(1)), Task(ctx.arg(2)));
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The helpers used here are for programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
