//! `bench`: see [`log_tail_tests::bench`].

use std::process::ExitCode;

fn main() -> ExitCode {
    log_tail_tests::bench::main()
}
