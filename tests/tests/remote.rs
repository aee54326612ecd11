//! Files that others write to without this kernel's knowing: they are recognised, looked at every second, and that is
//! said aloud.

use std::{io, path::Path};

use log_tail_tests::{
    backend::skip,
    prelude::*,
    remote::{Share, fuse, nfs},
};
use nix::unistd::Uid;

/// Mounts it, where this machine can. `serve` gives what keeps it mounted.
fn follows<M>(filesystem: &str, serve: impl Fn(&Share, &Path) -> io::Result<M>) {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !Uid::effective().is_root() || !known.lines().any(|line| line.ends_with(&format!("\t{filesystem}"))) {
        return skip(&format!("{filesystem}: only root can mount it, and this kernel has to know it"));
    }
    let place = Place::new();
    let (mounted_at, share) = (place.path("mounted"), Share::default());
    std::fs::create_dir(&mounted_at).expect("made");
    share.append("app.log", "one\n");
    let mounted = match serve(&share, &mounted_at) {
        Ok(mounted) => mounted,
        Err(error) => return skip(&format!("{filesystem} cannot be mounted here: {error}")),
    };
    let tail = LogTail::plain().args(["-n", "+1", "--sweep", "1h"]).arg(mounted_at.join("app.log")).follow();
    tail.wait_for_stdout("one\n");
    share.append("app.log", "two\n");
    tail.wait_for_stdout("one\ntwo\n");
    share.append("app.log", "three\n");
    share.rename("app.log", "app.log.1");
    share.append("app.log", "four\n");
    tail.wait_for_stdout("one\ntwo\nthree\nfour\n");
    // Truncated and regrown past what was read: here nobody tells.
    share.replace("app.log", "five\nsix\nseven\n");
    tail.wait_for_stdout("one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    tail.terminate().assert_says(&["mounted", &format!("is on {filesystem}"), "unseen", "every second"]);
    let doctor = LogTail::bare().args(["doctor"]).arg(mounted_at.join("app.log")).run();
    let row = doctor.text().lines().find(|line| line.contains("app.log")).unwrap_or_default().to_owned();
    assert!(row.contains("stat: ") && row.contains(filesystem), "{row:?}");
    drop(mounted);
}

#[test]
fn what_a_process_behind_fuse_writes_comes_out() {
    follows("fuse", fuse::serve);
}

#[test]
fn what_a_host_behind_nfs_writes_comes_out() {
    follows("nfs", nfs::serve);
}
