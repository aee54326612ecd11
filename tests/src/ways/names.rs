//! What changes which file a name means.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    mount::{MntFlags, MsFlags, mount, umount2},
};

use super::{ANOTHER, LINE, Site, Way};

pub const WAYS: &[Way] = &[
    Way { name: "rename away, and a new file", acts: &[renamed] },
    Way { name: "rename over it", acts: &[replaced] },
    Way { name: "rename, RENAME_EXCHANGE", acts: &[exchanged] },
    Way { name: "rename, RENAME_NOREPLACE", acts: &[not_replaced] },
    Way { name: "link, and write through the other name", acts: &[linked] },
    Way { name: "unlink, write on, and a new file", acts: &[unlinked] },
    Way { name: "rmdir of its directory, and made again", acts: &[directory_removed] },
    Way { name: "mount over its directory", acts: &[mounted_over] },
];

fn both() -> Vec<u8> {
    [LINE, ANOTHER].concat()
}

fn renamed(site: &Site) -> io::Result<Vec<u8>> {
    let mut old = site.append()?;
    fs::rename(site.log(), site.dir().join("app.log.1"))?;
    old.write_all(LINE)?;
    drop(old);
    fs::write(site.log(), ANOTHER)?;
    Ok(both())
}

fn other(site: &Site) -> io::Result<std::path::PathBuf> {
    let other = site.dir().join("other");
    fs::write(&other, LINE)?;
    Ok(other)
}

fn replaced(site: &Site) -> io::Result<Vec<u8>> {
    fs::rename(other(site)?, site.log())?;
    site.append()?.write_all(ANOTHER)?;
    Ok(both())
}

fn rename_flagged(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)?)
}

fn exchanged(site: &Site) -> io::Result<Vec<u8>> {
    rename_flagged(&other(site)?, &site.log(), RenameFlags::RENAME_EXCHANGE)?;
    site.append()?.write_all(ANOTHER)?;
    Ok(both())
}

fn not_replaced(site: &Site) -> io::Result<Vec<u8>> {
    let away = site.dir().join("away");
    rename_flagged(&site.log(), &away, RenameFlags::RENAME_NOREPLACE)?;
    rename_flagged(&other(site)?, &site.log(), RenameFlags::RENAME_NOREPLACE)?;
    site.append()?.write_all(ANOTHER)?;
    Ok(both())
}

fn linked(site: &Site) -> io::Result<Vec<u8>> {
    let link = site.dir().join("link");
    fs::hard_link(site.log(), &link)?;
    fs::OpenOptions::new().append(true).open(link)?.write_all(LINE)?;
    Ok(LINE.to_vec())
}

fn unlinked(site: &Site) -> io::Result<Vec<u8>> {
    let mut old = site.append()?;
    fs::remove_file(site.log())?;
    old.write_all(LINE)?;
    drop(old);
    fs::write(site.log(), ANOTHER)?;
    Ok(both())
}

fn directory_removed(site: &Site) -> io::Result<Vec<u8>> {
    fs::remove_dir_all(site.dir())?;
    fs::create_dir(site.dir())?;
    fs::write(site.log(), LINE)?;
    Ok(LINE.to_vec())
}

fn mounted_over(site: &Site) -> io::Result<Vec<u8>> {
    if site.log() != site.followed_log() {
        return Err(io::Error::other("the follower looks beneath"));
    }
    let none = None::<&str>;
    mount(Some("tmpfs"), site.dir(), Some("tmpfs"), MsFlags::empty(), none)?;
    fs::write(site.log(), LINE)?;
    Ok(LINE.to_vec())
}

/// Takes back what [`mounted_over`] did, where it did.
pub fn unmount(dir: &Path) {
    // Nothing may be mounted there.
    let _ = umount2(dir, MntFlags::MNT_DETACH);
}
