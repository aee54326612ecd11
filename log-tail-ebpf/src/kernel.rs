//! Typed reads of the kernel's structures: `file`, `inode`, `dentry`, `iattr`, `task_struct`.
//!
//! Rust emits no CO-RE relocations, so user space looks each member's offset up in the running kernel's
//! BTF and sets it here before the load. The globals lie in `.rodata`, which is frozen: the verifier
//! folds them into constants, types each access, and rejects a wrong offset at load time. The loads are
//! direct dereferences of BTF pointers, which the kernel makes safe against faults: a bad or NULL
//! pointer reads as 0. No read helper is needed, so they work under lockdown too.

use aya_ebpf::{
    Global,
    helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes},
};
use log_tail_common::{InodeKey, NAME_MAX};

macro_rules! offsets {
    ($($name:ident = $member:literal;)*) => {
        $(
            #[doc = concat!("Byte offset of `", $member, "`; set by the loader.")]
            #[unsafe(no_mangle)]
            static $name: Global<u64> = Global::new(0);
        )*
    };
}

offsets! {
    FILE_INODE = "file.f_inode";
    FILE_MODE = "file.f_mode";
    INODE_MODE = "inode.i_mode";
    INODE_NUMBER = "inode.i_ino";
    INODE_SUPER = "inode.i_sb";
    SUPER_DEV = "super_block.s_dev";
    SUPER_MAGIC = "super_block.s_magic";
    BTRFS_INODE_INODE = "btrfs_inode.vfs_inode";
    BTRFS_INODE_ROOT = "btrfs_inode.root";
    BTRFS_ROOT_DEV = "btrfs_root.anon_dev";
    DENTRY_INODE = "dentry.d_inode";
    DENTRY_PARENT = "dentry.d_parent";
    DENTRY_NAME = "dentry.d_name.name";
    INODE_SIZE = "inode.i_size";
    INODE_WRITERS = "inode.i_writecount";
    INODE_LINKS = "inode.i_nlink";
    IATTR_VALID = "iattr.ia_valid";
    IATTR_SIZE = "iattr.ia_size";
    REQUEST_FILE = "io_kiocb.file";
    REQUEST_RESULT = "io_kiocb.cqe.res";
    KIOCB_FILE = "kiocb.ki_filp";
    KIOCB_POSITION = "kiocb.ki_pos";
    DIO_KIOCB = "iomap_dio.iocb";
    TASK_MIGRATION_DISABLED = "task_struct.migration_disabled";
    TASK_FLAGS = "task_struct.flags";
    TASK_WRITE_CALLS = "task_struct.ioac.syscw";
}

/// The file type bits of `inode.i_mode`: include/uapi/linux/stat.h.
const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;

/// `file.f_mode`: include/linux/fs.h. Opened for writing, and opened to the end: then it has an inode.
const FMODE_WRITE: u32 = 1 << 1;
const FMODE_OPENED: u32 = 1 << 19;

/// `task_struct.flags`: include/linux/sched.h.
const PF_KTHREAD: u32 = 1 << 21;

/// `iattr.ia_valid`: the size is to be changed. include/linux/fs.h.
const ATTR_SIZE: u32 = 1 << 3;

/// `super_block.s_magic` of btrfs: include/uapi/linux/magic.h.
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;

/// 1 where names may be read: the kernel refuses `bpf_probe_read_kernel_str` under lockdown=confidentiality.
#[unsafe(no_mangle)]
static READ_NAMES: Global<u64> = Global::new(0);

/// Reads the member `offset` bytes into the structure at `base`.
///
/// # Safety
/// `base` is a pointer the verifier knows the BTF type of, and `T` is as wide as the member: the
/// verifier refuses the program otherwise.
#[inline(always)]
unsafe fn member<T: Copy>(base: *const u8, offset: &Global<u64>) -> T {
    // SAFETY: the verifier checks type and width at load time; the kernel handles a fault.
    unsafe { *base.add(offset.load() as usize).cast::<T>() }
}

/// A `struct file *`.
#[derive(Clone, Copy)]
pub struct File(pub *const u8);

/// A `struct io_kiocb *`: a request of io_uring.
#[derive(Clone, Copy)]
pub struct Request(pub *const u8);

/// A `struct kiocb *`: one write that may go on after its system call.
#[derive(Clone, Copy)]
pub struct Kiocb(pub *const u8);

/// A `struct iomap_dio *`: direct I/O that is under way.
#[derive(Clone, Copy)]
pub struct Dio(pub *const u8);

/// A `struct inode *`.
#[derive(Clone, Copy)]
pub struct Inode(pub *const u8);

/// A `struct dentry *`.
#[derive(Clone, Copy)]
pub struct Dentry(pub *const u8);

/// A `struct task_struct *`.
#[derive(Clone, Copy)]
pub struct Task(pub *const u8);

/// A `struct iattr *`: what is to be changed of an inode.
#[derive(Clone, Copy)]
pub struct Changes(pub *const u8);

impl File {
    #[inline(always)]
    pub fn inode(self) -> Inode {
        // SAFETY: the verifier types `self.0` as `struct file *`.
        Inode(unsafe { member(self.0, &FILE_INODE) })
    }

    /// Whether it could be written through. Such a file has an inode.
    #[inline(always)]
    pub fn is_open_for_writing(self) -> bool {
        // SAFETY: as above; `fmode_t` is an unsigned int.
        let mode: u32 = unsafe { member(self.0, &FILE_MODE) };
        mode & (FMODE_WRITE | FMODE_OPENED) == FMODE_WRITE | FMODE_OPENED
    }
}

impl Request {
    /// The file of a request for one. Of a request that has ended it may be anything, and is read as safely.
    #[inline(always)]
    pub fn file(self) -> File {
        // SAFETY: the verifier types `self.0` as `struct io_kiocb *`.
        File(unsafe { member(self.0, &REQUEST_FILE) })
    }

    /// Where it stands in its file, and how many bytes it wrote up to there. Only of a write that has ended and is not
    /// told to whoever asked yet; `None` where the kernel does not note that (up to 5.18), or where nothing was written.
    #[inline(always)]
    pub fn written(self) -> Option<(u64, u64)> {
        if REQUEST_RESULT.load() == 0 {
            return None;
        }
        // SAFETY: as above; `res` is an int.
        let result: i32 = unsafe { member(self.0, &REQUEST_RESULT) };
        // It begins with its `kiocb`, which the verifier takes for bytes: io_uring/rw.c, `struct io_rw`.
        let position = (self.0 as u64 + KIOCB_POSITION.load()) as *const u64;
        // SAFETY: the helper refuses an address that is none.
        let position = unsafe { bpf_probe_read_kernel(position) }.ok()?;
        (result > 0).then_some((position, result as u64))
    }
}

impl Kiocb {
    #[inline(always)]
    pub fn file(self) -> File {
        // SAFETY: the verifier types `self.0` as `struct kiocb *`.
        File(unsafe { member(self.0, &KIOCB_FILE) })
    }

    /// Where it stands in the file: behind what was done of it.
    #[inline(always)]
    pub fn position(self) -> u64 {
        // SAFETY: as above; `ki_pos` is a `loff_t`, and not negative.
        unsafe { member(self.0, &KIOCB_POSITION) }
    }
}

impl Dio {
    #[inline(always)]
    pub fn file(self) -> File {
        // SAFETY: the verifier types `self.0` as `struct iomap_dio *`.
        Kiocb(unsafe { member(self.0, &DIO_KIOCB) }).file()
    }

    /// The same for as long as it is under way, and nothing to read through.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }
}

impl Inode {
    #[inline(always)]
    pub fn is_regular(self) -> bool {
        self.mode() & S_IFMT == S_IFREG
    }

    /// Its number on its filesystem.
    #[inline(always)]
    pub fn number(self) -> u64 {
        // SAFETY: `self.0` came from a typed member; `i_ino` is an unsigned long.
        unsafe { member(self.0, &INODE_NUMBER) }
    }

    /// In bytes. Certain only where the inode's lock is held.
    #[inline(always)]
    pub fn size(self) -> u64 {
        // SAFETY: as above; `i_size` is a `loff_t`, and never negative.
        unsafe { member(self.0, &INODE_SIZE) }
    }

    /// Type and permissions.
    #[inline(always)]
    pub fn mode(self) -> u16 {
        // SAFETY: the verifier types `self.0` as `struct inode *`; `umode_t` is an unsigned short.
        unsafe { member(self.0, &INODE_MODE) }
    }

    /// How many names it bears.
    #[inline(always)]
    pub fn links(self) -> u32 {
        // SAFETY: as above; `i_nlink` is an unsigned int.
        unsafe { member(self.0, &INODE_LINKS) }
    }

    /// Whether somebody has it open for writing. Less than 0: it is being executed.
    #[inline(always)]
    pub fn has_writers(self) -> bool {
        // SAFETY: as above; `i_writecount` is an `atomic_t`, which is an int.
        unsafe { member::<i32>(self.0, &INODE_WRITERS) > 0 }
    }

    #[inline(always)]
    pub fn key(self) -> InodeKey {
        let ino = self.number();
        // SAFETY: as above; `i_sb` is a pointer to a `struct super_block`.
        let sb: *const u8 = unsafe { member(self.0, &INODE_SUPER) };
        // SAFETY: `sb` came from a typed member; `dev_t` is a u32.
        let dev = unsafe { member(sb, &SUPER_DEV) };
        // SAFETY: as above; `s_magic` is an unsigned long. Where btrfs is unknown the verifier leaves all this out.
        let is_in_subvolume =
            BTRFS_ROOT_DEV.load() != 0 && unsafe { member::<u64>(sb, &SUPER_MAGIC) } == BTRFS_SUPER_MAGIC;
        InodeKey { ino, dev, subvolume: if is_in_subvolume { self.subvolume() } else { 0 } }
    }

    /// The device number that stat(2) shows of an inode of btrfs. Its structures are a module's, by whose types the
    /// verifier does not let them be read.
    #[inline(always)]
    fn subvolume(self) -> u32 {
        let root = self.0 as u64 - BTRFS_INODE_INODE.load() + BTRFS_INODE_ROOT.load();
        // SAFETY: the helper refuses an address that is none.
        let Ok(root) = (unsafe { bpf_probe_read_kernel(root as *const u64) }) else { return 0 };
        // SAFETY: as above.
        unsafe { bpf_probe_read_kernel((root + BTRFS_ROOT_DEV.load()) as *const u32) }.unwrap_or(0)
    }
}

impl Dentry {
    /// The inode that bears the name: NULL for a name that bears none, and then not to be read through.
    #[inline(always)]
    pub fn inode(self) -> Inode {
        // SAFETY: the verifier types `self.0` as `struct dentry *`.
        Inode(unsafe { member(self.0, &DENTRY_INODE) })
    }

    /// The directory's own dentry.
    #[inline(always)]
    pub fn parent(self) -> Dentry {
        // SAFETY: as above.
        Dentry(unsafe { member(self.0, &DENTRY_PARENT) })
    }

    /// Reads the name, where names may be read. Gives its length in bytes, without the NUL.
    ///
    /// # Safety
    /// `name` points to memory that may be written to, initialised or not.
    #[inline(always)]
    pub unsafe fn read_name(self, name: *mut [u8; NAME_MAX + 1]) -> u64 {
        if READ_NAMES.load() != 1 {
            return 0;
        }
        // SAFETY: as above.
        let from: *const u8 = unsafe { member(self.0, &DENTRY_NAME) };
        // SAFETY: the caller's; the helper writes what it reads, and reads the kernel's memory with care.
        let read = unsafe { bpf_probe_read_kernel_str_bytes(from, &mut *name) };
        read.map_or(0, |read| read.len() as u64)
    }
}

impl Task {
    /// How often it was said that it must not leave its processor, and not taken back: more than never while it
    /// is inside a program, from before the kernel marks that active until after.
    #[inline(always)]
    pub fn pinned(self) -> u64 {
        // SAFETY: the verifier types `self.0` as `struct task_struct *`; `migration_disabled` is an unsigned short.
        u64::from(unsafe { member::<u16>(self.0, &TASK_MIGRATION_DISABLED) })
    }
}

/// Whether the task at this address is a thread of the kernel's own.
#[inline(always)]
pub fn is_kernel_thread(task: u64) -> bool {
    let flags = (task + TASK_FLAGS.load()) as *const u32;
    // SAFETY: the helper refuses an address that is none.
    unsafe { bpf_probe_read_kernel(flags) }.is_ok_and(|flags| flags & PF_KTHREAD != 0)
}

/// How many system calls of the task at this address have written something, or tried to. `None` where the kernel
/// does not count them, or does not let it be read.
#[inline(always)]
pub fn write_calls(task: u64) -> Option<u64> {
    if TASK_WRITE_CALLS.load() == 0 {
        return None;
    }
    // SAFETY: the helper refuses an address that is none.
    unsafe { bpf_probe_read_kernel((task + TASK_WRITE_CALLS.load()) as *const u64) }.ok()
}

impl Changes {
    /// The size the inode is to have, where that is to be changed.
    #[inline(always)]
    pub fn size(self) -> Option<u64> {
        // SAFETY: the verifier types `self.0` as `struct iattr *`; `ia_valid` is an unsigned int.
        let valid: u32 = unsafe { member(self.0, &IATTR_VALID) };
        // SAFETY: as above; `ia_size` is a `loff_t`, and was checked not to be negative.
        (valid & ATTR_SIZE != 0).then(|| unsafe { member(self.0, &IATTR_SIZE) })
    }
}
