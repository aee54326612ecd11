//! Names that come, go and change, and files that are closed for good.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use log_tail_common::{
    HELD_IS_LEAST, HINT_CLOSE, HINT_ENTRY_CAME, HINT_ENTRY_MOVED_FROM, HINT_ENTRY_MOVED_TO, HINT_ENTRY_WENT,
    HINT_MOVE, HINT_UNLINK,
};

use crate::{
    events,
    kernel::{Dentry, File, Inode},
    maps::{bell_of, closing_bell_of},
};

/// What became of a name.
enum Entry {
    /// It is a new name of an inode.
    Came,
    /// It was removed.
    Went,
    /// A rename is about to take it from its inode.
    MovedFrom,
    /// A rename gave it to the inode of its dentry, in place of the one of this dentry, where there is one.
    MovedTo(Option<Dentry>),
}

/// A hint where the directory of `dentry` is followed. Where it was not renamed its inode is not touched: it may be NULL,
/// and 5.10 faults on reading through that instead of giving 0, in a program that has subprograms.
#[inline(always)]
fn entry_changed(ctx: &impl EbpfContext, dentry: Dentry, entry: Entry) {
    let Some(directory) = bell_of(dentry.parent().inode()) else { return };
    let (kind, ino, held) = match entry {
        Entry::Came => (HINT_ENTRY_CAME, 0, 0),
        Entry::Went => (HINT_ENTRY_WENT, 0, directory.removed()),
        Entry::MovedFrom => (HINT_ENTRY_MOVED_FROM, dentry.inode().number(), 0),
        Entry::MovedTo(replaced) => (HINT_ENTRY_MOVED_TO, dentry.inode().number(), replaced.map_or(0, held)),
    };
    directory.tell_of_entry(ctx, dentry, kind, ino, held);
}

/// [`EntryHint::held`](log_tail_common::EntryHint::held), where the inode of this dentry, if it has one, has just lost
/// the name.
#[inline(always)]
fn held(dentry: Dentry) -> u64 {
    let inode = dentry.inode();
    // 5.10 faults on reading through NULL.
    if inode.0.is_null() || !inode.is_regular() || inode.links() > 0 {
        return 0;
    }
    (inode.size() + 1) | if inode.has_writers() { HELD_IS_LEAST } else { 0 }
}

/// The inode of `dentry` is about to lose the name of `dentry` to a rename.
#[inline(always)]
fn will_move(ctx: &impl EbpfContext, dentry: Dentry) {
    if events::are_told() {
        return events::will_move(dentry);
    }
    entry_changed(ctx, dentry, Entry::MovedFrom);
}

/// The inode of `dentry` bears the name of `dentry` now, in the directory of `dentry`. `replaced` had it before.
#[inline(always)]
fn moved(ctx: &impl EbpfContext, dentry: Dentry, replaced: Option<Dentry>) {
    if events::are_told() {
        return events::moved(dentry);
    }
    if let Some(bell) = bell_of(dentry.inode()) {
        bell.tell(ctx, HINT_MOVE);
    }
    entry_changed(ctx, dentry, Entry::MovedTo(replaced));
}

/// rename: the filesystem has done it, the dentry cache is about to follow.
#[fentry(function = "d_move")]
fn before_d_move(ctx: FEntryContext) -> i32 {
    will_move(&ctx, Dentry(ctx.arg(0)));
    0
}

/// rename: the dentry cache has followed. The dentry that had the new name before has lost it, and still has its inode.
#[fexit(function = "d_move")]
fn d_move(ctx: FExitContext) -> i32 {
    moved(&ctx, Dentry(ctx.arg(0)), Some(Dentry(ctx.arg(1))));
    0
}

/// rename with `RENAME_EXCHANGE`, before the dentry cache follows.
#[fentry(function = "d_exchange")]
fn before_d_exchange(ctx: FEntryContext) -> i32 {
    will_move(&ctx, Dentry(ctx.arg(0)));
    will_move(&ctx, Dentry(ctx.arg(1)));
    0
}

/// rename with `RENAME_EXCHANGE`.
#[fexit(function = "d_exchange")]
fn d_exchange(ctx: FExitContext) -> i32 {
    moved(&ctx, Dentry(ctx.arg(0)), None);
    moved(&ctx, Dentry(ctx.arg(1)), None);
    0
}

/// `dentry` is a new name of `inode`.
#[inline(always)]
fn came(ctx: &impl EbpfContext, dentry: Dentry, inode: Inode) -> i32 {
    if events::are_told() {
        events::has_come(dentry, inode);
    } else {
        entry_changed(ctx, dentry, Entry::Came);
    }
    0
}

/// A new name: open with `O_CREAT`, link, symlink, mkdir, mknod. Not every way goes through `vfs_open`,
/// but each filesystem binds the new name to its inode here, or in `d_instantiate_new`.
#[fexit(function = "d_instantiate")]
fn d_instantiate(ctx: FExitContext) -> i32 {
    came(&ctx, Dentry(ctx.arg(0)), Inode(ctx.arg(1)))
}

/// A new name of a new inode, on filesystems that lock it until it is ready (ext4, btrfs).
#[fexit(function = "d_instantiate_new")]
fn d_instantiate_new(ctx: FExitContext) -> i32 {
    came(&ctx, Dentry(ctx.arg(0)), Inode(ctx.arg(1)))
}

/// A new name on filesystems that live in the dentry cache (tmpfs), on kernels where they no longer go
/// through `d_instantiate`.
#[fexit(function = "d_make_persistent")]
fn d_make_persistent(ctx: FExitContext) -> i32 {
    came(&ctx, Dentry(ctx.arg(0)), Inode(ctx.arg(1)))
}

/// A name was removed: unlink, rmdir. The filesystem has done it, and the dentry has its inode still.
#[fentry(function = "d_delete")]
fn before_d_delete(ctx: FEntryContext) -> i32 {
    let dentry = Dentry(ctx.arg(0));
    if events::are_told() {
        events::went(dentry);
    } else if let Some(directory) = bell_of(dentry.parent().inode()) {
        directory.will_remove(held(dentry));
    }
    0
}

/// The same, once nobody finds the name any more. The dentry may have lost its inode, its directory is still there.
#[fexit(function = "d_delete")]
fn d_delete(ctx: FExitContext) -> i32 {
    entry_changed(&ctx, Dentry(ctx.arg(0)), Entry::Went);
    0
}

/// A file is closed for good; its right to write was given back before: `__fput` in fs/file_table.c.
#[fentry(function = "security_file_free")]
fn before_security_file_free(ctx: FEntryContext) -> i32 {
    let file = File(ctx.arg(0));
    if !file.is_open_for_writing() || !file.inode().is_regular() {
        return 0;
    }
    if events::are_told() {
        events::closed(file.inode());
    } else if let Some(bell) = closing_bell_of(file.inode())
        && !file.inode().has_writers()
    {
        bell.tell(&ctx, HINT_CLOSE);
    }
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
fn before_security_inode_unlink(ctx: FEntryContext) -> i32 {
    will_remove(&ctx, Dentry(ctx.arg(1)))
}

/// Before rmdir: `security_inode_rmdir(dir, dentry)`.
#[fentry(function = "security_inode_rmdir")]
fn before_security_inode_rmdir(ctx: FEntryContext) -> i32 {
    will_remove(&ctx, Dentry(ctx.arg(1)))
}
