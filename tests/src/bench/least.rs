//! The least that following many files through inotify takes: a loop that does nothing else.
//!
//! It asks what was written, waits a moment for more as log-tail does under a stream, reads each file that it was told of
//! once, and hands all of it on with one write. It knows no names, no rotation and no lines.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    mem,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::OFlag,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use crate::torture::subject::{Order, Subject};

/// As long as log-tail's longest.
const MOMENT: Duration = Duration::from_micros(200);
/// What it hands on at once, and the room for a read that is not put off until that is done.
const BLOCK_BYTES: usize = 256 << 10;
const LEAST_ROOM_BYTES: usize = 16 << 10;

/// The option of this program that has it be the loop.
pub const OPTION: &str = "--follow-in-a-loop";

/// The loop, in a process of its own.
#[derive(Debug)]
pub struct Least;

impl Subject for Least {
    fn name(&self) -> &'static str {
        "a loop"
    }

    fn version(&self) -> String {
        "inotify, read and write in a loop".to_owned()
    }

    fn command(&self, order: &Order) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("where am I?")?);
        command.arg(OPTION).args(&order.names);
        Ok(command)
    }
}

/// Prints what these files hold and what is appended to them, until it is ended.
///
/// # Errors
/// A file cannot be read or watched, or nobody reads what is printed.
pub fn follow(paths: &[PathBuf]) -> Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let mut files = Vec::with_capacity(paths.len());
    let mut by_watch = HashMap::with_capacity(paths.len());
    for path in paths {
        let watch = inotify.add_watch(path, AddWatchFlags::IN_MODIFY);
        by_watch.insert(watch.with_context(|| format!("watching {}", path.display()))?, files.len());
        files.push(open(path)?);
    }
    // What was there before is read first.
    let (mut told, mut is_told) = ((0..files.len()).collect::<Vec<_>>(), vec![true; files.len()]);
    // `Stdout` itself would look for newlines.
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut block = Block { bytes: vec![0; BLOCK_BYTES], filled: 0, stdout };
    loop {
        for at in told.drain(..) {
            is_told[at] = false;
            block.take(&mut files[at]).with_context(|| format!("reading {}", paths[at].display()))?;
        }
        block.hand_on()?;
        thread::sleep(MOMENT);
        for event in inotify.read_events().context("reading what inotify tells")? {
            if let Some(&at) = by_watch.get(&event.wd)
                && !mem::replace(&mut is_told[at], true)
            {
                told.push(at);
            }
        }
    }
}

/// What is handed on at once.
struct Block {
    bytes: Vec<u8>,
    filled: usize,
    stdout: File,
}

impl Block {
    /// All that was appended to the file.
    fn take(&mut self, file: &mut File) -> io::Result<()> {
        loop {
            if self.bytes.len() - self.filled < LEAST_ROOM_BYTES {
                self.hand_on()?;
            }
            let room = &mut self.bytes[self.filled..];
            let read = file.read(room)?;
            let is_all = read < room.len();
            self.filled += read;
            if is_all {
                return Ok(());
            }
        }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        self.stdout.write_all(&self.bytes[..self.filled])?;
        self.filled = 0;
        Ok(())
    }
}

/// Without having the time of each read noted where that may be asked for, as log-tail does.
fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    let opened = options.clone().custom_flags(OFlag::O_NOATIME.bits()).open(path);
    opened.or_else(|_| options.open(path)).with_context(|| format!("opening {}", path.display()))
}
