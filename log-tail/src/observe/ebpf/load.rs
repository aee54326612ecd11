//! Loading the kernel program: offsets looked up, maps sized, each hook loaded and attached on its own.
//!
//! The object is compiled by `cargo xtask build-ebpf` and checked in beside this file, with the hash of
//! its sources and its toolchain. One object serves every kernel from 5.10 on.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader, Endianness, include_bytes_aligned,
    maps::{Map, MapError},
    programs::{BtfTracePoint, FEntry, FExit, ProgramError},
};
use log_tail_common::{EntryHint, Event, Hint, RESERVED_SLOTS, TIMES, WriterHint};
use nix::sys::resource::{Resource, setrlimit};

use super::{
    btf::{Btf, BtfError},
    hooks::{HOOKS, Hook, NOTIFY_CHANGE, Needs, Variants, When},
    preempt,
};

static OBJECT: &[u8] = include_bytes_aligned!("log-tail.bpf.o");

/// Hints that fit in the ring: append hints are at most one a file, so this is for what queues, names.
const RING_NAMES: usize = 4096;

/// Why the kernel program cannot be used here. Each says its cause itself: it is shown in one line.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Offsets cannot be looked up.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// aya could not read the kernel's BTF.
    #[error("reading the kernel's BTF: {0}")]
    KernelBtf(aya::BtfError),
    /// bpf(2) refused to make the maps.
    #[error("the kernel refused BPF maps: {}", root_cause(.0))]
    Maps(Box<aya::EbpfError>),
    /// bpf(2) refused a program without which the rest is of no use.
    #[error("the kernel refused tracing programs ({function}): {}{}", short(.cause), advice(.cause))]
    Program { function: &'static str, cause: Box<ProgramError> },
    /// A function without which the rest is of no use is not there, or is another.
    #[error("this kernel's {function} is unknown to this version of log-tail: {reason}")]
    Unknown { function: &'static str, reason: String },
    /// Mapping the maps' memory failed.
    #[error("mapping the kernel program's memory: {0}")]
    Memory(io::Error),
    /// The kernel does not keep statistics of what programs cost.
    #[error("--measure-cost: the kernel keeps no statistics of what programs cost: {0}; leave it out")]
    Statistics(io::Error),
}

/// Which hooks attached.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The hook.
    pub hook: Hook,
    /// Why it did not attach.
    pub missing: Option<String>,
    /// Its program's descriptor, which [`Loaded::ebpf`] owns.
    pub program: Option<RawFd>,
}

impl Attached {
    /// What goes unseen without it, and why, where it did not attach.
    #[must_use]
    pub fn unseen(&self) -> Option<String> {
        let reason = self.missing.as_ref()?;
        Some(format!("{} ({}: {reason})", self.hook.sees, self.hook.function))
    }
}

/// The kernel program, running. It ends with this value: nothing is pinned.
#[derive(Debug)]
pub struct Loaded {
    /// Holds the programs and their links.
    pub ebpf: Ebpf,
    /// Every hook, with what became of it.
    pub hooks: Vec<Attached>,
    /// Files and directories there is room for, the reserved doorbells included.
    pub capacity: u32,
    /// Whether it tells files of different btrfs subvolumes apart.
    pub tells_subvolumes: bool,
}

impl Loaded {
    /// One of the object's maps.
    ///
    /// # Errors
    /// [`LoadError::Memory`] where the object has none of that name.
    pub fn take_map(&mut self, name: &str) -> Result<Map, LoadError> {
        let none = || LoadError::Memory(io::Error::other(format!("the object has no map {name}")));
        self.ebpf.take_map(name).ok_or_else(none)
    }

    /// One of the object's maps, as its type.
    ///
    /// # Errors
    /// As [`Loaded::take_map`], and where it is of another type.
    pub fn take<M: TryFrom<Map, Error = MapError>>(&mut self, name: &str) -> Result<M, LoadError> {
        self.take_map(name)?.try_into().map_err(|error| LoadError::Memory(io::Error::other(error)))
    }
}

/// What the kernel program is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Hints.
    Hints,
    /// Hints, and who wrote.
    HintsAndWriters,
    /// Every single event.
    Events,
}

/// Events that fit in the ring where each is told, and calls that tasks may be inside of at once.
const RING_EVENTS: usize = 100_000;
const CALLS: u32 = 1 << 15;

/// How the kernel program is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Files and directories to make room for.
    pub room: u32,
    /// What the kernel program logs about itself.
    pub log_level: log::LevelFilter,
    /// Size of the ring in bytes instead of the default, for tests of its overflow.
    pub ring_bytes: Option<u32>,
    /// What it is to tell.
    pub telling: Telling,
    /// Whether it is to give a hint for each write, also while one is on its way; for tests.
    pub every_hint: bool,
    /// Whether the kernel is to keep statistics of what it costs.
    pub measure_cost: bool,
}

impl LoadOptions {
    /// With room for so many files and directories, telling this, and nothing else out of the ordinary.
    #[must_use]
    pub fn new(room: u32, telling: Telling) -> Self {
        Self {
            room,
            log_level: log::LevelFilter::Off,
            ring_bytes: None,
            telling,
            every_hint: false,
            measure_cost: false,
        }
    }
}

/// Loads and attaches the kernel program.
///
/// # Errors
/// Where the kernel lacks BTF, refuses maps or programs, or `vfs_write` cannot be attached.
pub fn load(options: LoadOptions) -> Result<Loaded, LoadError> {
    // Up to 5.10 maps count against this limit; later kernels charge the memory cgroup instead.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, u64::MAX, u64::MAX);

    let btf = Btf::from_kernel()?;
    let mut globals = globals(&btf)?;
    let subvolumes = if confidential() { None } else { subvolumes(&btf) };
    globals.extend(subvolumes.into_iter().flatten());
    globals.push(("TELL_WRITERS", u64::from(options.telling == Telling::HintsAndWriters)));
    globals.push(("EVERY_HINT", u64::from(options.every_hint)));
    let tells_events = options.telling == Telling::Events;
    globals.push(("TELL_EVENTS", u64::from(tells_events)));
    let mut needs = Needs { exchange: true, change_dentry: btf.argument_index(NOTIFY_CHANGE, "dentry")? };
    let excerpt = btf.excerpt(HOOKS.iter().map(Hook::type_name));
    let kernel_btf = aya::Btf::parse(&excerpt, Endianness::default()).map_err(LoadError::KernelBtf)?;
    let capacity = options.room.saturating_add(RESERVED_SLOTS).next_power_of_two();
    let log_level: u8 = options.log_level as u8;
    let mut loader = EbpfLoader::new();
    loader
        // For CO-RE relocations, of which the object has none. `new` has read the kernel's all the same:
        // https://github.com/aya-rs/aya/issues/1172
        .btf(None)
        .map_max_entries("FOLLOWED", capacity)
        .map_max_entries("CLOSING", capacity)
        .map_max_entries("DOORBELLS", capacity)
        .map_max_entries("HINTS", options.ring_bytes.unwrap_or_else(|| ring_bytes(capacity, options.telling)))
        .map_max_entries("BEGUN", if tells_events { CALLS } else { 1 })
        .map_max_entries("IGNORED", if tells_events { capacity } else { 1 })
        .override_global(aya_log::LEVEL, &log_level, false);
    for (name, value) in &globals {
        loader.override_global(name, value, true);
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| LoadError::Maps(Box::new(error)))?;

    let preempts = preempt::is_possible(&btf);
    let mut attached = Vec::with_capacity(HOOKS.len());
    for hook in HOOKS.into_iter().filter(|hook| hook.is_for(tells_events)) {
        let is_none_here = match hook.when {
            When::Tracepoint => !preempts,
            When::Before | When::After => hook.newer && !btf.has_function(hook.function),
        };
        if is_none_here {
            continue;
        }
        if let Some(reason) = unknown_form(&btf, hook, needs) {
            if hook.needed {
                return Err(LoadError::Unknown { function: hook.function, reason });
            }
            attached.push(Attached { hook, missing: Some(reason), program: None });
            continue;
        }
        let mut result = attach(&mut ebpf, hook, needs, &kernel_btf);
        if needs.exchange
            && hook.variants == Variants::Ring
            && matches!(result, Err(ProgramError::LoadError { .. }))
        {
            // Before 5.12 the verifier rejects any program that holds an xchg.
            let plain = Needs { exchange: false, ..needs };
            if let Ok(program) = attach(&mut ebpf, hook, plain, &kernel_btf) {
                needs = plain;
                result = Ok(program);
            }
        }
        let (missing, program) = match result {
            Ok(program) => (None, Some(program)),
            Err(cause) if hook.needed => {
                return Err(LoadError::Program { function: hook.function, cause: Box::new(cause) });
            }
            Err(source) => (Some(short(&source)), None),
        };
        attached.push(Attached { hook, missing, program });
        if tells_events && preempts && hook.is_attached_many_times() {
            for time in 2..=TIMES {
                // Without one, more goes unseen, and is counted.
                let program = attach_program(&mut ebpf, hook, &hook.program_again(time), &kernel_btf).ok();
                attached.push(Attached { hook, missing: None, program });
            }
        }
    }
    Ok(Loaded { ebpf, hooks: attached, capacity, tells_subvolumes: subvolumes.is_some() })
}

/// Why the function is not the one that the program was written for.
fn unknown_form(btf: &Btf, hook: Hook, needs: Needs) -> Option<String> {
    if hook.when == When::Tracepoint {
        // The verifier types a tracepoint's arguments, and refuses what does not fit.
        return None;
    }
    if !btf.has_function(hook.function) {
        return Some("not in this kernel's BTF".to_owned());
    }
    let expected = hook.expected_arguments(needs);
    match btf.argument_count(hook.function) {
        Ok(count) if count == expected => None,
        // What comes behind the arguments that it reads is nothing to a program that reads no returned value.
        Ok(count) if hook.is_completion() && count > expected => None,
        Ok(count) => Some(format!("it has {count} arguments on this kernel, and {expected} are known")),
        Err(error) => Some(error.to_string()),
    }
}

/// The program's descriptor.
fn attach(ebpf: &mut Ebpf, hook: Hook, needs: Needs, btf: &aya::Btf) -> Result<RawFd, ProgramError> {
    attach_program(ebpf, hook, &hook.program(needs), btf)
}

fn attach_program(ebpf: &mut Ebpf, hook: Hook, name: &str, btf: &aya::Btf) -> Result<RawFd, ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    match hook.when {
        When::After => {
            let program: &mut FExit = program.try_into()?;
            program.load(hook.function, btf)?;
            program.attach()?;
        }
        When::Before => {
            let program: &mut FEntry = program.try_into()?;
            program.load(hook.function, btf)?;
            program.attach()?;
        }
        When::Tracepoint => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(hook.function, btf)?;
            program.attach()?;
        }
    }
    Ok(program.fd()?.as_fd().as_raw_fd())
}

/// The values the object is compiled without: where this kernel keeps what.
fn globals(btf: &Btf) -> Result<Vec<(&'static str, u64)>, BtfError> {
    let offset = |strukt, path: &[&str]| btf.member_offset(strukt, path).map(u64::from);
    Ok(vec![
        ("FILE_INODE", offset("file", &["f_inode"])?),
        ("FILE_MODE", offset("file", &["f_mode"])?),
        ("INODE_MODE", offset("inode", &["i_mode"])?),
        ("INODE_NUMBER", offset("inode", &["i_ino"])?),
        ("INODE_SUPER", offset("inode", &["i_sb"])?),
        ("SUPER_DEV", offset("super_block", &["s_dev"])?),
        ("SUPER_MAGIC", offset("super_block", &["s_magic"])?),
        ("DENTRY_INODE", offset("dentry", &["d_inode"])?),
        ("DENTRY_PARENT", offset("dentry", &["d_parent"])?),
        ("DENTRY_NAME", offset("dentry", &["d_name", "name"])?),
        ("INODE_SIZE", offset("inode", &["i_size"])?),
        ("INODE_LINKS", offset("inode", &["i_nlink"])?),
        ("INODE_WRITERS", offset("inode", &["i_writecount"])?),
        ("IATTR_VALID", offset("iattr", &["ia_valid"])?),
        ("IATTR_SIZE", offset("iattr", &["ia_size"])?),
        ("REQUEST_FILE", offset("io_kiocb", &["file"]).unwrap_or(0)),
        ("REQUEST_RESULT", offset("io_kiocb", &["cqe", "res"]).unwrap_or(0)),
        ("KIOCB_FILE", offset("kiocb", &["ki_filp"])?),
        ("KIOCB_POSITION", offset("kiocb", &["ki_pos"])?),
        ("DIO_KIOCB", offset("iomap_dio", &["iocb"]).unwrap_or(0)),
        // Read where tasks can be preempted inside a program: those kernels have it.
        ("TASK_MIGRATION_DISABLED", offset("task_struct", &["migration_disabled"]).unwrap_or(0)),
        ("TASK_FLAGS", offset("task_struct", &["flags"])?),
        ("TASK_WRITE_CALLS", offset("task_struct", &["ioac", "syscw"]).unwrap_or(0)),
        ("READ_NAMES", u64::from(!confidential())),
    ])
}

/// Where btrfs keeps what tells its subvolumes apart. `None` where it is not there, or the kernel shows no types of modules.
fn subvolumes(btf: &Btf) -> Option<[(&'static str, u64); 3]> {
    let offset = |strukt, member| btf.member_offset(strukt, &[member]).map(u64::from).ok();
    Some([
        ("BTRFS_INODE_INODE", offset("btrfs_inode", "vfs_inode")?),
        ("BTRFS_INODE_ROOT", offset("btrfs_inode", "root")?),
        ("BTRFS_ROOT_DEV", offset("btrfs_root", "anon_dev")?),
    ])
}

/// Whether `lockdown=confidentiality` keeps kernel memory from BPF programs: `kernel/trace/bpf_trace.c`.
fn confidential() -> bool {
    std::fs::read_to_string(Path::new("/sys/kernel/security/lockdown"))
        .is_ok_and(|text| text.contains("[confidentiality]"))
}

fn ring_bytes(capacity: u32, telling: Telling) -> u32 {
    let header = 8;
    let appends = match telling {
        Telling::Hints => u64::from(capacity) * (size_of::<Hint>() + header) as u64,
        Telling::HintsAndWriters => u64::from(capacity) * (size_of::<WriterHint>() + header) as u64,
        Telling::Events => (RING_EVENTS * (size_of::<Event>() + header)) as u64,
    };
    let names = (RING_NAMES * (size_of::<EntryHint>() + header)) as u64;
    u32::try_from((appends + names).next_power_of_two()).unwrap_or(1 << 31)
}

/// What to do about a refusal, where that is known.
fn advice(error: &ProgramError) -> &'static str {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let system = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if system == Some(libc::E2BIG) {
            return "; a function takes 38 programs of all tools together, and others have theirs on it ('log-tail \
                    observe' up to nine each): end one of them";
        }
        cause = error.source();
    }
    ""
}

/// The system's word, without the verifier's log.
fn short(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.to_string(),
        ProgramError::Btf(aya::BtfError::UnknownBtfTypeName { .. }) => "not in this kernel's BTF".to_owned(),
        other => root_cause(other),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_is_not_there_or_is_another_is_named_with_the_reason() {
        let btf = match Btf::from_kernel() {
            Err(BtfError::Absent) => return eprintln!("skipping test: {}", BtfError::Absent),
            btf => btf.unwrap(),
        };
        let needs = Needs { exchange: true, change_dentry: 1 };
        let vfs_write = HOOKS.into_iter().find(|hook| hook.function == "vfs_write").unwrap();
        assert_eq!(unknown_form(&btf, vfs_write, needs), None);
        let reason = |hook| unknown_form(&btf, hook, needs).unwrap();
        let gone = Hook { function: "log_tail_was_here", ..vfs_write };
        assert_eq!(reason(gone), "not in this kernel's BTF");
        let changed = Hook { arguments: 7, ..vfs_write };
        assert_eq!(reason(changed), "it has 4 arguments on this kernel, and 7 are known");
    }

    #[test]
    fn the_ring_has_room_for_a_hint_of_every_file() {
        for capacity in [64, 65_536, 1 << 20] {
            for (telling, record) in [(Telling::Hints, 24), (Telling::HintsAndWriters, 96)] {
                let bytes = ring_bytes(capacity, telling);
                assert!(bytes.is_power_of_two());
                assert!(u64::from(bytes) >= u64::from(capacity) * record, "{capacity}");
            }
        }
    }
}
