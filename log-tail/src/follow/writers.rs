//! Whether anybody could still write to a file: asked of the kernel, without seeing who.
//!
//! A read lease is granted only on a file that nobody has open for writing. It is asked for and given back
//! at once. Where the kernel does not let us ask (the file is another user's and we are not root, or its
//! filesystem knows no leases), the answer is that nobody knows.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
};

/// `F_SETSIG`, include/uapi/asm-generic/fcntl.h: the same on every architecture Rust knows but PA-RISC.
const F_SETSIG: libc::c_int = 10;

/// Who could write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Nobody: what the file holds now is all there will be, unless it is opened anew.
    None,
    /// Somebody has it open for writing.
    Some,
    /// The kernel does not let us ask.
    Unknown,
}

/// Asks who could write to a file.
pub fn of(file: &File) -> Writers {
    let fd = file.as_raw_fd();
    // Whoever opens the file for writing while the lease is held has the kernel send a signal. SIGIO, which
    // it is by default, would end this process; SIGURG is ignored by default.
    match fcntl(fd, F_SETSIG, libc::SIGURG).and_then(|()| fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK)) {
        Ok(()) => {
            // Cannot fail for a lease that is held; it would end with the descriptor too.
            let _ = fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
            Writers::None
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    }
}

fn fcntl(fd: RawFd, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: these commands take an int, and touch no memory of this process.
    if unsafe { libc::fcntl(fd, command, argument) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn a_writer_is_seen_until_it_closes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let writer = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(of(&file), Writers::Some);
        drop(writer);
        assert_eq!(of(&file), Writers::None);
        let _reader = File::open(&path).unwrap();
        assert_eq!(of(&file), Writers::None, "readers do not count, and no lease was left behind");
        OpenOptions::new().append(true).open(&path).unwrap();
    }

    #[test]
    fn where_nobody_may_ask_nobody_knows() {
        assert_eq!(of(&File::open("/dev/null").unwrap()), Writers::Unknown);
    }
}
