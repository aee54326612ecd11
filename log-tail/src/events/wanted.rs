//! What is to be observed: names, directories, and patterns.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use rustc_hash::FxHashSet;

use crate::follow::{Pattern, check_pattern};

/// What was named on the command line.
#[derive(Debug, Default)]
pub struct Wanted {
    names: FxHashSet<PathBuf>,
    directories: FxHashSet<PathBuf>,
    patterns: Vec<Pattern>,
}

impl Wanted {
    /// # Errors
    /// A directory that is to hold the file is not there, or a pattern is none.
    pub fn new(names: &[OsString]) -> anyhow::Result<Self> {
        let mut wanted = Self::default();
        for name in names.iter().map(Path::new) {
            if name.is_dir() {
                // Without a slash at its end.
                wanted.directories.insert(name.components().collect());
            } else if check_pattern(name)? {
                wanted.patterns.push(Pattern::new(name)?);
            } else {
                wanted.names.insert(name.to_owned());
            }
        }
        for directory in wanted.roots() {
            let metadata = std::fs::metadata(opened(&directory)).with_context(|| {
                format!(
                    "cannot observe what is to be in '{}': only files are waited for, so make the directory first",
                    directory.display()
                )
            })?;
            ensure!(metadata.is_dir(), "'{}' is no directory", directory.display());
        }
        Ok(wanted)
    }

    /// The directories that names lie in and patterns begin in, each once. An empty one is the current one.
    pub fn roots(&self) -> Vec<PathBuf> {
        let parents = self.names.iter().filter_map(|name| name.parent());
        let bases = self.patterns.iter().map(Pattern::base);
        let all = parents.chain(bases).chain(self.directories.iter().map(PathBuf::as_path));
        let mut roots: Vec<PathBuf> = all.map(Path::to_owned).collect();
        roots.sort();
        roots.dedup();
        roots
    }

    /// The names of files that were given: they may be symbolic links.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        self.names.iter().map(PathBuf::as_path)
    }

    /// Whether what is done to an inode of this name is shown.
    pub fn is(&self, path: &Path) -> bool {
        self.names.contains(path)
            || path.parent().is_some_and(|parent| self.directories.contains(parent))
            || self.patterns.iter().any(|pattern| pattern.matches(path))
    }

    /// What an entry of a directory is called that is reached by several names: as it is wanted, where it is.
    pub fn choose(&self, directories: &[PathBuf], name: &OsStr) -> Option<PathBuf> {
        let mut paths = directories.iter().map(|directory| directory.join(name));
        let first = paths.next()?;
        let is_wanted = |path: &PathBuf| self.is(path) || self.leads_through(path);
        if is_wanted(&first) { Some(first) } else { paths.find(is_wanted).or(Some(first)) }
    }

    /// Whether something wanted may lie below the directory of this name.
    pub fn leads_through(&self, directory: &Path) -> bool {
        self.directories.contains(directory)
            || self.patterns.iter().any(|pattern| pattern.leads_through(directory))
    }
}

/// How the directory is opened.
pub fn opened(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&Path]) -> anyhow::Result<Wanted> {
        Wanted::new(&names.iter().map(|name| name.as_os_str().to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_a_directory_and_a_pattern_each_want_their_own() {
        let place = tempfile::tempdir().unwrap();
        let logs = place.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let (file, pattern) = (place.path().join("a.log"), place.path().join("*/b-*.log"));
        let wanted = wanted(&[&file, &logs.join(""), &pattern]).unwrap();
        assert!(
            wanted.is(&file) && wanted.is(&logs.join("any")) && wanted.is(&place.path().join("x/b-1.log"))
        );
        assert!(!wanted.is(&place.path().join("c.log")) && !wanted.is(&logs.join("deep/any")));
        assert!(wanted.leads_through(&place.path().join("x")) && !wanted.leads_through(&logs.join("deep")));
        assert_eq!(wanted.roots(), [place.path().to_owned(), logs]);
    }

    #[test]
    fn a_missing_directory_is_named_with_what_to_do() {
        let error = wanted(&[Path::new("/nonexistent/a.log")]).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("/nonexistent'") && text.contains("make the directory first"), "{text}");
        let error = wanted(&[Path::new("/proc/version/a.log")]).unwrap_err();
        assert!(format!("{error:#}").contains("is no directory"), "{error:#}");
    }
}
