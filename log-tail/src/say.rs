//! Sentences for standard error. Where nobody reads them, that is no reason to stop following.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Prints `log-tail: SENTENCE`.
pub fn say(sentence: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "log-tail: {sentence}");
}
