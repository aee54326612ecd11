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
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("reader");
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
