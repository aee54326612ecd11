//! How far each file was read and acknowledged, kept over restarts, crashes and power loss.
//!
//! What is promised of a state directory:
//! * A [`Checkpoint`] that was committed is there after SIGKILL and after power loss. What was not committed yet
//!   is read again: a restart may repeat, it never leaves out.
//! * Damage is noticed, whatever it is: a file that was cut, has a flipped bit, is of a newer version or of
//!   another program is moved aside and named. It is never read as if it said that nothing was followed.
//! * One process writes it. A second one is refused and told which one was first; anybody may read it meanwhile.
//! * A full disk stops the commits, not the following; when there is room, they go on by themselves.
//!
//! A store is rolled back, not damaged, where its newest commit alone is unreadable: then what the commit before
//! it said holds, which repeats and loses nothing.

pub(crate) mod checkpoint;
pub mod command;
mod guard;
pub(crate) mod image;
mod keeper;
mod lock;
mod progress;
mod snapshot;
mod store;

pub use crate::follow::Mark;
pub use checkpoint::{Checkpoint, CheckpointId};
pub use keeper::{Counters, Keeper};
pub use progress::{Progress, StateError};
pub use store::{CommitError, MovedAside, OpenError, Opened, Store};
