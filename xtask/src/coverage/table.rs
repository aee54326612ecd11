//! What was measured as a page: operation × place × kernel, with the reason for every cell that is not "hint".

use std::{collections::BTreeMap, fmt::Write as _};

use super::places::PLACES;

/// What came of one way into a file in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// An index of [`PLACES`].
    pub place: usize,
    pub way: String,
    pub outcome: String,
}

/// One kernel's results.
#[derive(Debug)]
pub struct Measured {
    pub release: String,
    pub backend: &'static str,
    /// Filesystems that people log to, and this kernel has not.
    pub lacks: Vec<&'static str>,
    pub cells: Vec<Cell>,
}

/// The page, and what is to be said of it.
#[derive(Debug)]
pub struct Page {
    pub text: String,
    pub summary: String,
    /// Cells for which no reason is known.
    pub unexplained: Vec<String>,
}

const HINT: &str = "hint";
const SWEEP: &str = "sweep";
/// What nobody can be told of.
const STORE: &str = "mmap, a store alone";
/// The place in which the kernel promises nothing.
const UNDEFINED: &str = "upper written";

/// Why log-tail was not told, by what is known of it: backend, the place's and the way's names (or parts of them), how
/// the outcome begins, and the reason.
const REASONS: [(&str, &str, &str, &str, &str); 6] = [
    (
        "",
        UNDEFINED,
        "",
        "",
        "the kernel's documentation leaves undefined what an overlay shows of changes made beneath it: what the overlay \
         itself shows after a while, the sweep finds",
    ),
    ("", "", STORE, SWEEP, "stores into mapped memory are no calls, and the kernel tells nobody of them"),
    ("inotify", "", "libaio", SWEEP, "this kernel does not tell inotify of writes by libaio"),
    (
        "inotify",
        "",
        "COLLAPSE_RANGE",
        "wrong",
        "looks like a truncation: what is left of the file is read once more, and nothing is lost",
    ),
    (
        "inotify",
        "",
        "link, and write",
        SWEEP,
        "the directory is told under the name that was written through, which is not followed",
    ),
    (
        "inotify",
        "upper followed",
        "",
        SWEEP,
        "an overlay writes to the real file in a way of which inotify is not told",
    ),
];

/// What some filesystems do not do: the way's name (or a part of it), and how the system's word for it begins.
const REFUSALS: [(&str, &str); 5] = [
    // Overlays of the oldest kernels pass the flag on to nobody.
    ("pwritev2, RWF_APPEND", "the kernel wrote elsewhere than at the end"),
    ("reflink", "Operation not supported"),
    ("fallocate", "Operation not supported"),
    // tmpfs, before 6.6.
    ("O_DIRECT", "Invalid argument"),
    // What is mounted over an overlay is not over what lies beneath it.
    ("mount over", "the follower looks beneath"),
];

fn reason(backend: &str, place: &str, way: &str, outcome: &str) -> Option<String> {
    if let Some(word) = outcome.strip_prefix("refused: ") {
        let is_known = REFUSALS.iter().any(|(of, begins)| way.contains(of) && word.starts_with(begins));
        return is_known.then(|| format!("not done: {word}"));
    }
    let known = REASONS.iter().find(|(of, at, what, begins, _)| {
        backend.contains(of) && place.contains(at) && way.contains(what) && outcome.starts_with(begins)
    });
    known.map(|(.., why)| (*why).to_owned())
}

/// The reasons that a table refers to, each once, in the order in which they came.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    /// The note's number.
    fn number(&mut self, text: String) -> usize {
        self.0.iter().position(|known| *known == text).unwrap_or_else(|| {
            self.0.push(text);
            self.0.len() - 1
        }) + 1
    }
}

pub fn page(measured: &[Measured]) -> Page {
    let (mut text, mut unexplained) = (HEAD.to_owned(), Vec::new());
    let (mut told, mut all) = (0, 0);
    for (backend, title) in [("ebpf", "Through the kernel program"), ("inotify", "Through inotify")] {
        let of: Vec<&Measured> = measured.iter().filter(|measured| measured.backend == backend).collect();
        if of.is_empty() {
            continue;
        }
        let releases: Vec<_> = of.iter().map(|measured| measured.release.as_str()).collect();
        let _ = write!(text, "\n## {title}\n\nKernels: {}.\n\n", releases.join(", "));
        let mut notes = Notes::default();
        table(&mut text, backend, &of, &mut notes, &mut unexplained);
        text.push('\n');
        for (number, note) in notes.0.iter().enumerate() {
            let _ = writeln!(text, "{}. {note}.", number + 1);
        }
        for cell in of.iter().flat_map(|measured| &measured.cells).filter(|_| backend == "ebpf") {
            let is_done = !cell.outcome.starts_with("refused");
            all += usize::from(is_done);
            told += usize::from(is_done && cell.outcome == HINT);
        }
    }
    text.push_str("\n## The places\n\n");
    for place in PLACES.iter().filter(|place| !place.what.is_empty()) {
        let _ = writeln!(text, "* **{}**: {}.", place.name, place.what);
    }
    let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for measured in measured.iter().filter(|measured| measured.backend == "ebpf") {
        for filesystem in &measured.lacks {
            lacking.entry(filesystem).or_default().push(&measured.release);
        }
    }
    for (filesystem, kernels) in lacking {
        let _ =
            writeln!(text, "* **{filesystem}**: not tried; {} were built without it.", kernels.join(", "));
    }
    let summary = format!("the kernel program told of {told} of {all} changes that could be made");
    Page { text, summary, unexplained }
}

const HEAD: &str = "# Every way into a file

Made by `cargo xtask coverage`, which does each of these to a followed file, in each of these places, on each of these
kernels, and looks at what comes out. *hint*: log-tail was told, and exactly the right bytes came out, with the sweep
switched off. *sweep*: the right bytes came out, and it took the sweep to find them. A number is that of a reason below
the table. Where kernels differ, the ones that do not say *hint* are named.

What is not text does not come out: zeros at the end of a file wait until something is written behind them or in their
place (`fallocate`, a larger `ftruncate`), and a hole before text is passed over where the filesystem knows it to be one
(`SEEK_HOLE`). Zeros that somebody wrote come out as they are.
";

fn table(
    text: &mut String,
    backend: &str,
    measured: &[&Measured],
    notes: &mut Notes,
    unexplained: &mut Vec<String>,
) {
    let names: Vec<_> = PLACES.iter().map(|place| place.name).collect();
    let _ = writeln!(text, "| | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(PLACES.len()));
    // In the order in which they were done.
    let mut ways: Vec<&str> = Vec::new();
    for cell in measured.iter().flat_map(|measured| &measured.cells) {
        if !ways.contains(&cell.way.as_str()) {
            ways.push(&cell.way);
        }
    }
    for way in ways {
        let mut row = format!("| {way} |");
        for (index, place) in PLACES.iter().enumerate() {
            // Kernels by what came of it there.
            let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for kernel in measured {
                let cell = kernel.cells.iter().find(|cell| cell.place == index && cell.way == way);
                let outcome = cell.map_or("wrong: nothing was measured", |cell| cell.outcome.as_str());
                let shown = if outcome == HINT {
                    HINT.to_owned()
                } else {
                    let why = reason(backend, place.name, way, outcome).unwrap_or_else(|| {
                        unexplained
                            .push(format!("{} {backend}, {}, {way}: {outcome}", kernel.release, place.name));
                        outcome.to_owned()
                    });
                    let word = outcome.split(':').next().unwrap_or_default();
                    let word = match word {
                        "refused" => "–",
                        "wrong" if place.name == UNDEFINED => "undefined",
                        "wrong" if backend == "inotify" => "again",
                        other => other,
                    };
                    format!("{word} ({})", notes.number(why))
                };
                outcomes.entry(shown).or_default().push(short(&kernel.release));
            }
            let _ = write!(row, " {} |", shown(&outcomes));
        }
        let _ = writeln!(text, "{row}");
    }
}

/// The outcomes, each with its kernels where there is more than one.
fn shown(outcomes: &BTreeMap<String, Vec<String>>) -> String {
    if let (1, Some(only)) = (outcomes.len(), outcomes.keys().next()) {
        return only.clone();
    }
    let others = outcomes.iter().filter(|(outcome, _)| *outcome != HINT);
    let others: Vec<_> =
        others.map(|(outcome, kernels)| format!("{}: {outcome}", kernels.join(", "))).collect();
    others.join("; ")
}

/// A release's version, as far as people say it: `6.12.94+deb13-cloud-amd64` is 6.12.
fn short(release: &str) -> String {
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(release: &str, backend: &'static str, outcomes: &[(&str, &str)]) -> Measured {
        let cells = (0..PLACES.len()).flat_map(|place| {
            let cell = move |(way, outcome): &(&str, &str)| Cell {
                place,
                way: (*way).to_owned(),
                outcome: (*outcome).to_owned(),
            };
            outcomes.iter().map(cell).collect::<Vec<_>>()
        });
        Measured { release: release.to_owned(), backend, lacks: vec!["f2fs"], cells: cells.collect() }
    }

    #[test]
    fn a_cell_names_the_kernels_that_differ_and_why() {
        let old = measured(
            "5.10.0-1",
            "ebpf",
            &[("write", "hint"), ("reflink", "refused: Operation not supported")],
        );
        let new = measured("7.2.1-2", "ebpf", &[("write", "hint"), ("reflink", "hint")]);
        let page = page(&[old, new]);
        assert!(page.text.contains("| write | hint | hint |"), "{}", page.text);
        assert!(page.text.contains("| reflink | 5.10: – (1) |"), "{}", page.text);
        assert!(page.text.contains("\n1. not done: Operation not supported.\n"), "{}", page.text);
        assert_eq!(page.summary, "the kernel program told of 48 of 48 changes that could be made");
        assert_eq!(page.unexplained, Vec::<String>::new());
        assert!(
            page.text.ends_with("**f2fs**: not tried; 5.10.0-1, 7.2.1-2 were built without it.\n"),
            "{}",
            page.text
        );
    }

    #[test]
    fn a_refusal_that_nobody_knows_is_named() {
        let page = page(&[measured("7.2.1", "ebpf", &[("write", "refused: Operation not supported")])]);
        assert_eq!(page.unexplained.len(), PLACES.len());
        assert_eq!(page.unexplained[0], "7.2.1 ebpf, ext4, write: refused: Operation not supported");
    }

    #[test]
    fn a_gap_without_a_reason_is_named() {
        let page = page(&[measured("7.2.1", "ebpf", &[("write", "sweep")])]);
        assert_eq!(page.unexplained[0], "7.2.1 ebpf, ext4, write: sweep");
        let explained = PLACES.iter().filter(|place| place.name == "upper written").count();
        assert_eq!(page.unexplained.len(), PLACES.len() - explained);
    }
}
