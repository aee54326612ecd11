//! Standard output, written without ever stopping the event loop that also reads the files.
//!
//! Whoever runs us shares their standard output with us, down to its flags: were `O_NONBLOCK` set on it, the
//! shell that started us, or the next command in its list, would get EAGAIN where it never expected one. So a
//! pipe or a terminal is opened once more, which gives a description of our own; where that is not allowed it
//! is written in steps too small to block. A regular file is never opened again: its offset is shared with
//! whoever else writes to it, and a second description would write over them.
//!
//! What this does not do: a file on a slow disk still takes the time it takes.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};

use bytes::Buf as _;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::output::Queue;

/// How many chunks go into one system call.
const SLICES: usize = 64;

/// How much a pipe may hold while its reader is busy, in bytes: what an unprivileged user may ask for
/// (/proc/sys/fs/pipe-max-size).
const PIPE_BYTES: i32 = 1 << 20;

/// The sink that is standard output.
#[derive(Debug)]
pub struct Stdout {
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// What epoll can watch: pipes, terminals, sockets.
    Watched(AsyncFd<File>, Way),
    /// What epoll refuses because it is always writable: files, /dev/null.
    Plain(File),
}

/// How to write to something that may have no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The description is ours and has `O_NONBLOCK`.
    Nonblocking,
    /// The description is shared. There is room for `PIPE_BUF` bytes where poll(2) says that there is any.
    PollFirst,
    /// A socket takes "don't wait" with each call, and cannot be opened again.
    Socket,
}

/// What came of writing a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// The queue is empty.
    Everything,
    /// No room for what is left in the queue: wait for [`Stdout::writable`].
    WouldBlock,
    /// Nobody reads any more, and nobody ever will: time to exit, without a word.
    Closed,
}

impl Stdout {
    /// The standard output of this process.
    ///
    /// # Errors
    /// Where it cannot be looked at or duplicated.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn new() -> io::Result<Self> {
        Self::on(io::stdout())
    }

    /// The same on any descriptor. It stays the caller's.
    ///
    /// # Errors
    /// Where it cannot be looked at or duplicated.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn on(fd: impl AsFd) -> io::Result<Self> {
        let shared = File::from(fd.as_fd().try_clone_to_owned()?);
        let metadata = shared.metadata()?;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            // Only a larger buffer: where it is refused, the one that is there does.
            let _ = fcntl(&shared, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        }
        // Opening the master side of a pseudo-terminal would make a new pair of them.
        let is_pty_master = kind.is_char_device() && metadata.rdev() == libc::makedev(5, 2);
        let (file, way) = if kind.is_socket() {
            (shared, Way::Socket)
        } else if kind.is_fifo() || (shared.is_terminal() && !is_pty_master) {
            match reopened(&shared) {
                Ok(own) => (own, Way::Nonblocking),
                // Another user's pipe or terminal (after su), no /proc, or a pipe whose reader is gone.
                Err(_) => (shared, Way::PollFirst),
            }
        } else {
            (shared, Way::PollFirst)
        };
        Self::with(file, way)
    }

    fn with(file: File, way: Way) -> io::Result<Self> {
        // SAFETY: a `File` owns its descriptor, and nothing here takes it out, replaces or closes it.
        let registered = unsafe { AsyncFd::register_with_interest(file, Interest::WRITABLE) };
        let target = match registered {
            Ok(watched) => Target::Watched(watched, way),
            Err(refused) => match refused.into_parts() {
                (file, error) if error.kind() == ErrorKind::PermissionDenied => Target::Plain(file),
                (_, error) => return Err(error),
            },
        };
        Ok(Self { target })
    }

    /// The same once more, where it is a file: what is written there is not durable before it is told to be.
    ///
    /// # Errors
    /// Where it cannot be looked at or duplicated.
    pub fn file(&self) -> io::Result<Option<File>> {
        match &self.target {
            Target::Plain(file) if file.metadata()?.is_file() => file.try_clone().map(Some),
            Target::Plain(_) | Target::Watched(..) => Ok(None),
        }
    }

    /// Writes as much of `queue` as there is room for.
    ///
    /// # Errors
    /// What write(2) said, EPIPE excepted. What was written until then has left the queue.
    pub fn flush(&mut self, queue: &mut Queue) -> io::Result<Flushed> {
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = queue.chunks_vectored(&mut slices);
            match self.write(&slices[..count]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => queue.advance(written),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Ok(Flushed::WouldBlock),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => return Ok(Flushed::Closed),
                    _ => return Err(error),
                },
            }
        }
        Ok(Flushed::Everything)
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.target {
            // `try_io` forgets that there was room when there is none, so that `writable` waits for new room.
            Target::Watched(watched, way) => {
                watched.try_io(Interest::WRITABLE, |file| way.write(file, slices))
            }
            Target::Plain(file) => (&*file).write_vectored(slices),
        }
    }

    /// Waits until [`Stdout::flush`] is worth trying again. Returns at once for files.
    ///
    /// # Errors
    /// Where the runtime is shutting down.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.target {
            Target::Watched(watched, _) => watched.writable().await.map(drop),
            Target::Plain(_) => Ok(()),
        }
    }

    /// Waits until nobody is left to read what is written: the reader of a pipe is gone, the peer of a socket
    /// has closed it, the terminal has hung up. For files, for ever.
    ///
    /// A reader that comes back to a named pipe comes too late: as for `tail`, the first to leave ends it.
    pub async fn closed(&self) {
        if let Target::Watched(watched, _) = &self.target {
            // epoll reports errors and hang-ups unasked. Only hang-ups come as readability here, because
            // nobody asked for the kind that means bytes.
            if watched.ready(Interest::READABLE | Interest::ERROR).await.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Way {
    fn write(self, file: &File, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Nonblocking => (&*file).write_vectored(slices),
            Self::PollFirst => {
                let first = slices.first().map_or(&[][..], |slice| slice);
                if has_room(file)? {
                    (&*file).write(&first[..first.len().min(libc::PIPE_BUF)])
                } else {
                    Err(ErrorKind::WouldBlock.into())
                }
            }
            Self::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                Ok(sendmsg::<()>(file.as_raw_fd(), slices, &[], flags, None)?)
            }
        }
    }
}

/// The same pipe or terminal under a description of our own, so that `O_NONBLOCK` on it is nobody else's.
fn reopened(shared: &File) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", shared.as_raw_fd()))
}

/// Whether a write gets somewhere, if only to an error.
fn has_room(file: &File) -> io::Result<bool> {
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    Ok(poll(&mut polled, PollTimeout::ZERO)? > 0)
}

#[cfg(test)]
mod tests;
