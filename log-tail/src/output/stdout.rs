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
mod tests {
    use std::io::{PipeReader, Read, Seek as _};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use bytes::Bytes;
    use nix::fcntl::OFlag;
    use nix::pty::openpty;
    use nix::sys::stat::Mode;
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    use nix::unistd::mkfifo;

    use super::*;

    /// More than any pipe or socket of the tests takes at once.
    const MUCH: usize = 4 << 20;
    const PATIENCE: Duration = Duration::from_secs(20);

    fn much() -> (Vec<u8>, Queue) {
        let bytes: Vec<u8> = (0..=250).cycle().take(MUCH).collect();
        let mut queue = Queue::default();
        // Odd sizes, so that writes end within a chunk.
        bytes.chunks(7919).for_each(|chunk| queue.push(Bytes::copy_from_slice(chunk)));
        (bytes, queue)
    }

    fn one_line() -> Queue {
        let mut queue = Queue::default();
        queue.push(Bytes::from_static(b"line\n"));
        queue
    }

    async fn flush_all(stdout: &mut Stdout, queue: &mut Queue) -> Flushed {
        loop {
            match stdout.flush(queue).expect("flush") {
                Flushed::WouldBlock => stdout.writable().await.expect("writable"),
                flushed => return flushed,
            }
        }
    }

    /// Flushes until there is no room, then lets `reader` read all of it.
    async fn everything_arrives(mut stdout: Stdout, mut reader: impl Read + Send + 'static) {
        let (bytes, mut queue) = much();
        stdout.writable().await.expect("writable");
        assert_eq!(stdout.flush(&mut queue).expect("flush"), Flushed::WouldBlock);
        assert!(!queue.is_empty() && queue.len() < MUCH);
        assert_eq!(stdout.flush(&mut queue).expect("flush"), Flushed::WouldBlock);

        let length = bytes.len();
        let read = std::thread::spawn(move || {
            let mut read = vec![0; length];
            reader.read_exact(&mut read).map(|()| (read, reader))
        });
        let flushed = tokio::time::timeout(PATIENCE, flush_all(&mut stdout, &mut queue)).await;
        assert_eq!(flushed, Ok(Flushed::Everything));
        let (read, reader) = read.join().expect("reader").expect("read");
        assert!(read == bytes, "not what was written");

        let is_closed = tokio::time::timeout(Duration::from_millis(50), stdout.closed()).await;
        assert!(is_closed.is_err(), "closed although there is a reader");
        let closed = tokio::spawn(async move {
            stdout.closed().await;
            stdout
        });
        tokio::task::yield_now().await;
        drop(reader);
        let mut stdout = tokio::time::timeout(PATIENCE, closed).await.expect("in time").expect("closed");
        let flushed = tokio::time::timeout(PATIENCE, flush_all(&mut stdout, &mut one_line())).await;
        assert_eq!(flushed, Ok(Flushed::Closed));
    }

    fn flags(fd: impl AsFd) -> OFlag {
        OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).expect("flags"))
    }

    fn way(stdout: &Stdout) -> Option<Way> {
        match &stdout.target {
            Target::Watched(_, way) => Some(*way),
            Target::Plain(_) => None,
        }
    }

    #[tokio::test]
    async fn a_full_pipe_never_blocks_and_its_shared_flags_stay() {
        let (reader, writer) = io::pipe().expect("pipe");
        let stdout = Stdout::on(&writer).expect("stdout");
        assert_eq!(way(&stdout), Some(Way::Nonblocking));
        assert!(!flags(&writer).contains(OFlag::O_NONBLOCK));
        // The end that a shell would hold is closed in its other processes once they are started.
        drop(writer);
        everything_arrives(stdout, reader).await;
    }

    #[tokio::test]
    async fn a_pipe_that_cannot_be_opened_again_never_blocks_either() {
        let (reader, writer) = io::pipe().expect("pipe");
        let file = File::from(writer.as_fd().try_clone_to_owned().expect("dup"));
        let stdout = Stdout::with(file, Way::PollFirst).expect("stdout");
        assert!(!flags(&writer).contains(OFlag::O_NONBLOCK));
        drop(writer);
        everything_arrives(stdout, reader).await;
    }

    #[tokio::test]
    async fn a_socket_is_written_without_waiting() {
        let (reader, writer) = UnixStream::pair().expect("socket pair");
        let stdout = Stdout::on(&writer).expect("stdout");
        assert_eq!(way(&stdout), Some(Way::Socket));
        assert!(!flags(&writer).contains(OFlag::O_NONBLOCK));
        drop(writer);
        everything_arrives(stdout, reader).await;
    }

    #[tokio::test]
    async fn a_named_pipe_is_a_pipe() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).expect("fifo");
        let reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("reader");
        let writer = OpenOptions::new().write(true).open(&path).expect("writer");
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::empty())).expect("blocking again");
        let stdout = Stdout::on(&writer).expect("stdout");
        drop(writer);
        everything_arrives(stdout, PipeReader::from(std::os::fd::OwnedFd::from(reader))).await;
    }

    #[tokio::test]
    async fn a_pipe_without_a_reader_is_closed_from_the_start() {
        let (reader, writer) = io::pipe().expect("pipe");
        drop(reader);
        let mut stdout = Stdout::on(&writer).expect("stdout");
        tokio::time::timeout(PATIENCE, stdout.closed()).await.expect("closed");
        assert_eq!(flush_all(&mut stdout, &mut one_line()).await, Flushed::Closed);
    }

    #[tokio::test]
    async fn a_terminal_that_nobody_reads_never_blocks() {
        let pty = openpty(None, None).expect("pseudo-terminal");
        let mut raw = tcgetattr(&pty.slave).expect("terminal");
        cfmakeraw(&mut raw);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &raw).expect("raw");
        let stdout = Stdout::on(&pty.slave).expect("stdout");
        assert_eq!(way(&stdout), Some(Way::Nonblocking));
        assert!(!flags(&pty.slave).contains(OFlag::O_NONBLOCK));
        // A terminal that has hung up says so with EIO, which is an error like any other.
        let (bytes, mut queue) = much();
        let mut stdout = stdout;
        stdout.writable().await.expect("writable");
        assert_eq!(stdout.flush(&mut queue).expect("flush"), Flushed::WouldBlock);
        let mut master = File::from(pty.master);
        let read = std::thread::spawn(move || {
            let mut read = vec![0; MUCH];
            master.read_exact(&mut read).map(|()| read)
        });
        let flushed = tokio::time::timeout(PATIENCE, flush_all(&mut stdout, &mut queue)).await;
        assert_eq!(flushed, Ok(Flushed::Everything));
        assert!(read.join().expect("reader").expect("read") == bytes, "not what was written");
    }

    #[tokio::test]
    async fn the_master_of_a_terminal_is_not_opened_again() {
        let pty = openpty(None, None).expect("pseudo-terminal");
        assert_eq!(way(&Stdout::on(&pty.master).expect("stdout")), Some(Way::PollFirst));
    }

    #[tokio::test]
    async fn a_file_keeps_the_offset_it_shares() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"before\n").expect("written");
        let mut stdout = Stdout::on(&file).expect("stdout");
        assert_eq!(stdout.flush(&mut one_line()).expect("flush"), Flushed::Everything);
        file.write_all(b"after\n").expect("written");
        file.rewind().expect("rewound");
        assert_eq!(io::read_to_string(&file).expect("read"), "before\nline\nafter\n");
    }

    #[tokio::test]
    async fn a_file_takes_everything_and_never_closes() {
        let mut file = tempfile::tempfile().expect("file");
        let (bytes, mut queue) = much();
        let mut stdout = Stdout::on(&file).expect("stdout");
        stdout.writable().await.expect("writable");
        assert_eq!(stdout.flush(&mut queue).expect("flush"), Flushed::Everything);
        assert!(tokio::time::timeout(Duration::from_millis(20), stdout.closed()).await.is_err());
        let mut read = Vec::new();
        file.rewind().expect("rewound");
        file.read_to_end(&mut read).expect("read");
        assert!(read == bytes, "not what was written");
    }

    #[tokio::test]
    async fn a_device_that_epoll_refuses_is_written_plainly() {
        let null = OpenOptions::new().write(true).open("/dev/null").expect("/dev/null");
        let (_, mut queue) = much();
        assert_eq!(Stdout::on(&null).expect("stdout").flush(&mut queue).expect("flush"), Flushed::Everything);
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error() {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let error = Stdout::on(&full).expect("stdout").flush(&mut one_line()).expect_err("no space");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
