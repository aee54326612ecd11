//! Names that rotation gives: which belong to a followed name, and what they say about the order.

use std::{
    cmp::Ordering,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use crate::follow::compressed::Kind;

/// What stands in a name for the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generation {
    /// `app.log-20260101`, `app.log.2026-01-01T00-00-00`: its groups of digits.
    Date(Vec<u64>),
    /// `app.log.1`.
    Number(u64),
    /// `app.log.old`.
    Old,
}

impl Generation {
    /// `None` where it is something else, such as `swp` or a version.
    fn parse(text: &[u8]) -> Option<Self> {
        if text == b"old" {
            return Some(Self::Old);
        }
        let is_digit = |byte: &u8| byte.is_ascii_digit();
        let ends_well = text.last().is_some_and(|last| is_digit(last) || *last == b'Z');
        if !text.first().is_some_and(is_digit)
            || !ends_well
            || !text.iter().all(|byte| is_digit(byte) || b"-_.:+TZ".contains(byte))
        {
            return None;
        }
        let groups: Vec<&[u8]> =
            text.split(|byte| !is_digit(byte)).filter(|group| !group.is_empty()).collect();
        let digits: usize = groups.iter().map(|group| group.len()).sum();
        match groups[..] {
            [number] if text.len() == number.len() && digits < 6 => Some(Self::Number(value(number))),
            // A date begins with its year: `10.20.30` is a version or an address.
            [first, ..] if first.len() >= 4 && digits >= 6 => {
                Some(Self::Date(groups.into_iter().map(value).collect()))
            }
            _ => None,
        }
    }

    /// The number, where it is one.
    pub fn number(&self) -> Option<u64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// Older first, as far as names can tell; those of different kinds apart from each other.
    pub fn order(&self, other: &Self, numbers_grow: bool) -> Ordering {
        match (self, other) {
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) if numbers_grow => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => b.cmp(a),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    /// Whether names of both kinds say which is older.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Date(_) => 0,
            Self::Number(_) => 1,
            Self::Old => 2,
        }
    }
}

fn value(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value: u64, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// The names that rotation may make of one.
pub struct Family<'a> {
    name: &'a [u8],
    /// Where it has an extension: what is before it, and the extension with its dot.
    split: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Family<'a> {
    pub fn of(name: &'a OsStr) -> Self {
        let name = name.as_bytes();
        let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
        Self { name, split: dot.map(|dot| name.split_at(dot)) }
    }

    /// Which generation the file of this name is, and how its name says it is compressed.
    pub fn generation(&self, name: &OsStr) -> Option<(Generation, Option<Kind>)> {
        let (plain, compressed) = Kind::split_name(name.as_bytes());
        let behind = |start: &[u8], end: &[u8]| {
            let (separator, rest) = plain.strip_prefix(start)?.strip_suffix(end)?.split_first()?;
            let generation = b".-_".contains(separator).then(|| Generation::parse(rest))??;
            Some((*separator, generation))
        };
        let within = || {
            let (stem, extension) = self.split?;
            // `worker-1.log` beside `worker.log` is another worker's, `worker.1.log` an older one.
            behind(stem, extension).filter(|(separator, generation)| {
                *separator == b'.' || matches!(generation, Generation::Date(_))
            })
        };
        let (_, generation) = behind(self.name, b"").or_else(within)?;
        Some((generation, compressed))
    }
}

/// The names of which `name` is a generation.
pub fn originals(name: &OsStr) -> Vec<OsString> {
    let (plain, _) = Kind::split_name(name.as_bytes());
    let extension = plain.iter().rposition(|byte| *byte == b'.').map_or(&b""[..], |dot| &plain[dot..]);
    let separators = plain.iter().enumerate().filter(|(_, byte)| b".-_".contains(byte)).map(|(at, _)| at);
    let mut originals: Vec<OsString> = separators
        .flat_map(|at| [plain[..at].to_vec(), [&plain[..at], extension].concat()])
        .map(OsString::from_vec)
        .filter(|original| Family::of(original).generation(name).is_some())
        .collect();
    originals.sort_unstable();
    originals.dedup();
    originals
}

/// The path without the suffix of a compressed file, where it has one.
pub fn without_suffix(path: &Path) -> Option<PathBuf> {
    let (plain, kind) = Kind::split_name(path.file_name()?.as_bytes());
    kind.map(|_| path.with_file_name(OsStr::from_bytes(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn generation(followed: &str, name: &str) -> Option<(Generation, Option<Kind>)> {
        Family::of(OsStr::new(followed)).generation(OsStr::new(name))
    }

    #[test]
    fn what_a_name_is_a_generation_of_is_found_from_it() {
        for (name, original) in [
            ("app.log.1", "app.log"),
            ("app.log.2.gz", "app.log"),
            ("app-20260101.log", "app.log"),
            ("app.log-20260101.zst", "app.log"),
            ("app.1.log", "app.log"),
        ] {
            assert!(originals(OsStr::new(name)).contains(&OsString::from(original)), "{name}");
        }
        assert!(originals(OsStr::new("app.login")).is_empty());
    }

    #[test]
    fn the_names_that_rotation_gives_are_known() {
        use Generation::{Date, Number, Old};
        for (name, expected, kind) in [
            ("app.log.1", Number(1), None),
            ("app.log.2.gz", Number(2), Some(Kind::Gzip)),
            ("app.log-3", Number(3), None),
            ("app.log-20260101", Date(vec![20_260_101]), None),
            ("app.log-20260101.gz", Date(vec![20_260_101]), Some(Kind::Gzip)),
            ("app.log-1767225600.zst", Date(vec![1_767_225_600]), Some(Kind::Zstd)),
            ("app-20260101.log", Date(vec![20_260_101]), None),
            ("app-2026-01-01T00-00-00.000.log.xz", Date(vec![2026, 1, 1, 0, 0, 0, 0]), Some(Kind::Xz)),
            ("app.2026-01-01.7.log.bz2", Date(vec![2026, 1, 1, 7]), Some(Kind::Bzip2)),
            ("app.log.2026-01-01T00-00-00", Date(vec![2026, 1, 1, 0, 0, 0]), None),
            ("app.log.2026-01-01T00:00:00Z", Date(vec![2026, 1, 1, 0, 0, 0]), None),
            ("app.log.old", Old, None),
            ("app.old.log", Old, None),
            ("app.1.log", Number(1), None),
        ] {
            assert_eq!(generation("app.log", name), Some((expected, kind)), "{name}");
        }
        assert_eq!(generation("syslog", "syslog.1"), Some((Number(1), None)));
        assert_eq!(generation("0.log", "0.log.20260101-101112").map(|found| found.1), Some(None));
    }

    #[test]
    fn other_names_are_not() {
        for name in [
            "app.log",
            "app.login",
            "other.log",
            "app.log.swp",
            ".app.log.x",
            ".app.log.1",
            "app.log.1.gz.tmp",
            "app.log.gz",
            "app.log.",
            "app.log.1~",
            "app.log.1.",
            "app-1.log",
            "app-1.2.3.log",
            "app.log-1.2",
            "app-10.20.30.40.log",
            "app.log.bak",
            "app.log.rotated",
            "app.log.1.old",
            "xapp.log.1",
            "app.log1",
            "app_old.log",
            "app.txt.1",
            "app",
            "",
        ] {
            assert_eq!(generation("app.log", name), None, "{name}");
        }
        assert_eq!(generation("0.log", "1.log"), None);
        assert_eq!(generation(".log", "1.log"), None);
    }

    proptest! {
        #[test]
        fn no_name_is_a_panic(followed in "[a-c.0-9-]{0,8}", rest in "[.0-9TZ_-]{0,30}", any in any::<Vec<u8>>()) {
            generation(&followed, &format!("{followed}{rest}"));
            Family::of(OsStr::from_bytes(&any)).generation(OsStr::new(&rest));
            Family::of(OsStr::new(&rest)).generation(OsStr::from_bytes(&any));
        }
    }
}
