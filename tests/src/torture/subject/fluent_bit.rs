//! Fluent Bit's tail input, as its documentation has it for following from the beginning with state, and the lines as
//! they are.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{Order, Subject, first_line, named_by};

/// The program that names it.
const VARIABLE: &str = "FLUENT_BIT";

/// The `fluent-bit` that `$FLUENT_BIT` names, with a configuration of our own.
#[derive(Debug, Default)]
pub struct FluentBit;

impl Subject for FluentBit {
    fn name(&self) -> &'static str {
        "Fluent Bit"
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
        let config = order.home.join("fluent-bit.conf");
        fs::write(&config, configuration(order)).with_context(|| format!("writing {}", config.display()))?;
        let mut command = Command::new(named_by(VARIABLE)?);
        command.arg("-c").arg(config);
        Ok(command)
    }
}

fn configuration(order: &Order) -> String {
    let home = order.home.display();
    let paths: Vec<String> = order.patterns().map(|path| path.display().to_string()).collect();
    let paths = paths.join(",");
    format!(
        "[SERVICE]
    Flush 0.2
    Log_File {home}/fluent-bit.log

[INPUT]
    Name tail
    Path {paths}
    DB {home}/fluent-bit.db
    Read_from_Head true
    Refresh_Interval 1
    Buffer_Max_Size 1M

[OUTPUT]
    Name file
    Match *
    Path /dev
    File stdout
    Format template
    Template {{log}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_what_to_follow_and_where_its_own_files_are() {
        let order =
            Order { names: vec!["/a.log".into(), "/b.log".into()], home: "/home".into(), ..Order::default() };
        let text = configuration(&order);
        assert!(text.contains("    Path /a.log,/b.log\n    DB /home/fluent-bit.db\n"), "{text}");
        assert!(text.ends_with("    Template {log}\n"), "{text}");
    }
}
