//! Who wrote, and which bytes: told with the hint, where user space wants to know.
//!
//! # What a claim promises
//! A doorbell's claim has two words, which name a process and an offset each. Where both name the same one, it
//! wrote every byte between the two. So the words need no lock: each is stored whole, the first before the second,
//! and only a write that begins where the claim ends moves its end. Any other begins a claim of its own, and the
//! record that tells of it carries the last one along: nobody else knows its end. What races leave behind is a claim
//! to fewer bytes, or one of two processes, which is none.

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid,
        bpf_probe_read_kernel, generated::bpf_get_current_cgroup_id,
    },
};
use log_tail_common::{CLAIM_BY_SEVERAL, COMM_LENGTH, Claim, Doorbell, Span, Writer, claim};

use crate::kernel::is_kernel_thread;

/// 1 where user space wants to know who wrote.
#[unsafe(no_mangle)]
static TELL_WRITERS: Global<u64> = Global::new(0);

/// Whether user space wants to know who wrote. The verifier takes out what is not wanted.
#[inline(always)]
pub fn are_told() -> bool {
    TELL_WRITERS.load() == 1
}

/// Where in the file a call wrote, as far as it tells when it has returned.
#[derive(Clone, Copy)]
pub enum Place {
    /// What is at this address is the address of the offset behind what was written.
    Behind(*const *const u64),
    /// The offset behind what was written.
    End(u64),
    /// The offset of the first byte.
    Start(u64),
    /// Nobody says.
    Unknown,
}

impl Place {
    /// Where `length` bytes were written.
    #[inline(always)]
    pub fn span(self, length: u64) -> Option<Span> {
        let end = match self {
            Self::Behind(argument) => {
                // SAFETY: the helper refuses an address that is none, or all of them under lockdown=confidentiality.
                let end = unsafe { bpf_probe_read_kernel(argument) }.ok()?;
                // SAFETY: as above.
                unsafe { bpf_probe_read_kernel(end) }.ok()?
            }
            Self::End(end) => end,
            Self::Start(start) => start + length,
            Self::Unknown => return None,
        };
        Some(Span { from: end.checked_sub(length)?, to: end })
    }
}

/// The process that runs on this processor.
#[inline(always)]
fn process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The task that runs on this processor.
#[inline(always)]
pub fn current() -> Writer {
    let ids = bpf_get_current_pid_tgid();
    Writer {
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        uid: bpf_get_current_uid_gid() as u32,
        // SAFETY: a helper without arguments; what it gives is an address to be read with another helper only.
        is_kernel: u32::from(is_kernel_thread(unsafe { bpf_get_current_task() })),
        // SAFETY: a helper without arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        comm: bpf_get_current_comm().unwrap_or([0; COMM_LENGTH]),
    }
}

/// A write is added to the claim that stands. `None` where it went on there; otherwise it begins one of its own, and
/// this is the one that ends.
///
/// # Safety
/// `bell` is a map element.
#[inline(always)]
pub unsafe fn add(bell: *mut Doorbell, span: Span) -> Option<Claim> {
    let pid = process();
    // SAFETY: the caller's.
    let (from, to) = unsafe { (&raw mut (*bell).written.from, &raw mut (*bell).written.to) };
    // SAFETY: as above.
    let end = unsafe { to.read_volatile() };
    if end == claim(pid, span.from) {
        // SAFETY: as above.
        unsafe { to.write_volatile(claim(pid, span.to)) };
        return None;
    }
    // SAFETY: as above.
    let ends = Claim { from: unsafe { from.read_volatile() }, to: end };
    // SAFETY: as above. This one first: see the head.
    unsafe { from.write_volatile(claim(pid, span.from)) };
    // SAFETY: as above.
    unsafe { to.write_volatile(claim(pid, span.to)) };
    Some(ends)
}

/// A write that no record tells of, or not where it is: nobody says any more who wrote what.
///
/// # Safety
/// `bell` is a map element.
#[inline(always)]
pub unsafe fn give_up(bell: *mut Doorbell) {
    // SAFETY: the caller's.
    unsafe { (&raw mut (*bell).written.to).write_volatile(CLAIM_BY_SEVERAL) };
}
