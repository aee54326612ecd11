//! What stands between the options: names, and the number that old habits put first.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use clap::{CommandFactory as _, error::ErrorKind};

use super::Cli;
use crate::follow::check_pattern;

/// `tail -20 FILE` and `tail -20f FILE` are too old for the standard and too short to die out. As for tail,
/// only the first argument may be such a number.
pub(super) fn with_obsolete_count(
    args: impl IntoIterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    args.into_iter().enumerate().map(|(position, arg)| match obsolete_count(&arg) {
        Some(lines) if position == 1 => format!("--lines={lines}").into(),
        _ => arg,
    })
}

fn obsolete_count(arg: &OsStr) -> Option<&str> {
    let number = arg.to_str()?.strip_prefix('-')?;
    let number = number.strip_suffix('f').unwrap_or(number);
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

pub(super) fn check_names(names: &[OsString]) -> Result<(), clap::Error> {
    let (kind, message) = if names.is_empty() {
        (
            ErrorKind::MissingRequiredArgument,
            "no file to follow. Name one, as in: log-tail /var/log/syslog\n\
             or give a glob in quotes, as in: log-tail '/var/log/app/*.log'",
        )
    } else if names.iter().any(|name| name.is_empty()) {
        (ErrorKind::InvalidValue, "an empty name is no file. Is a variable in the command empty?")
    } else if names.iter().any(|name| name.as_bytes() == b"-") {
        (
            ErrorKind::InvalidValue,
            "standard input has no name to follow. To read it, use cat; for a file called \"-\", give ./-",
        )
    } else if let Some(error) = names.iter().find_map(|name| check_pattern(name.as_ref()).err()) {
        return Err(Cli::command().error(ErrorKind::InvalidValue, error));
    } else {
        return Ok(());
    };
    Err(Cli::command().error(kind, message))
}
