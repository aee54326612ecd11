//! `cargo xtask build-ebpf`: the kernel program's object, which is checked in beside the crate that
//! embeds it, so that no other command ever needs the toolchain that made it.

pub mod compile;
mod record;
mod sources;
mod strip;
mod toolchain;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::workspace;
use record::Record;
use toolchain::Toolchain;

const TARGET: &str = "bpfel-unknown-none";
/// The package, its folder and its executable.
const PROGRAM: &str = "log-tail-ebpf";
const OBJECT: &str = "log-tail/src/observe/ebpf/log-tail.bpf.o";
const RECORD: &str = "log-tail/src/observe/ebpf/log-tail.bpf.toml";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Change nothing: fail where the object is not what its sources make.
    #[arg(long)]
    check: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    if options.check {
        check_sources()?;
        println!("{OBJECT} was made from these sources");
        match check_bytes()? {
            Rebuilt::Same => println!("{OBJECT} comes out the same, byte for byte"),
            Rebuilt::NotTried(why) => println!("skipped: building {OBJECT} again: {why:#}"),
        }
    } else {
        build()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<()> {
    let root = workspace::root();
    let recorded = recorded().ok();
    let toolchain = toolchain::preferred(Toolchain::all()?, recorded.as_ref().map(|record| &record.tools))?;
    let object = compile::object(&toolchain)?;
    let record = Record {
        sources: sources::hash(&root)?,
        object: sources::hash_of(&object),
        tools: toolchain.tools,
        flags: compile::FLAGS.join(" "),
    };
    let folder = root.join(OBJECT).parent().map(PathBuf::from).context("the object has no folder")?;
    fs::create_dir_all(&folder)?;
    fs::write(root.join(OBJECT), &object).with_context(|| format!("could not write {OBJECT}"))?;
    fs::write(root.join(RECORD), record.to_string()).with_context(|| format!("could not write {RECORD}"))?;
    println!("{OBJECT}: {} bytes, by {}, LLVM {}", object.len(), record.tools.rustc, record.tools.llvm);
    Ok(())
}

/// Fails where the checked-in object was made from other sources, or is not what was made from them.
pub fn check_sources() -> Result<()> {
    let root = workspace::root();
    let record = recorded()?;
    if sources::hash(&root)? != record.sources {
        bail!("{OBJECT} was made from other sources: run `cargo xtask build-ebpf` and commit what it writes");
    }
    let object = fs::read(root.join(OBJECT)).with_context(|| format!("could not read {OBJECT}"))?;
    if sources::hash_of(&object) != record.object {
        bail!("{OBJECT} is not the object that {RECORD} is about: run `cargo xtask build-ebpf`");
    }
    Ok(())
}

/// What came of building the object again.
pub enum Rebuilt {
    Same,
    /// This machine has not the toolchain that made it.
    NotTried(anyhow::Error),
}

/// Builds the object again where the recorded toolchain is here; fails where the bytes differ.
pub fn check_bytes() -> Result<Rebuilt> {
    let record = recorded()?;
    let toolchains = match Toolchain::all() {
        Ok(toolchains) => toolchains,
        Err(error) => return Ok(Rebuilt::NotTried(error)),
    };
    let Some(toolchain) = toolchains.iter().find(|toolchain| toolchain.tools == record.tools) else {
        let here: Vec<_> = toolchains.iter().map(|toolchain| toolchain.tools.rustc.as_str()).collect();
        let why = format!(
            "it was made by {} with LLVM {} and {}; here are {}",
            record.tools.rustc,
            record.tools.llvm,
            record.tools.linker,
            here.join(", ")
        );
        return Ok(Rebuilt::NotTried(anyhow::Error::msg(why)));
    };
    let object = sources::hash_of(&compile::object(toolchain)?);
    if object != record.object {
        bail!(
            "{OBJECT} comes out different (SHA-256 {object}) by the same tools: run `cargo xtask build-ebpf`"
        );
    }
    Ok(Rebuilt::Same)
}

fn recorded() -> Result<Record> {
    let text = fs::read_to_string(workspace::root().join(RECORD))
        .with_context(|| format!("could not read {RECORD}: run `cargo xtask build-ebpf`"))?;
    Record::parse(&text).with_context(|| format!("{RECORD} is damaged: run `cargo xtask build-ebpf`"))
}
