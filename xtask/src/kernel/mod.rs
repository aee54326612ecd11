//! Debian's cloud kernels: which one is meant, and the cache that keeps them.
//!
//! A kernel that is in the cache is used without the network. Its folder holds `vmlinuz` and
//! `modules/`, named after the kernel's release; nothing else writes there.

mod archive;
pub mod mirror;

use std::{
    fmt, fs,
    num::ParseIntError,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};
use archive::Archive;

/// The series that everything is tested on, oldest first; the last is whatever is newest.
pub const TESTED: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7"];

/// What ends the release of every kernel that we use.
const FLAVOUR: &str = "-cloud-amd64";

/// The beginning of a kernel's version: `6.12`, `7` (or `7.x`: the newest there is), `6.12.94`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series(Vec<u64>);

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.strip_suffix(".x").unwrap_or(text).split('.');
        let numbers: Result<_, ParseIntError> = numbers.map(str::parse).collect();
        Ok(Self(numbers.with_context(|| format!("{text:?} is not a kernel version such as 6.12 or 7"))?))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

impl Series {
    fn holds(&self, release: &str) -> bool {
        version(release).starts_with(&self.0)
    }

    /// Debian's suites that may have it, likeliest first.
    fn suites(&self) -> &'static [&'static str] {
        match self.0[..] {
            [5, 10, ..] => &["bullseye"],
            [6, 1, ..] => &["bookworm"],
            [6, 12, ..] => &["trixie"],
            [6, ..] => &["trixie-backports", "bookworm-backports"],
            _ => &["sid", "trixie-backports"],
        }
    }

    /// The newest release of this series among those given.
    fn newest(&self, releases: impl IntoIterator<Item = String>) -> Option<String> {
        releases.into_iter().filter(|release| self.holds(release)).max_by_key(|release| version(release))
    }
}

/// The numbers in a release, for comparing: `6.12.90+deb13.1-cloud-amd64` is 6, 12, 90, 13, 1.
fn version(release: &str) -> Vec<u64> {
    let release = release.strip_suffix(FLAVOUR).unwrap_or(release);
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// A kernel in the cache.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// What `uname -r` says on it.
    pub release: String,
    folder: PathBuf,
}

impl Kernel {
    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }

    /// The newest kernel of that series: from the cache, or from Debian's archive where the cache has
    /// none or `refresh` asks for a look at what is there today.
    pub fn obtain(series: &Series, refresh: bool) -> Result<Self> {
        let cache = workspace::cache()?.join("kernels");
        if !refresh && let Some(release) = series.newest(cached(&cache)?) {
            return Ok(Self { folder: cache.join(&release), release });
        }
        for suite in series.suites() {
            eprintln!("xtask: looking for kernel {series} in Debian's {suite}");
            let archive = Archive::open(&cache, suite)?;
            if let Some(release) = series.newest(archive.kernels()) {
                let folder = cache.join(&release);
                if !folder.exists() {
                    eprintln!("xtask: fetching kernel {release}");
                    unpack(&archive, &release, &folder)
                        .with_context(|| format!("could not fetch kernel {release} from Debian's {suite}"))?;
                }
                return Ok(Self { release, folder });
            }
        }
        bail!(
            "there is no cloud kernel {series} in Debian's {}; tested are {}",
            series.suites().join(" or "),
            TESTED.join(", ")
        )
    }
}

fn cached(cache: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(cache) else { return Ok(Vec::new()) };
    let mut releases = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("could not list {}", cache.display()))?.file_name();
        releases.extend(name.into_string().ok().filter(|name| name.ends_with(FLAVOUR)));
    }
    Ok(releases)
}

/// Downloads a kernel's packages and keeps its image and its modules, all at once or not at all.
fn unpack(archive: &Archive, release: &str, folder: &Path) -> Result<()> {
    let cache = folder.parent().context("the cache has no parent folder")?;
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(cache)?;
    for package in archive.download(release, work.path())? {
        process::output(std::process::Command::new("dpkg").arg("-x").arg(package).arg(work.path()))?;
    }
    let kept = work.path().join("kept");
    fs::create_dir(&kept)?;
    // Older packages have /boot and /lib, newer ones everything under /usr/lib/modules.
    let modules = ["lib/modules", "usr/lib/modules"].map(|above| work.path().join(above).join(release));
    let modules = modules.iter().find(|folder| folder.join("kernel").is_dir());
    let modules = modules.context("its packages hold no modules")?;
    let images = [work.path().join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images.iter().find(|image| image.is_file()).context("its packages hold no vmlinuz")?;
    fs::rename(image, kept.join("vmlinuz"))?;
    fs::rename(modules, kept.join("modules"))?;
    match fs::rename(&kept, folder) {
        // Another xtask was quicker: its copy is as good as ours.
        Err(_) if folder.is_dir() => Ok(()),
        moved => moved.with_context(|| format!("could not put the kernel in {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(text: &str) -> Series {
        text.parse().unwrap()
    }

    fn newest(text: &str, releases: &[&str]) -> Option<String> {
        series(text).newest(releases.iter().map(|&release| release.to_owned()))
    }

    #[test]
    fn a_series_is_not_mistaken_for_one_with_the_same_digits() {
        let releases = ["6.1.0-50-cloud-amd64", "6.12.107+deb13-cloud-amd64", "6.18.15+deb13-cloud-amd64"];
        assert_eq!(newest("6.1", &releases).as_deref(), Some("6.1.0-50-cloud-amd64"));
        assert_eq!(newest("6.12", &releases).as_deref(), Some("6.12.107+deb13-cloud-amd64"));
        assert_eq!(newest("5.10", &releases), None);
    }

    #[test]
    fn the_newest_is_found_by_number_and_not_by_letter() {
        let releases =
            ["6.12.95+deb13-cloud-amd64", "6.12.115+deb13-cloud-amd64", "6.12.115+deb13.1-cloud-amd64"];
        assert_eq!(newest("6.12", &releases).as_deref(), Some("6.12.115+deb13.1-cloud-amd64"));
    }

    #[test]
    fn the_newest_of_a_major_version_may_be_any_minor_one() {
        let releases = ["7.1.8+deb13-cloud-amd64", "7.10.1+deb14-cloud-amd64", "7.2.13+deb14-cloud-amd64"];
        for text in ["7", "7.x"] {
            assert_eq!(newest(text, &releases).as_deref(), Some("7.10.1+deb14-cloud-amd64"));
        }
        assert_eq!(newest("7.2", &releases).as_deref(), Some("7.2.13+deb14-cloud-amd64"));
    }

    #[test]
    fn every_tested_series_has_a_suite() {
        let suites: Vec<_> = TESTED.iter().map(|text| series(text).suites()[0]).collect();
        assert_eq!(suites, ["bullseye", "bookworm", "trixie", "trixie-backports", "sid"]);
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "six", "6.", "-1", "6.12-rc1"] {
            assert!(text.parse::<Series>().is_err(), "{text:?}");
        }
    }
}
