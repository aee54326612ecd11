//! Programs that are loaded only where events are told: before the functions that write, so that it is known how large
//! the file was; before those that give names, so that not even the first write is missed; and more of them on the
//! functions that write most.
//!
//! A task that is preempted inside a program keeps the kernel from running it for others on that processor (see
//! `skipped.rs`). But it is inside of one program at a time. So on kernels where that happens, [`TIMES`] equal programs
//! stand on `vfs_write` and `vfs_writev`: a write is told by the first of them that runs, and goes unseen only where
//! as many tasks wait for one processor, each of them inside another one. Whether so many ever waited is noted. Before the
//! function one has to do: where it is skipped, it is not known how large the file was, and a write is told all the same.
//! (A function takes 38 programs: `BPF_MAX_TRAMP_LINKS`, include/linux/bpf.h.)
//!
//! [`TIMES`]: log_tail_common::TIMES

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};

use super::{Counted, Level, begin, called_to_write, freed, will_come};
use crate::{
    behind,
    kernel::{Dentry, File, Inode},
};

/// Before functions that write to the file in argument `$file`.
macro_rules! before_write {
    ($($function:literal $name:ident file: $file:literal, $level:ident;)*) => {
        $(
            #[doc = concat!("Before `", $function, "`.")]
            #[fentry(function = $function)]
            fn $name(ctx: FEntryContext) -> i32 {
                let inode = File(ctx.arg($file)).inode();
                if inode.is_regular() {
                    begin(inode, Level::$level);
                }
                0
            }
        )*
    };
}

before_write! {
    "vfs_write" before_vfs_write file: 0, CALL;
    "vfs_writev" before_vfs_writev file: 0, CALL;
    "vfs_iter_write" before_vfs_iter_write file: 0, WRITE;
    "vfs_iocb_iter_write" before_vfs_iocb_iter_write file: 0, WRITE;
    "iter_file_splice_write" before_iter_file_splice_write file: 1, COPY;
    "vfs_copy_file_range" before_vfs_copy_file_range file: 2, CALL;
    "vfs_clone_file_range" before_vfs_clone_file_range file: 2, COPY;
    "vfs_fallocate" before_vfs_fallocate file: 0, CALL;
    "do_splice" before_do_splice file: 2, CALL;
    "do_splice_direct" before_do_splice_direct file: 2, SPLICE;
}

/// The same again as after these functions, for the times that the first ones are skipped.
macro_rules! again {
    ($($function:literal arguments: $arguments:literal, $counted:path: $($name:ident)*;)*) => {
        $($(
            #[doc = concat!("After `", $function, "`, again.")]
            #[fexit(function = $function)]
            fn $name(ctx: FExitContext) -> i32 {
                called_to_write(File(ctx.arg(0)), ctx.arg($arguments), behind(&ctx, 3), $counted)
            }
        )*)*
    };
}

again! {
    "vfs_write" arguments: 4, Counted::Within:
        vfs_write_2 vfs_write_3 vfs_write_4 vfs_write_5 vfs_write_6 vfs_write_7 vfs_write_8;
    "vfs_writev" arguments: 5, Counted::Behind:
        vfs_writev_2 vfs_writev_3 vfs_writev_4 vfs_writev_5 vfs_writev_6 vfs_writev_7 vfs_writev_8;
}

/// Before functions that give an inode a name. Behind them, others may have written to it by that name.
macro_rules! before_name {
    ($($function:literal $name:ident;)*) => {
        $(
            #[doc = concat!("Before `", $function, "`.")]
            #[fentry(function = $function)]
            fn $name(ctx: FEntryContext) -> i32 {
                will_come(Dentry(ctx.arg(0)), Inode(ctx.arg(1)));
                0
            }
        )*
    };
}

before_name! {
    "d_instantiate" before_d_instantiate;
    "d_instantiate_new" before_d_instantiate_new;
    "d_make_persistent" before_d_make_persistent;
}

/// An inode leaves the memory. A filesystem calls it before it gives the inode's number to another one.
#[fentry(function = "clear_inode")]
fn before_clear_inode(ctx: FEntryContext) -> i32 {
    freed(Inode(ctx.arg(0)));
    0
}

/// As before the function, for the times that that one is skipped.
#[fexit(function = "clear_inode")]
fn clear_inode(ctx: FExitContext) -> i32 {
    freed(Inode(ctx.arg(0)));
    0
}
