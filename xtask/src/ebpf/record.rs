//! What stands beside the checked-in object: which sources and which tools it was made from.

use std::fmt;

use anyhow::{Context as _, Result};

use super::toolchain::Tools;

/// A small TOML file: one `key = "value"` a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// SHA-256 over all sources.
    pub sources: String,
    /// SHA-256 of the object.
    pub object: String,
    pub tools: Tools,
    /// The compiler's flags, without those that only take this machine's paths out of the object.
    pub flags: String,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, object, tools: Tools { rustc, llvm, linker }, flags } = self;
        writeln!(f, "# Written by `cargo xtask build-ebpf`, which also says when this is out of date.")?;
        writeln!(f, "sources = \"{sources}\"")?;
        writeln!(f, "object = \"{object}\"")?;
        writeln!(f, "rustc = \"{rustc}\"")?;
        writeln!(f, "llvm = \"{llvm}\"")?;
        writeln!(f, "linker = \"{linker}\"")?;
        writeln!(f, "flags = \"{flags}\"")
    }
}

impl Record {
    pub fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once(" = "))
                .find_map(|(name, value)| (name == key).then(|| value.trim_matches('"').to_owned()))
                .with_context(|| format!("it has no {key}"))
        };
        Ok(Self {
            sources: value("sources")?,
            object: value("object")?,
            tools: Tools { rustc: value("rustc")?, llvm: value("llvm")?, linker: value("linker")? },
            flags: value("flags")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let tools = Tools {
            rustc: "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)".into(),
            llvm: "22.1.8".into(),
            linker: "bpf-linker 0.13.0".into(),
        };
        let record = Record { sources: "ab".into(), object: "cd".into(), tools, flags: "-Ca=b -Cc".into() };
        assert_eq!(Record::parse(&record.to_string()).unwrap(), record);
    }

    #[test]
    fn a_record_without_a_line_says_which() {
        assert_eq!(Record::parse("sources = \"ab\"\n").unwrap_err().to_string(), "it has no object");
    }
}
