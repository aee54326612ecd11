//! Files of lines that look like a log's.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Bytes of each line, with its newline.
pub const LINE_BYTES: usize = 107;

/// The line of this number.
pub fn line(number: u64) -> String {
    let line = format!(
        "2026-11-22T13:37:00.{:06}Z node-7 app[4242]: request {number:010} GET /api/v1/items 200 in 12 ms from 10.0.0.7",
        number % 1_000_000
    );
    format!("{line:<width$.width$}\n", width = LINE_BYTES - 1)
}

/// Makes a file of so many lines.
pub fn file(path: &Path, lines: u64) -> Result<()> {
    let cannot = || format!("writing {}", path.display());
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).with_context(cannot)?);
    for number in 0..lines {
        file.write_all(line(number).as_bytes()).with_context(cannot)?;
    }
    file.flush().with_context(cannot)
}

/// Makes so many empty files in folders of at most a thousand each, below this directory.
pub fn files(directory: &Path, count: usize) -> Result<Vec<PathBuf>> {
    const A_FOLDER: usize = 1000;
    let mut paths = Vec::with_capacity(count);
    for number in 0..count {
        let folder = directory.join(format!("d{:04}", number / A_FOLDER));
        if number % A_FOLDER == 0 {
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let path = folder.join(format!("{:03}.log", number % A_FOLDER));
        File::create(&path).with_context(|| format!("making {}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_as_long_as_it_is_said() {
        for number in [0, 9_999_999, 12_345_678_901] {
            let line = line(number);
            assert_eq!((line.len(), line.ends_with('\n')), (LINE_BYTES, true), "{line:?}");
            assert!(line.contains(&number.to_string()), "{line:?}");
        }
    }
}
