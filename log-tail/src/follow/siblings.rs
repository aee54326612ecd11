//! The files beside a followed name that may be its earlier generations, by the names that logrotate and
//! others give them, and the one among them that holds what was being read.
//!
//! Names only make a file a candidate; [`find`] believes nothing but content. Nothing is watched or kept.

mod name;
mod search;

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

pub use self::name::without_suffix;
use self::name::{Family, Generation};
pub use self::search::find;
use super::{
    Identity,
    compressed::{Kind, Packed},
    identity,
    print::{Print, read_full},
};

/// Times as near as this say nothing about the order: a tick of a kernel built with HZ=250.
const TICK_NS: i128 = 4_000_000;
const SECOND_NS: i128 = 1_000_000_000;

/// How often to look again where names moved while they were looked at: each is one rotation.
pub const TRIES: usize = 4;

/// A file that may be an earlier generation.
#[derive(Clone, Debug)]
pub struct Sibling {
    /// In the directory of the followed name, or of what that points to.
    pub path: PathBuf,
    /// Of the inode that bore the name.
    pub identity: Identity,
    /// `st_mtim`, nanoseconds since the epoch.
    pub modified_ns: i128,
    /// Birth time, where the filesystem keeps it. A compressed file's own, not its content's.
    pub born_ns: Option<i128>,
    /// What its name says.
    pub compressed: Option<Kind>,
    generation: Generation,
}

impl Sibling {
    fn same_inode(&self, other: &Self) -> bool {
        self.identity == other.identity && self.born_ns == other.born_ns
    }

    /// Between which times it was modified, as far as its time can be believed: bzip2 and older tools keep
    /// whole seconds only.
    fn modified(&self) -> (i128, i128) {
        let blur = if self.modified_ns % SECOND_NS == 0 { SECOND_NS - 1 } else { TICK_NS };
        (self.modified_ns, self.modified_ns + blur)
    }

    fn clearly_older_than(&self, other: &Self) -> bool {
        self.modified().1 < other.modified().0
    }
}

/// The file that holds what was being read.
#[derive(Debug)]
pub struct Found {
    /// Which it is.
    pub sibling: Sibling,
    /// Its content.
    pub content: Content,
}

/// Where to read on.
#[derive(Debug)]
pub enum Content {
    /// The file as it was written; it may grow yet. To be read from the offset on.
    Plain(File),
    /// A compressed file.
    Compressed(Packed),
}

/// Bytes that are compared where two files may hold the same.
const HEAD_BYTES: usize = 4096;

impl Content {
    /// Whether it is what `print` says up to `offset`.
    pub fn is_of(&self, print: &Print, offset: u64) -> bool {
        match self {
            Self::Plain(file) => print.is_of(file, offset).unwrap_or(false),
            Self::Compressed(packed) => {
                packed.decoder().and_then(|mut it| print.is_of_forward(&mut it, offset)).unwrap_or(false)
            }
        }
    }

    /// Whether nothing comes behind this offset. What is compressed does not grow.
    pub fn ends_at(&self, offset: u64) -> bool {
        match self {
            Self::Plain(file) => file.metadata().is_ok_and(|metadata| metadata.len() == offset),
            Self::Compressed(_) => true,
        }
    }

    /// Its length in bytes, or more than `most` where it is longer.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn length_to(&self, most: u64) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Compressed(packed) => {
                io::copy(&mut packed.decoder()?.take(most.saturating_add(1)), &mut io::sink())
            }
        }
    }

    /// Whether no line ends in its first `length` bytes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn has_no_newline(&self, length: u64) -> io::Result<bool> {
        let mut bytes = Vec::new();
        match self {
            Self::Plain(file) => {
                bytes.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
                read_full(file, &mut bytes, 0)?;
            }
            Self::Compressed(packed) => {
                packed.decoder()?.take(length).read_to_end(&mut bytes)?;
            }
        }
        Ok(memchr::memchr(b'\n', &bytes).is_none())
    }

    /// Whether `file` begins with this content, as far as its first and its last bytes tell.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn begins(&self, file: &File) -> io::Result<bool> {
        let mut there = [0; HEAD_BYTES];
        match self {
            Self::Plain(plain) => {
                let size = plain.metadata()?.len();
                let mut here = [0; HEAD_BYTES];
                let end = usize::try_from(size).map_or(HEAD_BYTES, |size| size.min(HEAD_BYTES));
                for from in [0, size - end as u64] {
                    if read_full(plain, &mut here[..end], from)? != read_full(file, &mut there[..end], from)?
                        || here[..end] != there[..end]
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Compressed(packed) => {
                let mut here = Vec::new();
                packed.decoder()?.take(HEAD_BYTES as u64).read_to_end(&mut here)?;
                let end = read_full(file, &mut there[..here.len()], 0)?;
                Ok(here == there[..end])
            }
        }
    }
}

/// The regular files beside `path`, and beside what it points to, that are named like generations of it,
/// oldest first. A generation that is there both plain and compressed is listed once, plain.
///
/// By modification time, which compressors keep; where times are too near to tell, by the dates or numbers
/// in the names. A higher number is older, unless the times of the others say that numbers grow.
///
/// # Errors
/// The directory cannot be read. One that is missing has no files.
pub fn rotated(path: &Path) -> io::Result<Vec<Sibling>> {
    let itself = fs::metadata(path).ok().map(|metadata| Identity::of(&metadata));
    let mut siblings: Vec<Sibling> = Vec::new();
    for name in [Some(path.to_owned()), target_of(path)].into_iter().flatten() {
        collect(&name, &mut siblings)?;
    }
    siblings.retain(|sibling| Some(sibling.identity) != itself);
    // Hard links, and the same directory by two ways.
    siblings.sort_by(|a, b| key(a.identity).cmp(&key(b.identity)).then_with(|| a.path.cmp(&b.path)));
    siblings.dedup_by_key(|sibling| sibling.identity);
    let twice: Vec<bool> = siblings.iter().map(|sibling| is_there_plain(sibling, &siblings)).collect();
    let mut twice = twice.into_iter();
    siblings.retain(|_| !twice.next().unwrap_or(false));
    sort(&mut siblings);
    Ok(siblings)
}

/// Those after `sibling` in `siblings`, which [`rotated`] gave: oldest first. Where it has been compressed
/// meanwhile, those after its time.
pub fn newer_than<'a>(siblings: &'a [Sibling], sibling: &Sibling) -> &'a [Sibling] {
    let last = siblings
        .iter()
        .rposition(|other| other.same_inode(sibling))
        .or_else(|| siblings.iter().rposition(|other| other.modified_ns <= sibling.modified_ns));
    &siblings[last.map_or(0, |last| last + 1)..]
}

/// The content of a sibling from its beginning on. `None` where its name bears another inode by now.
///
/// # Errors
/// It cannot be opened.
pub fn from_start(sibling: &Sibling) -> io::Result<Option<Content>> {
    let Some(file) = open(sibling)? else { return Ok(None) };
    Ok(Some(match Kind::of(&file)?.filter(|_| sibling.compressed.is_some()) {
        Some(kind) => Content::Compressed(Packed { file, kind, path: sibling.path.clone() }),
        None => Content::Plain(file),
    }))
}

/// Whether a sibling's content is what `print` says up to `offset`. Not for 0 bytes: every file has those.
///
/// # Errors
/// It cannot be read.
pub fn is_of(sibling: &Sibling, print: &Print, offset: u64) -> io::Result<bool> {
    if offset == 0 {
        return Ok(false);
    }
    match from_start(sibling)? {
        Some(Content::Plain(file)) => print.is_of(&file, offset),
        Some(Content::Compressed(packed)) => print.is_of_forward(&mut packed.decoder()?, offset),
        None => Ok(false),
    }
}

/// The names of which this may be the name of a generation.
pub fn originals(name: &OsStr) -> Vec<OsString> {
    name::originals(name)
}

/// The names under which the file of this name may be compressed.
pub fn compressed(name: &OsStr) -> impl Iterator<Item = OsString> {
    Kind::ALL.into_iter().map(move |kind| [name, OsStr::new(kind.suffix())].into_iter().collect())
}

/// Whether the file of this name is a generation of the file of that one.
pub fn is_generation(name: &OsStr, of: &OsStr) -> bool {
    Family::of(of).generation(name).is_some()
}

impl Sibling {
    /// The file that bears this name now, if it is a regular one.
    ///
    /// # Errors
    /// The system's, other than that there is none.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        let Some(name) = path.file_name() else { return Ok(None) };
        let metadata = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let compressed = Kind::split_name(name.as_bytes()).1;
        Ok(metadata.is_file().then(|| Self::of(path.to_owned(), &metadata, Generation::Old, compressed)))
    }

    fn of(path: PathBuf, metadata: &Metadata, generation: Generation, compressed: Option<Kind>) -> Self {
        Self {
            identity: Identity::of(metadata),
            modified_ns: modified_ns(metadata),
            born_ns: metadata.created().ok().map(since_epoch),
            path,
            compressed,
            generation,
        }
    }
}

/// `None` where the name bears another inode by now.
fn open(sibling: &Sibling) -> io::Result<Option<File>> {
    let file = match identity::open_with(&sibling.path, libc::O_NOFOLLOW) {
        // It is a symbolic link now.
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        other => other?,
    };
    let metadata = file.metadata()?;
    Ok((metadata.is_file() && Identity::of(&metadata) == sibling.identity).then_some(file))
}

/// Adds the generations of `name` in its own directory.
fn collect(name: &Path, siblings: &mut Vec<Sibling>) -> io::Result<()> {
    let Some(family) = name.file_name().map(Family::of) else { return Ok(()) };
    let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    let explain = |error: io::Error| {
        let text = format!("cannot look for rotated files in '{}': {error}", directory.display());
        io::Error::new(error.kind(), text)
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        other => other.map_err(explain)?,
    };
    for entry in entries {
        let entry = entry.map_err(explain)?.file_name();
        let Some((generation, compressed)) = family.generation(&entry) else { continue };
        // As the user wrote it: `app.log.1`, not `./app.log.1`.
        let path = parent.map_or_else(|| PathBuf::from(&entry), |parent| parent.join(&entry));
        // One that is gone by now has become another of the list, or was removed.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if !metadata.is_file() {
            continue;
        }
        siblings.push(Sibling::of(path, &metadata, generation, compressed));
    }
    Ok(())
}

fn since_epoch(time: std::time::SystemTime) -> i128 {
    let signed = |nanoseconds: u128| i128::try_from(nanoseconds).unwrap_or(i128::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => signed(since.as_nanos()),
        Err(before) => -signed(before.duration().as_nanos()),
    }
}

/// `st_mtim`, nanoseconds since the epoch.
pub fn modified_ns(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * SECOND_NS + i128::from(metadata.mtime_nsec())
}

/// What a symbolic link points to, whether it is there or not.
fn target_of(path: &Path) -> Option<PathBuf> {
    let target = fs::read_link(path).ok()?;
    fs::canonicalize(path).ok().or_else(|| Some(path.parent()?.join(target)))
}

fn key(identity: Identity) -> (u64, u64) {
    (identity.device, identity.inode)
}

/// Whether what it was compressed from is there too. A compressor gives its file the time of the original
/// last, so one that is clearly older is of an earlier generation, whatever it is called.
fn is_there_plain(sibling: &Sibling, siblings: &[Sibling]) -> bool {
    sibling.compressed.is_some()
        && siblings.iter().any(|plain| {
            plain.compressed.is_none()
                && without_suffix(&sibling.path).as_ref() == Some(&plain.path)
                && !sibling.clearly_older_than(plain)
        })
}

fn sort(siblings: &mut [Sibling]) {
    let growing = numbers_grow(siblings);
    siblings.sort_by(|a, b| a.modified_ns.cmp(&b.modified_ns).then_with(|| a.path.cmp(&b.path)));
    let mut from = 0;
    while from < siblings.len() {
        // All whose times may be the same, be it by way of each other.
        let (mut to, mut latest) = (from + 1, siblings[from].modified().1);
        while siblings.get(to).is_some_and(|next| next.modified().0 <= latest) {
            latest = latest.max(siblings[to].modified().1);
            to += 1;
        }
        // Stable: what the names do not tell apart stays in the order of times.
        siblings[from..to].sort_by(|a, b| a.generation.order(&b.generation, growing));
        from = to;
    }
}

/// Whether a higher number is newer, by those neighbours in number whose times clearly differ.
fn numbers_grow(siblings: &[Sibling]) -> bool {
    let mut numbered: Vec<(u64, &Sibling)> =
        siblings.iter().filter_map(|sibling| Some((sibling.generation.number()?, sibling))).collect();
    numbered.sort_by_key(|(number, _)| *number);
    let votes: i64 = numbered
        .windows(2)
        .filter(|pair| pair[0].0 < pair[1].0)
        .map(|pair| match (pair[0].1, pair[1].1) {
            (lower, higher) if lower.clearly_older_than(higher) => 1,
            (lower, higher) if higher.clearly_older_than(lower) => -1,
            _ => 0,
        })
        .sum();
    votes > 0
}

#[cfg(test)]
mod tests;
