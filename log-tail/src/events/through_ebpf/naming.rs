//! Observes what is named, and keeps to it whatever it is renamed to: what is there at the start, what comes, and what
//! is there once events were lost.

use std::{
    fs::{self, File, OpenOptions},
    io, mem,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use log_tail_common::InodeKey;

use super::ThroughEbpf;
use crate::{
    events::wanted::opened,
    observe::{event::Kind, stat::unseen_filesystem},
    say::say,
};

/// The inode that bears this name, whatever it is, without opening it for anything.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)
}

impl ThroughEbpf {
    /// Observes what is wanted and there. `taken` decides what becomes of what cannot be observed.
    pub(super) fn take_up_all(
        &mut self,
        taken: impl Fn(anyhow::Result<()>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        // A name may be a symbolic link: it is the file that is meant. That has its own name where it is wanted, too.
        let names: Vec<PathBuf> = self.names.wanted.names().map(Path::to_owned).collect();
        for name in names.into_iter().filter(|name| name.exists()) {
            let observed = self.observe(&name);
            let observed = observed.with_context(|| format!("cannot observe '{}'", name.display()));
            taken(unless_gone(observed))?;
        }
        for root in self.names.wanted.roots() {
            taken(self.take_up(&root, None))?;
            self.roots.extend(self.names.directory_at(&root).map(|inode| (inode, root)));
        }
        Ok(())
    }

    /// Says which of the directories that were named are not the ones of that name any more: of a mount, and of what
    /// becomes of a directory above, nothing else tells.
    pub(super) fn look_at_roots(&mut self) {
        let is_there = |path: &Path, inode: InodeKey| match open(opened(path))
            .and_then(|file| self.keys.of(file.as_fd()))
        {
            Ok(key) => key == inode,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        let roots = self.roots.extract_if(|inode, path| !is_there(path, *inode));
        for (inode, _) in roots.collect::<Vec<_>>() {
            self.directory_gone(inode, "moved, removed or mounted over");
        }
    }

    fn observe(&mut self, path: &Path) -> io::Result<()> {
        let file = open(path)?;
        self.unseen_by.extend(unseen_filesystem(file.as_fd()).unwrap_or(None));
        let key = self.keys.of(file.as_fd())?;
        self.events.observe(key)?;
        self.names.files.name(key, path.to_owned());
        Ok(())
    }

    /// Observes a directory, and what is wanted in it and below. `inode`: which one it must be.
    fn take_up(&mut self, directory: &Path, inode: Option<InodeKey>) -> anyhow::Result<()> {
        self.take_up_below(directory, inode, &mut Vec::new())
    }

    /// As [`Self::take_up`], in these directories: a link may lead back to one of them.
    fn take_up_below(
        &mut self,
        directory: &Path,
        inode: Option<InodeKey>,
        above: &mut Vec<InodeKey>,
    ) -> anyhow::Result<()> {
        let cannot = || format!("cannot observe '{}'", opened(directory).display());
        let file = open(opened(directory)).with_context(cannot)?;
        let key = self.keys.of(file.as_fd()).with_context(cannot)?;
        if inode.is_some_and(|inode| inode != key) || above.contains(&key) {
            return Ok(());
        }
        above.push(key);
        let taken = self.take_up_entries(directory, key, above);
        above.pop();
        taken
    }

    fn take_up_entries(
        &mut self,
        directory: &Path,
        key: InodeKey,
        above: &mut Vec<InodeKey>,
    ) -> anyhow::Result<()> {
        let cannot = || format!("cannot observe '{}'", opened(directory).display());
        self.events.observe(key).with_context(cannot)?;
        self.names.name_directory(key, directory);
        let mut files = Vec::new();
        for entry in fs::read_dir(opened(directory)).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = directory.join(entry.file_name());
            let kind = entry.file_type().with_context(cannot)?;
            if kind.is_dir() {
                self.names.add_subdirectory(path.clone());
            }
            let is_directory = kind.is_dir() || (kind.is_symlink() && path.is_dir());
            if is_directory && self.names.wanted.leads_through(&path) {
                unless_gone(self.take_up_below(&path, None, above))?;
            } else if self.names.wanted.is(&path) && (kind.is_file() || kind.is_symlink() && path.is_file()) {
                files.push((kind.is_file(), path));
            }
        }
        // Links first: what a link leads to is called by its own name where that is wanted, too.
        files.sort();
        for (_, path) in files {
            let observed = self.observe(&path);
            unless_gone(observed.with_context(|| format!("cannot observe '{}'", path.display())))?;
        }
        Ok(())
    }

    /// Names were lost: what is called what is found out anew.
    pub(super) fn look_again(&mut self) {
        self.is_stale = false;
        self.looked_again = Some(Instant::now());
        self.names.forget_names();
        // That one was removed may be what was lost, and its number be another's by now.
        self.unobserved = self.names.files.unobserved(|inode| self.events.observes(inode));
        self.renames.forget();
        // What is there still is taken up all the same.
        let _ = self.take_up_all(|taken| {
            say_unless_gone(taken);
            Ok(())
        });
    }

    /// All that was done to these when names were found out anew has been taken by now.
    pub(super) fn forget_unobserved(&mut self) {
        for inode in mem::take(&mut self.unobserved) {
            if !self.events.observes(inode) {
                self.names.files.forget(inode);
            }
        }
    }

    /// An inode is not wanted under the name that it got at this moment.
    fn ignore(&mut self, inode: InodeKey, since: u32) {
        self.ignored.insert(inode);
        self.events.ignore(inode, since);
    }

    /// An inode has a new name in an observed directory, and the kernel program observes it since then. Gives its path
    /// where that is wanted, or where the inode was wanted before. `from`: what a rename took from it.
    pub(super) fn came(
        &mut self,
        inode: InodeKey,
        kind: Kind,
        path: Option<PathBuf>,
        since: u32,
        from: Option<&Path>,
    ) -> Option<PathBuf> {
        let was_observed = self.names.files.has(inode);
        match (from, kind) {
            (Some(from), Kind::Directory) => self.forget_below(from, path.as_deref()),
            (Some(from), Kind::File | Kind::Other) => self.names.files.move_away(inode, from),
            // The name is known as that of what the link leads to.
            (Some(from), Kind::Symlink) => drop(self.names.files.unlink(from)),
            (None, _) => {}
        }
        let Some(path) = path else {
            // It may have a name that is wanted besides.
            if !was_observed {
                self.ignore(inode, since);
            }
            return None;
        };
        let is_wanted = self.names.wanted.is(&path);
        if kind == Kind::Directory {
            let leads_on = self.names.wanted.leads_through(&path);
            self.names.add_subdirectory(path.clone());
            if leads_on {
                self.names.name_directory(inode, &path);
                // What it brought along. Gone by now, or somewhere else, it is told all the same.
                say_unless_gone(self.take_up(&path, Some(inode)));
            } else {
                self.ignore(inode, since);
            }
            return (is_wanted || leads_on).then_some(path);
        }
        self.names.remove_subdirectory(&path);
        if kind == Kind::Symlink && path.is_dir() && self.names.wanted.leads_through(&path) {
            say_unless_gone(self.take_up(&path, None));
            return Some(path);
        }
        if kind == Kind::Symlink && is_wanted && path.is_file() {
            // What it leads to. Gone by now, nothing is to be seen.
            say_unless_gone(
                self.observe(&path).with_context(|| format!("cannot observe '{}'", path.display())),
            );
            return Some(path);
        }
        if is_wanted || was_observed {
            self.names.files.name(inode, path.clone());
            return Some(path);
        }
        self.ignore(inode, since);
        None
    }

    /// A rename gave it a name where nobody observes.
    pub(super) fn left(&mut self, inode: InodeKey, from: Option<&Path>) {
        if let Some(from) = from {
            if self.names.remove_subdirectory(from) {
                self.forget_below(from, None);
            }
            self.names.files.move_away(inode, from);
        }
        self.directory_gone(inode, "moved away");
    }

    /// An inode got the name of another one, and that is about to get its own: `from`, where somebody observes.
    pub(super) fn exchanged(&mut self, from: Option<&Path>, other: InodeKey, path: &Path) {
        let Some(from) = from else { return self.left(other, Some(path)) };
        for directory in self.names.exchange(from, path) {
            self.events.forget(directory);
        }
    }

    fn forget_below(&mut self, from: &Path, to: Option<&Path>) {
        for directory in self.names.move_directory(from, to) {
            self.events.forget(directory);
        }
    }

    /// Of a directory that was named on the command line nothing else tells.
    pub(super) fn directory_gone(&mut self, inode: InodeKey, how: &str) {
        let gone = self.names.forget_directory(inode);
        if gone.is_empty() {
            return;
        }
        self.events.forget(inode);
        let roots = self.names.wanted.roots();
        for path in gone.iter().filter(|path| roots.contains(path)) {
            say(format_args!(
                "'{}' was {how}: what is done in it is not shown any more, nor in another one of that name. Start \
                 again to observe that",
                opened(path).display()
            ));
        }
    }
}

fn say_unless_gone(taken: anyhow::Result<()>) {
    if let Err(error) = unless_gone(taken) {
        say(format_args!("{error:#}: start again to observe what is there now"));
    }
}

/// What is gone since it was listed need not be observed.
fn unless_gone(taken: anyhow::Result<()>) -> anyhow::Result<()> {
    let is_gone = |error: &anyhow::Error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    taken.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
}
