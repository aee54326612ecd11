//! What the kernel says of a loaded program in `/proc/self/fdinfo`: kernel/bpf/syscall.c, `bpf_prog_show_fdinfo`.

use std::{fs, os::fd::RawFd};

/// A number by its name. `None` where this kernel does not tell it.
pub fn value(program: RawFd, name: &str) -> Option<u64> {
    find(&fs::read_to_string(format!("/proc/self/fdinfo/{program}")).ok()?, name)
}

fn find(text: &str, name: &str) -> Option<u64> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.into_iter().find(|(found, _)| *found == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_where_they_stand() {
        let text = "pos:\t0\nprog_type:\t26\nrun_cnt:\t12\nrecursion_misses:\t107871\nverified_insns:\t99\n";
        assert_eq!(find(text, "recursion_misses"), Some(107_871));
        assert_eq!(find(text, "run_cnt"), Some(12));
        assert_eq!(find("pos:\t0\n", "recursion_misses"), None, "before 5.12");
        assert_eq!(find("recursion_misses:\tmany\n", "recursion_misses"), None);
    }
}
