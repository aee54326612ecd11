//! log-tail follows files as they are written: a kernel program sees each write, rename and truncation and
//! rings a doorbell; the reader takes the new bytes in whole lines, in order, once. Where the kernel refuses
//! the program, inotify rings instead.
//!
//! The way of the bytes is the order of the modules: [`observe`] says that something changed, [`follow`]
//! finds the file and reads it, [`record`] is what it hands on, [`output`] writes it,
//! [`state`] remembers how far that went. A module uses only modules before it.
//!
//! # Known problems
//! * Stores into mapped memory (`mmap`) raise no event: they come out with the next write, or not at all.
//! * Writers on other hosts (NFS, SMB, FUSE) are invisible to this kernel: such files are looked at every second.

mod choose;
pub mod cli;
mod count;
pub mod doctor;
pub mod events;
mod follow;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod hot;
mod observe;
mod output;
mod record;
pub mod run;
pub mod say;
mod serve;
pub mod state;
