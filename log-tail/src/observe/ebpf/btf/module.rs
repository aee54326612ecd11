//! A module's type information, put behind that of the kernel it was built for.

use super::{
    BtfError,
    table::{HEADER_WITH_LAYOUT_BYTES, Header, MAGIC},
};

/// A module counts types and names on from where the kernel's end (Documentation/bpf/btf.rst, "split BTF"): one section
/// behind the other, both are as if they had been one from the beginning.
pub(super) fn joined(kernel: &[u8], module: &[u8]) -> Result<Vec<u8>, BtfError> {
    let (first, second) = (Header::parse(kernel)?, Header::parse(module)?);
    let types = [&kernel[first.types], &module[second.types]].concat();
    let strings = [&kernel[first.strings], &module[second.strings]].concat();
    let layout = &kernel[first.layout];
    let (types_end, strings_end) = (types.len(), types.len() + strings.len());
    let fields =
        [HEADER_WITH_LAYOUT_BYTES, 0, types.len(), types_end, strings.len(), strings_end, layout.len()];

    let mut bytes = Vec::with_capacity(HEADER_WITH_LAYOUT_BYTES + strings_end + layout.len());
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend([1, 0]);
    for field in fields {
        let field = u32::try_from(field).map_err(|_| BtfError::Damaged { what: "more than 4 GiB" })?;
        bytes.extend(field.to_le_bytes());
    }
    for section in [&types[..], &strings, layout] {
        bytes.extend(section);
    }
    Ok(bytes)
}
