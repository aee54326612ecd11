//! Compiling the kernel program so that its bytes depend on nothing but its sources and its tools:
//! not on where the checkout, cargo's home, the toolchain or the target directory are.
//!
//! Two things carry paths into an object. Debug information and BTF hold file names: they are remapped.
//! Cargo hashes the folder of each crate into the crate's identity, and so into the name of each
//! function: [`wrapper`] stands between cargo and the compiler and gives each crate an identity made
//! from its name and version.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use super::{PROGRAM, TARGET, sources, strip, toolchain::Toolchain};
use crate::{process, workspace};

/// What makes an object that aya can load: BTF needs debug information, `xchg` needs v3.
pub const FLAGS: [&str; 4] = ["-Clinker=bpf-linker", "-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];

/// Set for the compilers that cargo starts through us.
const WRAPPING: &str = "LOG_TAIL_XTASK_WRAPS_RUSTC";

/// Builds the object and returns its bytes.
pub fn object(toolchain: &Toolchain) -> Result<Vec<u8>> {
    let root = workspace::root();
    let manifest = root.join(PROGRAM).join("Cargo.toml");
    let target = workspace::target().join("ebpf");
    // The sources of all crates must be there before their folders can be listed.
    process::run(toolchain.cargo().args(["fetch", "--quiet", "--locked", "--manifest-path"]).arg(&manifest))?;

    let mut flags: Vec<_> = FLAGS.map(OsString::from).into();
    for (from, to) in remapped(&root, &cargo_home()?, &toolchain.library)? {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    let mut cargo = toolchain.cargo();
    cargo
        .args(["build", "--quiet", "--locked", "--release", "-Zbuild-std=core", "--target", TARGET])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\x1f")))
        .env("CARGO_INCREMENTAL", "0")
        .env("RUSTC_WRAPPER", env::current_exe().context("could not find our own program")?)
        .env(WRAPPING, "1");
    process::run(&mut cargo).context("could not build the kernel program")?;
    let object = target.join(TARGET).join("release").join(PROGRAM);
    let object = fs::read(&object).with_context(|| format!("could not read {}", object.display()))?;
    strip::without_debug_sections(&object)
}

/// Folders of this machine and the names they get in the object. The last that fits is the one used.
fn remapped(root: &Path, cargo_home: &Path, library: &[PathBuf]) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut pairs = vec![(root.to_path_buf(), "log-tail"), (cargo_home.to_path_buf(), "cargo")];
    // Each registry has a folder that is named after its host.
    let registries = cargo_home.join("registry/src");
    if registries.is_dir() {
        for registry in
            fs::read_dir(&registries).with_context(|| format!("could not list {}", registries.display()))?
        {
            pairs.push((registry?.path(), "crates"));
        }
    }
    pairs.extend(library.iter().map(|folder| (folder.clone(), "rust")));
    Ok(pairs)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// Where cargo has started us in the compiler's place: becomes the compiler. Else does nothing.
pub fn wrapper() -> Option<ExitCode> {
    env::var_os(WRAPPING)?;
    let mut words = env::args_os().skip(1);
    let compiler = words.next()?;
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let arguments = with_own_identity(words.collect(), &version);
    let error = Command::new(&compiler).args(arguments).exec();
    eprintln!("xtask: could not start {}: {error}", compiler.display());
    Some(ExitCode::FAILURE)
}

/// The compiler's arguments with the crate's identity replaced, for crates of the kernel program.
fn with_own_identity(mut arguments: Vec<OsString>, version: &str) -> Vec<OsString> {
    let after = |flag: &str| {
        let place = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(place + 1)?.to_str()
    };
    let (Some(name), Some(TARGET)) = (after("--crate-name"), after("--target")) else { return arguments };
    let identity = sources::hash_of(format!("{name} {version}").as_bytes());
    let metadata = format!("metadata={}", &identity[..16]);
    for argument in &mut arguments {
        if argument.to_str().is_some_and(|text| text.starts_with("metadata=")) {
            *argument = metadata.clone().into();
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_crates_identity_does_not_depend_on_what_cargo_made_of_its_folder() {
        let line = |metadata| {
            words(&format!(
                "--crate-name core --target bpfel-unknown-none -C metadata={metadata} -C extra-filename=-1"
            ))
        };
        let one = with_own_identity(line("1234"), "0.1.0");
        assert_eq!(one, with_own_identity(line("5678"), "0.1.0"));
        assert_ne!(one, with_own_identity(line("1234"), "0.2.0"));
        assert_eq!(one.last().unwrap(), "extra-filename=-1");
    }

    #[test]
    fn crates_for_this_machine_keep_cargos_identity() {
        let line = words("--crate-name syn -C metadata=1234");
        assert_eq!(with_own_identity(line.clone(), "2.0.0"), line);
    }

    #[test]
    fn a_registrys_host_does_not_reach_the_object() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry/src/host.invalid-1949cf8c");
        fs::create_dir_all(&registry).unwrap();
        let pairs = remapped(Path::new("/checkout"), home.path(), &[]).unwrap();
        assert_eq!(pairs.last().unwrap(), &(registry, "crates"));
    }
}
