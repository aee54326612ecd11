//! System calls that write before they return.

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::FileExt as _,
    },
};

use nix::{
    fcntl::{SpliceFFlags, copy_file_range, splice, vmsplice},
    sys::{sendfile::sendfile, uio::pwritev},
    unistd::pipe,
};

use super::{BLOCK, LINE, Site, Way, block, checked, short};

pub const WAYS: &[Way] = &[
    Way { name: "write", acts: &[write] },
    Way { name: "pwrite", acts: &[pwrite] },
    Way { name: "writev", acts: &[writev] },
    Way { name: "pwritev", acts: &[positioned_writev] },
    Way { name: "pwritev2, RWF_APPEND", acts: &[pwritev2_append] },
    Way { name: "sendfile", acts: &[send_file] },
    Way { name: "splice", acts: &[splice_pipe] },
    Way { name: "vmsplice, then splice", acts: &[vmsplice_pipe] },
    Way { name: "copy_file_range", acts: &[copy_range] },
    Way { name: "reflink (FICLONERANGE)", acts: &[reflink] },
];

fn write(site: &Site) -> io::Result<Vec<u8>> {
    site.append()?.write_all(LINE)?;
    Ok(LINE.to_vec())
}

fn pwrite(site: &Site) -> io::Result<Vec<u8>> {
    site.open(0)?.write_all_at(LINE, site.end()?)?;
    Ok(LINE.to_vec())
}

fn two_parts() -> [IoSlice<'static>; 2] {
    [IoSlice::new(b"two "), IoSlice::new(b"parts\n")]
}

fn writev(site: &Site) -> io::Result<Vec<u8>> {
    short(10, site.append()?.write_vectored(&two_parts())?)?;
    Ok(b"two parts\n".to_vec())
}

fn positioned_writev(site: &Site) -> io::Result<Vec<u8>> {
    let end = i64::try_from(site.end()?).map_err(io::Error::other)?;
    short(10, pwritev(site.open(0)?, &two_parts(), end)?)?;
    Ok(b"two parts\n".to_vec())
}

fn pwritev2_append(site: &Site) -> io::Result<Vec<u8>> {
    let (file, end) = (site.open(0)?, site.end()?);
    let part = libc::iovec { iov_base: LINE.as_ptr().cast_mut().cast(), iov_len: LINE.len() };
    // SAFETY: one part, whose bytes live on and are only read.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, 0, libc::RWF_APPEND) };
    short(LINE.len(), checked(written)?)?;
    if site.end()? == end {
        // An overlay of 5.10 drops the flag.
        return Err(io::Error::other("the kernel wrote elsewhere than at the end"));
    }
    Ok(LINE.to_vec())
}

fn send_file(site: &Site) -> io::Result<Vec<u8>> {
    let source = site.source(LINE)?;
    let target = site.open(0)?;
    // It takes no file that was opened to be appended to.
    let end = i64::try_from(site.end()?).map_err(io::Error::other)?;
    nix::unistd::lseek(&target, end, nix::unistd::Whence::SeekSet)?;
    short(LINE.len(), sendfile(&target, &source, None, LINE.len())?)?;
    Ok(LINE.to_vec())
}

fn from_pipe(site: &Site, pipe: &impl AsFd) -> io::Result<Vec<u8>> {
    let mut end = i64::try_from(site.end()?).map_err(io::Error::other)?;
    let target = site.open(0)?;
    let moved = splice(pipe, None, &target, Some(&mut end), LINE.len(), SpliceFFlags::empty())?;
    short(LINE.len(), moved)?;
    Ok(LINE.to_vec())
}

fn splice_pipe(site: &Site) -> io::Result<Vec<u8>> {
    let (reader, writer) = pipe()?;
    File::from(writer).write_all(LINE)?;
    from_pipe(site, &reader)
}

fn vmsplice_pipe(site: &Site) -> io::Result<Vec<u8>> {
    let (reader, writer) = pipe()?;
    short(LINE.len(), vmsplice(&writer, &[IoSlice::new(LINE)], SpliceFFlags::empty())?)?;
    from_pipe(site, &reader)
}

fn copy_range(site: &Site) -> io::Result<Vec<u8>> {
    let source = site.source(LINE)?;
    let target = site.open(0)?;
    let mut end = i64::try_from(site.end()?).map_err(io::Error::other)?;
    short(LINE.len(), copy_file_range(&source, None, &target, Some(&mut end), LINE.len())?)?;
    Ok(LINE.to_vec())
}

fn reflink(site: &Site) -> io::Result<Vec<u8>> {
    let line = block('r');
    let source = site.source(&line)?;
    source.sync_all()?;
    let target = site.open(0)?;
    let range = CloneRange {
        source: i64::from(source.as_raw_fd()),
        source_offset: 0,
        length: BLOCK as u64,
        offset: site.end()?,
    };
    // SAFETY: the request takes a pointer to such a structure, and only reads it.
    unsafe { clone_range(target.as_raw_fd(), &raw const range) }?;
    Ok(line)
}

/// `struct file_clone_range`, include/uapi/linux/fs.h.
#[repr(C)]
struct CloneRange {
    source: i64,
    source_offset: u64,
    length: u64,
    offset: u64,
}

// FICLONERANGE.
nix::ioctl_write_ptr!(clone_range, 0x94, 13, CloneRange);
