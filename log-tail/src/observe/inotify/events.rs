//! What read(2) gives of an inotify descriptor, event by event: inotify(7) has the layout.
//!
//! Read in large portions, and names are not copied one by one: under load there is one for every write.

use std::{io, os::fd::AsFd};

use bytes::{Buf, Bytes};
use log_tail_common::NAME_MAX;
use nix::sys::inotify::AddWatchFlags;

/// Bytes asked for at once: some two thousand events.
const READ_BYTES: usize = 64 << 10;
/// Of an event, what comes before its name, which fills up a multiple of it.
const HEADER_BYTES: usize = size_of::<libc::inotify_event>();
/// The longest event.
const MOST_BYTES: usize = HEADER_BYTES + (NAME_MAX + 1).next_multiple_of(HEADER_BYTES);

/// What happened to a watched file, or to a name in a watched directory.
#[derive(Debug)]
pub struct Event {
    /// As `inotify_add_watch` gave it.
    pub watch: i32,
    pub mask: AddWatchFlags,
    /// The same for both ends of a rename.
    pub cookie: u32,
    /// None where it is about what is watched itself.
    pub name: Option<Bytes>,
}

/// Reads events.
#[derive(Debug)]
pub struct Events {
    buffer: Box<[u8]>,
}

impl Events {
    pub fn new() -> Self {
        Self { buffer: vec![0; READ_BYTES].into() }
    }

    /// Those that wait, in their order, as far as there is room for them; and whether these are all: the longest event
    /// would have fitted behind them, had there been one more.
    ///
    /// # Errors
    /// read(2)'s: EAGAIN where none waits.
    pub fn read(&mut self, inotify: impl AsFd) -> io::Result<(Portion, bool)> {
        let read = nix::unistd::read(inotify, &mut self.buffer)?;
        let portion = Portion(Bytes::copy_from_slice(&self.buffer[..read]));
        Ok((portion, read + MOST_BYTES <= READ_BYTES))
    }
}

/// Events that were read.
#[derive(Debug)]
pub struct Portion(Bytes);

impl Iterator for Portion {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.0.len() < HEADER_BYTES {
            return None;
        }
        let watch = self.0.get_i32_ne();
        let mask = AddWatchFlags::from_bits_retain(self.0.get_u32_ne());
        let cookie = self.0.get_u32_ne();
        let length = usize::try_from(self.0.get_u32_ne()).unwrap_or(usize::MAX).min(self.0.len());
        let mut name = self.0.split_to(length);
        name.truncate(memchr::memchr(0, &name).unwrap_or(length));
        Some(Event { watch, mask, cookie, name: (!name.is_empty()).then_some(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel lays it out.
    fn event(watch: i32, mask: u32, cookie: u32, name: &[u8], room: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in [watch.cast_unsigned(), mask, cookie, u32::try_from(room).unwrap()] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.extend(name);
        bytes.resize(HEADER_BYTES + room, 0);
        bytes
    }

    #[test]
    fn events_with_and_without_names_are_told_apart() {
        let modified = libc::IN_MODIFY;
        let bytes = [event(1, modified, 0, b"a.log", 16), event(-1, libc::IN_Q_OVERFLOW, 0, b"", 0)].concat();
        let [named, overflow] = Portion(bytes.into()).collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((named.watch, named.mask.bits(), named.cookie), (1, modified, 0));
        assert_eq!(named.name.as_deref(), Some(&b"a.log"[..]));
        assert!(overflow.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
        assert_eq!((overflow.watch, overflow.name), (-1, None));
        let full = event(2, libc::IN_MOVED_TO, 7, &[b'n'; 16], 16);
        let renamed = Portion(full.into()).next().unwrap();
        assert_eq!((renamed.cookie, renamed.name.unwrap().len()), (7, 16), "no room for a NUL is no error");
    }

    #[test]
    fn what_is_cut_short_is_no_panic() {
        let whole = event(1, libc::IN_CREATE, 0, b"name", 16);
        for length in 0..whole.len() {
            let events: Vec<_> = Portion(Bytes::copy_from_slice(&whole[..length])).collect();
            assert_eq!(events.len(), usize::from(length >= HEADER_BYTES));
        }
    }
}
