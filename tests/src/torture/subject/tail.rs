//! GNU `tail -F`.

use std::process::Command;

use anyhow::Result;

use super::{Order, Subject, find, first_line};

/// The system's `tail`.
#[derive(Debug, Default)]
pub struct Tail;

impl Subject for Tail {
    fn name(&self) -> &'static str {
        "tail"
    }

    fn version(&self) -> String {
        first_line("tail", "--version")
    }

    fn lacks(&self) -> Option<String> {
        match find("tail") {
            None => Some("tail is not installed".into()),
            // Busybox's looks once a second and prints no version.
            Some(_) if !self.version().contains("GNU") => Some("tail is not GNU's here".into()),
            Some(_) => None,
        }
    }

    fn command(&self, order: &Order) -> Result<Command> {
        let mut command = Command::new("tail");
        command.args(["-q", "-n", "+1", "-F", "--"]).args(&order.names);
        Ok(command)
    }
}
