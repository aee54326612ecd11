//! A program that an environment variable names, and that is told everything by a file.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{Order, Subject, first_line};

/// A follower that few machines have installed.
#[derive(Debug)]
pub struct Named {
    /// As the tables call it.
    pub(super) name: &'static str,
    /// The environment variable.
    pub(super) variable: &'static str,
    /// The configuration file's name, and the words before its path.
    pub(super) file: &'static str,
    pub(super) words: &'static [&'static str],
    /// What stands in it.
    pub(super) configuration: fn(&Order) -> String,
}

impl Named {
    fn program(&self) -> Result<PathBuf> {
        let variable = self.variable;
        let program = env::var_os(variable).with_context(|| format!("${variable} names no program"))?;
        let program = PathBuf::from(program);
        ensure!(program.is_file(), "${variable} is '{}', which is no file", program.display());
        Ok(program)
    }
}

impl Subject for Named {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> String {
        self.program().map(|program| first_line(program, "--version")).unwrap_or_default()
    }

    fn lacks(&self) -> Option<String> {
        self.program().err().map(|error| error.to_string())
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn command(&self, order: &Order) -> Result<Command> {
        let config = order.home.join(self.file);
        let text = (self.configuration)(order);
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let mut command = Command::new(self.program()?);
        command.args(self.words).arg(config);
        Ok(command)
    }
}
