//! The most memory that reading a file from its beginning takes, for one of 1 GB and for one of 100 GB that holds as many
//! lines: the rest are holes between them.

use std::{
    fs::File,
    io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Measured, Plan,
    content::{self, LINE_BYTES},
    figure::Figure,
    goal::{Goal, Limit},
    process,
};
use crate::{place::Place, run::binary};

/// Bytes of the large file.
const LARGE_BYTES: u64 = 100_000_000_000;
/// Its lines lie together in so many places.
const PLACES: u64 = 1000;
/// Both sizes are read in the same way: what one takes more than the other is noise.
const THE_SAME: f64 = 1.1;

/// Measures both files in both formats, in turn.
pub fn measure(plan: Plan) -> Result<Measured> {
    let lines = plan.lines();
    let place = Place::new();
    let [small, large] = ["small.log", "large.log"].map(|name| place.path(name));
    content::file(&small, lines)?;
    with_holes(&large, lines)?;
    let mut cases = Vec::new();
    for format in ["text", "json"] {
        for (file, size) in [(&small, "lines alone"), (&large, "100 GB with holes")] {
            cases.push((Figure::new(format!("log-tail, {format}, {size}"), "MiB"), format, file));
        }
    }
    for _ in 0..plan.runs {
        for (figure, format, file) in &mut cases {
            figure.values.push(most_memory_mib(file, format, lines)?);
        }
    }
    let figures: Vec<Figure> = cases.into_iter().map(|(figure, ..)| figure).collect();
    let mut goals: Vec<Goal> =
        figures.iter().map(|figure| Goal::of(figure, Limit::AtMost(24.0)).binding()).collect();
    for sizes in figures.chunks_exact(2) {
        goals.push(Goal::ratio(&sizes[1], &sizes[0], Limit::AtMost(THE_SAME)).binding());
    }
    Ok(Measured { figures, goals, curves: Vec::new() })
}

/// Makes a file in which holes lie between lines.
fn with_holes(path: &Path, lines: u64) -> Result<()> {
    let cannot = || format!("writing {}", path.display());
    let file = File::create(path).with_context(cannot)?;
    file.set_len(LARGE_BYTES).with_context(cannot)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let of_a_place = lines / PLACES;
    for number in 0..lines {
        if number % of_a_place == 0 {
            // The last lines are at the end.
            let from_end = (PLACES - number / of_a_place) * (LARGE_BYTES / PLACES);
            let of_it = of_a_place * LINE_BYTES as u64;
            let at = LARGE_BYTES - from_end + (LARGE_BYTES / PLACES - of_it);
            file.seek(SeekFrom::Start(at)).with_context(cannot)?;
        }
        file.write_all(content::line(number).as_bytes()).with_context(cannot)?;
    }
    file.flush().with_context(cannot)
}

/// What reading the file took at the most, once all lines have come out.
fn most_memory_mib(file: &Path, format: &str, lines: u64) -> Result<f64> {
    let mut command = Command::new(binary());
    command.args(["--no-follow", "-n", "+1", "--format", format]).arg(file);
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut reader = command.spawn().context("starting log-tail")?;
    let mut pipe = reader.stdout.take().context("a pipe")?;
    let (mut block, mut came) = (vec![0; 1 << 20], 0);
    while let read @ 1.. = pipe.read(&mut block)? {
        came += memchr::memchr_iter(b'\n', &block[..read]).count() as u64;
    }
    let ended = process::wait(reader).context("running log-tail")?;
    ensure!(came == lines, "log-tail printed {came} lines of {lines} in {}", file.display());
    Ok(ended.most_memory_kib / 1024.0)
}
