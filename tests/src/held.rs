//! A write that is held in the middle of its system call, for as long as a test wants: its source is memory that comes
//! only when it is told to (userfaultfd(2)).

use std::{
    ffi::c_void,
    fs::File,
    io::{self, Write as _},
    num::NonZeroUsize,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::NonNull,
    slice,
    thread::{self, JoinHandle},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap},
};

/// The smallest that a kernel can hold back, in bytes.
const PAGE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// include/uapi/linux/userfaultfd.h.
const UFFD_API: u64 = 0xaa;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    version: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

nix::ioctl_readwrite! {
    /// `UFFDIO_API`.
    api, UFFD_API, 0x3f, Api
}
/// `struct uffdio_copy`.
#[repr(C)]
struct Copied {
    to: u64,
    from: u64,
    length: u64,
    mode: u64,
    bytes: i64,
}

nix::ioctl_readwrite! {
    /// `UFFDIO_COPY`.
    copy, UFFD_API, 0x03, Copied
}
nix::ioctl_readwrite! {
    /// `UFFDIO_REGISTER`.
    register, UFFD_API, 0x00, Register
}

/// A thread that is inside of write(2).
pub struct HeldWrite {
    faults: OwnedFd,
    page: u64,
    thread: JoinHandle<io::Result<()>>,
}

impl HeldWrite {
    /// Begins to write so many bytes to the file, at most a page, and waits until that is under way. The file is closed
    /// by whoever wrote to it.
    ///
    /// # Errors
    /// The kernel has no userfaultfd, or refuses it.
    pub fn begin(mut file: File, length: usize) -> io::Result<Self> {
        // SAFETY: takes flags only.
        let faults = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
        let faults = i32::try_from(faults).expect("a descriptor");
        if faults < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it has just been opened, and is nobody else's.
        let faults = unsafe { OwnedFd::from_raw_fd(faults) };
        let mut asked = Api { version: UFFD_API, features: 0, ioctls: 0 };
        // SAFETY: the structure is the one that the call wants.
        unsafe { api(faults.as_raw_fd(), &raw mut asked) }?;
        // SAFETY: memory of our own, wherever the kernel likes.
        let page = unsafe {
            mmap_anonymous(None, PAGE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }?;
        let address = page.as_ptr() as usize;
        let (start, bytes) = (address as u64, PAGE.get() as u64);
        let mut held = Register { start, length: bytes, mode: UFFDIO_REGISTER_MODE_MISSING, ioctls: 0 };
        // SAFETY: the structure is the one that the call wants, and names memory of ours.
        unsafe { register(faults.as_raw_fd(), &raw mut held) }?;
        let thread = thread::spawn(move || {
            let page = NonNull::new(address as *mut c_void).expect("memory that was mapped");
            // SAFETY: mapped, readable, unmapped only below, and nobody else's.
            let written = file.write_all(unsafe { slice::from_raw_parts(page.as_ptr().cast(), length) });
            // SAFETY: as above; nothing refers to it any more.
            unsafe { munmap(page, PAGE.get()) }?;
            written
        });
        // A fault that can be read is one of the kernel's, inside of the call.
        poll(&mut [PollFd::new(faults.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        Ok(Self { faults, page: start, thread })
    }

    /// Lets it come to its end: these are the bytes.
    ///
    /// # Errors
    /// As write(2).
    pub fn let_go(self, content: &[u8]) -> io::Result<()> {
        let mut page = [0_u8; PAGE.get()];
        page[..content.len()].copy_from_slice(content);
        let mut copied = Copied {
            to: self.page,
            from: page.as_ptr() as u64,
            length: PAGE.get() as u64,
            mode: 0,
            bytes: 0,
        };
        // SAFETY: the structure is the one that the call wants; both pages are there, and whoever waits for the one reads
        // it only afterwards.
        unsafe { copy(self.faults.as_raw_fd(), &raw mut copied) }?;
        self.thread.join().expect("a thread that ends")
    }
}
