//! Vector's file source, as its documentation has it for following from the beginning with state, and the lines as they
//! are.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Order, Subject, first_line, named_by};

/// The program that names it.
const VARIABLE: &str = "VECTOR";

/// The `vector` that `$VECTOR` names, with a configuration of our own.
#[derive(Debug, Default)]
pub struct Vector;

impl Subject for Vector {
    fn name(&self) -> &'static str {
        "Vector"
    }

    fn version(&self) -> String {
        named_by(VARIABLE).map(|program| first_line(program, "--version")).unwrap_or_default()
    }

    fn lacks(&self) -> Option<String> {
        named_by(VARIABLE).err().map(|error| error.to_string())
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn command(&self, order: &Order) -> Result<Command> {
        let config = order.home.join("vector.json");
        fs::write(&config, configuration(order)).with_context(|| format!("writing {}", config.display()))?;
        let mut command = Command::new(named_by(VARIABLE)?);
        command.args(["--quiet", "--config"]).arg(config);
        Ok(command)
    }
}

fn configuration(order: &Order) -> String {
    let paths: Vec<String> = order.patterns().map(|path| path.display().to_string()).collect();
    let configuration = json!({
        "data_dir": order.home,
        "sources": { "files": { "type": "file", "include": paths, "read_from": "beginning" } },
        "sinks": {
            "out": { "type": "console", "inputs": ["files"], "target": "stdout", "encoding": { "codec": "text" } }
        },
    });
    format!("{configuration:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_the_pattern_and_where_its_own_files_are() {
        let order = Order { glob: Some("/logs/*.log".into()), home: "/home".into(), ..Order::default() };
        let told: serde_json::Value = serde_json::from_str(&configuration(&order)).unwrap();
        assert_eq!(told["sources"]["files"]["include"], json!(["/logs/*.log"]));
        assert_eq!(told["data_dir"], "/home");
    }
}
