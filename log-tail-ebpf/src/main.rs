//! log-tail's kernel program: one short function a hook.
//!
//! Each runs *after* the kernel function it is named after (fexit), so that the bytes are there when the
//! reader looks; the two `security_` hooks run before, as early warnings. All hooks are on functions with
//! a BTF description, never kprobes. Which functions exist, and in which form, differs between kernels:
//! user space loads each program on its own and says which did not attach.
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

mod kernel;
mod maps;

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use log_tail_common::{HINT_MOVE, HINT_UNLINK};

use crate::{
    kernel::{Dentry, File},
    maps::{Ring, bell_of, entry_changed},
};

/// Bytes were written to `file`, or an error is returned.
#[inline(always)]
fn wrote(ctx: &FExitContext, file: File, returned: i64, ring: Ring) -> i32 {
    let inode = file.inode();
    if returned > 0
        && inode.is_regular()
        && let Some(bell) = bell_of(inode)
    {
        bell.appended(ctx, ring);
    }
    0
}

/// A function that writes to the file in argument `$file` and has `$arguments` arguments: the trampoline
/// puts the returned value behind them (`bpf_get_func_ret` needs 5.17).
macro_rules! on_write {
    ($function:literal, $exchange:ident, $plain:ident, file: $file:literal, arguments: $arguments:literal) => {
        #[doc = concat!("After `", $function, "`.")]
        #[fexit(function = $function)]
        fn $exchange(ctx: FExitContext) -> i32 {
            wrote(&ctx, File(ctx.arg($file)), ctx.arg($arguments), Ring::Exchange)
        }

        #[doc = concat!("After `", $function, "`, where the verifier knows no `xchg`.")]
        #[fexit(function = $function)]
        fn $plain(ctx: FExitContext) -> i32 {
            wrote(&ctx, File(ctx.arg($file)), ctx.arg($arguments), Ring::Plain)
        }
    };
}

on_write!("vfs_write", vfs_write, vfs_write_plain, file: 0, arguments: 4);
on_write!("vfs_writev", vfs_writev, vfs_writev_plain, file: 0, arguments: 5);
// sendfile, splice.
on_write!("iter_file_splice_write", iter_file_splice_write, iter_file_splice_write_plain, file: 1, arguments: 5);
// What coreutils' cat and cp use.
on_write!("vfs_copy_file_range", vfs_copy_file_range, vfs_copy_file_range_plain, file: 2, arguments: 6);
// The real file under an overlay; loop devices and nfsd.
on_write!("vfs_iter_write", vfs_iter_write, vfs_iter_write_plain, file: 0, arguments: 4);
on_write!("vfs_iocb_iter_write", vfs_iocb_iter_write, vfs_iocb_iter_write_plain, file: 0, arguments: 3);

/// truncate, ftruncate, `O_TRUNC`: the file of `dentry` has `length` bytes now, or an error is returned.
#[inline(always)]
fn truncated(ctx: &FExitContext, dentry: Dentry, length: u64, returned: i32) -> i32 {
    if returned == 0
        && let Some(bell) = bell_of(dentry.inode())
    {
        bell.truncated(ctx, length);
    }
    0
}

/// After `do_truncate(mnt_userns or idmap, dentry, length, time_attrs, filp)`, from 5.12 (fs/open.c).
#[fexit(function = "do_truncate")]
fn do_truncate(ctx: FExitContext) -> i32 {
    truncated(&ctx, Dentry(ctx.arg(1)), ctx.arg(2), ctx.arg(5))
}

/// After `do_truncate(dentry, length, time_attrs, filp)`, up to 5.11. A program of its own: whichever
/// argument a branch would not use, the compiler may load before it, and the verifier refuses that.
#[fexit(function = "do_truncate")]
fn do_truncate_dentry_first(ctx: FExitContext) -> i32 {
    truncated(&ctx, Dentry(ctx.arg(0)), ctx.arg(1), ctx.arg(4))
}

/// The inode of `dentry` bears the name of `dentry` now, in the directory of `dentry`.
#[inline(always)]
fn moved(ctx: &impl EbpfContext, dentry: Dentry) {
    if let Some(bell) = bell_of(dentry.inode()) {
        bell.tell(ctx, HINT_MOVE);
    }
    entry_changed(ctx, dentry);
}

/// rename: the filesystem has done it, the dentry cache has followed.
#[fexit(function = "d_move")]
fn d_move(ctx: FExitContext) -> i32 {
    moved(&ctx, Dentry(ctx.arg(0)));
    0
}

/// rename with `RENAME_EXCHANGE`.
#[fexit(function = "d_exchange")]
fn d_exchange(ctx: FExitContext) -> i32 {
    moved(&ctx, Dentry(ctx.arg(0)));
    moved(&ctx, Dentry(ctx.arg(1)));
    0
}

/// A new name: open with `O_CREAT`, link, symlink, mkdir, mknod. Not every way goes through `vfs_open`,
/// but each filesystem binds the new name to its inode here, or in `d_instantiate_new`.
#[fexit(function = "d_instantiate")]
fn d_instantiate(ctx: FExitContext) -> i32 {
    entry_changed(&ctx, Dentry(ctx.arg(0)));
    0
}

/// A new name of a new inode, on filesystems that lock it until it is ready (ext4, btrfs).
#[fexit(function = "d_instantiate_new")]
fn d_instantiate_new(ctx: FExitContext) -> i32 {
    entry_changed(&ctx, Dentry(ctx.arg(0)));
    0
}

/// A new name on filesystems that live in the dentry cache (tmpfs), on kernels where they no longer go
/// through `d_instantiate`.
#[fexit(function = "d_make_persistent")]
fn d_make_persistent(ctx: FExitContext) -> i32 {
    entry_changed(&ctx, Dentry(ctx.arg(0)));
    0
}

/// A name was removed: unlink, rmdir. The dentry has lost its inode by now, its directory is still there.
#[fexit(function = "d_delete")]
fn d_delete(ctx: FExitContext) -> i32 {
    entry_changed(&ctx, Dentry(ctx.arg(0)));
    0
}

/// A name is about to be removed: the last moment at which the reader can still open the file by it.
#[inline(always)]
fn will_remove(ctx: &impl EbpfContext, dentry: Dentry) -> i32 {
    if let Some(bell) = bell_of(dentry.inode()) {
        bell.tell(ctx, HINT_UNLINK);
    }
    0
}

/// Before unlink: `security_inode_unlink(dir, dentry)`.
#[fentry(function = "security_inode_unlink")]
fn security_inode_unlink(ctx: FEntryContext) -> i32 {
    will_remove(&ctx, Dentry(ctx.arg(1)))
}

/// Before rmdir: `security_inode_rmdir(dir, dentry)`.
#[fentry(function = "security_inode_rmdir")]
fn security_inode_rmdir(ctx: FEntryContext) -> i32 {
    will_remove(&ctx, Dentry(ctx.arg(1)))
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
