//! A suite of Debian's archive, read through apt with folders of our own: the machine's apt
//! configuration and package state stay untouched, and nobody needs to be root.
//! Signatures are checked as always.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::{FLAVOUR, mirror};
use crate::process;

/// Apt retries each file by itself; this is for mirrors that are away for longer.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(10);

pub struct Archive {
    packages: BTreeSet<String>,
    folder: TempDir,
}

impl Archive {
    /// Fetches the suite's list of packages into a folder beside the cache, for as long as this lives.
    pub fn open(cache: &Path, suite: &str) -> Result<Self> {
        process::need("apt-get", "apt (kernels come from Debian's archive)")?;
        let keyring = mirror::keyring()?.display();
        let mirror = mirror::mirror()?;
        fs::create_dir_all(cache).with_context(|| format!("could not make the cache {}", cache.display()))?;
        let folder = tempfile::Builder::new().prefix(".apt-").tempdir_in(cache)?;
        for needed in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.path().join(needed))?;
        }
        fs::write(folder.path().join("status"), "")?;
        fs::write(folder.path().join("apt.conf"), configuration(folder.path()))?;
        let source = format!("deb [arch=amd64 signed-by={keyring}] {mirror} {suite} main\n");
        fs::write(folder.path().join("sources.list"), source)?;

        let mut archive = Self { packages: BTreeSet::new(), folder };
        archive
            .attempt(|apt| {
                apt.args(["--quiet", "update", "--error-on=any"]);
            })
            .with_context(|| format!("could not read Debian's {suite} from {mirror}"))?;
        let names = process::text(archive.apt("apt-cache").arg("pkgnames").arg("linux-"))?;
        archive.packages = names.lines().map(str::to_owned).collect();
        Ok(archive)
    }

    /// The releases of all cloud kernels in the suite.
    pub fn kernels(&self) -> Vec<String> {
        releases(&self.packages)
    }

    /// Downloads the packages that hold a kernel and its modules.
    pub fn download(&self, release: &str, to: &Path) -> Result<Vec<PathBuf>> {
        let names = holding(&self.packages, release);
        self.attempt(|apt| {
            apt.args(["--quiet", "download"]).args(&names).current_dir(to);
        })?;
        let mut files = Vec::new();
        for entry in fs::read_dir(to)? {
            files.extend(Some(entry?.path()).filter(|path| path.extension().is_some_and(|end| end == "deb")));
        }
        if files.len() < names.len() {
            bail!("apt-get download left {} files of {}", files.len(), names.len());
        }
        Ok(files)
    }

    /// Runs apt-get with what `ask` adds, more than once where that helps.
    fn attempt(&self, ask: impl Fn(&mut Command)) -> Result<()> {
        let mut attempt = 1;
        loop {
            let mut command = self.apt("apt-get");
            ask(&mut command);
            match process::output(&mut command) {
                Ok(_) => return Ok(()),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(error) => eprintln!("xtask: {error:#}\nxtask: trying again in {} s", PAUSE.as_secs()),
            }
            attempt += 1;
            thread::sleep(PAUSE);
        }
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.path().join("apt.conf"));
        command
    }
}

/// Read after the machine's own configuration, whose proxies it keeps.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::Preferences "-";
Dir::Etc::PreferencesParts "-";
Dir::State::Lists "{folder}/lists";
Dir::State::Status "{folder}/status";
Dir::Cache "{folder}/cache";
APT::Architecture "amd64";
#clear APT::Architectures;
// As root, apt would fetch as its own user, who cannot write to our folders.
APT::Sandbox::User "root";
// What the machine does after its own updates is not meant for ours.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Retries "3";
Acquire::Languages "none";
// A suite that is no longer updated keeps its last signature for ever.
Acquire::Check-Valid-Until "false";
"#
    )
}

/// The releases whose kernel image is among the packages.
fn releases(packages: &BTreeSet<String>) -> Vec<String> {
    let release = |name: &String| {
        let rest = name.strip_prefix("linux-image-").or_else(|| name.strip_prefix("linux-binary-"))?;
        // "linux-image-cloud-amd64" and the like only point to the current one.
        let numbered = rest.starts_with(|c: char| c.is_ascii_digit()) && rest.matches('.').count() > 1;
        (numbered && rest.ends_with(FLAVOUR)).then(|| rest.to_owned())
    };
    packages.iter().filter_map(release).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The packages that hold this release: one until 6.18, later image and modules each their own.
fn holding(packages: &BTreeSet<String>, release: &str) -> Vec<String> {
    let kinds = ["linux-image", "linux-binary", "linux-modules", "linux-base"];
    let names = kinds.iter().map(|kind| format!("{kind}-{release}"));
    names.filter(|name| packages.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn only_numbered_kernels_with_an_image_count() {
        let packages = set(&[
            "linux-image-cloud-amd64",
            "linux-image-6.1-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64-dbg",
            "linux-image-6.1.0-50-cloud-amd64-unsigned",
            "linux-image-6.1.0-50-rt-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-image-7.2.13+deb14-cloud-amd64",
        ]);
        assert_eq!(releases(&packages), ["6.1.0-50-cloud-amd64", "7.2.13+deb14-cloud-amd64"]);
    }

    #[test]
    fn a_kernel_in_pieces_is_fetched_whole() {
        let packages =
            set(&["linux-image-7.2-x", "linux-binary-7.2-x", "linux-modules-7.2-x", "linux-image-7.1-x"]);
        assert_eq!(
            holding(&packages, "7.2-x"),
            ["linux-image-7.2-x", "linux-binary-7.2-x", "linux-modules-7.2-x"]
        );
        assert_eq!(holding(&packages, "7.1-x"), ["linux-image-7.1-x"]);
    }
}
