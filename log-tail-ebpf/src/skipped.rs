//! What the kernel skips, and who notices.
//!
//! A trampoline does not run a program that is active on its processor already (kernel/bpf/trampoline.c,
//! `__bpf_prog_enter_recur`): it counts a `recursion_miss`, and the event is unseen. That is meant for
//! recursion, but on a preemptible kernel a task that is preempted inside a program keeps it active, and
//! whatever other tasks write on that processor until it runs again goes unseen. Nothing inside the program
//! can prevent that: it is active before its first instruction and after its last. But such a task cannot
//! leave its processor (`task_struct.migration_disabled`), so [`switched`] counts those that wait on each, and
//! rings when a task ends its turn while some do. The reader then asks the kernel whether it did skip any.
//! No miss stays unnoticed: its count grows before the skipped task's turn ends, and the switch at that end
//! holds a full barrier (kernel/sched/core.c, `__schedule`: `smp_mb__after_spinlock`) before the bell is tested.

use aya_ebpf::{EbpfContext, macros::map, maps::PerCpuArray};
use log_tail_common::{SKIPPED_SLOT, TIMES};

use crate::{events, kernel::Task, maps::bell_at};

/// Of one processor.
struct Waiting {
    /// How many tasks wait for it that may be inside a program.
    tasks: u64,
    /// How deeply a task is pinned while it is asked about at the end of its turn, plus 1: from 7.x on, being
    /// asked pins it (kernel/trace/bpf_trace.c, `__bpf_trace_run`). The least that was seen.
    asked_plus_one: u64,
}

/// One element: this processor's.
#[map]
static WAITING: PerCpuArray<Waiting> = PerCpuArray::with_max_entries(1, 0);

/// This processor goes from one task to another, interrupts off.
#[inline(always)]
pub fn switched(ctx: &impl EbpfContext, from: Task, to: Task) {
    let Some(waiting) = WAITING.get_ptr_mut(0) else { return };
    // SAFETY: a map element of this processor, and nothing else runs on it now.
    let Waiting { tasks, asked_plus_one } = unsafe { &mut *waiting };
    let depth = from.pinned();
    if *asked_plus_one == 0 || depth < *asked_plus_one - 1 {
        *asked_plus_one = depth + 1;
    }
    let before = *tasks;
    // Those that waited when this was attached were not counted, and must not be subtracted.
    let is_pinned = depth >= *asked_plus_one;
    *tasks = (before + u64::from(is_pinned)).saturating_sub(u64::from(to.pinned() > 0));
    if events::are_told() {
        if *tasks >= u64::from(TIMES) {
            events::crowded();
        }
    } else if before != 0
        && let Some(bell) = bell_at(SKIPPED_SLOT)
    {
        bell.skipped(ctx);
    }
}
