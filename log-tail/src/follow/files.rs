//! The files to read, and the order in which they are: whose turn it is, and what has to come first.

use std::{
    num::NonZeroU64,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Follower, Identity, NotFollowable, Rotation,
    claims::Claims,
    copies::Copies,
    memory::{self, Known},
    names::Names,
    passing::Passing,
    rare::Rare,
    reader::{Input, Position, Step},
    stream::Stream,
    succession::Place,
    truncation::Truncations,
    unfinished::Unfinished,
};
use crate::{
    observe::{Answer, FileId},
    record::{Block, Ending, Item, Source, Written},
};

/// Bytes a file may give out before the others get their turn.
const TURN_BYTES: usize = 4 << 20;
/// A file that goes on: no offset is as far.
pub(super) const NO_END: u64 = u64::MAX;
/// The kernel's longest.
const TICK_NS: u64 = 10_000_000;
/// How soon a file is read again that could not be opened for want of descriptors.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// A file that is followed.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own; any may hold with any")]
pub(super) struct FollowedFile {
    pub id: FileId,
    pub source: Arc<Source>,
    pub identity: Identity,
    /// `FS_IOC_GETVERSION`, where anything is remembered of it.
    pub generation: Option<u32>,
    /// A name it bears, or bore when that was last known.
    pub path: Arc<Path>,
    /// The entry of a followed directory that bears it.
    pub place: Option<Place>,
    pub position: Position,
    /// The followed names it bears.
    pub names: Names,
    /// In `ready`.
    pub queued: bool,
    /// The observer was told, since the last hint, that it will be read.
    pub answered: bool,
    /// What is to be remembered of it while it is rotated or truncated.
    pub passing: Rare<Passing>,
    /// Its last line, which waits for its newline, where nobody tells of truncations.
    pub unfinished: Option<Box<Unfinished>>,
    /// Nobody has it open for writing.
    pub sealed: bool,
    /// How many others have to be drained before it is read.
    pub waits_for: u32,
    /// Stands in a name's line behind an inode that is still to be opened.
    pub in_line: bool,
    /// To be let go when its end is reached: it has lost its last name and its grace time is over.
    pub finish: bool,
    /// Where its bytes come from instead of its descriptor: a compressed generation.
    pub stream: Option<Stream>,
    /// The kernel program may take another file for it: what it tells of truncations may be of that one.
    pub shares_key: bool,
    /// The copies that may hold something of it that is to be read.
    pub copies: Copies,
    /// Bytes that truncations cut off before they were read, and that were not reported yet. Less than
    /// none while the kernel program has noted one half of a truncation, and not the other.
    pub lost_bytes: i64,
    /// It may be more: the kernel program did not tell of one of the truncations.
    pub lost_is_least: bool,
    /// A truncation is to be reported.
    pub truncated: bool,
    /// The largest size it was seen to have, in bytes.
    pub seen_bytes: u64,
    /// See [`Known::looked_ns`].
    pub looked_ns: u64,
    /// Where its end is taken to be: nothing written later is read. [`NO_END`] while it goes on.
    pub end: u64,
    /// Kernel time of the oldest write that is not answered.
    pub written_ns: Option<NonZeroU64>,
    /// Who wrote what is to be handed on, where that is told.
    pub claims: Option<Box<Claims>>,
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
        file.written_ns = file.written_ns.or_else(|| time_ns.and_then(NonZeroU64::new));
        self.queue(id);
    }

    /// A hint says that the file was truncated.
    pub(super) fn truncated(&mut self, id: FileId, cut_off_bytes: u64) {
        self.copied_before(id, cut_off_bytes);
        if let Some(claims) = self.file_mut(id).and_then(|file| file.claims.as_deref_mut()) {
            claims.clear();
        }
        self.written(id, None);
    }

    pub(super) fn queue(&mut self, id: FileId) {
        if let Some(file) = self.file_mut(id)
            && !file.queued
            && file.waits_for == 0
            && !file.in_line
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
        let hold_until = Instant::now() + self.settings.rotate_wait;
        let Some(file) = self.file_mut(first) else { return };
        if file.passing.before.contains(&later) {
            return;
        }
        file.passing.before.push(later);
        file.passing.hold_until.get_or_insert(hold_until);
        if let Some(file) = self.file_mut(later) {
            file.waits_for += 1;
        }
        self.queue(first);
    }

    fn comes_before(&self, first: FileId, later: FileId) -> bool {
        let before = self.file(first).map(|file| file.passing.before.as_slice()).unwrap_or_default();
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
            // Of a compressed one, that is not where its content ends; and it does not grow.
            file.end = end.filter(|_| file.stream.is_none()).unwrap_or(NO_END);
        }
        self.finish_at_end(id);
    }

    /// Its size in bytes, where it can be opened.
    pub(super) fn size(&mut self, id: FileId) -> Option<u64> {
        let file = self.files.get_mut(id.0 as usize)?;
        let size = self.descriptors.get(id, &mut file.path, file.identity).ok()?.metadata().ok()?.len();
        file.seen_bytes = file.seen_bytes.max(size);
        Some(size)
    }

    pub(super) fn unread_bytes(&mut self, id: FileId) -> Option<u64> {
        let size = self.size(id)?;
        Some(size.saturating_sub(self.file(id)?.position.handed_on()))
    }

    /// The next thing to hand on; `None` when everything that was hinted at has been read.
    pub fn next_item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.outbox.pop_front() {
                return Some(item);
            }
            let Some(id) = self.ready.front().copied() else { break };
            if let Some(file) = self.file_mut(id).filter(|file| file.waits_for > 0 || file.in_line) {
                // It was queued before it became known what has to come first; that queues it again.
                file.queued = false;
                self.ready.pop_front();
                continue;
            }
            match self.read_on(id) {
                Turn::Block(block) => {
                    self.turn_bytes += block.bytes.len();
                    self.hand_on_by_writers(id, block);
                    if self.turn_bytes >= TURN_BYTES && self.caught_up && self.ready.len() > 1 {
                        self.turn_bytes = 0;
                        self.ready.rotate_left(1);
                    }
                }
                Turn::GoOn => {}
                Turn::Later => {
                    self.ready.pop_front();
                    if let Some(file) = self.file_mut(id) {
                        file.queued = false;
                    }
                }
                Turn::Over => {
                    self.turn_bytes = 0;
                    // A block given up at the file's end may have let it go already.
                    if self.ready.front() == Some(&id) {
                        self.ready.pop_front();
                    }
                    self.end_of_turn(id);
                }
            }
        }
        self.caught_up = true;
        None
    }

    pub(super) fn hand_on(&mut self, block: Block) {
        self.counts.bytes += block.bytes.len() as u64;
        self.outbox.push_back(Item::Block(block));
    }

    fn read_on(&mut self, id: FileId) -> Turn {
        let Some(file) = self.files.get_mut(id.0 as usize) else { return Turn::Over };
        if !file.answered {
            file.answered = true;
            file.position.goes_on();
            let near = file.position.handed_on();
            let answer = self.observer.as_mut().map(|observer| observer.answer(id, near)).unwrap_or_default();
            self.claimed(id, &answer);
            if answer.collapsed_bytes > 0 {
                self.collapsed(id, answer.collapsed_bytes);
            }
            let Some(file) = self.files.get_mut(id.0 as usize) else { return Turn::Over };
            if let Some(told) = file.told(answer) {
                self.truncation_told(id, told);
                return Turn::GoOn;
            }
            if file.passing.told.is_half() {
                // The other half is being written at this moment.
                file.answered = false;
                return Turn::GoOn;
            }
        }
        let is_unread = |file: &FollowedFile| file.truncated && file.position.handed_on() == 0;
        if self.file(id).is_some_and(is_unread) && self.read_missed_copies(id) {
            return Turn::GoOn;
        }
        if self.report_lost(id) {
            return Turn::GoOn;
        }
        let is_looked_at = self.looked.contains(id);
        let is_told = self.truncations_are_told(id);
        let Some(file) = self.files.get_mut(id.0 as usize) else { return Turn::Over };
        if file.position.looked_to() >= file.end {
            let is_empty = file.position.handed_on() == 0 && file.stream.is_none() && self.observer.is_some();
            if is_empty && self.may_have_missed_copies(id) && self.read_missed_copies(id) {
                return Turn::GoOn;
            }
            if let Some(file) = self.file_mut(id).filter(|_| is_empty) {
                file.looked_at(memory::now_ns());
            }
            return Turn::Over;
        }
        let observer = self.observer.as_deref();
        // Nobody tells whether this is the content that was to be read next.
        let is_untold =
            file.position.handed_on() == 0 && observer.is_some() && !is_told && file.stream.is_none();
        let changed = || observer.is_some_and(|observer| observer.truncated_since(id));
        let looked_ns = (file.position.handed_on() == 0).then(memory::now_ns);
        let input = match &mut file.stream {
            Some(stream) => match stream.decoder(
                &mut self.descriptors,
                (id, &mut file.path, file.identity),
                file.position.read_to(),
            ) {
                Ok(decoder) => Input::Stream(decoder),
                Err(error) => return self.unreadable(id, &error),
            },
            None => match self.descriptors.get(id, &mut file.path, file.identity) {
                Ok(descriptor) => Input::File(descriptor),
                Err(error) => return self.unreadable(id, &error),
            },
        };
        let step = self.reader.step(input, &mut file.position, changed);
        if is_looked_at {
            // A server may give less than there is.
            file.position.goes_on();
        }
        if is_untold && step.is_ok() && self.may_have_missed_copies(id) && self.read_missed_copies(id) {
            return Turn::GoOn;
        }
        let Some(file) = self.files.get_mut(id.0 as usize) else { return Turn::Over };
        if let Some(looked_ns) = looked_ns {
            file.looked_at(looked_ns);
        }
        match step {
            Ok(Step::Block { offset, bytes, ending }) => {
                file.told_of();
                file.unfinished = None;
                self.descriptors.warm(id);
                Turn::Block(file.block(offset, bytes, ending))
            }
            Ok(Step::Changed) => {
                file.answered = false;
                Turn::GoOn
            }
            Ok(Step::Held) => Turn::GoOn,
            // A hint was taken while copies were looked for: what it tells of may have come after the end was seen.
            Ok(Step::EndOfFile) if !file.answered => Turn::GoOn,
            Ok(Step::EndOfFile) => {
                let read_to = file.position.read_to();
                if !is_told && self.observer.is_some() && read_to > file.position.handed_on() {
                    let look = Unfinished::seen(&mut file.unfinished, read_to, Instant::now());
                    self.asks.extend(look.map(|at| (at, id)));
                }
                Turn::Over
            }
            Ok(Step::Rewritten) => self.rewritten(id),
            Err(source) => {
                let path = file.path.to_path_buf();
                self.unreadable(id, &NotFollowable::System { path, source })
            }
        }
    }

    pub(super) fn unreadable(&mut self, id: FileId, error: &NotFollowable) -> Turn {
        if matches!(error, NotFollowable::Descriptors { .. }) {
            // Says nothing about the file: it is neither at its end nor gone.
            self.descriptors.make_room();
            self.asks.push((Instant::now() + AGAIN_AFTER, id));
            return Turn::Later;
        }
        if matches!(error, NotFollowable::Missing(_))
            && self.file(id).is_some_and(|file| file.names.is_empty())
        {
            self.miss_rest(id);
        } else {
            self.notice(error);
        }
        // Nothing more can be had of it. Where a name still bears the inode, the sweep will look again.
        if let Some(file) = self.file_mut(id)
            && file.names.is_empty()
        {
            file.finish = true;
        }
        Turn::Over
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
    /// A file that starts at this position.
    pub fn new(id: FileId, source: Source, identity: Identity, position: Position) -> Self {
        Self {
            id,
            path: source.path.clone(),
            source: Arc::new(source),
            identity,
            generation: None,
            place: None,
            position,
            names: Names::new(),
            queued: false,
            answered: false,
            passing: Rare::default(),
            waits_for: 0,
            in_line: false,
            unfinished: None,
            sealed: false,
            finish: false,
            shares_key: false,
            copies: Copies::NONE,
            stream: None,
            lost_bytes: 0,
            lost_is_least: false,
            truncated: false,
            seen_bytes: 0,
            looked_ns: 0,
            end: NO_END,
            written_ns: None,
            claims: None,
        }
    }

    /// All of its copies that were made up to this time have been told of.
    pub fn looked_at(&mut self, now_ns: u64) {
        // One that was passed over may have been made within this tick. And the clock may have been set back.
        let is_near = self.looked_ns < now_ns.saturating_add(TICK_NS);
        self.looked_ns = if is_near { self.looked_ns.max(now_ns) } else { now_ns };
    }

    /// Takes what is told of its truncations; returns it where that is all of it.
    fn told(&mut self, answer: Answer) -> Option<Truncations> {
        let is_nothing = answer.truncated_to.is_none() && answer.cut_off_bytes == 0;
        let is_nothing = is_nothing && self.passing.where_there().is_none();
        if is_nothing || self.shares_key { None } else { self.passing.told.with(answer) }
    }

    /// It is what was read, or it is told what became of it.
    pub fn told_of(&mut self) {
        if let Some(passing) = self.passing.where_there() {
            passing.untold_since = None;
        }
    }

    /// What is to be remembered of it, but for how far it was acknowledged.
    pub fn known(&self) -> Known {
        Known {
            number: self.source.number,
            path: self.source.path.to_path_buf(),
            located: self.path.to_path_buf(),
            identity: self.identity,
            generation: self.generation,
            offset: self.position.handed_on(),
            print: self.position.print.clone(),
            seen_s: 0,
            looked_ns: self.looked_ns,
            copy_of: self.passing.copy_of_number,
            finished: false,
        }
    }

    pub fn block(&self, offset: u64, bytes: Bytes, ending: Ending) -> Block {
        Block { source: Arc::clone(&self.source), offset, bytes, ending, written: Written::Unknown }
    }
}

/// What came of reading a file once.
pub(super) enum Turn {
    /// Bytes to hand on; more may follow.
    Block(Block),
    /// Nothing to hand on yet; read again.
    GoOn,
    /// The end was reached, or the file cannot be read.
    Over,
    /// The file cannot be read at this moment.
    Later,
}
