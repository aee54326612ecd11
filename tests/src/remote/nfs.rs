//! The directory behind NFS version 3, served on loopback and mounted by this kernel.

use std::{
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use nfsserve::{
    nfs::{fattr3, fileid3, filename3, ftype3, nfspath3, nfsstat3, nfstime3, sattr3},
    tcp::{NFSTcp as _, NFSTcpListener},
    vfs::{DirEntry, NFSFileSystem, ReadDirResult, VFSCapabilities},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::runtime::Runtime;

use super::{ROOT, Served, Share};

/// Serves it, mounted there until what is returned is dropped.
///
/// # Errors
/// What this machine does not allow of it.
pub fn serve(share: &Share, at: &Path) -> io::Result<Mount> {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = server.block_on(NFSTcpListener::bind("127.0.0.1:0", InMemory(share.clone())))?;
    let port = listener.get_listen_port();
    server.spawn(async move { listener.handle_forever().await });
    let options = format!(
        "vers=3,proto=tcp,mountproto=tcp,port={port},mountport={port},nolock,soft,timeo=100,actimeo=1,addr=127.0.0.1"
    );
    mount(Some("127.0.0.1:/"), at, Some("nfs"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(Mount { at: at.to_owned(), _server: server })
}

/// Unmounts it when dropped.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
    /// Goes on until the filesystem is unmounted.
    _server: Runtime,
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.at, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
    }
}

struct InMemory(Share);

fn time(time: SystemTime) -> nfstime3 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    nfstime3 { seconds: u32::try_from(since.as_secs()).unwrap_or(u32::MAX), nseconds: since.subsec_nanos() }
}

fn attributes(number: fileid3, file: &Served) -> fattr3 {
    let (mode, size) = (0o644, file.size());
    fattr3 { mode, size, used: size, ..attributes_of(ftype3::NF3REG, number, file.modified) }
}

fn attributes_of(ftype: ftype3, number: fileid3, modified: SystemTime) -> fattr3 {
    let time = time(modified);
    fattr3 {
        ftype,
        mode: 0o755,
        nlink: 1,
        fileid: number,
        atime: time,
        mtime: time,
        ctime: time,
        ..fattr3::default()
    }
}

/// Nobody writes over NFS here.
const READ_ONLY: nfsstat3 = nfsstat3::NFS3ERR_ROFS;

#[async_trait]
impl NFSFileSystem for InMemory {
    fn capabilities(&self) -> VFSCapabilities {
        VFSCapabilities::ReadOnly
    }

    fn root_dir(&self) -> fileid3 {
        ROOT
    }

    async fn lookup(&self, _: fileid3, name: &filename3) -> Result<fileid3, nfsstat3> {
        self.0.number_of(name.as_ref()).ok_or(nfsstat3::NFS3ERR_NOENT)
    }

    async fn getattr(&self, number: fileid3) -> Result<fattr3, nfsstat3> {
        if number == ROOT {
            return Ok(attributes_of(ftype3::NF3DIR, ROOT, self.0.modified()));
        }
        let file = self.0.get(number).ok_or(nfsstat3::NFS3ERR_STALE)?;
        Ok(attributes(number, &file))
    }

    async fn read(&self, number: fileid3, offset: u64, count: u32) -> Result<(Vec<u8>, bool), nfsstat3> {
        let file = self.0.get(number).ok_or(nfsstat3::NFS3ERR_STALE)?;
        let (bytes, is_all) = file.read(offset, count);
        Ok((bytes.to_vec(), is_all))
    }

    async fn readdir(
        &self,
        _: fileid3,
        start_after: fileid3,
        max_entries: usize,
    ) -> Result<ReadDirResult, nfsstat3> {
        let entry = |(number, file): &(u64, Served)| DirEntry {
            fileid: *number,
            name: file.name.as_bytes().into(),
            attr: attributes(*number, file),
        };
        let after = self.0.all().into_iter().filter(|(number, _)| *number > start_after).collect::<Vec<_>>();
        let entries: Vec<DirEntry> = after.iter().take(max_entries).map(entry).collect();
        Ok(ReadDirResult { end: entries.len() == after.len(), entries })
    }

    async fn setattr(&self, _: fileid3, _: sattr3) -> Result<fattr3, nfsstat3> {
        Err(READ_ONLY)
    }

    async fn write(&self, _: fileid3, _: u64, _: &[u8]) -> Result<fattr3, nfsstat3> {
        Err(READ_ONLY)
    }

    async fn create(&self, _: fileid3, _: &filename3, _: sattr3) -> Result<(fileid3, fattr3), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn create_exclusive(&self, _: fileid3, _: &filename3) -> Result<fileid3, nfsstat3> {
        Err(READ_ONLY)
    }

    async fn mkdir(&self, _: fileid3, _: &filename3) -> Result<(fileid3, fattr3), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn remove(&self, _: fileid3, _: &filename3) -> Result<(), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn rename(&self, _: fileid3, _: &filename3, _: fileid3, _: &filename3) -> Result<(), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn symlink(
        &self,
        _: fileid3,
        _: &filename3,
        _: &nfspath3,
        _: &sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        Err(READ_ONLY)
    }

    async fn readlink(&self, _: fileid3) -> Result<nfspath3, nfsstat3> {
        Err(nfsstat3::NFS3ERR_INVAL)
    }
}
