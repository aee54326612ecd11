//! A filesystem of a test's own whose power can be cut: what was not durable by then is gone when it is mounted again.

use std::{
    env, fs,
    fs::File,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MsFlags, mount, umount},
    unistd::geteuid,
};

use crate::{place::Place, torture::subject::find};

/// More than the test writes, its journal counted.
const MIB: u64 = 128;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`, `XFS_FSOP_GOING_FLAGS_NOLOGFLUSH`: nothing more is written, the journal neither.
const WITHOUT_FLUSHING: u32 = 2;

nix::ioctl_read! {
    /// `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`.
    shut_down, b'X', 125, u32
}

/// Mounted, and unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    device: Device,
}

#[derive(Debug)]
enum Device {
    /// A file, through a loop device that the kernel frees with the mount.
    Image { file: PathBuf, _place: Place },
    /// A disk that was mounted before.
    Disk { device: PathBuf, filesystem: String },
}

impl Disk {
    /// What `LOG_TAIL_TEST_DISK` is the mount point of, or else a new ext4 in a file.
    ///
    /// # Errors
    /// Why there can be none here.
    ///
    /// # Panics
    /// Where there should be one.
    pub fn new() -> Result<Self, String> {
        if let Some(dir) = env::var_os("LOG_TAIL_TEST_DISK").map(PathBuf::from) {
            let mounts = fs::read_to_string("/proc/self/mounts").expect("procfs");
            let of_dir = |line: &str| {
                let mut words = line.split(' ');
                let (device, mounted, filesystem) = (words.next()?, words.next()?, words.next()?);
                let device = Device::Disk { device: device.into(), filesystem: filesystem.into() };
                (Path::new(mounted) == dir).then_some(device)
            };
            let device = mounts.lines().find_map(of_dir).expect("LOG_TAIL_TEST_DISK is a mount point");
            return Ok(Self { dir, device });
        }
        if !geteuid().is_root() {
            return Err("only root may mount".into());
        }
        let mke2fs = find("mke2fs").ok_or("mke2fs is not installed: apt-get install e2fsprogs")?;
        let place = Place::new();
        let (file, dir) = (place.path("image"), place.path("disk"));
        File::create_new(&file).and_then(|file| file.set_len(MIB << 20)).expect("room for an image");
        let made = Command::new(mke2fs).args(["-q", "-F", "-t", "ext4"]).arg(&file).status();
        assert!(made.expect("mke2fs starts").success(), "mke2fs failed");
        fs::create_dir(&dir).expect("a mount point");
        let disk = Self { dir, device: Device::Image { file, _place: place } };
        disk.mount().map(|()| disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Cuts the power: from now on, every call on it fails.
    ///
    /// # Panics
    /// Where the filesystem cannot.
    pub fn cut(&self) {
        let dir = File::open(&self.dir).expect("it is mounted");
        let mut how = WITHOUT_FLUSHING;
        // SAFETY: the request reads a u32, which lives as long as the call.
        let cut = unsafe { shut_down(dir.as_raw_fd(), &raw mut how) };
        assert!(cut.is_ok(), "the filesystem cannot be shut down: {cut:?}");
    }

    /// The power is back. Nobody may have anything open on it.
    ///
    /// # Panics
    /// Where it does not come back.
    pub fn mount_again(&self) {
        umount(&self.dir).unwrap_or_else(|error| panic!("unmounting {}: {error}", self.dir.display()));
        self.mount().unwrap_or_else(|error| panic!("after its power was cut: {error}"));
    }

    fn mount(&self) -> Result<(), String> {
        let dir = self.dir.as_path();
        match &self.device {
            Device::Image { file, .. } => {
                let mounted = Command::new("mount").args(["-o", "loop"]).arg(file).arg(dir).output();
                let mounted = mounted.map_err(|error| format!("mount(8) cannot be started: {error}"))?;
                let said =
                    || format!("mounting {}: {}", file.display(), String::from_utf8_lossy(&mounted.stderr));
                mounted.status.success().then_some(()).ok_or_else(said)
            }
            Device::Disk { device, filesystem } => {
                let mounted =
                    mount(Some(device), dir, Some(filesystem.as_str()), MsFlags::empty(), None::<&str>);
                mounted.map_err(|error| format!("mounting {}: {error}", device.display()))
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if matches!(self.device, Device::Image { .. }) {
            // Fails only where a test did already.
            let _ = umount(&self.dir);
        }
    }
}
