//! The least that handing a file to a pipe takes: loops that do nothing else.
//!
//! Only those that copy may be used for logs. A page that is spliced is the file's own until it is read from the pipe, and
//! one that is vmspliced is the writer's, so what was handed on can still change; and how long that is depends on whoever
//! reads the pipe: who splices it further on keeps the pages.

use std::{
    fs::File,
    io::{self, IoSlice, PipeWriter, Read as _, Write as _, pipe},
    num::NonZeroUsize,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::{FcntlArg, SpliceFFlags, fcntl, splice, vmsplice},
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};

use super::process::seconds_since;

/// What is handed on at once, and the pipe that it goes to: as log-tail does.
const BLOCK_BYTES: usize = 256 << 10;
const PIPE_BYTES: usize = 1 << 20;

/// Hands the bytes of a file to a pipe.
pub type Copy = fn(&File, &mut PipeWriter) -> Result<()>;

/// All of them, the one that log-tail is measured by first.
pub const LOOPS: [(&str, Copy); 5] = [
    ("read and write in a loop", by_read),
    ("read and write in two threads", by_two_threads),
    ("mmap and write in a loop", by_mmap),
    ("read and vmsplice in a loop", by_vmsplice),
    ("splice in a loop", by_splice),
];

/// Seconds that it takes until a `cat` on the other side has read everything.
pub fn copy(file: &Path, copy: Copy) -> Result<f64> {
    let (reader, mut writer) = pipe().context("making a pipe")?;
    let began = Instant::now();
    let mut consumer =
        Command::new("cat").stdin(reader).stdout(Stdio::null()).spawn().context("starting cat")?;
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES.try_into()?)).context("making the pipe larger")?;
    copy(&File::open(file)?, &mut writer)?;
    drop(writer);
    consumer.wait().context("waiting for cat")?;
    Ok(seconds_since(began))
}

/// Nobody who copies in one thread is faster.
fn by_read(mut file: &File, pipe: &mut PipeWriter) -> Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    while let read @ 1.. = file.read(&mut block)? {
        pipe.write_all(&block[..read])?;
    }
    Ok(())
}

/// One reads while the other writes.
fn by_two_threads(file: &File, pipe: &mut PipeWriter) -> Result<()> {
    const BLOCKS: usize = 4;
    let (to_writer, from_reader) = sync_channel::<(Vec<u8>, usize)>(BLOCKS);
    let (to_reader, from_writer) = sync_channel(BLOCKS);
    for _ in 0..BLOCKS {
        to_reader.send(vec![0; BLOCK_BYTES])?;
    }
    thread::scope(move |scope| {
        let reader = scope.spawn(move || -> io::Result<()> {
            let mut file = file;
            // It ends where the writer does.
            while let Ok(mut block) = from_writer.recv() {
                let read = file.read(&mut block)?;
                if read == 0 || to_writer.send((block, read)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        for (block, read) in from_reader {
            pipe.write_all(&block[..read])?;
            // The reader may have come to the end.
            let _ = to_reader.send(block);
        }
        Ok(reader.join().expect("a thread that ends")?)
    })
}

/// Writes blocks out of mappings, a few blocks large each: what this process had in memory once counts as its children's.
/// (Truncated meanwhile, whoever does this dies by SIGBUS.)
fn by_mmap(file: &File, pipe: &mut PipeWriter) -> Result<()> {
    const MAPPED_BYTES: usize = 16 * BLOCK_BYTES;
    let length = usize::try_from(file.metadata()?.len())?;
    for at in (0..length).step_by(MAPPED_BYTES) {
        let size = MAPPED_BYTES.min(length - at);
        let nonzero = NonZeroUsize::new(size).context("an empty file")?;
        let offset = at.try_into()?;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let mapped =
            unsafe { mmap(None, nonzero, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, offset) }?;
        // SAFETY: so many bytes are mapped there until the end, and nobody changes this file.
        let bytes = unsafe { std::slice::from_raw_parts(mapped.as_ptr().cast::<u8>(), size) };
        let written = bytes.chunks(BLOCK_BYTES).try_for_each(|block| pipe.write_all(block));
        // SAFETY: nothing refers to it any more.
        unsafe { munmap(mapped, size) }?;
        written?;
    }
    Ok(())
}

/// Hands on the memory that was read into, and reads into it again when the pipe cannot hold it any more. (At the end the
/// pipe holds memory that is given back here; this `cat` does not mind.)
fn by_vmsplice(mut file: &File, pipe: &mut PipeWriter) -> Result<()> {
    const BLOCKS: usize = PIPE_BYTES / BLOCK_BYTES + 1;
    let mut memory = vec![0; BLOCKS * BLOCK_BYTES];
    for at in (0..BLOCKS).cycle() {
        let block = &mut memory[at * BLOCK_BYTES..][..BLOCK_BYTES];
        let read = file.read(block)?;
        if read == 0 {
            break;
        }
        let mut rest = &block[..read];
        while !rest.is_empty() {
            rest = &rest[vmsplice(&*pipe, &[IoSlice::new(rest)], SpliceFFlags::empty())?..];
        }
    }
    Ok(())
}

/// Hands on the file's own pages.
fn by_splice(file: &File, pipe: &mut PipeWriter) -> Result<()> {
    while splice(file, None, &*pipe, None, PIPE_BYTES, SpliceFFlags::empty())? > 0 {}
    Ok(())
}
