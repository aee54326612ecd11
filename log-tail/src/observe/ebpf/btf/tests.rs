//! Questions to small hand-made kernels, to damaged ones, and to the one that runs.

use proptest::prelude::*;

use super::{Btf, BtfError, KERNEL_BTF, table::Kind};

const INT: u32 = 1;
const PTR: u32 = 2;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const TYPE_TAG: u32 = 18;
const KIND_FLAG: u32 = 1 << 31;

/// A kernel's type information in the making. Types are numbered from 1 in the order they are added.
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
    layout: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], count: 0, layout: Vec::new() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.bytes().chain([0]));
        offset
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn add(&mut self, name: &str, info: u32, size_or_type: u32, after: &[u32]) -> u32 {
        let name = self.name(name);
        self.words(&[name, info, size_or_type]);
        self.words(after);
        self.count += 1;
        self.count
    }

    fn plain(&mut self, kind: u32, name: &str, target: u32) -> u32 {
        self.add(name, kind << 24, target, &[])
    }

    fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, INT << 24, bytes, &[bytes * 8])
    }

    /// Members are (name, type, offset as the format holds it).
    fn aggregate(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let after: Vec<u32> =
            members.iter().flat_map(|&(name, target, offset)| [self.name(name), target, offset]).collect();
        let elements = u32::try_from(members.len()).unwrap();
        self.add(name, (kind & KIND_FLAG) | ((kind & !KIND_FLAG) << 24) | elements, 64, &after)
    }

    fn function(&mut self, name: &str, arguments: &[u32]) {
        let after: Vec<u32> = arguments.iter().flat_map(|&target| [0, target]).collect();
        let elements = u32::try_from(arguments.len()).unwrap();
        let prototype = self.add("", FUNC_PROTO << 24 | elements, 1, &after);
        self.plain(FUNC, name, prototype);
    }

    fn bytes(self) -> Vec<u8> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let header_bytes: u32 = if self.layout.is_empty() { 24 } else { 32 };
        let (types, strings) = (len(&self.types), len(&self.strings));
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [header_bytes, 0, types, types, strings] {
            bytes.extend(word.to_le_bytes());
        }
        if !self.layout.is_empty() {
            bytes.extend((types + strings).to_le_bytes());
            bytes.extend(len(&self.layout).to_le_bytes());
        }
        bytes.extend([self.types, self.strings, self.layout].concat());
        bytes
    }

    fn build(self) -> Btf {
        Btf::parse(self.bytes()).unwrap()
    }
}

/// ```c
/// struct dentry;                                    // declared before it is defined, as in a real kernel
/// struct qstr { u32 hash; union { u32 len; char *name; }; };
/// struct dentry { u32 d_flags; struct { u32 pad; const spelled_t d_name; }; struct dentry *d_parent; };
/// struct bits { u32 low:3; u32 high:29; u32 whole; };
/// int do_truncate(u32, struct dentry *const, ...);  // the pointer behind a typedef
/// int nothing(void);
/// ```
fn small_kernel() -> Builder {
    let mut kernel = Builder::new();
    let int = kernel.int("u32", 4);
    kernel.plain(FWD, "dentry", 0);
    let pointer = kernel.plain(PTR, "", int);
    let either = kernel.aggregate(UNION, "", &[("len", int, 0), ("name", pointer, 0)]);
    let qstr = kernel.aggregate(STRUCT, "qstr", &[("hash", int, 0), ("", either, 64)]);
    let volatile = kernel.plain(VOLATILE, "", qstr);
    let spelled = kernel.plain(TYPEDEF, "spelled_t", volatile);
    let constant = kernel.plain(CONST, "", spelled);
    let nested = kernel.aggregate(STRUCT, "", &[("pad", int, 0), ("d_name", constant, 64)]);
    // The pointer's target is the next type but two: references forward are common.
    let to_dentry = kernel.count + 2;
    let dentry = kernel.aggregate(
        STRUCT,
        "dentry",
        &[("d_flags", int, 0), ("", nested, 128), ("d_parent", to_dentry, 384)],
    );
    assert_eq!(kernel.plain(PTR, "", dentry), to_dentry);
    let tag = kernel.plain(TYPE_TAG, "user", dentry);
    let tagged = kernel.plain(PTR, "", tag);
    let argument = kernel.plain(TYPEDEF, "dentry_ptr", tagged);
    kernel.aggregate(
        STRUCT | KIND_FLAG,
        "bits",
        &[("low", int, 3 << 24), ("high", int, 29 << 24 | 3), ("whole", int, 32)],
    );
    // A bit field as compilers without the flag write it: it begins inside a byte.
    kernel.aggregate(STRUCT, "old_bits", &[("second", int, 3)]);
    kernel.function("do_truncate", &[int, argument, 0]);
    kernel.function("nothing", &[]);
    kernel
}

fn message(result: Result<impl std::fmt::Debug, BtfError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_member_is_found_where_the_structure_says() {
    let btf = small_kernel().build();
    assert_eq!(btf.member_offset("qstr", &["hash"]).unwrap(), 0);
    assert_eq!(btf.member_offset("dentry", &["d_parent"]).unwrap(), 48);
    assert_eq!(btf.member_offset("bits", &["whole"]).unwrap(), 4);
    assert_eq!(btf.member_offset("bits", &[]).unwrap(), 0);
}

#[test]
fn a_member_of_an_anonymous_structure_or_union_counts_from_the_outer_one() {
    let btf = small_kernel().build();
    assert_eq!(btf.member_offset("qstr", &["name"]).unwrap(), 8);
    assert_eq!(btf.member_offset("dentry", &["d_name"]).unwrap(), 24);
}

#[test]
fn a_path_goes_on_through_typedefs_and_qualifiers() {
    let btf = small_kernel().build();
    assert_eq!(btf.member_offset("dentry", &["d_name", "name"]).unwrap(), 32);
}

#[test]
fn a_path_stops_at_a_pointer_and_says_so() {
    let btf = small_kernel().build();
    assert_eq!(
        message(btf.member_offset("dentry", &["d_parent", "d_flags"])),
        "`dentry.d_parent` is a pointer in this kernel, so `d_flags` has no fixed offset behind it"
    );
}

#[test]
fn a_missing_member_is_named_as_c_spells_it() {
    let btf = small_kernel().build();
    assert_eq!(
        message(btf.member_offset("dentry", &["d_name", "nme"])),
        "this kernel has no member `dentry.d_name.nme`, neither directly nor in an anonymous structure or union"
    );
    assert_eq!(message(btf.member_offset("dentri", &["d_name"])), "this kernel has no `struct dentri`");
    // The empty name is what anonymous members have: it must not find one of them.
    assert!(btf.member_offset("dentry", &[""]).is_err());
}

#[test]
fn a_bit_field_has_no_offset_in_bytes() {
    let btf = small_kernel().build();
    for (strukt, member) in [("bits", "low"), ("bits", "high"), ("old_bits", "second")] {
        let result = btf.member_offset(strukt, &[member]);
        assert!(matches!(result, Err(BtfError::Bitfield { .. })), "{strukt}.{member}: {result:?}");
    }
}

#[test]
fn of_several_structures_of_one_name_the_first_counts() {
    let mut kernel = small_kernel();
    kernel.aggregate(STRUCT, "dentry", &[("d_parent", 1, 0)]);
    assert_eq!(kernel.build().member_offset("dentry", &["d_parent"]).unwrap(), 48);
}

#[test]
fn an_argument_is_found_by_the_structure_it_points_to() {
    let btf = small_kernel().build();
    assert_eq!(btf.argument_index("do_truncate", "dentry").unwrap(), 1);
    assert_eq!(
        message(btf.argument_index("do_truncate", "inode")),
        "no argument of this kernel's `do_truncate` is a `struct inode *`"
    );
}

#[test]
fn arguments_are_counted_without_the_dots() {
    let btf = small_kernel().build();
    assert_eq!(btf.argument_count("do_truncate").unwrap(), 2);
    assert_eq!(btf.argument_count("nothing").unwrap(), 0);
}

#[test]
fn a_function_is_listed_or_not() {
    let btf = small_kernel().build();
    assert!(btf.has_function("nothing"));
    // A structure's name is no function's, nor the other way round.
    assert!(!btf.has_function("dentry"));
    assert!(btf.member_offset("nothing", &[]).is_err());
    assert_eq!(
        message(btf.argument_count("do_nothing")),
        "this kernel lists no function `do_nothing`: it has none, or none that is not inlined"
    );
}

#[test]
fn an_excerpt_has_the_same_numbers_and_no_other_names() {
    let btf = small_kernel().build();
    let bytes = btf.excerpt(["nothing", "not_there", "spelled_t", "qstr"]);
    aya::Btf::parse(&bytes, aya::Endianness::default()).unwrap();
    let excerpt = Btf::parse(bytes).unwrap();
    for (kind, name) in [(Kind::Func, "nothing"), (Kind::Typedef, "spelled_t")] {
        let id = excerpt.table.id(kind, name);
        assert!(id.is_some(), "{name}");
        assert_eq!(id, btf.table.id(kind, name), "{name}");
    }
    for name in ["not_there", "do_truncate", "qstr"] {
        assert!(!excerpt.has_function(name), "{name}");
        assert_eq!(excerpt.table.id(Kind::Struct, name), None, "{name}");
    }
    let nothing = Btf::parse(btf.excerpt(["not_there"])).unwrap();
    assert!(!nothing.has_function("not_there"));
}

#[test]
fn types_without_end_are_damage_not_a_hang() {
    let mut kernel = Builder::new();
    kernel.plain(TYPEDEF, "a_t", 2);
    kernel.plain(CONST, "", 1);
    kernel.aggregate(STRUCT, "loop", &[("member", 1, 0)]);
    let this = kernel.count + 1;
    kernel.aggregate(STRUCT, "matryoshka", &[("", this, 0), ("", this, 0), ("", this, 0)]);
    let btf = kernel.build();
    for strukt in ["loop", "matryoshka"] {
        let result = btf.member_offset(strukt, &["member", "further"]);
        assert!(matches!(result, Err(BtfError::Damaged { .. })), "{strukt}: {result:?}");
    }
}

#[test]
fn a_kind_of_the_future_is_skipped_only_where_the_header_tells_its_size() {
    let newer = |layout: Vec<u8>| {
        let mut kernel = small_kernel();
        kernel.add("", 20 << 24 | 2, 0, &[7, 8, 9]);
        kernel.function("behind_it", &[]);
        kernel.layout = layout;
        Btf::parse(kernel.bytes())
    };
    assert_eq!(
        message(newer(Vec::new())),
        "type 21 of the type information is of kind 20; this log-tail knows kinds 1 to 19, \
         so either it is damaged or a newer log-tail is needed"
    );
    let mut layout = vec![0; 21 * 4];
    layout[20 * 4] = 4;
    layout[20 * 4 + 1] = 4;
    assert!(newer(layout).unwrap().has_function("behind_it"));
}

#[test]
fn bytes_that_are_no_type_information_are_refused_with_a_reason() {
    assert!(message(Btf::parse(*b"\x7fELF")).contains("it is not BTF"));
    let mut bytes = small_kernel().bytes();
    bytes.swap(0, 1);
    assert!(message(Btf::parse(bytes)).contains("big-endian"));
    let mut bytes = small_kernel().bytes();
    bytes[2] = 2;
    assert!(message(Btf::parse(bytes)).contains("version 2"));
}

/// Asks everything that the loader asks, for the sake of the asking.
fn ask(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for path in [&["d_name", "name"][..], &["d_parent"], &["low"], &["nothing"], &[]] {
        for strukt in ["dentry", "qstr", "bits"] {
            let _ = btf.member_offset(strukt, path);
        }
    }
    let _ = (btf.argument_index("do_truncate", "dentry"), btf.argument_count("nothing"));
    let _ = btf.has_function("do_truncate");
}

#[test]
fn no_truncation_panics_and_each_is_noticed() {
    let bytes = small_kernel().bytes();
    for len in 0..bytes.len() {
        let cut = Btf::parse(&bytes[..len]);
        assert!(matches!(cut, Err(BtfError::CutShort { .. })), "{len} bytes: {cut:?}");
    }
}

#[test]
fn no_single_flipped_bit_panics() {
    let bytes = small_kernel().bytes();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        ask(damaged);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_damage_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
        len in any::<prop::sample::Index>(),
    ) {
        let mut bytes = small_kernel().bytes();
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        ask(bytes.clone());
        bytes.truncate(len.index(bytes.len()));
        ask(bytes);
    }

    #[test]
    fn no_noise_behind_a_good_header_panics(
        noise in prop::collection::vec(any::<u8>(), 0..512),
        strings in 0_usize..512,
    ) {
        let strings = strings.min(noise.len());
        let mut kernel = Builder::new();
        kernel.strings = noise[..strings].to_vec();
        kernel.types = noise[strings..].to_vec();
        ask(kernel.bytes());
    }
}

/// As it is written for a module: types and names are counted on from the kernel's, and those that the kernel has are not
/// written again.
fn small_module(kernel: &Builder) -> Vec<u8> {
    let mut module = Builder::new();
    module.strings = Vec::new();
    let kernel_strings = u32::try_from(kernel.strings.len()).unwrap();
    let own = |at: u32| kernel_strings + at;
    module.strings.extend(b"owner\0d_own\0");
    let d_parent = kernel.strings.windows(9).position(|name| name == b"d_parent\0").unwrap();
    let d_parent = u32::try_from(d_parent).unwrap();
    let dentry = kernel.count - 8;
    let pointer = kernel.count + 1;
    module.words(&[0, PTR << 24, dentry]);
    // struct owner { struct dentry *d_parent; u32 d_own; };
    module.words(&[own(0), STRUCT << 24 | 2, 12, d_parent, pointer, 0, own(6), 1, 64]);
    module.bytes()
}

#[test]
fn a_module_is_read_behind_its_kernel() {
    for layout in [vec![], vec![0; 80]] {
        let mut kernel = small_kernel();
        kernel.layout = layout;
        let module = small_module(&kernel);
        let kernel = kernel.bytes();
        let both = Btf::with_module(&kernel, &module).unwrap();
        assert_eq!(both.member_offset("owner", &["d_parent"]).unwrap(), 0, "a name that the kernel has");
        assert_eq!(both.member_offset("owner", &["d_own"]).unwrap(), 8);
        let alone = Btf::parse(kernel.clone()).unwrap();
        assert_eq!(both.member_offset("dentry", &["d_parent"]).unwrap(), 48);
        assert_eq!(both.excerpt(["do_truncate"]), alone.excerpt(["do_truncate"]), "the same numbers");
        assert!(alone.member_offset("owner", &["d_own"]).is_err());
        assert!(Btf::with_module(&kernel, &module[..module.len() - 1]).is_err());
        assert!(Btf::with_module(&kernel, b"no").is_err());
    }
}

#[test]
fn the_running_kernel_answers_what_the_loader_asks() {
    let btf = match Btf::from_kernel() {
        Ok(btf) => btf,
        Err(error @ BtfError::Absent) => {
            eprintln!("skipping test: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    answers_what_the_loader_asks(&btf);
}

/// The kernels of `LOG_TAIL_TEST_BTF`, a list of files separated by colons: to try kernels that do not run here.
#[test]
fn the_kernels_named_in_the_environment_answer_too() {
    for path in std::env::var("LOG_TAIL_TEST_BTF").unwrap_or_default().split(':').filter(|p| !p.is_empty()) {
        eprintln!("{path}");
        let start = std::time::Instant::now();
        let btf = Btf::parse(std::fs::read(path).unwrap()).unwrap();
        eprintln!("{btf:?}: read and parsed in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        answers_what_the_loader_asks(&btf);
        eprintln!("asked in {:?}", start.elapsed());
    }
}

fn answers_what_the_loader_asks(btf: &Btf) {
    for (strukt, path) in [
        ("file", &["f_inode"][..]),
        ("file", &["f_path"]),
        ("file", &["f_path", "dentry"]),
        ("file", &["f_mode"]),
        ("path", &["dentry"]),
        ("dentry", &["d_inode"]),
        ("dentry", &["d_parent"]),
        ("dentry", &["d_name"]),
        ("dentry", &["d_name", "name"]),
        ("dentry", &["d_name", "len"]),
        ("inode", &["i_mode"]),
        ("inode", &["i_ino"]),
        ("inode", &["i_size"]),
        ("inode", &["i_generation"]),
        ("inode", &["i_writecount"]),
        ("super_block", &["s_dev"]),
        ("kiocb", &["ki_filp"]),
    ] {
        let offset = btf.member_offset(strukt, path).unwrap_or_else(|error| panic!("{error}"));
        eprintln!("{strukt}.{} = {offset}", path.join("."));
        assert!(offset < 4096, "{strukt}.{path:?} = {offset}");
    }
    if btf.has_function("io_write") {
        btf.member_offset("io_kiocb", &["file"]).unwrap();
    }
    // The same in every kernel seen, 5.10 to 7.2; only one built without POSIX ACLs would differ.
    assert_eq!(btf.member_offset("inode", &["i_sb"]).unwrap(), 40);
    // The first argument up to 5.11, the second since.
    let dentry = btf.argument_index("do_truncate", "dentry").unwrap();
    assert!(dentry <= 1, "{dentry}");
    assert_eq!(btf.argument_count("do_truncate").unwrap(), dentry + 4);
    assert_eq!(btf.argument_index("vfs_write", "file").unwrap(), 0);
    assert_eq!(btf.argument_count("vfs_write").unwrap(), 4);
    assert!(!btf.has_function("log_tail_was_here"), "from {KERNEL_BTF} or a file");
    assert!(btf.member_offset("file", &["f_log_tail"]).is_err());
}
