//! The `log-tail` command: parse, run, print the error.

use std::process::ExitCode;

use log_tail::{
    cli::Invocation,
    doctor, events,
    run::{self, Ended},
    say::say,
    state,
};

fn main() -> ExitCode {
    let outcome = match Invocation::parse(std::env::args_os()) {
        Ok(Invocation::Follow(settings)) => run::run(&settings),
        Ok(Invocation::Doctor(settings)) => doctor::run(&settings),
        Ok(Invocation::Observe(settings)) => events::run(&settings),
        Ok(Invocation::State(settings)) => state::command::run(&settings),
        Err(error) => error.exit(),
    };
    match outcome {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::WithTrouble) => ExitCode::FAILURE,
        Err(error) => {
            say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
