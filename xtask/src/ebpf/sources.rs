//! The kernel program's sources, and the one hash that stands for all of them.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// What the object is made from, relative to the workspace's root: files and whole folders.
const SOURCES: [&str; 5] = [
    "log-tail-ebpf/Cargo.toml",
    "log-tail-ebpf/Cargo.lock",
    "log-tail-ebpf/src",
    "log-tail-common/Cargo.toml",
    "log-tail-common/src",
];

/// SHA-256 over the names and contents of all sources below `root`.
pub fn hash(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(root, Path::new(source), &mut files)
            .with_context(|| format!("could not list {}", root.join(source).display()))?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let content = fs::read(root.join(&file))
            .with_context(|| format!("could not read {}", root.join(&file).display()))?;
        let name = file.to_string_lossy();
        // Lengths keep one file's end from being taken for another one's beginning.
        for part in [name.as_bytes(), &content] {
            hasher.update(u64::try_from(part.len())?.to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 of these bytes.
pub fn hash_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn collect(root: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if root.join(path).is_dir() {
        for entry in fs::read_dir(root.join(path))? {
            collect(root, &path.join(entry?.file_name()), files)?;
        }
    } else {
        files.push(path.to_path_buf());
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in [
            ("log-tail-ebpf/Cargo.toml", "[package]"),
            ("log-tail-ebpf/Cargo.lock", "version = 4"),
            ("log-tail-ebpf/src/main.rs", "mod maps;"),
            ("log-tail-ebpf/src/deep/maps.rs", "maps"),
            ("log-tail-common/Cargo.toml", "[package]"),
            ("log-tail-common/src/lib.rs", "shared"),
        ] {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        root
    }

    #[test]
    fn the_hash_is_the_same_in_any_folder() {
        assert_eq!(hash(workspace().path()).unwrap(), hash(workspace().path()).unwrap());
    }

    #[test]
    fn any_change_to_any_source_changes_the_hash() {
        let before = hash(workspace().path()).unwrap();
        for file in
            ["log-tail-ebpf/src/deep/maps.rs", "log-tail-ebpf/Cargo.lock", "log-tail-common/src/lib.rs"]
        {
            let root = workspace();
            fs::write(root.path().join(file), "changed").unwrap();
            assert_ne!(hash(root.path()).unwrap(), before, "{file}");
        }
        let root = workspace();
        fs::write(root.path().join("log-tail-ebpf/src/new.rs"), "").unwrap();
        assert_ne!(hash(root.path()).unwrap(), before, "a new file");
        let root = workspace();
        let source = root.path().join("log-tail-ebpf/src");
        fs::rename(source.join("main.rs"), source.join("moved.rs")).unwrap();
        assert_ne!(hash(root.path()).unwrap(), before, "a renamed file");
    }

    #[test]
    fn what_is_no_source_does_not_change_the_hash() {
        let root = workspace();
        let before = hash(root.path()).unwrap();
        fs::create_dir_all(root.path().join("log-tail-ebpf/target")).unwrap();
        fs::write(root.path().join("log-tail-ebpf/target/object"), "x").unwrap();
        assert_eq!(hash(root.path()).unwrap(), before);
    }

    #[test]
    fn a_missing_source_is_named() {
        let root = workspace();
        fs::remove_file(root.path().join("log-tail-ebpf/Cargo.lock")).unwrap();
        let error = hash(root.path()).unwrap_err().to_string();
        assert!(error.contains("log-tail-ebpf/Cargo.lock"), "{error}");
    }
}
