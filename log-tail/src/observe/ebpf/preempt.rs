//! Whether the kernel skips programs, and how often it did.
//!
//! Where a task can be preempted inside a program, the kernel runs that program for nobody else on the
//! processor until the task goes on: see the head of `log-tail-ebpf/src/skipped.rs`. It counts each time, and
//! shows the count in the program's fdinfo (`recursion_misses`, since 5.12).

use std::{fs, os::fd::RawFd, path::Path};

use super::{btf::Btf, fdinfo};

/// Whether a task can be preempted inside a program on this kernel, as far as it lets us know.
pub fn is_possible(btf: &Btf) -> bool {
    // CONFIG_PREEMPT_RCU, without which the kernel is not preempted at all; and what the kernel program reads:
    // since 5.11, and up to then programs ran with preemption off (kernel/bpf/trampoline.c, migrate_disable).
    let can_be = btf.member_offset("task_struct", &["rcu_read_lock_nesting"]).is_ok()
        && btf.member_offset("task_struct", &["migration_disabled"]).is_ok();
    let read = |path: &str| fs::read_to_string(Path::new(path)).ok();
    can_be && !is_off(read("/sys/kernel/debug/sched/preempt").as_deref(), read("/proc/cmdline").as_deref())
}

/// `CONFIG_PREEMPT_DYNAMIC`: `mode` is debugfs's word, where that is mounted: `none (voluntary) full`.
fn is_off(mode: Option<&str>, command_line: Option<&str>) -> bool {
    if let Some(mode) = mode {
        return ["(none)", "(voluntary)"].iter().any(|off| mode.contains(off));
    }
    let last = command_line.unwrap_or_default().split_whitespace().rfind(|word| word.starts_with("preempt="));
    matches!(last, Some("preempt=none" | "preempt=voluntary"))
}

/// How often the kernel did not run a program because it was active on that processor already. `None` where
/// it does not tell.
pub fn misses(program: RawFd) -> Option<u64> {
    fdinfo::value(program, "recursion_misses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugfs_knows_better_than_the_command_line() {
        assert!(is_off(Some("none (voluntary) full \n"), Some("preempt=full")));
        assert!(!is_off(Some("none voluntary (full)\n"), Some("preempt=none")));
        assert!(!is_off(Some("full (lazy)\n"), None));
        assert!(is_off(None, Some("quiet preempt=full preempt=voluntary")));
        assert!(!is_off(None, Some("quiet preempt=none preempt=full")));
        assert!(!is_off(None, Some("quiet")), "nobody says: it may be");
        assert!(!is_off(None, None));
    }
}
