//! The files to read, and the order in which they are: whose turn it is, and what has to come first.

use std::{path::PathBuf, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    Follower, Identity, NameId, NotFollowable, Rotation,
    reader::{Position, Step},
};
use crate::{
    observe::{FileId, Observer},
    record::{Block, Ending, Source},
};

/// Bytes a file may give out before the others get their turn.
const TURN_BYTES: usize = 4 << 20;

/// A file that is followed.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own; any may hold with any")]
pub(super) struct FollowedFile {
    pub id: FileId,
    pub source: Arc<Source>,
    pub identity: Identity,
    /// A name it bore when it was last opened.
    pub path: PathBuf,
    pub position: Position,
    /// The followed names it bears.
    pub names: Vec<NameId>,
    /// In `ready`.
    pub queued: bool,
    /// The observer was told, since the last hint, that it will be read.
    pub answered: bool,
    /// Must be read to its end before these are.
    pub before: Vec<FileId>,
    /// Waits for another file to be read to its end.
    pub waits: bool,
    /// To be let go when its end is reached: it has lost its last name and its grace time is over.
    pub finish: bool,
    /// When its grace time is over, where it has lost its last name.
    pub leaves_at: Option<Instant>,
    /// Its truncation was not told: the next look at its size decides.
    pub untold: bool,
    /// Where its end is taken to be: nothing written later is read.
    pub end: Option<u64>,
    /// Kernel time of the oldest write that is not answered.
    pub written_ns: Option<u64>,
}

impl Follower {
    pub(super) fn file(&self, id: FileId) -> Option<&FollowedFile> {
        self.files.get(id.0 as usize)
    }

    pub(super) fn file_mut(&mut self, id: FileId) -> Option<&mut FollowedFile> {
        self.files.get_mut(id.0 as usize)
    }

    /// A hint says that there may be something to read.
    pub(super) fn written(&mut self, id: FileId, time_ns: Option<u64>) {
        self.suspects.clear(id);
        let Some(file) = self.file_mut(id) else { return };
        file.answered = false;
        file.written_ns = file.written_ns.or(time_ns);
        self.queue(id);
    }

    pub(super) fn queue(&mut self, id: FileId) {
        if let Some(file) = self.file_mut(id)
            && !file.queued
            && !file.waits
        {
            file.queued = true;
            self.ready.push_back(id);
        }
    }

    /// `later` is not read before `first` has been read to its end; unless, two names having been
    /// exchanged, it is the other way round already.
    pub(super) fn read_before(&mut self, first: FileId, later: FileId) {
        if self.comes_before(later, first) {
            return;
        }
        let Some(file) = self.file_mut(first) else { return };
        file.before.push(later);
        if let Some(file) = self.file_mut(later) {
            file.waits = true;
        }
        self.queue(first);
    }

    fn comes_before(&self, first: FileId, later: FileId) -> bool {
        let before = self.file(first).map(|file| file.before.as_slice()).unwrap_or_default();
        before.iter().any(|next| *next == later || self.comes_before(*next, later))
    }

    /// Lets the file go at its next end.
    pub(super) fn finish_at_end(&mut self, id: FileId) {
        let Some(file) = self.file_mut(id) else { return };
        file.finish = true;
        file.answered = false;
        self.queue(id);
    }

    /// Lets the file go once it has been read to where it ends now.
    pub(super) fn finish_here(&mut self, id: FileId) {
        let end = self.size(id);
        if let Some(file) = self.file_mut(id) {
            file.end = end;
        }
        self.finish_at_end(id);
    }

    fn size(&mut self, id: FileId) -> Option<u64> {
        let file = self.files.get_mut(id.0 as usize)?;
        self.descriptors
            .get(id, &mut file.path, file.identity)
            .ok()?
            .metadata()
            .ok()
            .map(|metadata| metadata.len())
    }

    pub(super) fn unread_bytes(&mut self, id: FileId) -> Option<u64> {
        let size = self.size(id)?;
        Some(size.saturating_sub(self.file(id)?.position.handed_on()))
    }

    /// The next bytes to hand on; `None` when everything that was hinted at has been read.
    pub fn next_block(&mut self) -> Option<Block> {
        while let Some(id) = self.ready.front().copied() {
            if let Some(file) = self.file_mut(id).filter(|file| file.waits) {
                // It was queued before it became known what has to come first; that queues it again.
                file.queued = false;
                self.ready.pop_front();
                continue;
            }
            match self.read_on(id) {
                Turn::Block(block) => {
                    self.counts.bytes += block.bytes.len() as u64;
                    self.turn_bytes += block.bytes.len();
                    if self.turn_bytes >= TURN_BYTES && self.caught_up && self.ready.len() > 1 {
                        self.turn_bytes = 0;
                        self.ready.rotate_left(1);
                    }
                    return Some(block);
                }
                Turn::GoOn => {}
                Turn::Over => {
                    self.turn_bytes = 0;
                    // A block given up at the file's end may have let it go already.
                    if self.ready.front() == Some(&id) {
                        self.ready.pop_front();
                    }
                    if let Some(block) = self.end_of_turn(id) {
                        return Some(block);
                    }
                }
            }
        }
        self.caught_up = true;
        None
    }

    fn read_on(&mut self, id: FileId) -> Turn {
        let Some(file) = self.files.get_mut(id.0 as usize) else { return Turn::Over };
        if !file.answered {
            file.answered = true;
            let answer = self.observer.as_mut().map(|observer| observer.answer(id)).unwrap_or_default();
            if let Some(size) = answer.truncated_to.filter(|size| *size < file.position.read_to()) {
                return self.truncated(id, size);
            }
        }
        if file.end.is_some_and(|end| file.position.read_to() >= end) {
            return Turn::Over;
        }
        let observer = self.observer.as_deref();
        let changed = || observer.is_some_and(|observer| observer.truncated_since(id));
        let step = match self.descriptors.get(id, &mut file.path, file.identity) {
            Err(error) => return self.unreadable(id, &error),
            Ok(descriptor) => match self.reader.step(descriptor, &mut file.position, changed) {
                Ok(Step::EndOfFile) => descriptor.metadata().map(|metadata| Err(metadata.len())),
                other => other.map(Ok),
            },
        };
        match step {
            Ok(Ok(Step::Block { offset, bytes, ending })) => Turn::Block(file.block(offset, bytes, ending)),
            Ok(Ok(Step::Changed)) => {
                file.answered = false;
                Turn::GoOn
            }
            Ok(Ok(_)) => Turn::GoOn,
            Ok(Err(size)) if size < file.position.read_to() => {
                // Where the kernel tells, its word is on its way, and says from which byte on to read.
                if observer.is_some_and(Observer::tells_truncations) && !std::mem::take(&mut file.untold) {
                    return Turn::Over;
                }
                self.truncated(id, 0)
            }
            Ok(Err(_)) => Turn::Over,
            Err(source) => {
                let path = file.path.clone();
                self.unreadable(id, &NotFollowable::System { path, source })
            }
        }
    }

    /// The file was truncated to `size`, which lies before what was read: what was held back of its last
    /// line is all there will be of it, and what is behind `size` now is new.
    fn truncated(&mut self, id: FileId, size: u64) -> Turn {
        let Some(file) = self.file_mut(id) else { return Turn::Over };
        let rest = file.position.give_up_rest();
        file.position = Position::at(size);
        let block = rest.map(|(offset, bytes)| file.block(offset, bytes, Ending::EndOfFile));
        let path = file.source.path.display().to_string();
        self.rotated(Rotation::Truncate);
        self.notice(format_args!("'{path}' was truncated; going on from byte {size}"));
        block.map_or(Turn::GoOn, Turn::Block)
    }

    fn unreadable(&mut self, id: FileId, error: &NotFollowable) -> Turn {
        self.notice(error);
        // Nothing more can be had of it. Where a name still bears the inode, the sweep will look again.
        if let Some(file) = self.file_mut(id)
            && file.names.is_empty()
        {
            file.finish = true;
        }
        Turn::Over
    }

    /// The end of a file was reached: whoever waited for it may be read, and it is let go if its time has come.
    fn end_of_turn(&mut self, id: FileId) -> Option<Block> {
        let file = self.file_mut(id)?;
        file.queued = false;
        self.answered_ns.extend(self.files.get_mut(id.0 as usize)?.written_ns.take());
        let file = self.file_mut(id)?;
        let finish = file.finish;
        for later in std::mem::take(&mut file.before) {
            if let Some(file) = self.file_mut(later) {
                file.waits = false;
            }
            self.queue(later);
        }
        if finish { self.let_go(id) } else { None }
    }

    fn let_go(&mut self, id: FileId) -> Option<Block> {
        if let Some(observer) = self.observer.as_mut() {
            observer.leave_file(id);
        }
        self.descriptors.close(id);
        self.looked.remove(id);
        let mut file = self.files.try_remove(id.0 as usize)?;
        self.by_identity.remove(&file.identity);
        let (offset, rest) = file.position.give_up_rest()?;
        self.counts.bytes += rest.len() as u64;
        Some(file.block(offset, rest, Ending::EndOfFile))
    }

    /// The file has lost its last name: it is read on for the grace time.
    pub(super) fn leave_later(&mut self, id: FileId) {
        let at = Instant::now() + self.settings.rotate_wait;
        self.leaving.push_back((at, id));
        if let Some(file) = self.file_mut(id) {
            file.leaves_at = Some(at);
        }
    }

    /// The grace time given at that moment is over: lets the file go, unless it bears a name again.
    pub(super) fn leave(&mut self, id: FileId, at: Instant) {
        if self.file(id).is_some_and(|file| file.names.is_empty() && file.leaves_at == Some(at)) {
            self.finish_at_end(id);
        }
    }

    pub(super) fn rotated(&mut self, rotation: Rotation) {
        *match rotation {
            Rotation::Replace => &mut self.counts.replaced,
            Rotation::Unlink => &mut self.counts.unlinked,
            Rotation::Truncate => &mut self.counts.truncated,
        } += 1;
    }
}

impl FollowedFile {
    fn block(&self, offset: u64, bytes: Bytes, ending: Ending) -> Block {
        Block { source: Arc::clone(&self.source), offset, bytes, ending }
    }
}

/// What came of reading a file once.
enum Turn {
    /// Bytes to hand on; more may follow.
    Block(Block),
    /// Nothing to hand on yet; read again.
    GoOn,
    /// The end was reached, or the file cannot be read.
    Over,
}
