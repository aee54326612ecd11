//! The files beside a followed name that may be its earlier generations, by the names that logrotate and
//! others give them, and the one among them that holds what was being read.
//!
//! Names only make a file a candidate; [`find`] believes nothing but content. Nothing is watched or kept.

mod name;
mod order;
mod search;

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirEntryExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use self::name::{Family, Generation};
pub use self::{name::without_suffix, order::is_older, search::find};
use super::{
    Identity,
    compressed::{HEAD_BYTES, Kind, Packed},
    identity,
    print::{Print, read_full},
};

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
    pub fn same_inode(&self, other: &Self) -> bool {
        self.identity == other.identity && self.born_ns == other.born_ns
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

impl Content {
    /// Whether it is what `print` says up to `offset`.
    pub fn is_of(&self, print: &Print, offset: u64) -> bool {
        match self {
            Self::Plain(file) => print.is_of(file, offset).unwrap_or(false),
            Self::Compressed(packed) => packed.is_of(print, offset),
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
            Self::Compressed(packed) => packed.length_to(most),
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
            Self::Compressed(packed) => begins(&packed.head()?, file),
        }
    }
}

/// Whether a file begins with these, up to [`HEAD_BYTES`].
///
/// # Errors
/// It cannot be read.
pub fn begins(head: &[u8], file: &File) -> io::Result<bool> {
    let mut there = [0; HEAD_BYTES];
    let there = &mut there[..head.len()];
    let end = read_full(file, there, 0)?;
    Ok(*head == there[..end])
}

/// The regular files beside `path`, and beside what it points to, that are named like generations of it,
/// oldest first. A generation that is there both plain and compressed is listed once, plain.
///
/// By modification time, which compressors keep, but no later than one was born whose name says that it is newer; where
/// times are too near to tell, by the dates or numbers in the names. A higher number is older, unless the times of the
/// others say that numbers grow.
///
/// # Errors
/// The directory cannot be read. One that is missing has no files.
pub fn rotated(path: &Path) -> io::Result<Vec<Sibling>> {
    let mut listed = Listed::of(path)?;
    for _ in 1..TRIES {
        if listed.stands() {
            break;
        }
        listed = Listed::of(path)?;
    }
    Ok(listed.siblings)
}

/// What [`rotated`] gives, of one look.
#[derive(Debug)]
pub struct Listed {
    /// Oldest first.
    pub siblings: Vec<Sibling>,
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Listed {
    /// Looks once.
    ///
    /// # Errors
    /// As for [`rotated`].
    pub fn of(path: &Path) -> io::Result<Self> {
        let itself = fs::metadata(path).ok().map(|metadata| Identity::of(&metadata));
        let entries = entries(path)?;
        let mut siblings: Vec<Sibling> = entries.iter().filter_map(Entry::sibling).collect();
        siblings.retain(|sibling| Some(sibling.identity) != itself);
        // Hard links, and the same directory by two ways.
        siblings.sort_by(|a, b| key(a.identity).cmp(&key(b.identity)).then_with(|| a.path.cmp(&b.path)));
        siblings.dedup_by_key(|sibling| sibling.identity);
        let twice: Vec<bool> = siblings.iter().map(|sibling| is_there_plain(sibling, &siblings)).collect();
        let mut twice = twice.into_iter();
        siblings.retain(|_| !twice.next().unwrap_or(false));
        order::sort(&mut siblings);
        Ok(Self { siblings, path: path.to_owned(), entries })
    }

    /// Whether no name has moved on since it was begun: where all are shifted, one that passes by may be missing.
    pub fn stands(&self) -> bool {
        entries(&self.path).is_ok_and(|now| now == self.entries)
    }
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

    /// When it was made or last written to, whatever came later, in nanoseconds since 1970.
    pub fn last_ns(&self) -> u64 {
        let last = self.born_ns.unwrap_or(self.modified_ns).max(self.modified_ns);
        u64::try_from(last).unwrap_or(0)
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

/// An entry of a directory that is named like a generation.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    /// As the directory says. It gives all that fit into a buffer as they are at one moment.
    inode: u64,
    generation: Generation,
    compressed: Option<Kind>,
}

impl Entry {
    fn sibling(&self) -> Option<Sibling> {
        // One that is gone by now has moved on, or was removed: then the listing does not stand.
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        let of = || Sibling::of(self.path.clone(), &metadata, self.generation.clone(), self.compressed);
        metadata.is_file().then(of)
    }
}

/// The generations of `path` in its own directory, and in that of what it points to, in the order of their paths.
fn entries(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for name in [Some(path.to_owned()), target_of(path)].into_iter().flatten() {
        collect(&name, &mut entries)?;
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Adds the generations of `name` in its own directory.
fn collect(name: &Path, entries: &mut Vec<Entry>) -> io::Result<()> {
    let Some(family) = name.file_name().map(Family::of) else { return Ok(()) };
    let parent = name.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    let explain = |error: io::Error| {
        if identity::is_spent(&error) {
            return error;
        }
        let text = format!("cannot look for rotated files in '{}': {error}", directory.display());
        io::Error::new(error.kind(), text)
    };
    let listed = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        other => other.map_err(explain)?,
    };
    for entry in listed {
        let entry = entry.map_err(explain)?;
        let name = entry.file_name();
        let Some((generation, compressed)) = family.generation(&name) else { continue };
        // As the user wrote it: `app.log.1`, not `./app.log.1`.
        let path = parent.map_or_else(|| PathBuf::from(&name), |parent| parent.join(&name));
        entries.push(Entry { path, inode: entry.ino(), generation, compressed });
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

#[cfg(test)]
mod tests;
