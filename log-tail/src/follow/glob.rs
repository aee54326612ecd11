//! Patterns that name files to come: matched against directory entries as they appear.
//!
//! A pattern is taken apart at its slashes, so that each directory on the way can be watched and each new
//! entry is matched against one component only. `**` stands for any number of directories. As in a shell,
//! a wildcard does not match a leading dot.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};

/// A pattern that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("cannot understand the pattern '{}': {reason}; to follow a file whose name holds *, ?, [ or {{, put a backslash before them", pattern.display())]
pub struct PatternError {
    pattern: PathBuf,
    reason: String,
}

#[derive(Debug, Clone)]
enum Part {
    AnyDirectories,
    Entry { matcher: Box<GlobMatcher>, matches_dot: bool },
}

/// A pattern: the directory it starts from and what each level below has to match.
#[derive(Debug, Clone)]
pub struct Pattern {
    base: PathBuf,
    parts: Vec<Part>,
}

/// What an entry means to a pattern at some depth.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Meaning {
    /// A file of this name is to be followed.
    pub file: bool,
    /// A directory of this name is to be entered, with these depths.
    pub enter: Vec<usize>,
}

/// Whether a name with wildcards is a pattern, and one that can be understood. A name that a file bears
/// exactly is none.
///
/// # Errors
/// [`PatternError`].
pub fn check(name: &Path) -> Result<bool, PatternError> {
    if !is_pattern(name) || std::fs::symlink_metadata(name).is_ok() {
        return Ok(false);
    }
    Pattern::new(name).map(|_| true)
}

/// Whether a path holds a wildcard.
pub fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|byte| b"*?[{".contains(byte))
}

impl Pattern {
    /// Takes a pattern apart.
    ///
    /// # Errors
    /// [`PatternError`], for instance for an unclosed `[`.
    pub fn new(pattern: &Path) -> Result<Self, PatternError> {
        let mut base = PathBuf::new();
        let mut parts = Vec::new();
        for component in pattern.components() {
            let text = component.as_os_str();
            if parts.is_empty() && !is_pattern(Path::new(text)) {
                base.push(component);
            } else if text == "**" {
                parts.push(Part::AnyDirectories);
            } else {
                parts.push(
                    entry(text, component)
                        .map_err(|reason| PatternError { pattern: pattern.to_owned(), reason })?,
                );
            }
        }
        if matches!(parts.last(), Some(Part::AnyDirectories)) {
            parts.push(
                entry(OsStr::new("*"), Component::Normal(OsStr::new("*")))
                    .map_err(|reason| PatternError { pattern: pattern.to_owned(), reason })?,
            );
        }
        Ok(Self { base, parts })
    }

    /// The directory the pattern starts from; empty for the current one.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// What an entry of a directory at this depth means.
    pub fn meaning(&self, depth: usize, name: &OsStr) -> Meaning {
        let mut meaning = Meaning::default();
        self.collect(depth, name, &mut meaning);
        meaning
    }

    /// Whether a file of this path is to be followed.
    pub fn matches(&self, path: &Path) -> bool {
        self.walk(path).is_some_and(|meaning| meaning.file)
    }

    /// Whether a directory of this path is to be entered.
    pub fn leads_through(&self, path: &Path) -> bool {
        self.walk(path).is_some_and(|meaning| !meaning.enter.is_empty())
    }

    /// What a path means; `None` where it does not lie below the base.
    fn walk(&self, path: &Path) -> Option<Meaning> {
        let below = path.strip_prefix(&self.base).ok()?;
        let mut reached = Meaning { file: false, enter: vec![0] };
        for name in below.components() {
            let mut next = Meaning::default();
            for depth in reached.enter {
                self.collect(depth, name.as_os_str(), &mut next);
            }
            next.enter.dedup();
            reached = next;
        }
        Some(reached)
    }

    fn collect(&self, depth: usize, name: &OsStr, meaning: &mut Meaning) {
        let hidden = name.as_bytes().first() == Some(&b'.');
        match self.parts.get(depth) {
            None => {}
            Some(Part::AnyDirectories) => {
                if !hidden {
                    meaning.enter.push(depth);
                }
                self.collect(depth + 1, name, meaning);
            }
            Some(Part::Entry { matcher, matches_dot }) => {
                if (hidden && !matches_dot) || !matcher.is_match(Path::new(name)) {
                    return;
                }
                if depth + 1 == self.parts.len() {
                    meaning.file = true;
                } else {
                    meaning.enter.push(depth + 1);
                }
            }
        }
    }
}

fn entry(text: &OsStr, component: Component<'_>) -> Result<Part, String> {
    let pattern = text.to_str().ok_or("it is not UTF-8")?;
    let matches_dot = !matches!(component, Component::Normal(_)) || text.as_bytes().first() == Some(&b'.');
    let glob = GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Part::Entry { matcher: Box::new(glob.compile_matcher()), matches_dot })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(pattern: &str, depth: usize, name: &str) -> Meaning {
        Pattern::new(Path::new(pattern)).unwrap().meaning(depth, OsStr::new(name))
    }

    fn file() -> Meaning {
        Meaning { file: true, enter: vec![] }
    }

    #[test]
    fn a_pattern_starts_at_its_first_wildcard() {
        let pattern = Pattern::new(Path::new("/var/log/*/app-?.log")).unwrap();
        assert_eq!(pattern.base(), Path::new("/var/log"));
        assert_eq!(Pattern::new(Path::new("*.log")).unwrap().base(), Path::new(""));
    }

    #[test]
    fn entries_are_entered_or_followed_by_depth() {
        assert_eq!(meaning("/l/*/a*.log", 0, "nginx"), Meaning { file: false, enter: vec![1] });
        assert_eq!(meaning("/l/*/a*.log", 1, "access.log"), file());
        assert_eq!(meaning("/l/*/a*.log", 1, "error.log"), Meaning::default());
        assert_eq!(meaning("/l/{a,b}.log", 0, "b.log"), file());
    }

    #[test]
    fn two_stars_stand_for_any_number_of_directories() {
        assert_eq!(meaning("/l/**/*.log", 0, "deep"), Meaning { file: false, enter: vec![0] });
        assert_eq!(meaning("/l/**/*.log", 0, "a.log"), Meaning { file: true, enter: vec![0] });
        assert_eq!(meaning("/l/**", 0, "x"), Meaning { file: true, enter: vec![0] });
    }

    #[test]
    fn a_wildcard_does_not_match_a_leading_dot() {
        assert_eq!(meaning("/l/*", 0, ".hidden"), Meaning::default());
        assert_eq!(meaning("/l/.*", 0, ".hidden"), file());
    }

    #[test]
    fn a_whole_path_matches_or_not() {
        let matches =
            |pattern: &str, path: &str| Pattern::new(Path::new(pattern)).unwrap().matches(Path::new(path));
        assert!(matches("/l/*/a*.log", "/l/x/app.log") && matches("/l/**/*.log", "/l/x/y/app.log"));
        assert!(!matches("/l/*/a*.log", "/l/app.log") && !matches("/l/*.log", "/m/app.log"));
        assert!(matches("*.log", "app.log"));
        let through = |pattern: &str, path: &str| {
            Pattern::new(Path::new(pattern)).unwrap().leads_through(Path::new(path))
        };
        assert!(
            through("/l/*/a*.log", "/l")
                && through("/l/*/a*.log", "/l/x")
                && through("/l/**/*.log", "/l/x/y")
        );
        assert!(!through("/l/*.log", "/l/x") && !through("/l/*/a.log", "/m"));
    }

    #[test]
    fn an_unclosed_bracket_is_explained() {
        let message = Pattern::new(Path::new("/l/[a")).unwrap_err().to_string();
        assert!(message.contains("'/l/[a'") && message.contains("backslash"), "{message}");
    }
}
