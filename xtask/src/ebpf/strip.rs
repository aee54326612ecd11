//! Taking the debugger's sections out of an object.
//!
//! The linker needs them to make BTF, which the kernel reads and we keep; the rest is seven eighths of
//! the object, and would be in every copy of log-tail and in every commit that touches the kernel program.

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData};

/// The object without its `.debug_*` sections.
pub fn without_debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the linker's output is not an ELF object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = [".debug_", ".rel.debug_"].iter().any(|prefix| name.starts_with(prefix));
    }
    // Symbols of the sections that are gone, and relocations that name them.
    builder.delete_orphans();
    // LLVM keeps all names in one table; this writer wants those of sections in their own.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("could not write the stripped object")?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_object_has_btf_and_nothing_for_debuggers() {
        let object = std::fs::read(crate::workspace::root().join(super::super::OBJECT)).unwrap();
        let sections = Builder::read(object.as_slice()).unwrap().sections;
        let names: Vec<_> = sections.iter().map(|section| section.name.to_string()).collect();
        assert!(names.iter().any(|name| name == ".BTF"), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("debug")), "{names:?}");
    }
}
