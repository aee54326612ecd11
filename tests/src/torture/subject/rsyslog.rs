//! rsyslog's imfile with inotify, as its documentation has it for lossless following: truncation is
//! looked for, state is kept, and the lines go raw to standard output.

use std::{fmt::Write as _, fs, process::Command};

use anyhow::{Context as _, Result};

use super::{Order, Subject, find, first_line};

/// The system's `rsyslogd` with a configuration of our own.
#[derive(Debug, Default)]
pub struct Rsyslog;

impl Subject for Rsyslog {
    fn name(&self) -> &'static str {
        "rsyslog"
    }

    fn version(&self) -> String {
        find("rsyslogd").map(|program| first_line(program, "-v")).unwrap_or_default()
    }

    fn lacks(&self) -> Option<String> {
        find("rsyslogd").is_none().then(|| "rsyslogd is not installed: apt-get install rsyslog".into())
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn command(&self, order: &Order) -> Result<Command> {
        let home = order.home.display();
        let config = order.home.join("rsyslog.conf");
        fs::write(&config, configuration(order)).with_context(|| format!("writing {}", config.display()))?;
        let mut command = Command::new(find("rsyslogd").context("rsyslogd is not installed")?);
        command.args(["-n", "-i", &format!("{home}/rsyslog.pid"), "-f"]).arg(config);
        Ok(command)
    }
}

fn configuration(order: &Order) -> String {
    let home = order.home.display();
    let mut text = format!(
        r#"global(workDirectory="{home}")
module(load="imfile" mode="inotify")
template(name="raw" type="string" string="%msg%\n")
ruleset(name="out") {{
    action(type="omfile" file="/dev/stdout" template="raw")
}}
"#
    );
    for name in order.patterns() {
        let name = name.display();
        let _ = writeln!(
            text,
            r#"input(type="imfile" file="{name}" tag="t" ruleset="out" reopenOnTruncate="on" addMetadata="off")"#
        );
    }
    // What it says of itself must not come out among the lines.
    let _ = writeln!(text, r#"action(type="omfile" file="{home}/rsyslog.log")"#);
    text
}
