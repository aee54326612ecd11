//! Stores into mapped memory: bytes that come into a file without a call that the kernel could tell of.

use std::{fs::File, io, num::NonZeroUsize, os::unix::fs::FileExt as _};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{ANOTHER, BLOCK, LINE, Site, Way, sizes::extended};

pub const WAYS: &[Way] = &[
    Way { name: "mmap, a store alone", acts: &[extended, stored] },
    Way { name: "mmap, a store, then write", acts: &[extended, stored_then_written] },
];

/// Where the line ends that was written when the room was made, and the zeros begin.
const NEXT: usize = BLOCK + LINE.len();

fn stored(site: &Site) -> io::Result<Vec<u8>> {
    store(&site.open(0)?, NEXT, ANOTHER)?;
    Ok(ANOTHER.to_vec())
}

fn stored_then_written(site: &Site) -> io::Result<Vec<u8>> {
    let file = site.open(0)?;
    store(&file, NEXT, ANOTHER)?;
    file.write_all_at(LINE, (NEXT + ANOTHER.len()) as u64)?;
    Ok([ANOTHER, LINE].concat())
}

/// Stores these bytes at this offset of the file, which is longer.
fn store(file: &File, offset: usize, bytes: &[u8]) -> io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let size = NonZeroUsize::new(length).ok_or(io::ErrorKind::UnexpectedEof)?;
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let mapped = unsafe { mmap(None, size, ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, file, 0) }?;
    // SAFETY: so many bytes are mapped there until the end, nobody else has them, and nobody makes this file shorter.
    let memory = unsafe { std::slice::from_raw_parts_mut(mapped.as_ptr().cast::<u8>(), length) };
    memory[offset..offset + bytes.len()].copy_from_slice(bytes);
    // SAFETY: nothing refers to it any more.
    unsafe { munmap(mapped, length) }?;
    Ok(())
}
