//! What this kernel allows, found out by looking and by trying: the facts behind `log-tail doctor`.
//!
//! Nothing here decides anything. Which observer is used is decided by using it; this tells why.

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

use aya::{maps::MapType, sys::is_map_supported};
use base64::{Engine, engine::general_purpose::STANDARD};
use nix::sys::{
    statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs},
    utsname::uname,
};
use serde::{Serialize, Serializer};

use crate::follow::{NotFollowable, look};

use super::{
    Backend, Observer as _,
    ebpf::{
        EbpfObserver,
        btf::KERNEL_BTF,
        hooks::HOOKS,
        load::{LoadOptions, Telling},
    },
    inotify,
    inotify::InotifyObserver,
    stat,
};

/// The capabilities that matter, by number: include/uapi/linux/capability.h.
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (39, "CAP_BPF", "load the kernel program"),
    (38, "CAP_PERFMON", "attach it"),
    (21, "CAP_SYS_ADMIN", "stands for both before 5.8"),
    (2, "CAP_DAC_READ_SEARCH", "read every log"),
];

/// One hook of the kernel program.
#[derive(Debug, Serialize)]
pub struct HookFact {
    /// The kernel function.
    pub function: &'static str,
    /// What is seen there.
    pub sees: &'static str,
    /// Whether the program attached when tried.
    pub attached: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A limit of inotify's, for this user.
#[derive(Debug, Serialize)]
pub struct LimitFact {
    /// The sysctl.
    pub name: &'static str,
    /// Its value; `None` where it cannot be read.
    pub limit: Option<u64>,
    /// How much this user's processes use, as far as /proc shows; `None` for what is not used up.
    pub used: Option<u64>,
}

/// A path, and how it would be followed.
#[derive(Debug, Serialize)]
pub struct PathFact {
    /// As it was given.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Where the path is not UTF-8: its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// `None` where it cannot be followed.
    pub backend: Option<Backend>,
    /// Why this one, or why not at all.
    pub why: String,
    /// What is not told where it lies, and what becomes of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<&'static str>,
}

/// Everything found out.
#[derive(Debug, Serialize)]
pub struct Facts {
    /// log-tail's version.
    pub version: &'static str,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Size of the kernel's BTF in bytes; `None` where there is none.
    pub btf_bytes: Option<u64>,
    /// Whether the kernel has BPF ring buffers and lets this user ask.
    pub ring_buffer: bool,
    /// Those of this process that matter.
    pub capabilities: Vec<&'static str>,
    /// The kernel's lockdown mode: none, integrity, confidentiality; `None` where it has none.
    pub lockdown: Option<String>,
    /// Active Linux security modules.
    pub security_modules: Option<String>,
    /// Each hook, tried.
    pub hooks: Vec<HookFact>,
    /// Why the kernel program cannot be used; `None` where it can.
    pub ebpf_refused: Option<String>,
    /// Why inotify cannot be used; `None` where it can.
    pub inotify_refused: Option<String>,
    /// inotify's limits.
    pub inotify_limits: Vec<LimitFact>,
    /// The backend that `--backend auto` takes; `None` where there is none.
    pub backend: Option<Backend>,
    /// The paths that were asked about.
    pub paths: Vec<PathFact>,
}

/// Finds everything out. Loads the kernel program for a moment.
pub fn probe(paths: &[PathBuf]) -> Facts {
    let observer = EbpfObserver::new(LoadOptions::new(64, Telling::Hints));
    let (hooks, ebpf_refused) = match &observer {
        Ok(observer) => {
            let hooks = observer.hooks().iter().map(|attached| HookFact {
                function: attached.hook.function,
                sees: attached.hook.sees,
                attached: attached.missing.is_none(),
                reason: attached.missing.clone(),
            });
            (hooks.collect(), None)
        }
        Err(error) => {
            let reason = error.to_string();
            let hooks = HOOKS.into_iter().filter(|hook| hook.is_for(false)).map(|hook| HookFact {
                function: hook.function,
                sees: hook.sees,
                attached: false,
                reason: Some(reason.clone()),
            });
            (hooks.collect(), Some(reason))
        }
    };
    let inotify_refused = InotifyObserver::new().err().map(|error| error.to_string());
    let backend = match (&ebpf_refused, &inotify_refused) {
        (None, _) => Some(Backend::Ebpf),
        (_, None) => Some(Backend::Inotify),
        _ => None,
    };
    Facts {
        version: env!("CARGO_PKG_VERSION"),
        kernel: uname()
            .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned()),
        btf_bytes: fs::metadata(KERNEL_BTF).ok().map(|metadata| metadata.len()),
        ring_buffer: is_map_supported(MapType::RingBuf).unwrap_or(false),
        capabilities: capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
        lockdown: read("/sys/kernel/security/lockdown").and_then(|text| bracketed(&text)),
        security_modules: read("/sys/kernel/security/lsm"),
        hooks,
        inotify_limits: inotify_limits(),
        paths: paths
            .iter()
            .map(|path| PathFact {
                unseen: unseen(path, observer.as_ref().ok()),
                ..path_fact(path, backend, ebpf_refused.as_deref())
            })
            .collect(),
        ebpf_refused,
        inotify_refused,
        backend,
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The chosen one of a list such as `none [integrity] confidentiality`.
fn bracketed(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn capabilities(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.iter().filter(|(bit, ..)| effective >> bit & 1 == 1).map(|(_, name, _)| *name).collect()
}

/// The capabilities that are missing, with what each is for.
pub fn missing_capabilities(facts: &Facts) -> String {
    let has = |name| facts.capabilities.contains(&name);
    let missing = CAPABILITIES.iter().filter(|(_, name, _)| !has(name) && !has("CAP_SYS_ADMIN"));
    missing.map(|(_, name, what)| format!("{name} ({what})")).collect::<Vec<_>>().join(", ")
}

fn inotify_limits() -> Vec<LimitFact> {
    let (instances, watches) = inotify_use();
    [
        ("fs.inotify.max_user_instances", Some(instances)),
        ("fs.inotify.max_user_watches", Some(watches)),
        ("fs.inotify.max_queued_events", None),
    ]
    .into_iter()
    .map(|(name, used)| LimitFact { name, limit: inotify::limit(name), used })
    .collect()
}

/// Instances and watches of this user's processes: each inotify descriptor's fdinfo has a line a watch.
fn inotify_use() -> (u64, u64) {
    let uid = nix::unistd::geteuid().as_raw();
    let mut seen = BTreeSet::new();
    let (mut instances, mut watches) = (0, 0);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == uid)) {
        for descriptor in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let is_inotify = fs::read_link(descriptor.path())
                .is_ok_and(|target| target == Path::new("anon_inode:inotify"));
            if !is_inotify || !seen.insert((process.file_name(), descriptor.file_name())) {
                continue;
            }
            instances += 1;
            let info = fs::read_to_string(process.path().join("fdinfo").join(descriptor.file_name()));
            watches += info
                .map_or(0, |text| text.lines().filter(|line| line.starts_with("inotify ")).count() as u64);
        }
    }
    (instances, watches)
}

/// Json knows no other text than UTF-8.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// The path itself, or the nearest directory above it that exists.
fn nearest(path: &Path) -> Option<fs::File> {
    path.ancestors().find_map(|ancestor| {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        // Its filesystem is asked for, not its content: a FIFO would wait for a writer.
        fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(ancestor).ok()
    })
}

/// What is not told of files there, and what becomes of that.
fn unseen(path: &Path, observer: Option<&EbpfObserver>) -> Option<&'static str> {
    let nearest = nearest(path)?;
    let filesystem = fstatfs(&nearest).ok()?.filesystem_type();
    if filesystem == OVERLAYFS_SUPER_MAGIC {
        return Some(
            "what is written to the overlay's upper layer, beneath it, comes out at the sweep, if at all: \
             follow the file there if it is written there",
        );
    }
    observer.is_some_and(|observer| observer.may_mistake(nearest.as_fd())).then_some(
        "the kernel does not say which btrfs subvolume a file is of: what is lost to a truncation is at least \
         the number given, and not exact",
    )
}

fn path_fact(path: &Path, best: Option<Backend>, ebpf_refused: Option<&str>) -> PathFact {
    let path_base64 = path.to_str().is_none().then(|| STANDARD.encode(path.as_os_str().as_bytes()));
    let fact = |backend, why: String| PathFact {
        path: path.to_owned(),
        path_base64: path_base64.clone(),
        backend,
        why,
        unseen: None,
    };
    let remote = match nearest(path).as_ref().map(|file| stat::unseen_filesystem(file.as_fd())) {
        Some(Ok(remote)) => remote,
        Some(Err(error)) => return fact(None, format!("cannot tell its filesystem: {error}")),
        None => None,
    };
    match look(path) {
        Err(error) if !error.may_change() => return fact(None, error.to_string()),
        Err(error) if !matches!(error, NotFollowable::Missing(_)) => return fact(None, error.to_string()),
        _ => {}
    }
    let missing = if path.exists() { "" } else { "; it does not exist yet and is waited for" };
    match (remote, best, ebpf_refused) {
        (Some(filesystem), ..) => fact(
            Some(Backend::Stat),
            format!("{filesystem}: other hosts can write to it unseen by this kernel{missing}"),
        ),
        (_, Some(Backend::Ebpf), _) => {
            fact(Some(Backend::Ebpf), format!("the kernel program runs here{missing}"))
        }
        (_, Some(backend), Some(reason)) => fact(Some(backend), format!("ebpf: {reason}{missing}")),
        (_, backend, _) => fact(backend, format!("neither eBPF nor inotify can be used{missing}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert_eq!(capabilities("CapPrm:\tffff\nCapEff:\t000000c000000000\n"), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(capabilities("CapEff:\t0000000000000000\n"), Vec::<&str>::new());
        assert_eq!(capabilities(""), Vec::<&str>::new());
    }

    #[test]
    fn the_lockdown_mode_is_the_bracketed_one() {
        assert_eq!(bracketed("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(bracketed("nothing"), None);
    }

    #[test]
    fn this_process_own_watches_are_counted() {
        let before = inotify_use();
        let _observer = InotifyObserver::new().unwrap();
        // Other tests make instances at the same time; there is at least ours.
        assert!(inotify_use().0 >= 1, "{before:?}");
    }

    #[test]
    fn a_path_that_is_not_utf8_is_told_in_base64_beside() {
        let path = Path::new(OsStr::from_bytes(b"/no/n\xff"));
        let json = serde_json::to_value(path_fact(path, Some(Backend::Inotify), None)).unwrap();
        assert_eq!(json["path"], "/no/n\u{fffd}");
        assert_eq!(json["path_base64"], "L25vL27/");
    }

    #[test]
    fn a_fifo_is_told_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fact = path_fact(&path, Some(Backend::Ebpf), None);
        assert!(fact.backend.is_none() && fact.why.contains("a FIFO"), "{}", fact.why);
    }

    #[test]
    fn a_directory_gets_no_backend_and_a_missing_file_is_waited_for() {
        let directory = path_fact(Path::new("/"), Some(Backend::Ebpf), None);
        assert_eq!(directory.backend, None);
        assert!(directory.why.contains("a directory"), "{}", directory.why);
        let missing = path_fact(Path::new("/no/such/file"), Some(Backend::Inotify), Some("refused"));
        assert_eq!(missing.backend, Some(Backend::Inotify));
        assert!(missing.why.contains("refused") && missing.why.contains("waited for"), "{}", missing.why);
    }
}
