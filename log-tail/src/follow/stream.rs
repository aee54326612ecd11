//! The content of a compressed file as it is read. Its decoder is made when its turn comes: of many that wait for
//! theirs, each takes a descriptor at most, and that may be closed to make room.

use std::{io, path::Path, sync::Arc};

use super::{
    Identity, NotFollowable,
    compressed::{Decoder, Kind},
    descriptors::Descriptors,
};
use crate::observe::FileId;

/// Read forward, from where it was read to before.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
    decoder: Option<Box<Decoder>>,
}

impl Stream {
    /// Nothing is opened yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, decoder: None }
    }

    /// Its decoder: where it is made only now, the next byte it gives is the one at `offset`.
    ///
    /// # Errors
    /// [`NotFollowable`]: as [`Descriptors::get`]; or what is there cannot be decompressed up to that byte.
    pub fn decoder(
        &mut self,
        descriptors: &mut Descriptors,
        (id, path, identity): (FileId, &mut Arc<Path>, Identity),
        offset: u64,
    ) -> Result<&mut Decoder, NotFollowable> {
        let decoder = if let Some(decoder) = self.decoder.take() {
            decoder
        } else {
            let file = descriptors.get(id, path, identity)?;
            let opened = Decoder::beside(file, self.kind, path);
            let mut decoder = opened.map_err(|error| NotFollowable::from_io(path, error))?;
            let shorter = || io::Error::other("it is shorter than what was read of it");
            let skipped =
                decoder.skip_to(offset).and_then(|is_there| is_there.then_some(()).ok_or_else(shorter));
            skipped.map_err(|source| NotFollowable::System { path: path.to_path_buf(), source })?;
            Box::new(decoder)
        };
        Ok(self.decoder.insert(decoder))
    }
}
