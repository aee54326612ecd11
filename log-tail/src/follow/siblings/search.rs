//! The one among the siblings that holds what was being read: believed by its content, whatever it is called.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::Path,
};

use super::{Content, Found, Identity, Sibling, TRIES, open, rotated};
use crate::follow::{
    compressed::{Kind, Packed},
    print::Print,
};

/// The sibling of `path` whose content is what `print` says up to `offset`, and has so many bytes: plain ones
/// before compressed ones, of each the newest first. Those that `not` says yes to are passed over, and so are
/// compressed files that are not whole: reads each that seems to be it to its end.
///
/// # Errors
/// The directory cannot be read; or none was found, and one of the siblings could not be read.
pub fn find(
    path: &Path,
    print: &Print,
    offset: u64,
    not: &dyn Fn(Identity) -> bool,
) -> io::Result<Option<Found>> {
    for _ in 0..TRIES {
        let mut siblings = rotated(path)?;
        siblings.retain(|sibling| !not(sibling.identity));
        let mut search = Search { print, offset, moved: false, trouble: None };
        let (plain, packed): (Vec<_>, Vec<_>) =
            siblings.into_iter().rev().partition(|sibling| sibling.compressed.is_none());
        for sibling in plain.into_iter().chain(packed) {
            if let Some(content) = search.content(&sibling) {
                return Ok(Some(Found { sibling, content }));
            }
        }
        if !search.moved {
            return search.trouble.map_or(Ok(None), Err);
        }
    }
    Ok(None)
}

struct Search<'a> {
    print: &'a Print,
    offset: u64,
    /// A name did not bear any more what it bore when it was listed.
    moved: bool,
    /// The first that could not be read.
    trouble: Option<io::Error>,
}

impl Search<'_> {
    fn content(&mut self, sibling: &Sibling) -> Option<Content> {
        let looked = open(sibling).and_then(|file| match file {
            None => {
                self.moved = true;
                Ok(None)
            }
            Some(file) if sibling.compressed.is_some() => self.decompressed(sibling, file),
            Some(file) => {
                let whole = file.metadata()?.len() >= self.offset && self.print.is_of(&file, self.offset)?;
                Ok(whole.then_some(Content::Plain(file)))
            }
        });
        match looked {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.moved = true;
                None
            }
            // A half-written file is nothing to speak of: its compressor is at it, or has died.
            Err(error) if error.kind() == ErrorKind::InvalidData => None,
            Err(error) => {
                let path = sibling.path.display();
                let text = format!("cannot look for unread lines in '{path}': {error}");
                self.trouble.get_or_insert(io::Error::new(error.kind(), text));
                None
            }
        }
    }

    fn decompressed(&self, sibling: &Sibling, file: File) -> io::Result<Option<Content>> {
        let Some(kind) = Kind::of(&file)? else { return Ok(None) };
        let packed = Packed { file, kind, path: sibling.path.clone() };
        let mut decoder = packed.decoder()?;
        if !self.print.is_of_forward(&mut decoder, self.offset)? {
            return Ok(None);
        }
        // Only at its end it is certain that it is whole.
        io::copy(&mut decoder, &mut io::sink())?;
        Ok(Some(Content::Compressed(packed)))
    }
}
