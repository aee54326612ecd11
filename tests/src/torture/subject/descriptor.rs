//! What loses lines: `tail -f`, by descriptor, to which everything after a rotation is lost, and what is there only.
//!
//! They are not in any table. The tests of the torture use them to prove that a loss shows.

use std::process::Command;

use anyhow::Result;

use super::{Order, Subject};

/// Follows the first inode and no other.
#[derive(Debug, Default)]
pub struct Descriptor;

/// Prints what is there, and nothing that comes.
#[derive(Debug, Default)]
pub struct Once;

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

impl Subject for Once {
    fn name(&self) -> &'static str {
        "cat"
    }

    fn version(&self) -> String {
        String::new()
    }

    fn command(&self, order: &Order) -> Result<Command> {
        let mut command = Command::new("sh");
        command.args(["-c", "cat -- \"$@\"; exec sleep 600", "sh"]).args(&order.names);
        Ok(command)
    }

    fn counted_bytes(&self, _stderr: &[String]) -> Option<u64> {
        Some(0)
    }
}
