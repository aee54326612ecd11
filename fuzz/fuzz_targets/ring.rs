//! Records of the kernel program's ring: see `log-tail/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| log_tail::fuzz::ring(bytes));
