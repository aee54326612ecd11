use super::*;
use proptest::prelude::*;
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

const KINDS: [Kind; 4] = [Kind::Gzip, Kind::Zstd, Kind::Xz, Kind::Bzip2];

/// What the tool itself makes of `content`; `None`, said aloud, where it is not installed.
fn packed(kind: Kind, arguments: &[&str], content: &[u8]) -> Option<Vec<u8>> {
    let tool = kind.to_string();
    let spawned =
        Command::new(&tool).arg("-c").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: {tool} is not installed");
            return None;
        }
        other => other.unwrap(),
    };
    let mut input = child.stdin.take().unwrap();
    let content = content.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&content));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(output.stdout)
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn unpacked(kind: Kind, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Decoder::new(file_of(bytes), kind, Path::new("app.log.1.gz"))?.read_to_end(&mut out)?;
    Ok(out)
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|line| format!("{line} {}\n", line.wrapping_mul(0x9e37_79b9)).into_bytes()).collect()
}

#[test]
fn what_each_tool_writes_is_recognised_and_read_back() {
    for kind in KINDS {
        for content in [lines(0), lines(1), lines(20_000), vec![0; 1 << 20]] {
            for arguments in [&[][..], &["-1"], &["-9"]] {
                let Some(bytes) = packed(kind, arguments, &content) else { continue };
                assert_eq!(Kind::of(&file_of(&bytes)).unwrap(), Some(kind));
                assert!(unpacked(kind, &bytes).unwrap() == content, "{kind} {arguments:?}");
            }
        }
    }
}

#[test]
fn files_put_together_with_cat_are_read_to_their_end() {
    for kind in KINDS {
        let (Some(one), Some(two)) = (packed(kind, &[], &lines(10)), packed(kind, &[], &lines(20_000)))
        else {
            continue;
        };
        let Some(empty) = packed(kind, &[], b"") else { continue };
        let all = [&one[..], &empty, &two, &one].concat();
        assert!(unpacked(kind, &all).unwrap() == [lines(10), lines(20_000), lines(10)].concat(), "{kind}");
    }
}

#[test]
fn skippable_frames_of_zstd_are_skipped() {
    let Some(frame) = packed(Kind::Zstd, &["--check"], &lines(10)) else { return };
    let skippable = [&[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let all = [&skippable[..], &frame, &skippable].concat();
    assert_eq!(Kind::of(&file_of(&all)).unwrap(), Some(Kind::Zstd));
    assert_eq!(unpacked(Kind::Zstd, &all).unwrap(), lines(10));
    unpacked(Kind::Zstd, &all[..all.len() - 1]).unwrap_err();
}

#[test]
fn a_file_cut_off_anywhere_is_an_error_that_names_it() {
    for kind in KINDS {
        let Some(bytes) = packed(kind, &[], &lines(50)) else { continue };
        for length in 1..bytes.len() {
            let error = unpacked(kind, &bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().starts_with("cannot decompress 'app.log.1.gz': "), "{error}");
        }
    }
}

#[test]
fn a_wrong_checksum_is_an_error() {
    // How far from the end each keeps the last byte of one; gzip's and zstd's are of the content.
    for (kind, from_end) in [(Kind::Gzip, 5), (Kind::Zstd, 1), (Kind::Xz, 9), (Kind::Bzip2, 2)] {
        let Some(mut bytes) = packed(kind, &[], &lines(50)) else { continue };
        let place = bytes.len() - from_end;
        bytes[place] ^= 0x40;
        assert_eq!(unpacked(kind, &bytes).unwrap_err().kind(), ErrorKind::InvalidData, "{kind}");
    }
}

#[test]
fn what_is_before_the_damage_comes_out_and_nothing_after_the_error() {
    for kind in KINDS {
        let content = lines(40_000);
        let Some(bytes) = packed(kind, &[], &content) else { continue };
        let mut decoder =
            Decoder::new(file_of(&bytes[..bytes.len() / 2]), kind, Path::new("app.log.1")).unwrap();
        let mut out = Vec::new();
        decoder.read_to_end(&mut out).unwrap_err();
        assert!(content.starts_with(&out), "{kind}");
        assert_eq!(decoder.position(), out.len() as u64);
        decoder.read(&mut [0]).unwrap_err();
    }
}

#[test]
fn a_window_larger_than_the_limit_is_an_error() {
    let Some(bytes) = packed(Kind::Xz, &["--lzma2=dict=512MiB"], &lines(10)) else { return };
    let error = unpacked(Kind::Xz, &bytes).unwrap_err();
    assert!(error.to_string().contains("mem_limit"), "{error}");
    let Some(bytes) = packed(Kind::Zstd, &["--long=30"], &lines(10)) else { return };
    // What comes through a pipe has no known size, so the frame asks for the window it was told.
    let error = unpacked(Kind::Zstd, &bytes).unwrap_err();
    assert!(error.to_string().contains("too big"), "{error}");
}

#[test]
fn skipping_ends_at_the_offset_or_at_the_end() {
    let Some(bytes) = packed(Kind::Gzip, &[], b"0123456789") else { return };
    let mut decoder = Decoder::new(file_of(&bytes), Kind::Gzip, Path::new("x")).unwrap();
    assert!(decoder.skip_to(4).unwrap());
    assert!(!decoder.skip_to(3).unwrap());
    let mut rest = String::new();
    decoder.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "456789");
    assert!(!decoder.skip_to(11).unwrap());
}

#[test]
fn an_error_of_the_system_is_not_taken_for_a_corrupt_file() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let error = Decoder::new(File::open(directory.path()).unwrap(), kind, Path::new("app.log.1.gz"))
            .unwrap()
            .read(&mut [0])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
        assert!(error.to_string().starts_with("cannot read 'app.log.1.gz': "), "{error}");
    }
}

#[test]
fn plain_and_short_files_are_not_taken_for_compressed() {
    for bytes in [&b""[..], b"\x1f\x8b", b"BZh", b"plain text", b"BZhello world"] {
        assert_eq!(Kind::of(&file_of(bytes)).unwrap(), None);
    }
}

/// A few short archives of each kind, made once.
fn archives() -> &'static [(Kind, Vec<u8>)] {
    static ARCHIVES: std::sync::OnceLock<Vec<(Kind, Vec<u8>)>> = std::sync::OnceLock::new();
    ARCHIVES.get_or_init(|| {
        KINDS
            .into_iter()
            .flat_map(|kind| [3, 100, 1000].map(|count| Some((kind, packed(kind, &[], &lines(count))?))))
            .flatten()
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_becomes_of_an_archive_it_is_never_a_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        doubled in any::<bool>(),
    ) {
        if archives().is_empty() {
            return Ok(());
        }
        let (kind, archive) = which.get(archives());
        let mut bytes = archive.clone();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if doubled {
            bytes.extend_from_slice(archive);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        // Repeated blocks could make it long, never endless; what comes is looked at only so far.
        let mut decoder = Decoder::new(file_of(&bytes), *kind, Path::new("x")).unwrap();
        let mut out = Vec::new();
        let _ = decoder.by_ref().take(8 << 20).read_to_end(&mut out);
        prop_assert_eq!(decoder.position(), out.len() as u64);
    }
}
