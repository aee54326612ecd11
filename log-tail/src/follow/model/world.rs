//! The world: a directory on a real filesystem, and in memory what each of its files holds, who bears which
//! name, and who writes.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::{
    file::{FileKey, ModelFile, Predecessor, Reach},
    ledger::Ledger,
    operation::{GENERATIONS, Log, Operation},
};

/// A name in the directory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    file: FileKey,
    /// The hints tell how the file came from a followed name to here.
    told: bool,
}

/// The directory and all that is about it.
#[derive(Debug)]
pub struct World {
    home: tempfile::TempDir,
    entries: BTreeMap<String, Entry>,
    pub files: Vec<ModelFile>,
    writers: Vec<(FileKey, File)>,
    pub ledger: Ledger,
    last_bore: BTreeMap<Log, FileKey>,
    /// A reader listens.
    pub up: bool,
    left: usize,
}

impl World {
    pub fn new() -> Self {
        let shared = std::path::Path::new("/dev/shm");
        let home = if let Some(base) = std::env::var_os("LOG_TAIL_MODEL_DIR") {
            tempfile::tempdir_in(base)
        } else if shared.is_dir() {
            tempfile::tempdir_in(shared)
        } else {
            tempfile::tempdir()
        };
        let world = Self {
            home: home.unwrap(),
            entries: BTreeMap::new(),
            files: Vec::new(),
            writers: Vec::new(),
            ledger: Ledger::default(),
            last_bore: BTreeMap::new(),
            up: false,
            left: 0,
        };
        fs::create_dir(world.path("logs")).unwrap();
        fs::create_dir(world.path("elsewhere")).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.home.path().join("logs").join(name)
    }

    pub fn at(&self, name: &str) -> Option<FileKey> {
        self.entries.get(name).map(|entry| entry.file)
    }

    pub fn by_inode(&self, inode: u64) -> Option<FileKey> {
        self.files.iter().rposition(|file| file.inode == inode)
    }

    pub fn bears_followed(&self, file: FileKey) -> bool {
        Log::ALL.iter().any(|log| self.at(log.name()) == Some(file))
    }

    pub fn has_writer(&self, file: FileKey) -> bool {
        self.writers.iter().any(|(of, _)| *of == file)
    }

    pub fn close_all(&mut self) {
        self.writers.clear();
    }

    /// Does what concerns the directory and its writers.
    pub fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Append(log, lines) => {
                let (file, mut writer) = self.open(log);
                self.write(file, &mut writer, lines, false);
            }
            Operation::AppendHalf(log) => {
                let (file, mut writer) = self.open(log);
                self.write(file, &mut writer, 0, true);
            }
            Operation::Open(log) if self.writers.len() < 4 => {
                let writer = self.open(log);
                self.writers.push(writer);
            }
            Operation::Write(writer, lines) => self.write_held(writer, lines, false),
            Operation::WriteHalf(writer) => self.write_held(writer, 0, true),
            Operation::Close(writer) if writer < self.writers.len() => drop(self.writers.remove(writer)),
            Operation::Create(log) => drop(self.open(log)),
            Operation::Shift(log) => {
                self.shift(log);
                self.rename(log.name(), &log.generation(1));
            }
            Operation::Rename(log) => self.rename(log.name(), &log.generation(1)),
            Operation::Move(log) => self.come_back(log.name(), log.other()),
            Operation::Restore(log) => self.come_back(&log.generation(1), log),
            Operation::Leave(log) => {
                self.left += 1;
                let to = self.path("elsewhere").join(self.left.to_string());
                if fs::rename(self.log_path(log.name()), to).is_ok() {
                    self.forget_entry(log.name());
                }
            }
            Operation::Replace(log) => {
                let (file, mut writer) = self.make("new.tmp");
                self.write(file, &mut writer, 1, false);
                self.rename("new.tmp", log.name());
            }
            Operation::Delete(log) => self.remove(log.name()),
            Operation::DeleteOld(log) => self.remove(&log.generation(1)),
            Operation::Truncate(log, hundredths) => {
                let Some(file) = self.at(log.name()) else { return };
                let to = self.files[file].content.len() * usize::from(hundredths) / 100;
                self.truncate(log.name(), file, to);
                self.files[file].uncopied = true;
            }
            Operation::CopyTruncate(log) => self.copy_truncate(log),
            Operation::Link(log) => {
                let Some(file) = self.at(log.name()) else { return };
                let link = format!("{}.lnk", log.name());
                self.remove(&link);
                fs::hard_link(self.log_path(log.name()), self.log_path(&link)).unwrap();
                self.entries.insert(link, Entry { file, told: false });
            }
            _ => {}
        }
    }

    fn make(&mut self, name: &str) -> (FileKey, File) {
        let open = OpenOptions::new().append(true).create_new(true).open(self.log_path(name)).unwrap();
        let inode = open.metadata().unwrap().ino();
        let file = self.files.len();
        self.files.push(ModelFile::new(inode));
        self.enter(name, file, false);
        (file, open)
    }

    fn open(&mut self, log: Log) -> (FileKey, File) {
        match self.at(log.name()) {
            Some(file) => (file, OpenOptions::new().append(true).open(self.log_path(log.name())).unwrap()),
            None => self.make(log.name()),
        }
    }

    fn write_held(&mut self, writer: usize, lines: u8, half: bool) {
        if writer < self.writers.len() {
            let (file, mut writer_file) = self.writers.remove(writer);
            self.write(file, &mut writer_file, lines, half);
            self.writers.insert(writer, (file, writer_file));
        }
    }

    fn write(&mut self, file: FileKey, writer: &mut File, lines: u8, half: bool) {
        let mut bytes = std::mem::take(&mut self.files[file].rest);
        for _ in 0..lines {
            bytes.extend(self.ledger.new_text());
        }
        if half {
            let text = self.ledger.new_text();
            let (start, rest) = text.split_at(text.len() / 2);
            bytes.extend(start);
            self.files[file].rest = rest.to_vec();
        }
        writer.write_all(&bytes).unwrap();
        let before = self.files[file].content.len();
        self.files[file].content.extend(&bytes);
        let excused = (self.files[file].reach == Reach::Lost).then_some("its file was gone already");
        let content = std::mem::take(&mut self.files[file].content);
        let mut start = line_start(&content, before);
        for newline in memchr::memchr_iter(b'\n', &content[before..]) {
            let end = before + newline + 1;
            let line = self.ledger.complete(&content[start..end], file, end as u64, excused);
            self.files[file].lines.push(line);
            start = end;
        }
        self.ledger.tail(&content[start..]);
        self.files[file].content = content;
    }

    fn shift(&mut self, log: Log) {
        for number in (1..GENERATIONS).rev() {
            self.rename(&log.generation(number), &log.generation(number + 1));
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let Some(entry) = self.entries.get(from).copied() else { return };
        if self.at(to) == Some(entry.file) {
            // Two links of one file: rename(2) does nothing.
            return;
        }
        fs::rename(self.log_path(from), self.log_path(to)).unwrap();
        self.entries.remove(from);
        self.forget_entry(to);
        self.enter(to, entry.file, entry.told);
    }

    /// A rename to a followed name of what bore one before.
    fn come_back(&mut self, from: &str, to: Log) {
        let Some(file) = self.at(from) else { return };
        if self.files[file].copy_of.is_none() {
            self.files[file].unordered = true;
            // The reader may have let it go.
            self.files[file].reach = Reach::Told;
            self.files[file].ends.clear();
            self.rename(from, to.name());
        }
    }

    fn remove(&mut self, name: &str) {
        if self.entries.contains_key(name) {
            fs::remove_file(self.log_path(name)).unwrap();
            self.forget_entry(name);
        }
    }

    /// The name bears the file now.
    fn enter(&mut self, name: &str, file: FileKey, told: bool) {
        let log = Log::ALL.into_iter().find(|log| log.name() == name);
        self.entries.insert(name.to_owned(), Entry { file, told: self.up && (told || log.is_some()) });
        let Some(log) = log else {
            self.check_told(file);
            self.check_copy(file);
            return;
        };
        let family = self.files[file].family.replace(log);
        self.files[file].moved |= family.is_some_and(|family| family != log);
        if let Some(before) = self.last_bore.insert(log, file).filter(|before| *before != file) {
            let before = Predecessor { file: before, before: self.ledger.lines.len() };
            self.files[file].predecessors.push(before);
        }
    }

    fn forget_entry(&mut self, name: &str) {
        if let Some(entry) = self.entries.remove(name) {
            self.check_told(entry.file);
            self.check_copy(entry.file);
        }
    }

    /// What nobody has opened, and no hint leads to any more, is lost.
    fn check_told(&mut self, file: FileKey) {
        let leads_to_it = self.entries.values().any(|entry| entry.file == file && entry.told);
        if self.up && self.files[file].reach == Reach::Told && !leads_to_it {
            self.lose(file, "its file was gone before it could be opened");
        }
    }

    /// A copy is found beside the name it is a copy of, or not at all; with it those that came after it.
    fn check_copy(&mut self, copy: FileKey) {
        let Some(original) = self.files[copy].copy_of else { return };
        if self.is_generation(copy) {
            return;
        }
        // Nothing tells any more that later copies are of it.
        self.files[original].copied = false;
        self.files[original].uncopied = true;
        let held = self.ledger.due_of(original);
        let held: Vec<_> = held.filter(|line| self.ledger.lines[*line].held_by.is_some()).collect();
        self.ledger.excuse(held.into_iter(), "the copy that held it was removed");
    }

    /// It bears the name of an earlier generation of the name it bore.
    pub fn is_generation(&self, file: FileKey) -> bool {
        let Some(family) = self.files[file].family else { return false };
        (1..=GENERATIONS).any(|number| self.at(&family.generation(number)) == Some(file))
    }

    pub fn lose(&mut self, file: FileKey, why: &'static str) {
        self.files[file].reach = Reach::Lost;
        let due: Vec<_> = self.ledger.due_of(file).collect();
        self.ledger.excuse(due.into_iter(), why);
    }

    fn copy_truncate(&mut self, log: Log) {
        // A file that bore both names is beside one of them only, and so is its copy.
        let Some(file) = self.at(log.name()).filter(|file| !self.files[*file].moved) else { return };
        self.shift(log);
        let (copy, mut open) = self.make(&log.generation(1));
        let content = self.files[file].content.clone();
        open.write_all(&content).unwrap();
        self.files[copy].content = content;
        self.files[copy].copy_of = Some(file);
        self.files[copy].family = Some(log);
        if self.files[file].cut {
            // Nothing tells that its lines were read: what it is known by was cut off.
            self.ledger.allow_again(self.files[file].lines.clone().into_iter());
        }
        // What tells that the file was truncated, and which is the copy, is what was read of it; or that the copy
        // came when nothing had been read of what is there now.
        let up = self.up;
        let found = &mut self.files[file];
        found.copied |= up || (found.committed.is_some() && !found.uncopied);
        if found.copied && !found.cut {
            for line in std::mem::take(&mut self.files[file].lines) {
                if self.ledger.lines[line].is_due() || !self.ledger.lines[line].committed {
                    self.ledger.lines[line].held_by = Some(copy);
                }
            }
        }
        self.truncate(log.name(), file, 0);
    }

    fn truncate(&mut self, name: &str, file: FileKey, to: usize) {
        let open = OpenOptions::new().write(true).open(self.log_path(name)).unwrap();
        open.set_len(to as u64).unwrap();
        let Self { files, ledger, .. } = self;
        let found = &mut files[file];
        found.content.truncate(to);
        found.rest.clear();
        found.epoch += 1;
        found.cut |= to > 0;
        let to = to as u64;
        found.marks.retain(|mark| *mark <= to);
        found.ends.retain(|end| *end <= to);
        let (left, gone): (Vec<_>, Vec<_>) =
            found.lines.drain(..).partition(|line| ledger.lines[*line].end <= to);
        ledger.excuse(gone.into_iter(), "it was truncated away");
        // The kernel keeps no more than 32 of them.
        let mark = if found.marks.len() > 30 { None } else { found.marks.last() };
        let mark = mark.max(found.ends.last()).copied().unwrap_or(0);
        let again: Vec<_> = left.iter().filter(|line| ledger.lines[**line].end > mark).copied().collect();
        ledger.allow_again(again.into_iter());
        found.lines = left;
        let start = line_start(&found.content, found.content.len());
        ledger.tail(&found.content[start..]);
    }

    /// The reader may know of truncations so far, or knows of all.
    pub fn truncations_seen(&mut self, all: bool) {
        for file in &mut self.files {
            file.copied = false;
            file.cut &= !all;
        }
    }

    /// The hints were taken: what they lead to is open.
    pub fn taken(&mut self) {
        for entry in self.entries.values() {
            if entry.told && self.files[entry.file].reach == Reach::Told {
                self.files[entry.file].reach = Reach::Known;
            }
        }
    }

    /// A new reader sees the names that are there; from now on hints are told.
    pub fn listened_to(&mut self) {
        self.up = true;
        for (name, entry) in &mut self.entries {
            entry.told = Log::ALL.iter().any(|log| log.name() == name);
        }
    }
}

fn line_start(content: &[u8], before: usize) -> usize {
    memchr::memrchr(b'\n', &content[..before]).map_or(0, |newline| newline + 1)
}
