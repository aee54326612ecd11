//! The least that a kernel program behind a function can take: one that does nothing.

use anyhow::{Context as _, Result};
use aya::{Btf, Ebpf, programs::FExit};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, StandardSegment, Symbol, SymbolSection},
};

/// The kernel's function.
const FUNCTION: &str = "vfs_write";
const NAME: &str = "nothing";
/// `r0 = 0; exit`.
const NOTHING: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// Runs behind every `vfs_write`, until it is dropped.
pub struct EmptyProgram {
    _ebpf: Ebpf,
}

impl EmptyProgram {
    /// Loads and attaches it.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn attach() -> Result<Self> {
        let mut ebpf = Ebpf::load(&object()?).context("loading an empty program")?;
        let program: &mut FExit = ebpf.program_mut(NAME).context("the program")?.try_into()?;
        program.load(FUNCTION, &Btf::from_sys_fs()?).context("loading an empty program")?;
        program.attach().with_context(|| format!("attaching an empty program to {FUNCTION}"))?;
        Ok(Self { _ebpf: ebpf })
    }
}

/// As a compiler would give it.
fn object() -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"Dual MIT/GPL\0", 1);
    let name = format!("fexit/{FUNCTION}").into_bytes();
    let segment = object.segment_name(StandardSegment::Text).to_vec();
    let code = object.add_section(segment, name, SectionKind::Text);
    let symbol = object.add_symbol(Symbol {
        name: NAME.as_bytes().to_vec(),
        value: 0,
        size: 0,
        kind: SymbolKind::Text,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Undefined,
        flags: SymbolFlags::None,
    });
    object.add_symbol_data(symbol, code, &NOTHING, 8);
    object.write().context("making an object file")
}
