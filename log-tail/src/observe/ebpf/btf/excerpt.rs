//! Type information of a few names, for a reader that asks for their numbers alone.

use super::{
    Btf,
    table::{Kind, MAGIC, RECORD_BYTES},
};

/// `BTF_KIND_FWD`, `BTF_KIND_TYPEDEF` and `BTF_KIND_FUNC`.
const FWD: u8 = 7;
const TYPEDEF: u8 = 8;
const FUNC: u8 = 12;

/// Of a header that ends with `str_len`.
const HEADER_BYTES: u32 = 24;

impl Btf {
    /// The functions and typedefs of these names, each under the number that it has here. All other numbers are
    /// taken by a structure without a name, and names that are not here are left out.
    ///
    /// aya takes every type apart, then looks for a number through all names, once for each program. With the
    /// kernel's own type information that is a twelfth to a sixth of what it takes to start.
    #[must_use]
    pub fn excerpt(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<u8> {
        let mut strings = vec![0];
        let mut found = Vec::new();
        for name in names {
            let name = name.as_ref();
            for (kind, number) in [(Kind::Func, FUNC), (Kind::Typedef, TYPEDEF)] {
                found
                    .extend(self.table.id(kind, name).map(|id| (id as usize, record(strings.len(), number))));
            }
            strings.extend(name.bytes().chain([0]));
        }
        let last = found.iter().map(|(id, _)| *id).max().unwrap_or(0);
        let mut types = record(0, FWD).repeat(last);
        for (id, record) in found {
            // Type 1 is the first.
            types[(id - 1) * RECORD_BYTES..][..RECORD_BYTES].copy_from_slice(&record);
        }

        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize + types.len() + strings.len());
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([1, 0]);
        let (types_len, strings_len) = (word(types.len()), word(strings.len()));
        bytes.extend([HEADER_BYTES.to_le_bytes(), word(0), types_len, types_len, strings_len].concat());
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }
}

/// A `struct btf_type` that refers to nothing.
fn record(name_offset: usize, kind: u8) -> [u8; RECORD_BYTES] {
    let [a, b, c, d] = word(name_offset);
    [a, b, c, d, 0, 0, 0, kind, 0, 0, 0, 0]
}

/// No overflow: all this is shorter than what it is taken from, whose lengths are 32 bits wide.
fn word(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}
