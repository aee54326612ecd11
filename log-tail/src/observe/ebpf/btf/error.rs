//! Why the kernel's type information gave no answer, and what to do about it.

use std::io;

use super::{KERNEL_BTF, table::Kind};

/// Why an offset or a function could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The kernel shows no type information.
    #[error(
        "{KERNEL_BTF} does not exist: eBPF needs a kernel built with CONFIG_DEBUG_INFO_BTF=y \
         (`grep BTF /boot/config-$(uname -r)` tells) and, in a container, /sys mounted"
    )]
    Absent,

    /// The type information is there but cannot be read.
    #[error("cannot read the kernel's type information, {KERNEL_BTF}: {error}")]
    Unreadable {
        /// What the system said.
        error: io::Error,
    },

    /// The bytes do not begin as type information does.
    #[error("the type information begins with {found:#06x}, not with 0xeb9f{}", hint_at_byte_order(*found))]
    NotBtf {
        /// The first two bytes.
        found: u16,
    },

    /// A version of the format that did not exist when this was written.
    #[error(
        "the type information is of version {found}; this log-tail reads version 1, so a newer log-tail is needed"
    )]
    Version {
        /// The version found.
        found: u8,
    },

    /// A kind of type that did not exist when this was written, and whose size the header does not tell.
    #[error(
        "type {id} of the type information is of kind {kind}; \
         this log-tail knows kinds 1 to 19, so either it is damaged or a newer log-tail is needed"
    )]
    UnknownKind {
        /// The kind found: `BTF_KIND_…` in include/uapi/linux/btf.h.
        kind: u8,
        /// Which type it is, counted from 1.
        id: u32,
    },

    /// The bytes contradict themselves.
    #[error("the type information is damaged: it holds {what}")]
    Damaged {
        /// What was found.
        what: &'static str,
    },

    /// The bytes end too early.
    #[error("the type information is cut short: {what} ends past its {len_bytes} bytes")]
    CutShort {
        /// What did not fit.
        what: &'static str,
        /// Length of all the type information.
        len_bytes: usize,
    },

    /// The kernel has no structure of that name.
    #[error("this kernel has no `struct {name}`")]
    NoStructure {
        /// The structure asked for.
        name: String,
    },

    /// The structure has no member of that name.
    #[error("this kernel has no member `{member}`, neither directly nor in an anonymous structure or union")]
    NoMember {
        /// The member as C spells it, up to the name that was not found.
        member: String,
    },

    /// The path goes through a member that has no members.
    #[error("`{member}` is {found} in this kernel, so `{wanted}` has no fixed offset behind it")]
    NotAStructure {
        /// The member as C spells it.
        member: String,
        /// What its type is.
        found: Kind,
        /// The name looked for behind it.
        wanted: String,
    },

    /// The member does not begin at a byte, or is not whole bytes long.
    #[error("`{member}` is a bit field in this kernel and has no offset in bytes")]
    Bitfield {
        /// The member as C spells it.
        member: String,
    },

    /// The kernel does not list a function of that name.
    #[error("this kernel lists no function `{name}`: it has none, or none that is not inlined")]
    NoFunction {
        /// The function asked for.
        name: String,
    },

    /// No argument of the function is a pointer to that structure.
    #[error("no argument of this kernel's `{function}` is a `struct {type_name} *`")]
    NoArgument {
        /// The function asked about.
        function: String,
        /// The structure looked for behind a pointer.
        type_name: String,
    },
}

fn hint_at_byte_order(found: u16) -> &'static str {
    if found.swap_bytes() == super::table::MAGIC {
        ": it is big-endian, and log-tail's kernel program is built for little-endian machines"
    } else {
        ": it is not BTF"
    }
}
