//! The bytes of BTF as a table of types: each access is checked, nothing is copied but where each begins.

use std::{fmt, hash::Hasher as _, ops::Range};

use rustc_hash::FxHasher;

use super::BtfError;

/// `BTF_MAGIC`, as a little-endian machine writes it.
pub(super) const MAGIC: u16 = 0xeb9f;

/// `struct btf_header` up to `str_len`.
const HEADER_BYTES: usize = 24;
/// `struct btf_header` with `layout_off` and `layout_len`, which newer kernels write.
pub(super) const HEADER_WITH_LAYOUT_BYTES: usize = 32;
/// `struct btf_layout`.
const LAYOUT_BYTES: usize = 4;
/// `struct btf_type`.
pub(super) const RECORD_BYTES: usize = 12;
/// `struct btf_member`.
const MEMBER_BYTES: usize = 12;
/// `struct btf_param`.
const PARAMETER_BYTES: usize = 8;

/// `BTF_KIND_…` in include/uapi/linux/btf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Type 0, which has no record.
    Void,
    /// An integer.
    Int,
    /// A pointer.
    Ptr,
    /// An array.
    Array,
    /// A `struct`, with its members.
    Struct,
    /// A `union`, with its members.
    Union,
    /// An `enum`.
    Enum,
    /// A `struct` or `union` that is only declared.
    Fwd,
    /// A `typedef`.
    Typedef,
    /// A `volatile`.
    Volatile,
    /// A `const`.
    Const,
    /// A `restrict`.
    Restrict,
    /// A function that is not inlined.
    Func,
    /// Parameters and result of a function.
    FuncProto,
    /// A global variable.
    Var,
    /// A section of variables.
    Datasec,
    /// A floating-point number.
    Float,
    /// A tag on a declaration.
    DeclTag,
    /// A tag on a type.
    TypeTag,
    /// An `enum` of 64 bits.
    Enum64,
    /// A kind newer than this code, whose records are skipped by the sizes that the header tells.
    Newer(u8),
}

impl Kind {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::Datasec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            newer => Self::Newer(newer),
        }
    }

    /// Bytes that follow `struct btf_type`: so many once, so many for each of its elements.
    /// `None` where only the header can tell.
    fn bytes_after(self) -> Option<(usize, usize)> {
        match self {
            Self::Int | Self::Var | Self::DeclTag => Some((4, 0)),
            Self::Array => Some((12, 0)),
            Self::Struct | Self::Union | Self::Datasec | Self::Enum64 => Some((0, MEMBER_BYTES)),
            Self::Enum | Self::FuncProto => Some((0, PARAMETER_BYTES)),
            Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => Some((0, 0)),
            Self::Void | Self::Newer(_) => None,
        }
    }

    pub(super) fn has_members(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }

    pub(super) fn is_modifier(self) -> bool {
        matches!(self, Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Void => "void",
            Self::Int => "an integer",
            Self::Ptr => "a pointer",
            Self::Array => "an array",
            Self::Struct => "a structure",
            Self::Union => "a union",
            Self::Enum | Self::Enum64 => "an enum",
            Self::Fwd => "a structure that is only declared",
            Self::Typedef => "a typedef",
            Self::Volatile | Self::Const | Self::Restrict => "a qualified type",
            Self::Func | Self::FuncProto => "a function",
            Self::Var => "a variable",
            Self::Datasec => "a section",
            Self::Float => "a floating-point number",
            Self::DeclTag | Self::TypeTag => "a tag",
            Self::Newer(_) => "of a kind newer than this log-tail",
        })
    }
}

/// One type: `struct btf_type` and what follows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) name_offset: u32,
    /// The type that this one points to, modifies or returns. The size in bytes where the kind has a size.
    pub(super) type_id: u32,
    kind_flag: bool,
    after: &'a [u8],
}

impl<'a> Record<'a> {
    const VOID: Self = Self { kind: Kind::Void, name_offset: 0, type_id: 0, kind_flag: false, after: &[] };

    /// What a structure or union holds. Nothing for other kinds.
    pub(super) fn members(self) -> impl Iterator<Item = Member> + use<'a> {
        let bytes = if self.kind.has_members() { self.after } else { &[] };
        bytes.as_chunks::<MEMBER_BYTES>().0.iter().filter_map(move |member| {
            let offset = u32_at(member, 8)?;
            // With the flag, the upper 8 bits hold the bit field's width: `BTF_MEMBER_BITFIELD_SIZE`.
            let (bit_offset, is_bitfield) =
                if self.kind_flag { (offset & 0x00ff_ffff, offset >> 24 != 0) } else { (offset, false) };
            Some(Member {
                name_offset: u32_at(member, 0)?,
                type_id: u32_at(member, 4)?,
                bit_offset: u64::from(bit_offset),
                is_bitfield,
            })
        })
    }

    /// The type of each parameter of a prototype. Nothing for other kinds.
    pub(super) fn parameters(self) -> impl Iterator<Item = u32> + use<'a> {
        let bytes = if self.kind == Kind::FuncProto { self.after } else { &[] };
        bytes.as_chunks::<PARAMETER_BYTES>().0.iter().filter_map(|parameter| u32_at(parameter, 4))
    }
}

/// `struct btf_member`, decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name_offset: u32,
    pub(super) type_id: u32,
    /// From the beginning of what was searched.
    pub(super) bit_offset: u64,
    pub(super) is_bitfield: bool,
}

/// All types, by number and by name.
pub(super) struct Table {
    bytes: Box<[u8]>,
    strings: Range<usize>,
    /// Where in `bytes` the record of each type begins. Type 1 is the first: type 0, void, has none.
    records: Vec<usize>,
    /// Structures, functions and typedefs by the hash of their names, then by number.
    by_name: Vec<(u32, u32)>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("types", &self.records.len()).finish_non_exhaustive()
    }
}

impl Table {
    pub(super) fn parse(bytes: Box<[u8]>) -> Result<Self, BtfError> {
        let header = Header::parse(&bytes)?;
        let mut table =
            Self { bytes, strings: header.strings.clone(), records: Vec::new(), by_name: Vec::new() };
        let mut at = header.types.start;
        while at < header.types.end {
            let number = u32::try_from(table.records.len() + 1)
                .map_err(|_| BtfError::Damaged { what: "more than 2^32 types" })?;
            let info = u32_at(&table.bytes[..header.types.end], at + 4)
                .ok_or_else(|| cut_short(&table.bytes, "a type"))?;
            let kind = kind_in(info);
            let (once, each) = kind
                .bytes_after()
                .or_else(|| header.layout_of(&table.bytes, info))
                .ok_or(BtfError::UnknownKind { kind: kind_number_in(info), id: number })?;
            // No overflow: at most 2^24 elements of at most 255 bytes.
            let next = at + RECORD_BYTES + once + each * elements_in(info);
            if next > header.types.end {
                return Err(cut_short(&table.bytes, "a type"));
            }
            table.records.push(at);
            if matches!(kind, Kind::Struct | Kind::Func | Kind::Typedef)
                && let Some(name) = u32_at(&table.bytes, at).and_then(|offset| table.name(offset))
            {
                table.by_name.push((hash_of(name), number));
            }
            at = next;
        }
        // By number within a name, so that the first of several structures of one name is found first.
        table.by_name.sort_unstable();
        Ok(table)
    }

    /// The type of that number.
    pub(super) fn record(&self, type_id: u32) -> Result<Record<'_>, BtfError> {
        let Some(index) = type_id.checked_sub(1) else { return Ok(Record::VOID) };
        self.decode(index).ok_or(BtfError::Damaged { what: "a reference to a type that is not there" })
    }

    /// The first structure, function or typedef of that name.
    pub(super) fn find(&self, kind: Kind, name: &str) -> Option<Record<'_>> {
        self.record(self.id(kind, name)?).ok()
    }

    /// Its number.
    pub(super) fn id(&self, kind: Kind, name: &str) -> Option<u32> {
        let hash = hash_of(name.as_bytes());
        let first = self.by_name.partition_point(|entry| entry.0 < hash);
        let same_hash = self.by_name[first..].iter().take_while(|entry| entry.0 == hash);
        same_hash.map(|entry| entry.1).find(|id| {
            self.record(*id).is_ok_and(|record| record.kind == kind && self.name_is(record.name_offset, name))
        })
    }

    /// Whether `name` stands at that place. A place outside the strings holds no name, not even the empty one.
    pub(super) fn name_is(&self, name_offset: u32, name: &str) -> bool {
        self.strings_from(name_offset)
            .and_then(|strings| strings.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    fn name(&self, name_offset: u32) -> Option<&[u8]> {
        let strings = self.strings_from(name_offset)?;
        strings.get(..strings.iter().position(|&byte| byte == 0)?)
    }

    fn strings_from(&self, name_offset: u32) -> Option<&[u8]> {
        self.bytes.get(self.strings.clone())?.get(name_offset as usize..)
    }

    fn decode(&self, index: u32) -> Option<Record<'_>> {
        let at = *self.records.get(index as usize)?;
        let info = u32_at(&self.bytes, at + 4)?;
        let kind = kind_in(info);
        // A newer kind is of no use to anyone here: what follows its record is left alone.
        let (once, each) = kind.bytes_after().unwrap_or_default();
        let after = at + RECORD_BYTES;
        Some(Record {
            kind,
            name_offset: u32_at(&self.bytes, at)?,
            type_id: u32_at(&self.bytes, at + 8)?,
            kind_flag: info >> 31 == 1,
            after: self.bytes.get(after..after + once + each * elements_in(info))?,
        })
    }
}

/// Where the sections lie.
pub(super) struct Header {
    pub(super) types: Range<usize>,
    pub(super) strings: Range<usize>,
    /// `struct btf_layout` for each kind the writer knew, from kind 0 on. Empty on kernels that write none.
    pub(super) layout: Range<usize>,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let [low, high, version, _flags] =
            *bytes.first_chunk().ok_or_else(|| cut_short(bytes, "the header"))?;
        let magic = u16::from_le_bytes([low, high]);
        if magic != MAGIC {
            return Err(BtfError::NotBtf { found: magic });
        }
        if version != 1 {
            return Err(BtfError::Version { found: version });
        }
        let field = |at| u32_at(bytes, at).map(|n| n as usize).ok_or_else(|| cut_short(bytes, "the header"));
        let header_bytes = field(4)?;
        if header_bytes < HEADER_BYTES {
            return Err(BtfError::Damaged { what: "a header shorter than 24 bytes" });
        }
        let section = |at, what| {
            let (offset, len) = (field(at)?, field(at + 4)?);
            // Offsets count from the header's end.
            let start = header_bytes.checked_add(offset);
            let range = start.and_then(|start| Some(start..start.checked_add(len)?));
            range.filter(|range| range.end <= bytes.len()).ok_or_else(|| cut_short(bytes, what))
        };
        Ok(Self {
            types: section(8, "the section of types")?,
            strings: section(16, "the section of names")?,
            layout: if header_bytes >= HEADER_WITH_LAYOUT_BYTES {
                section(24, "the section of layouts")?
            } else {
                0..0
            },
        })
    }

    /// Bytes that follow a record of a kind newer than this code, as [`Kind::bytes_after`].
    fn layout_of(&self, bytes: &[u8], info: u32) -> Option<(usize, usize)> {
        let layouts = bytes.get(self.layout.clone())?.as_chunks::<LAYOUT_BYTES>().0;
        let number = kind_number_in(info);
        // Kind 0 is void, which has no record: one with that number is damage, not news.
        let [once, each, ..] = *layouts.get(usize::from(number)).filter(|_| number != 0)?;
        Some((usize::from(once), usize::from(each)))
    }
}

/// Kernels up to 6.x leave the upper bits of both fields zero; later ones use them.
fn kind_number_in(info: u32) -> u8 {
    // The mask leaves 7 bits.
    ((info >> 24) & 0x7f) as u8
}

fn kind_in(info: u32) -> Kind {
    Kind::from_number(kind_number_in(info))
}

fn elements_in(info: u32) -> usize {
    (info & 0x00ff_ffff) as usize
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// 32 bits are enough: where two names share a hash, the names themselves decide.
fn hash_of(name: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    (hasher.finish() >> 32) as u32
}

fn cut_short(bytes: &[u8], what: &'static str) -> BtfError {
    BtfError::CutShort { what, len_bytes: bytes.len() }
}
