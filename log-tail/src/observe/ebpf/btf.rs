//! Where the running kernel keeps the members of its structures.
//!
//! Rust emits no CO-RE relocations, so the loader asks here for each offset that the kernel program reads
//! and sets it as a frozen global before the program is loaded. The answers come from the kernel's own type
//! information (BTF), which a kernel built with `CONFIG_DEBUG_INFO_BTF` shows at [`KERNEL_BTF`].
//!
//! Promises: no input makes it panic, recurse or run for long, however damaged, and a question it cannot
//! answer for certain is an error, never a guess. It reads what it is asked for and no more: it neither
//! checks the whole of the type information nor knows the types of other modules than [`MODULE_BTF`]'s.
//!
//! The format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h in the kernel's source.

mod error;
mod excerpt;
mod module;
mod table;

pub use error::BtfError;

use std::{fs, io};

use table::{Kind, Member, Record, Table};

/// Where the kernel shows its type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Where it shows that of btrfs, the one module that is asked about: while that is loaded, and from Linux 5.11 on.
pub const MODULE_BTF: &str = "/sys/kernel/btf/btrfs";

/// Members looked at for one offset. The kernel's largest structures hold hundreds; only anonymous
/// structures that hold each other without end come here.
const MEMBERS_PER_QUESTION: usize = 65_536;

/// Typedefs and qualifiers between a member and its type. The kernel's longest chains hold five or so.
const MODIFIERS_PER_TYPE: usize = 64;

/// The types of one kernel. About 8 MB for a distribution's kernel, so drop it once the offsets are known.
#[derive(Debug)]
pub struct Btf {
    table: Table,
}

impl Btf {
    /// The type information of the running kernel, and of btrfs where it is a module.
    pub fn from_kernel() -> Result<Self, BtfError> {
        let bytes = fs::read(KERNEL_BTF).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BtfError::Absent,
            _ => BtfError::Unreadable { error },
        })?;
        // Without it all else is known as well.
        let with_module =
            fs::read(MODULE_BTF).ok().and_then(|module| Self::with_module(&bytes, &module).ok());
        with_module.map_or_else(|| Self::parse(bytes), Ok)
    }

    /// A kernel's type information and that of one of its modules.
    pub fn with_module(kernel: &[u8], module: &[u8]) -> Result<Self, BtfError> {
        Self::parse(module::joined(kernel, module)?)
    }

    /// Checks that every type record lies inside `bytes`. What the records say is checked when it is asked for.
    pub fn parse(bytes: impl Into<Box<[u8]>>) -> Result<Self, BtfError> {
        Ok(Self { table: Table::parse(bytes.into())? })
    }

    /// Bytes from the beginning of `struct strukt` to the member that `path` leads to.
    ///
    /// Each name is looked for in the structure itself and in the anonymous structures and unions inside it.
    /// A path of several names goes through members that are structures or unions themselves
    /// (`("dentry", &["d_name", "name"])`), never through a pointer: what lies behind one has no fixed offset.
    /// An empty path leads to the structure's own beginning. Of several structures of one name the first counts.
    pub fn member_offset(&self, strukt: &str, path: &[&str]) -> Result<u32, BtfError> {
        let mut members_left = MEMBERS_PER_QUESTION;
        let mut bits = 0_u64;
        let mut holder = self.structure(strukt)?;
        for (depth, name) in path.iter().enumerate() {
            if depth > 0 && !holder.kind.has_members() {
                return Err(BtfError::NotAStructure {
                    member: spell(strukt, &path[..depth]),
                    found: holder.kind,
                    wanted: (*name).to_owned(),
                });
            }
            let member = self
                .find_member(holder, name, &mut members_left)?
                .ok_or_else(|| BtfError::NoMember { member: spell(strukt, &path[..=depth]) })?;
            if member.is_bitfield {
                return Err(BtfError::Bitfield { member: spell(strukt, &path[..=depth]) });
            }
            // No overflow: each term fits in 32 bits and `members_left` allows 2^16 of them.
            bits += member.bit_offset;
            holder = self.unmodified(member.type_id)?;
        }
        if !bits.is_multiple_of(8) {
            return Err(BtfError::Bitfield { member: spell(strukt, path) });
        }
        u32::try_from(bits / 8)
            .map_err(|_| BtfError::Damaged { what: "a member offset of more than 32 bits" })
    }

    /// Which argument of `function`, counted from 0, is a pointer to `struct type_name`. Of several the first.
    pub fn argument_index(&self, function: &str, type_name: &str) -> Result<usize, BtfError> {
        for (index, argument) in self.prototype(function)?.parameters().enumerate() {
            let pointer = self.unmodified(argument)?;
            if pointer.kind != Kind::Ptr {
                continue;
            }
            let target = self.unmodified(pointer.type_id)?;
            // A structure that is only declared where the function is compiled stays a forward declaration.
            let is_struct = matches!(target.kind, Kind::Struct | Kind::Fwd);
            if is_struct && self.table.name_is(target.name_offset, type_name) {
                return Ok(index);
            }
        }
        Err(BtfError::NoArgument { function: function.to_owned(), type_name: type_name.to_owned() })
    }

    /// How many arguments `function` takes, the `...` of a variadic one not counted. A tracing program that
    /// runs at the function's exit finds the returned value behind that many arguments.
    pub fn argument_count(&self, function: &str) -> Result<usize, BtfError> {
        // `...` is a last parameter of type void: Documentation/bpf/btf.rst, BTF_KIND_FUNC_PROTO.
        Ok(self.prototype(function)?.parameters().filter(|&type_id| type_id != 0).count())
    }

    /// Whether the kernel lists `function`. One that is inlined everywhere, or was never there, is not listed,
    /// and no tracing program can be attached to it.
    #[must_use]
    pub fn has_function(&self, function: &str) -> bool {
        self.table.find(Kind::Func, function).is_some()
    }

    fn structure(&self, name: &str) -> Result<Record<'_>, BtfError> {
        self.table.find(Kind::Struct, name).ok_or_else(|| BtfError::NoStructure { name: name.to_owned() })
    }

    fn prototype(&self, function: &str) -> Result<Record<'_>, BtfError> {
        let found = self
            .table
            .find(Kind::Func, function)
            .ok_or_else(|| BtfError::NoFunction { name: function.to_owned() })?;
        let prototype = self.table.record(found.type_id)?;
        if prototype.kind != Kind::FuncProto {
            return Err(BtfError::Damaged { what: "a function without a prototype" });
        }
        Ok(prototype)
    }

    /// The member of that name in `holder` or in the anonymous structures and unions inside it, with its
    /// offset from the beginning of `holder`. C has no two of them, so any order of search will do.
    fn find_member(
        &self,
        holder: Record<'_>,
        name: &str,
        members_left: &mut usize,
    ) -> Result<Option<Member>, BtfError> {
        // A list of what is still to be searched, not recursion: damaged input may nest without end.
        let mut to_search = vec![(holder, 0_u64)];
        while let Some((searched, base)) = to_search.pop() {
            for member in searched.members() {
                *members_left = members_left.checked_sub(1).ok_or(BtfError::Damaged {
                    what: "anonymous structures that hold each other without end",
                })?;
                let member = Member { bit_offset: base + member.bit_offset, ..member };
                // Anonymous first: then the empty name finds nothing rather than the first of these.
                if self.table.name_is(member.name_offset, "") {
                    let inner = self.unmodified(member.type_id)?;
                    if inner.kind.has_members() {
                        to_search.push((inner, member.bit_offset));
                    }
                } else if self.table.name_is(member.name_offset, name) {
                    return Ok(Some(member));
                }
            }
        }
        Ok(None)
    }

    /// The type behind typedefs, qualifiers and tags.
    fn unmodified(&self, type_id: u32) -> Result<Record<'_>, BtfError> {
        let mut record = self.table.record(type_id)?;
        for _ in 0..MODIFIERS_PER_TYPE {
            if !record.kind.is_modifier() {
                return Ok(record);
            }
            record = self.table.record(record.type_id)?;
        }
        Err(BtfError::Damaged { what: "a chain of typedefs that does not end" })
    }
}

/// `struct file` and `["f_path", "dentry"]` as C spells them: `file.f_path.dentry`.
fn spell(strukt: &str, path: &[&str]) -> String {
    let mut spelled = strukt.to_owned();
    for name in path {
        spelled.push('.');
        spelled.push_str(name);
    }
    spelled
}

#[cfg(test)]
mod tests;
