//! Which cgroup a number of the kernel's stands for, and which container lives in it.
//!
//! The kernel program gives a cgroup's id, which is the inode number of its directory in the cgroup2 hierarchy
//! (fs/kernfs/dir.c, where an inode number has 64 bits). The path is asked of the process first; where that has
//! ended already, the hierarchy is searched. A container is recognised by the name that runtimes give its cgroup.

use std::{
    fs,
    num::NonZeroUsize,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use lru::LruCache;

/// How many are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Directories looked at for one cgroup: a node with many containers has some thousands.
const DIRECTORIES_A_SEARCH: usize = 65_536;

/// A cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Below the root of the hierarchy, with a slash in front: `/system.slice/cron.service`.
    pub path: String,
    /// The container's id, where it is one's.
    pub container: Option<String>,
    /// The pod's uid, where it is a Kubernetes pod's.
    pub pod: Option<String>,
}

impl Cgroup {
    /// The cgroup at this path.
    #[must_use]
    pub fn at(path: String) -> Self {
        let container = path.rsplit('/').find_map(container_of);
        let pod = path.split('/').find_map(pod_of);
        Self { path, container, pod }
    }
}

/// What a runtime calls a container's cgroup: its id, or `RUNTIME-ID.scope` where systemd keeps cgroups. `conmon` has
/// one of its own for what watches over the container.
fn container_of(name: &str) -> Option<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    (is_container_id(id) && !runtime.ends_with("conmon")).then(|| id.to_owned())
}

/// What containerd, docker, podman and cri-o make up: 64 hexadecimal digits.
pub fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `podUID`, or `kubepods-CLASS-podUID.slice` with underscores in place of the uid's hyphens.
fn pod_of(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let (before, uid) = name.rsplit_once("pod")?;
    let uid = uid.replace('_', "-");
    ((before.is_empty() || before.ends_with('-')) && is_pod_uid(&uid)).then_some(uid)
}

/// A UUID, or the 32 hexadecimal digits that static pods have.
pub fn is_pod_uid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    (lengths == [8, 4, 4, 4, 12] || lengths == [32])
        && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The cgroups that were asked for.
#[derive(Debug)]
pub struct Cgroups {
    /// Where the hierarchy is mounted.
    root: Option<PathBuf>,
    known: LruCache<u64, Option<Arc<Cgroup>>>,
}

impl Cgroups {
    /// Those of the running kernel.
    #[must_use]
    pub fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self { root: root_of(&mounts), known: LruCache::new(REMEMBERED) }
    }

    /// The one with this id, which this process is or was in.
    pub fn of(&mut self, id: u64, pid: u32) -> Option<Arc<Cgroup>> {
        let Self { root, known } = self;
        let root = root.as_deref()?;
        let found = known.get_or_insert(id, || {
            let told = path_of(pid).filter(|path| is_at(&root.join(path.trim_start_matches('/')), id));
            told.or_else(|| search(root, id)).map(|path| Arc::new(Cgroup::at(path)))
        });
        found.clone()
    }
}

/// Whether cgroups can be told by name.
#[must_use]
pub fn is_mounted() -> bool {
    Cgroups::new().root.is_some()
}

/// Where the cgroup2 hierarchy is mounted: the ninth field or a later one of its line names the filesystem.
fn root_of(mountinfo: &str) -> Option<PathBuf> {
    let is_cgroup2 =
        |line: &&str| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("cgroup2 "));
    Some(mountinfo.lines().find(is_cgroup2)?.split(' ').nth(4)?.into())
}

/// In which cgroup a process says that it is.
fn path_of(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn is_at(directory: &Path, id: u64) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.ino() == id)
}

fn search(root: &Path, id: u64) -> Option<String> {
    let mut to_search = vec![root.to_owned()];
    for _ in 0..DIRECTORIES_A_SEARCH {
        let directory = to_search.pop()?;
        if is_at(&directory, id) {
            let below = directory.strip_prefix(root).ok()?;
            return Some(format!("/{}", below.display()));
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        to_search.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "5f1b4e0c-7f0e-4c57-9f3c-1c8f6a0f2a11";

    #[test]
    fn each_runtime_names_its_containers_so() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/kubepods/burstable/pod{POD}/{ID}"),
            format!("/kubepods.slice/kubepods-pod{}.slice/cri-containerd-{ID}.scope", POD.replace('-', "_")),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD}.slice/crio-{ID}.scope/sub"
            ),
        ] {
            let cgroup = Cgroup::at(path.clone());
            assert_eq!(cgroup.container.as_deref(), Some(ID), "{path}");
            assert_eq!(cgroup.pod.as_deref(), path.contains("kubepods").then_some(POD), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_is_taken_for_none() {
        for path in [
            "/".to_owned(),
            "/system.slice/cron.service".to_owned(),
            "/user.slice/user-1000.slice/session-3.scope".to_owned(),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/system.slice/{}.scope", &ID[1..]),
            "/system.slice/podman.service".to_owned(),
            "/kubepods.slice/kubepods-burstable.slice".to_owned(),
        ] {
            let cgroup = Cgroup::at(path.clone());
            assert_eq!((cgroup.container, cgroup.pod), (None, None), "{path}");
        }
    }

    #[test]
    fn the_hierarchy_is_found_among_the_mounts() {
        let hybrid = "29 23 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      30 29 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw\n";
        assert_eq!(root_of(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(root_of("22 1 0:5 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn a_cgroup_is_found_by_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a.slice/b.service");
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir(root.path().join("c.slice")).unwrap();
        let id = fs::metadata(&inner).unwrap().ino();
        let mut cgroups = Cgroups { root: Some(root.path().into()), known: LruCache::new(REMEMBERED) };
        let nobody = u32::MAX;
        assert_eq!(cgroups.of(id, nobody).unwrap().path, "/a.slice/b.service");
        fs::remove_dir(&inner).unwrap();
        assert_eq!(cgroups.of(id, nobody).unwrap().path, "/a.slice/b.service", "it is remembered");
        assert_eq!(cgroups.of(u64::MAX, nobody), None);
    }
}
