//! `torture`: see [`log_tail_tests::torture`].

use std::process::ExitCode;

fn main() -> ExitCode {
    log_tail_tests::torture::main()
}
