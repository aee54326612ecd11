//! Bytes cut out of a file (`FALLOC_FL_COLLAPSE_RANGE`), as is done to keep a log short without a second file: what
//! followed them lies nearer to the front now, and reading goes on where it was, which has another offset.
//!
//! Only the kernel program tells; without it this looks like any truncation, and what is left is read again.

use super::Follower;
use crate::{
    observe::FileId,
    record::{Item, Reached},
};

impl Follower {
    /// So many bytes were cut out of the file, in one piece or several.
    pub(super) fn collapsed(&mut self, id: FileId, bytes: u64) {
        let Some(file) = self.files.get_mut(id.0 as usize) else { return };
        let Ok(descriptor) = self.descriptors.get(id, &mut file.path, file.identity) else { return };
        let position = &mut file.position;
        let offset = position.handed_on().checked_sub(bytes);
        let Some(offset) = offset.filter(|_| position.is_context_at(descriptor, position.read_to() - bytes))
        else {
            // They lay behind what was read, or some of what was unread was among them: reading on will tell.
            return;
        };
        let known = file.known();
        file.position.move_to(offset, descriptor);
        file.seen_bytes = file.seen_bytes.saturating_sub(bytes);
        let number = file.source.number;
        let path = file.source.path.display().to_string();
        self.memory.went_back(known, offset);
        self.outbox.push_back(Item::Back(Reached { number, offset, is_back: true }));
        self.notice(format_args!("{bytes} bytes were cut out of '{path}'; going on at byte {offset}"));
    }
}
