//! A `log-tail` that is held still for a while, whatever it was doing or in a moment in which it waits.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::running::Running;
use crate::PATIENCE;

/// What the event loop waits in.
const WAITS: &[libc::c_long] = &[
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

impl Running {
    /// Holds it still: it looks at nothing until it may go on.
    pub fn hold_still(&self) {
        self.signal(Signal::SIGSTOP);
        let stat = format!("/proc/{}/stat", self.pid());
        let is_still = || {
            let text = fs::read_to_string(&stat).expect("it is there");
            text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        while !is_still() {
            thread::yield_now();
        }
    }

    /// Holds it still while it waits for something to happen: when it goes on, it takes what happened meanwhile before it
    /// does anything else.
    ///
    /// # Panics
    /// Where it never waits.
    #[track_caller]
    pub fn hold_waiting(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.hold_still();
            let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid())).expect("it is there");
            let number = call.split(' ').next().and_then(|number| number.parse().ok());
            if number.is_some_and(|number| WAITS.contains(&number)) {
                return;
            }
            assert!(Instant::now() < deadline, "it waits for nothing, but is inside of {call}");
            self.go_on();
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }
}
