//! Where it is measured: the guest's filesystems, and what can stand between them and writer or follower.

/// The guest says with it which place the next results are for.
pub const MARK: &str = "@coverage-place@";

/// One place.
pub struct Place {
    /// As the table's heading calls it.
    pub name: &'static str,
    /// What it is, for those that the name does not tell everything of.
    pub what: &'static str,
    /// What the program is told.
    arguments: &'static str,
}

pub const PLACES: [Place; 16] = [
    Place { name: "ext4", what: "", arguments: "/ext4" },
    Place { name: "xfs", what: "", arguments: "/xfs" },
    Place { name: "btrfs", what: "", arguments: "/btrfs" },
    Place {
        name: "btrfs subvolume",
        what: "a subvolume below the followed mount",
        arguments: "--kind subvolume /btrfs",
    },
    Place {
        name: "btrfs snapshot",
        what: "a writable snapshot: its inodes have the numbers of those it was taken of",
        arguments: "--kind snapshot /btrfs",
    },
    Place { name: "tmpfs", what: "", arguments: "/tmp" },
    Place { name: "loop", what: "ext4 in a file on ext4", arguments: "/ext4/loop" },
    Place { name: "bind", what: "ext4, through a bind mount", arguments: "/ext4/bound" },
    Place {
        name: "overlay",
        what: "lower and upper layer on one ext4; both sides go through the overlay",
        arguments: "--kind overlay /ext4",
    },
    Place {
        name: "overlay, two filesystems",
        what: "the lower layer on xfs, the upper on ext4",
        arguments: "--kind overlay /xfs --upper /ext4",
    },
    Place {
        name: "copied up",
        what: "an overlay of one ext4; the file is in the lower layer when it is followed, and the first write copies it up",
        arguments: "--kind copied-up /ext4",
    },
    Place {
        name: "copied up, two filesystems",
        what: "the same with the lower layer on xfs, the upper on ext4",
        arguments: "--kind copied-up /xfs --upper /ext4",
    },
    Place {
        name: "upper followed",
        what: "the writer goes through an overlay, as in a container; the follower looks at its upper layer on ext4",
        arguments: "--kind upper-followed /ext4",
    },
    Place { name: "upper followed, xfs", what: "the same on xfs", arguments: "--kind upper-followed /xfs" },
    Place {
        name: "upper followed, btrfs",
        what: "the same on btrfs",
        arguments: "--kind upper-followed /btrfs",
    },
    Place {
        name: "upper written",
        what: "the follower goes through an overlay; the writer writes to its upper layer, beneath it",
        arguments: "--kind upper-written /ext4",
    },
];

/// Measures in every place, for the guest's shell.
pub fn script(backend: &str) -> String {
    let mut script = format!(
        "export LOG_TAIL_BIN=/bin/log-tail LOG_TAIL_TEST_BACKEND={backend} RUST_BACKTRACE=1
set -e
dd if=/dev/zero of=/ext4/image bs=1M count=64 2>/dev/null
losetup /dev/loop0 /ext4/image
mke2fs /dev/loop0 >/dev/null
mkdir /ext4/loop /ext4/bind /ext4/bound
mount -t ext4 /dev/loop0 /ext4/loop
mount --bind /ext4/bind /ext4/bound
set +e
"
    );
    for Place { name, arguments, .. } in &PLACES {
        // 1 is for what did not come out right, and stands in the table.
        script.extend([
            "echo '",
            MARK,
            " ",
            name,
            "'\n/bin/coverage ",
            arguments,
            " || [ $? = 1 ] || exit 2\n",
        ]);
    }
    script + "exit 0\n"
}
