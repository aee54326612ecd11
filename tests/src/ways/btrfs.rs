//! btrfs's own: subvolumes and snapshots.

use std::{fs::File, io, os::fd::AsRawFd as _, path::Path};

/// `struct btrfs_ioctl_vol_args`, include/uapi/linux/btrfs.h.
#[repr(C)]
struct VolumeArguments {
    file: i64,
    name: [u8; 4088],
}

impl VolumeArguments {
    fn new(file: i64, name: &str) -> Self {
        let mut arguments = Self { file, name: [0; 4088] };
        arguments.name[..name.len()].copy_from_slice(name.as_bytes());
        arguments
    }
}

nix::ioctl_write_ptr!(subvolume_create, 0x94, 14, VolumeArguments);
nix::ioctl_write_ptr!(snapshot_create, 0x94, 1, VolumeArguments);

/// Makes an empty one.
pub fn subvolume(dir: &Path, name: &str) -> io::Result<()> {
    let (dir, arguments) = (File::open(dir)?, VolumeArguments::new(0, name));
    // SAFETY: the request takes a pointer to such a structure, and only reads it.
    unsafe { subvolume_create(dir.as_raw_fd(), &raw const arguments) }?;
    Ok(())
}

/// Makes one of a subvolume, of what is on its disk.
pub fn snapshot(of: &Path, dir: &Path, name: &str) -> io::Result<()> {
    let of = File::open(of)?;
    of.sync_all()?;
    let (dir, arguments) = (File::open(dir)?, VolumeArguments::new(of.as_raw_fd().into(), name));
    // SAFETY: as above; the descriptor in it is open.
    unsafe { snapshot_create(dir.as_raw_fd(), &raw const arguments) }?;
    Ok(())
}
