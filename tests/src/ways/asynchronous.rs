//! Writes that may go on after the system call that asked for them: `io_uring`, libaio.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use io_uring::{IoUring, opcode, squeue, types::Fd};

use super::{Aligned, BLOCK, LINE, Site, Way, block, checked, short};

pub const WAYS: &[Way] = &[
    Way { name: "io_uring", acts: &[inline] },
    Way { name: "io_uring, by a worker (IOSQE_ASYNC)", acts: &[by_worker] },
    Way { name: "io_uring, O_DIRECT", acts: &[direct] },
    Way { name: "io_uring, two linked writes", acts: &[linked] },
    Way { name: "io_uring, registered buffer", acts: &[registered] },
    Way { name: "libaio", acts: &[aio] },
    Way { name: "libaio, O_DIRECT", acts: &[aio_direct] },
];

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Submits these writes, and waits until all have ended.
fn submit(ring: &mut IoUring, writes: &[(squeue::Entry, usize)]) -> io::Result<()> {
    for (write, _) in writes {
        // SAFETY: whoever made it keeps its buffer and its file until this returns.
        unsafe { ring.submission().push(write) }.map_err(io::Error::other)?;
    }
    ring.submit_and_wait(writes.len())?;
    for ((_, wanted), ended) in writes.iter().zip(ring.completion()) {
        let result = ended.result();
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        short(*wanted, result.unsigned_abs() as usize)?;
    }
    Ok(())
}

fn write_of(file: &File, bytes: &[u8], offset: u64) -> squeue::Entry {
    opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), length(bytes)).offset(offset).build()
}

fn with_flags(site: &Site, flags: squeue::Flags) -> io::Result<Vec<u8>> {
    let (file, end) = (site.open(0)?, site.end()?);
    submit(&mut IoUring::new(8)?, &[(write_of(&file, LINE, end).flags(flags), LINE.len())])?;
    Ok(LINE.to_vec())
}

fn inline(site: &Site) -> io::Result<Vec<u8>> {
    with_flags(site, squeue::Flags::empty())
}

fn by_worker(site: &Site) -> io::Result<Vec<u8>> {
    with_flags(site, squeue::Flags::ASYNC)
}

fn direct(site: &Site) -> io::Result<Vec<u8>> {
    let (file, end) = (site.open(libc::O_DIRECT)?, site.end()?);
    let line = Aligned::line('d');
    submit(&mut IoUring::new(8)?, &[(write_of(&file, &line.0, end), BLOCK)])?;
    Ok(block('d'))
}

fn linked(site: &Site) -> io::Result<Vec<u8>> {
    let (file, end) = (site.open(0)?, site.end()?);
    let first = write_of(&file, LINE, end).flags(squeue::Flags::IO_LINK);
    let second = write_of(&file, LINE, end + LINE.len() as u64);
    submit(&mut IoUring::new(8)?, &[(first, LINE.len()), (second, LINE.len())])?;
    Ok(LINE.repeat(2))
}

fn registered(site: &Site) -> io::Result<Vec<u8>> {
    let (file, end) = (site.open(0)?, site.end()?);
    let mut ring = IoUring::new(8)?;
    let mut line = LINE.to_vec();
    let buffer = libc::iovec { iov_base: line.as_mut_ptr().cast(), iov_len: line.len() };
    // SAFETY: the buffer outlives the ring, and is not written to meanwhile.
    unsafe { ring.submitter().register_buffers(&[buffer]) }?;
    let write = opcode::WriteFixed::new(Fd(file.as_raw_fd()), line.as_ptr(), length(&line), 0);
    submit(&mut ring, &[(write.offset(end).build(), line.len())])?;
    drop(ring);
    Ok(line)
}

/// `struct iocb`, `include/uapi/linux/aio_abi.h`, on little-endian machines.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_file: u32,
}

/// `IOCB_CMD_PWRITE`.
const PWRITE: u16 = 1;

/// `struct io_event`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

fn aio_write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut context: libc::c_ulong = 0;
    // SAFETY: it writes the context's number to where it is told.
    checked(unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) })?;
    let mut request = Iocb {
        opcode: PWRITE,
        file: file.as_raw_fd().unsigned_abs(),
        buffer: bytes.as_ptr() as u64,
        bytes: bytes.len() as u64,
        offset: i64::try_from(offset).map_err(io::Error::other)?,
        ..Iocb::default()
    };
    let requests = [&raw mut request];
    // SAFETY: one request, which lives with its buffer until the event has come.
    let submitted = checked(unsafe { libc::syscall(libc::SYS_io_submit, context, 1, requests.as_ptr()) });
    let mut event = Event::default();
    let began = Instant::now();
    let ended = submitted.and_then(|_| {
        loop {
            let none = std::ptr::null::<libc::timespec>();
            // SAFETY: room for one event.
            let got = unsafe { libc::syscall(libc::SYS_io_getevents, context, 1, 1, &raw mut event, none) };
            if checked(got)? == 1 {
                break Ok(());
            }
            if began.elapsed() > Duration::from_secs(30) {
                break Err(io::Error::from(io::ErrorKind::TimedOut));
            }
        }
    });
    // SAFETY: ends the context; there is no request left in it.
    unsafe { libc::syscall(libc::SYS_io_destroy, context) };
    ended?;
    match usize::try_from(event.result) {
        Ok(written) => short(bytes.len(), written),
        Err(_) => Err(io::Error::from_raw_os_error(i32::try_from(-event.result).unwrap_or(libc::EIO))),
    }
}

fn aio(site: &Site) -> io::Result<Vec<u8>> {
    aio_write(&site.open(0)?, LINE, site.end()?)?;
    Ok(LINE.to_vec())
}

fn aio_direct(site: &Site) -> io::Result<Vec<u8>> {
    let line = Aligned::line('a');
    aio_write(&site.open(libc::O_DIRECT)?, &line.0, site.end()?)?;
    Ok(block('a'))
}
