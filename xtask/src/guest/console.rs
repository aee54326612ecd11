//! What the kernel says on its console, and what of it means that the guest is lost.

use std::collections::VecDeque;

/// Lines kept for the report on a guest that ended badly.
const KEPT: usize = 60;

/// Why a kernel will not get any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It has given up, in its own words.
    Panicked(String),
    /// It has found a fault in itself: what runs on it can no longer be trusted.
    Faulted(String),
    /// Something in it does not come back.
    Hung(String),
}

/// Watches the console.
#[derive(Debug, Default)]
pub struct Console {
    last: VecDeque<String>,
    unfinished: Vec<u8>,
}

impl Console {
    /// Takes what came from the serial port, in pieces of any size; gives back its whole lines.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.unfinished.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.unfinished.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        for line in &lines {
            if self.last.len() == KEPT {
                self.last.pop_front();
            }
            self.last.push_back(line.clone());
        }
        lines
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}

/// What a line of the console means, where it means the end.
pub fn trouble(line: &str) -> Option<Trouble> {
    let words = without_time(line);
    let has = |signs: &[&str]| signs.iter().any(|sign| words.contains(sign));
    if has(&["Kernel panic - not syncing"]) {
        Some(Trouble::Panicked(words.to_owned()))
    } else if has(&[
        "soft lockup",
        "hard LOCKUP",
        "detected stall",
        "self-detected stall",
        "blocked for more than",
    ]) {
        Some(Trouble::Hung(words.to_owned()))
    } else if words.starts_with("BUG: ")
        || has(&[" BUG: ", "kernel BUG at", "Oops: ", "general protection fault"])
    {
        Some(Trouble::Faulted(words.to_owned()))
    } else {
        None
    }
}

/// The line without the kernel's `[   12.345678] `.
fn without_time(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((time, words)) if time.trim().parse::<f64>().is_ok() => words,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut console = Console::default();
        assert!(console.take(b"[    0.1] Lin").is_empty());
        assert_eq!(console.take(b"ux\r\nnext\nla"), ["[    0.1] Linux", "next"]);
        assert_eq!(console.take(b"st\n"), ["last"]);
        assert_eq!(console.tail().collect::<Vec<_>>(), ["[    0.1] Linux", "next", "last"]);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut console = Console::default();
        for number in 0..1000 {
            console.take(format!("line {number}\n").as_bytes());
        }
        assert_eq!(console.tail().count(), KEPT);
        assert_eq!(console.tail().last(), Some("line 999"));
    }

    #[test]
    fn each_way_to_be_lost_is_told_from_the_others() {
        let panic = "Kernel panic - not syncing: sysrq triggered crash";
        assert_eq!(trouble(&format!("[    4.207] {panic}")), Some(Trouble::Panicked(panic.into())));
        for line in [
            "[   48.1] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [cat:77]",
            "[   61.0] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
            "[   61.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "[  242.7] INFO: task sh:1 blocked for more than 120 seconds.",
        ] {
            assert!(matches!(trouble(line), Some(Trouble::Hung(_))), "{line}");
        }
        for line in ["[ 3.1] BUG: kernel NULL pointer dereference, address: 0", "[ 3.1] Oops: 0002 [#1] SMP"]
        {
            assert!(matches!(trouble(line), Some(Trouble::Faulted(_))), "{line}");
        }
    }

    #[test]
    fn ordinary_lines_are_no_trouble() {
        for line in [
            "[    0.000000] Linux version 6.12 (debian-kernel@lists) #1 SMP",
            "[    0.2] rcu: Hierarchical RCU implementation.",
            "[    1.0] Run /init as init process",
            "[    1.0] DEBUG: nothing",
            "init: could not load loop",
        ] {
            assert_eq!(trouble(line), None, "{line}");
        }
    }
}
