//! What changes a file's size, or its content without a write.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
};

use nix::fcntl::{FallocateFlags, fallocate};

use super::{ANOTHER, BLOCK, LINE, Site, Way, block};

pub const WAYS: &[Way] = &[
    Way { name: "truncate, then write", acts: &[by_path] },
    Way { name: "ftruncate, then write", acts: &[by_descriptor] },
    Way { name: "O_TRUNC, then write", acts: &[by_open] },
    Way { name: "truncate, and regrown past the old size", acts: &[regrown] },
    Way { name: "fallocate, then write", acts: &[preallocated, next_line] },
    Way { name: "ftruncate to a larger size, then write", acts: &[extended, next_line] },
    Way { name: "truncate, then write where it ended (a hole)", acts: &[hole] },
    Way { name: "fallocate, FALLOC_FL_COLLAPSE_RANGE, then write", acts: &[second_block, collapsed] },
];

/// As fallocate(2) takes it.
const BLOCK_LENGTH: i64 = 4096;
/// More than is written.
const ROOM: i64 = 4 * BLOCK_LENGTH;

fn by_path(site: &Site) -> io::Result<Vec<u8>> {
    nix::unistd::truncate(&site.log(), 0)?;
    site.append()?.write_all(LINE)?;
    Ok(LINE.to_vec())
}

fn by_descriptor(site: &Site) -> io::Result<Vec<u8>> {
    let mut file = site.append()?;
    file.set_len(0)?;
    file.write_all(LINE)?;
    Ok(LINE.to_vec())
}

fn by_open(site: &Site) -> io::Result<Vec<u8>> {
    File::create(site.log())?.write_all(LINE)?;
    Ok(LINE.to_vec())
}

fn regrown(site: &Site) -> io::Result<Vec<u8>> {
    let lines = [block('1'), block('2')].concat();
    let mut file = OpenOptions::new().write(true).truncate(true).open(site.log())?;
    file.write_all(&lines)?;
    Ok(lines)
}

/// The room is there before the bytes are: zeros, which are not to come out.
fn preallocated(site: &Site) -> io::Result<Vec<u8>> {
    let (file, end) = (site.open(0)?, site.end()?);
    let offset = i64::try_from(end).map_err(io::Error::other)?;
    fallocate(&file, FallocateFlags::empty(), offset, ROOM)?;
    file.write_all_at(LINE, end)?;
    Ok(LINE.to_vec())
}

/// The next line, where the first one ends and the zeros begin.
fn next_line(site: &Site) -> io::Result<Vec<u8>> {
    site.open(0)?.write_all_at(ANOTHER, (BLOCK + LINE.len()) as u64)?;
    Ok(ANOTHER.to_vec())
}

/// There is room behind what was read, and a line at its beginning.
pub fn extended(site: &Site) -> io::Result<Vec<u8>> {
    let (file, end) = (site.open(0)?, site.end()?);
    file.set_len(end + ROOM.unsigned_abs())?;
    file.write_all_at(LINE, end)?;
    Ok(LINE.to_vec())
}

/// As a writer does that does not append, when its file is truncated.
fn hole(site: &Site) -> io::Result<Vec<u8>> {
    let (file, end) = (site.open(0)?, site.end()?);
    file.set_len(0)?;
    file.write_all_at(LINE, end)?;
    Ok(LINE.to_vec())
}

fn second_block(site: &Site) -> io::Result<Vec<u8>> {
    site.append()?.write_all(&block('2'))?;
    Ok(block('2'))
}

/// Its first block is cut out, so that what was read lies nearer to the front.
fn collapsed(site: &Site) -> io::Result<Vec<u8>> {
    let mut file = site.append()?;
    fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK_LENGTH)?;
    file.write_all(LINE)?;
    Ok(LINE.to_vec())
}
