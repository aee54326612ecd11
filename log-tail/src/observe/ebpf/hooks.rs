//! The table of hooks: which kernel function each program runs on, and what goes unseen without it.

/// When a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// fentry.
    Before,
    /// fexit.
    After,
    /// `tp_btf`: at the tracepoint of that name. Only where tasks can be preempted inside a program.
    Tracepoint,
}

/// Which of several programs for one function a kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variants {
    /// There is one program.
    One,
    /// `FUNCTION_plain` is for kernels whose verifier knows no `xchg`.
    Ring,
    /// `FUNCTION_dentry_first` is for kernels whose function has the dentry as its first argument.
    Dentry,
}

/// Where a hook is used: some only where hints are told, and some only where every single event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// For both.
    Always,
    /// For both; where events are told and the kernel skips programs, [`log_tail_common::TIMES`] programs stand on it.
    ManyTimes,
    /// For hints. Of an event it would tell a second time, or nothing.
    Hint,
    /// For events.
    Event,
}

/// What decides between variants on this kernel.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// The verifier knows `xchg`.
    pub exchange: bool,
    /// Which argument of `notify_change` is the dentry.
    pub change_dentry: usize,
}

/// A kernel function and the program for it.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// The kernel function: its name in BTF, and the one its programs are named after.
    pub function: &'static str,
    /// How many arguments the program expects it to have: the returned value lies behind them.
    pub arguments: usize,
    /// fentry, fexit or `tp_btf`.
    pub when: When,
    /// What it sees, in the words of `doctor`.
    pub sees: &'static str,
    /// Which programs there are for it.
    pub variants: Variants,
    /// Kernels that lack the function have another hook for the same.
    pub newer: bool,
    /// Without it the kernel program is of no use.
    pub needed: bool,
    /// Where it is used.
    pub told: Told,
    /// It only notes what a program after the function tells more with, or tells what was not told before the function:
    /// where it is skipped, no event goes unseen.
    pub notes: bool,
}

impl Hook {
    /// The program's name in the object.
    pub fn program(&self, needs: Needs) -> String {
        let suffix = match self.variants {
            Variants::Ring if !needs.exchange => "_plain",
            Variants::Dentry if needs.change_dentry == 0 => "_dentry_first",
            _ => "",
        };
        let prefix = if self.when == When::Before { "before_" } else { "" };
        format!("{prefix}{}{suffix}", self.function)
    }

    /// Whether several programs stand on it where the kernel may skip any, and every event is told.
    pub fn is_attached_many_times(&self) -> bool {
        self.told == Told::ManyTimes
    }

    /// Whether an event may go unseen where the kernel skips its program.
    pub fn tells_events(&self) -> bool {
        self.when != When::Tracepoint && !self.notes && self.is_for(true)
    }

    /// The name of an equal program, of which this is the second or a later one.
    pub fn program_again(&self, time: u32) -> String {
        format!("{}_{time}", self.function)
    }

    /// Whether it is used where every event is told, or where hints are.
    pub fn is_for(&self, events: bool) -> bool {
        match self.told {
            Told::Always | Told::ManyTimes => true,
            Told::Hint => !events,
            Told::Event => events,
        }
    }

    /// What the kernel's BTF calls the type that the program is attached by: for a tracepoint see
    /// `include/trace/bpf_probe.h`.
    pub fn type_name(&self) -> String {
        let prefix = if self.when == When::Tracepoint { "btf_trace_" } else { "" };
        format!("{prefix}{}", self.function)
    }

    /// Whether it is one that sees bytes written. The others see names and sizes change.
    pub fn sees_writes(&self) -> bool {
        self.variants == Variants::Ring
    }

    /// Whether it runs before a function that is called when bytes were written.
    pub fn is_completion(&self) -> bool {
        self.sees_writes() && self.when == When::Before
    }

    /// How many arguments the program for this kernel expects.
    pub fn expected_arguments(&self, needs: Needs) -> usize {
        // The mount's user namespace, later its idmap, came in front in 5.12.
        self.arguments - usize::from(self.variants == Variants::Dentry && needs.change_dentry == 0)
    }
}

const fn hook(function: &'static str, arguments: usize, sees: &'static str) -> Hook {
    Hook {
        function,
        arguments,
        when: When::After,
        sees,
        variants: Variants::One,
        newer: false,
        needed: false,
        told: Told::Always,
        notes: false,
    }
}

/// Only where hints are told.
const fn hint(hook: Hook) -> Hook {
    Hook { told: Told::Hint, ..hook }
}

/// Only where events are told: before a function that writes.
const fn begin(function: &'static str, arguments: usize) -> Hook {
    Hook { told: Told::Event, ..before(hook(function, arguments, "sizes before writes")) }
}

/// As [`begin`], of a call that is known from the one before it without that.
const fn size(function: &'static str, arguments: usize) -> Hook {
    Hook { notes: true, ..begin(function, arguments) }
}

const fn before(hook: Hook) -> Hook {
    Hook { when: When::Before, ..hook }
}

/// Changes an inode's attributes, of which the size is one. Its lock is held all the while.
pub const NOTIFY_CHANGE: &str = "notify_change";

/// Is called for each file that is closed for good, after its right to write was given back.
pub const LAST_CLOSE: &str = "security_file_free";

const NEW_NAMES: &str = "new names: create, link, symlink, mkdir";
const NEW_FILES: &str = "new files on ext4 and btrfs";
const NEW_ON_TMPFS: &str = "new names on tmpfs";
const FREED: &str = "when an inode's number may be used again";

/// Every hook.
pub const HOOKS: [Hook; 45] = [
    // The first: it counts who waits inside the others.
    Hook {
        when: When::Tracepoint,
        ..hook("sched_switch", 4, "what the kernel skips while a task is preempted inside a program")
    },
    size("vfs_write", 4),
    size("vfs_writev", 5),
    begin("vfs_iter_write", 4),
    begin("vfs_iocb_iter_write", 3),
    begin("iter_file_splice_write", 5),
    begin("vfs_copy_file_range", 6),
    begin("vfs_clone_file_range", 6),
    size("vfs_fallocate", 4),
    Hook {
        variants: Variants::Ring,
        needed: true,
        told: Told::ManyTimes,
        ..hook("vfs_write", 4, "write, pwrite")
    },
    Hook { variants: Variants::Ring, told: Told::ManyTimes, ..hook("vfs_writev", 5, "writev, pwritev") },
    begin("do_splice", 6),
    begin("do_splice_direct", 6),
    Hook { variants: Variants::Ring, ..hook("do_splice", 6, "splice") },
    Hook { variants: Variants::Ring, ..hook("do_splice_direct", 6, "sendfile") },
    Hook {
        variants: Variants::Ring,
        ..hook("iter_file_splice_write", 5, "splice and sendfile through an overlay")
    },
    Hook { variants: Variants::Ring, ..hook("vfs_copy_file_range", 6, "copy_file_range") },
    Hook { variants: Variants::Ring, ..hook("vfs_iter_write", 4, "writes through an overlay") },
    Hook {
        variants: Variants::Ring,
        ..hook("vfs_iocb_iter_write", 3, "asynchronous writes through an overlay")
    },
    Hook { variants: Variants::Ring, ..hook("vfs_clone_file_range", 6, "reflink") },
    hook("vfs_fallocate", 4, "fallocate"),
    Hook { variants: Variants::Ring, ..hook("io_write", 2, "io_uring") },
    hint(before(Hook { variants: Variants::Ring, ..hook("io_complete_rw", 2, "io_uring with O_DIRECT") })),
    before(Hook { variants: Variants::Ring, ..hook("aio_complete_rw", 2, "libaio") }),
    hint(before(hook("iomap_dio_complete", 1, "whose direct I/O ends"))),
    hint(Hook { variants: Variants::Ring, ..hook("iomap_dio_complete", 1, "direct I/O through an overlay") }),
    before(Hook {
        variants: Variants::Dentry,
        notes: true,
        ..hook(NOTIFY_CHANGE, 4, "sizes before truncation")
    }),
    Hook { variants: Variants::Dentry, ..hook(NOTIFY_CHANGE, 4, "truncate, ftruncate, O_TRUNC") },
    before(hook("d_move", 2, "names before rename")),
    hook("d_move", 2, "rename"),
    before(hook("d_exchange", 2, "names before rename with RENAME_EXCHANGE")),
    hook("d_exchange", 2, "rename with RENAME_EXCHANGE"),
    // Of events, those before the functions tell; these do for the times that the kernel skips those.
    Hook { notes: true, ..hook("d_instantiate", 2, NEW_NAMES) },
    Hook { notes: true, ..hook("d_instantiate_new", 2, NEW_FILES) },
    Hook { notes: true, newer: true, ..hook("d_make_persistent", 2, NEW_ON_TMPFS) },
    Hook { told: Told::Event, ..before(hook("d_instantiate", 2, NEW_NAMES)) },
    Hook { told: Told::Event, ..before(hook("d_instantiate_new", 2, NEW_FILES)) },
    Hook { told: Told::Event, newer: true, ..before(hook("d_make_persistent", 2, NEW_ON_TMPFS)) },
    hint(hook("d_delete", 1, "removed names")),
    before(hook("d_delete", 1, "removed names")),
    before(Hook { notes: true, ..hook(LAST_CLOSE, 1, "when the last writer closes a file") }),
    hint(before(hook("security_inode_unlink", 2, "names about to be removed"))),
    hint(before(hook("security_inode_rmdir", 2, "directories about to be removed"))),
    Hook { told: Told::Event, ..before(hook("clear_inode", 1, FREED)) },
    Hook { told: Told::Event, notes: true, ..hook("clear_inode", 1, FREED) },
];
