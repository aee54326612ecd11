//! The bytes that are in a compressed file, read forward once.
//!
//! Recognised by its first bytes, not by its name: gzip, zstd, xz and bzip2, also several of them one after
//! the other, as `cat` makes them. Memory is bounded by [`MOST_WINDOW_BYTES`], whatever the file says.
//! Truncated and corrupt files are errors that name the file; their checksums are verified where they have one.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, ErrorKind, Read, Seek as _},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::print::Print;

/// Largest window a file may ask for: what `zstd -d` grants without being told, and twice `xz -9`.
pub const MOST_WINDOW_BYTES: u64 = 128 << 20;

/// Bytes that are compared where two files may hold the same.
pub const HEAD_BYTES: usize = 4096;

/// Compressed bytes read at a time.
const STEP_BYTES: usize = 64 << 10;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// tukaani.org/xz/xz-file-format.txt
    Xz,
    /// What bzip2(1) writes.
    Bzip2,
}

impl Kind {
    /// By the first bytes of the file. `None` where it is not compressed, or too short to tell.
    ///
    /// # Errors
    /// pread(2)'s.
    pub fn of(file: &File) -> io::Result<Option<Self>> {
        let mut first = [0; 6];
        match file.read_exact_at(&mut first, 0) {
            Ok(()) => Ok(Self::of_bytes(&first)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) const ALL: [Self; 4] = [Self::Gzip, Self::Zstd, Self::Xz, Self::Bzip2];

    /// The name without the suffix, and what the suffix says.
    pub(super) fn split_name(name: &[u8]) -> (&[u8], Option<Self>) {
        let suffixed = |kind: Self| Some((name.strip_suffix(kind.suffix().as_bytes())?, Some(kind)));
        Self::ALL.into_iter().find_map(suffixed).unwrap_or((name, None))
    }

    /// Of a file's name.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
            Self::Bzip2 => ".bz2",
        }
    }

    fn of_bytes(first: &[u8]) -> Option<Self> {
        match first {
            // RFC 1952 knows one method, 8.
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            // The second is a skippable frame, as pzstd puts in front: RFC 8878, 3.1.2.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Some(Self::Bzip2),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// A compressed file of which nothing is read yet: a descriptor, and no decoder's tables.
#[derive(Debug)]
pub struct Packed {
    /// Its offset does not matter.
    pub file: File,
    /// How.
    pub kind: Kind,
    /// For error messages.
    pub path: PathBuf,
}

impl Packed {
    /// What is in it, from the first byte on.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn decoder(&self) -> io::Result<Decoder> {
        Decoder::beside(&self.file, self.kind, &self.path)
    }

    /// The first of what is in it, up to [`HEAD_BYTES`].
    ///
    /// # Errors
    /// It cannot be read.
    pub fn head(&self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.decoder()?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        Ok(head)
    }

    /// How many bytes are in it, or more than `most` where it is longer.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn length_to(&self, most: u64) -> io::Result<u64> {
        io::copy(&mut self.decoder()?.take(most.saturating_add(1)), &mut io::sink())
    }

    /// Whether what is in it is what `print` says up to `offset`.
    pub fn is_of(&self, print: &Print, offset: u64) -> bool {
        self.decoder().and_then(|mut it| print.is_of_forward(&mut it, offset)).unwrap_or(false)
    }
}

/// Reads what is in a compressed file. After an error it gives nothing more.
pub struct Decoder {
    path: PathBuf,
    kind: Kind,
    position: u64,
    /// `None` once it has failed: what a decoder does after an error is nobody's promise.
    stream: Option<Stream>,
}

/// Boxed: one decoder's tables are tens of kilobytes.
enum Stream {
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<File>>>),
    Zstd(Box<Frames>),
    Xz(Box<lzma_rust2::XzReader<BufReader<File>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<BufReader<File>>>),
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, kind, position, stream } = self;
        f.debug_struct("Decoder")
            .field("path", path)
            .field("kind", kind)
            .field("position", position)
            .field("failed", &stream.is_none())
            .finish()
    }
}

impl Decoder {
    /// From the first byte of `file` on, whatever its offset is. `path` is for error messages.
    ///
    /// # Errors
    /// lseek(2)'s.
    pub fn new(mut file: File, kind: Kind, path: &Path) -> io::Result<Self> {
        file.rewind()?;
        let source = BufReader::with_capacity(STEP_BYTES, file);
        let stream = match kind {
            Kind::Gzip => Stream::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source))),
            Kind::Zstd => Stream::Zstd(Box::new(Frames::new(source))),
            Kind::Xz => {
                // Beside the window lzma-rust2 counts its own buffers, less than 1 MiB.
                let most_kib = u32::try_from((MOST_WINDOW_BYTES >> 10) + 1024).unwrap_or(u32::MAX - 1);
                Stream::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, most_kib)))
            }
            // bzip2 knows no window larger than 900 kB.
            Kind::Bzip2 => Stream::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(source))),
        };
        Ok(Self { path: path.to_owned(), kind, position: 0, stream: Some(stream) })
    }

    /// As [`Self::new`], of a file that stays open.
    ///
    /// # Errors
    /// open(2)'s, lseek(2)'s.
    pub fn beside(file: &File, kind: Kind, path: &Path) -> io::Result<Self> {
        // Not a duplicate of the descriptor: that would share its offset.
        let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Self::new(file, kind, path)
    }

    /// Decompressed bytes given so far.
    #[cfg(test)]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads on until `position` is `offset`. `false` where it ends before, or is past it already.
    ///
    /// # Errors
    /// As reading.
    pub fn skip_to(&mut self, offset: u64) -> io::Result<bool> {
        let missing = offset.saturating_sub(self.position);
        io::copy(&mut self.by_ref().take(missing), &mut io::sink())?;
        Ok(self.position == offset)
    }

    fn explain(&self, error: &(dyn Error + 'static)) -> io::Error {
        let path = self.path.display();
        if let Some(system) = system_error(error) {
            return io::Error::new(system.kind(), format!("cannot read '{path}': {system}"));
        }
        let kind = self.kind;
        io::Error::new(
            ErrorKind::InvalidData,
            format!(
                "cannot decompress '{path}': {error}; it is not a whole {kind} file, test it with {kind} -t"
            ),
        )
    }
}

impl Read for Decoder {
    /// # Errors
    /// [`ErrorKind::InvalidData`] where the file is truncated, corrupt, or asks for too large a window;
    /// else read(2)'s. The message names the file.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.stream {
            None => return Err(self.explain(&io::Error::other("an error was met before"))),
            Some(Stream::Gzip(stream)) => stream.read(buffer),
            Some(Stream::Zstd(stream)) => stream.read(buffer),
            Some(Stream::Xz(stream)) => stream.read(buffer),
            Some(Stream::Bzip2(stream)) => stream.read(buffer),
        };
        match read {
            Ok(read) => {
                self.position += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.stream = None;
                Err(self.explain(&error))
            }
        }
    }
}

/// The system's own word among the causes, which is no fault of the data.
fn system_error(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if let Some(code) = io.raw_os_error() {
                return Some(io::Error::from_raw_os_error(code));
            }
            // The source of such an error is what its content's source is.
            next = io.get_ref().map(|inner| -> &(dyn Error + 'static) { inner });
        }
    }
    None
}

/// The frames of a zstd file: ruzstd reads one, and leaves its checksum to be compared.
struct Frames {
    source: BufReader<File>,
    frame: FrameDecoder,
    /// Bytes the current frame has given.
    given: Option<u64>,
}

impl Frames {
    fn new(source: BufReader<File>) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MOST_WINDOW_BYTES);
        Self { source, frame, given: None }
    }

    /// Whether there is one.
    fn start_next(&mut self) -> io::Result<bool> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self.frame.init(&mut self.source) {
            Ok(()) => self.given = Some(0),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let length = u64::from(length);
                if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                    return Err(io::Error::from(ErrorKind::UnexpectedEof));
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(true)
    }

    fn finish(&mut self, given: u64) -> io::Result<()> {
        // 0 where the frame does not say.
        let size = self.frame.content_size();
        if size != 0 && size != given {
            return Err(io::Error::other(format!("a frame of {size} bytes holds {given}")));
        }
        let (read, calculated) = (self.frame.get_checksum_from_data(), self.frame.get_calculated_checksum());
        if read.is_some() && read != calculated {
            return Err(io::Error::other("a frame does not have its checksum"));
        }
        self.given = None;
        Ok(())
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(given) = self.given else {
                if self.start_next()? {
                    continue;
                }
                return Ok(0);
            };
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                self.frame
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let read = self.frame.read(buffer)?;
            if read > 0 {
                self.given = Some(given + read as u64);
                return Ok(read);
            }
            self.finish(given)?;
        }
    }
}

#[cfg(test)]
mod tests;
