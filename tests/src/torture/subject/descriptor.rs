//! `tail -f`: by descriptor, so that everything after a rotation is lost to it.
//!
//! It is not in any table. The tests of the torture use it to prove that a loss shows.

use std::process::Command;

use anyhow::Result;

use super::{Order, Subject};

/// Follows the first inode and no other.
#[derive(Debug, Default)]
pub struct Descriptor;

impl Subject for Descriptor {
    fn name(&self) -> &'static str {
        "tail -f"
    }

    fn version(&self) -> String {
        String::new()
    }

    fn command(&self, order: &Order) -> Result<Command> {
        let mut command = Command::new("tail");
        command.args(["-n", "+1", "-f", "--"]).args(&order.names);
        Ok(command)
    }
}
