//! A cgroup2 hierarchy to run commands in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::mount::{MsFlags, mount, umount};

use crate::place::Place;

/// The hierarchy, mounted until this is dropped.
#[derive(Debug)]
pub struct Hierarchy {
    path: PathBuf,
}

impl Hierarchy {
    /// Mounts it in this place.
    ///
    /// # Panics
    /// Where the kernel does not let it be mounted.
    #[must_use]
    pub fn mounted_in(place: &Place) -> Self {
        let path = place.path("cgroup");
        fs::create_dir(&path).expect("a directory");
        let none: Option<&str> = None;
        mount(Some("cgroup2"), &path, Some("cgroup2"), MsFlags::empty(), none).expect("mounted");
        Self { path }
    }

    /// Runs the script in a new cgroup of this name.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use]
    pub fn run(&self, name: impl AsRef<Path>, script: &str) -> Cgroup {
        let cgroup = Cgroup { path: self.path.join(name) };
        fs::create_dir(&cgroup.path).expect("a cgroup");
        let script = format!("echo $$ > '{}/cgroup.procs' && {script}", cgroup.path.display());
        let status = Command::new("sh").arg("-c").arg(script).status();
        assert!(status.is_ok_and(|status| status.success()), "in {}", cgroup.path.display());
        cgroup
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        let _ = umount(&self.path);
    }
}

/// A cgroup, removed when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
