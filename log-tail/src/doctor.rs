//! `log-tail doctor`: a table of what this kernel allows, and which backend each path would get.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    choose,
    cli::Doctor,
    observe::{
        ebpf::{
            EbpfObserver,
            cost::{Cost, Costs},
            load::{LoadOptions, Telling},
        },
        probe::{Facts, missing_capabilities, probe},
    },
    run::Ended,
};

/// Prints what was found. Ends well if some backend works.
///
/// # Errors
/// Where standard output fails.
pub fn run(settings: &Doctor) -> anyhow::Result<Ended> {
    let paths: Vec<PathBuf> = settings.paths.iter().map(PathBuf::from).collect();
    if let Some(time) = settings.cost {
        return cost(&paths, time, settings.json);
    }
    let facts = probe(&paths);
    let text = if settings.json { json(&facts)? } else { table(&facts) };
    print(&text)?;
    Ok(if facts.backend.is_some() { Ended::Well } else { Ended::WithTrouble })
}

fn json(found: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(found).context("writing json")? + "\n")
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}

/// Measures what the kernel program takes, and prints it.
fn cost(paths: &[PathBuf], time: Duration, json: bool) -> anyhow::Result<Ended> {
    let options =
        LoadOptions { measure_cost: true, ..LoadOptions::new(choose::room(paths.len()), Telling::Hints) };
    let mut observer =
        EbpfObserver::new(options).context("the kernel program's cost cannot be measured here")?;
    let costs = observer.cost(paths, time).context("measuring the kernel program's cost")?;
    print(&if json { self::json(&costs)? } else { cost_table(&costs, paths.len()) })?;
    Ok(Ended::Well)
}

fn cost_table(costs: &Costs, files: usize) -> String {
    let Costs { seconds, hooks } = costs;
    let plural = if files == 1 { "" } else { "s" };
    let row = |name: &str, calls: u64, nanoseconds: u64| {
        // Shares and averages of counts far below 2^53.
        #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
        let (calls, nanoseconds) = (calls as f64, nanoseconds as f64);
        let average = if calls > 0.0 { nanoseconds / calls } else { 0.0 };
        let (rate, share) = (calls / seconds, nanoseconds / seconds / 1e7);
        format!("{name:<34} {rate:>10.1}  {average:>7.0}  {share:>16.4}\n")
    };
    let sum = |of: fn(&Cost) -> u64| hooks.iter().map(of).sum();
    let head = [
        format!("over {seconds:.1} s, {files} file{plural} followed\n"),
        format!("{:<34} {:>10}  {:>7}  {:>16}\n", "hook", "calls/s", "ns/call", "% of a processor"),
    ];
    let rows = hooks
        .iter()
        .map(|it| row(&format!("{} {}", it.attached_by, it.function), it.calls, it.nanoseconds))
        .chain([row("all", sum(|cost| cost.calls), sum(|cost| cost.nanoseconds))]);
    head.into_iter().chain(rows).collect()
}

fn table(facts: &Facts) -> String {
    let mut rows = vec![
        row("log-tail", facts.version),
        row("kernel", &facts.kernel),
        row(
            "BTF",
            facts.btf_bytes.map_or_else(
                || "missing: this kernel was built without CONFIG_DEBUG_INFO_BTF; eBPF needs it".to_owned(),
                |bytes| format!("/sys/kernel/btf/vmlinux, {bytes} bytes"),
            ),
        ),
        row(
            "ring buffer",
            if facts.ring_buffer {
                "yes"
            } else {
                "not to be had: needs kernel 5.8 and the right to use BPF"
            },
        ),
        row("capabilities", capabilities(facts)),
        row("lockdown", facts.lockdown.as_deref().unwrap_or("none (the kernel has no lockdown)")),
        row(
            "security modules",
            facts.security_modules.as_deref().unwrap_or("unknown (securityfs is not mounted)"),
        ),
        row(
            "kernel program",
            facts
                .ebpf_refused
                .as_ref()
                .map_or_else(|| "loads and attaches".to_owned(), |reason| refusal(facts, reason)),
        ),
    ];
    if facts.ebpf_refused.is_none() {
        for hook in &facts.hooks {
            let state = hook
                .reason
                .as_ref()
                .map_or_else(|| "attached".to_owned(), |reason| format!("MISSING: {reason}"));
            rows.push(row(&format!("  {}", hook.function), format!("{state}: {}", hook.sees)));
        }
    }
    rows.push(row("inotify", facts.inotify_refused.as_deref().unwrap_or("works")));
    for limit in &facts.inotify_limits {
        let value = limit.limit.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        let used = limit.used.map_or_else(String::new, |used| format!(", {used} used by this user"));
        rows.push(row(&format!("  {}", limit.name), format!("{value}{used}")));
    }
    rows.push(row("backend", facts.backend.map_or_else(|| "NONE".to_owned(), |backend| backend.to_string())));
    for path in &facts.paths {
        let backend = path.backend.map_or_else(|| "none".to_owned(), |backend| backend.to_string());
        let unseen = path.unseen.map_or_else(String::new, |unseen| format!("; {unseen}"));
        rows.push(row(&path.path.display().to_string(), format!("{backend}: {}{unseen}", path.why)));
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect();
    lines.concat()
}

fn row(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// Says where to look for the cause, where this process has every capability that is asked for.
fn refusal(facts: &Facts, reason: &str) -> String {
    let advice = if missing_capabilities(facts).is_empty() && facts.btf_bytes.is_some() {
        "; this process has the capabilities for it, so a security module, a seccomp filter or the kernel's own \
         configuration refuses"
    } else {
        ""
    };
    format!("refused: {reason}{advice}")
}

fn capabilities(facts: &Facts) -> String {
    let missing = missing_capabilities(facts);
    let held = if facts.capabilities.is_empty() { "none".to_owned() } else { facts.capabilities.join(", ") };
    if missing.is_empty() {
        held
    } else {
        format!("{held}; missing: {missing}; run as root or give them with setcap")
    }
}
