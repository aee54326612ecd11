//! Running other programs: every failure names the program, what it was run for and what it said.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Folders that hold system tools but are missing from many users' `PATH`.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where a program is, by `PATH` and the system's own folders.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Where a program is, or an error that says which package has it.
pub fn need(program: &str, package: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("{program} is not installed: apt-get install {package}"))
}

/// Runs to the end with our own standard streams; anything but success is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end with our own standard streams.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("could not start {}", shown(command)))
}

/// Runs to the end and gives back standard output; on failure the error holds what it wrote.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start {}", shown(command)))?;
    if !status.success() {
        let said = [stdout, stderr].concat();
        bail!("{} ended with {status}:\n{}", shown(command), String::from_utf8_lossy(&said).trim_end());
    }
    Ok(stdout)
}

/// As [`output`], for programs that print text.
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).into_owned())
}

/// The command as one would type it, shortened to its first words.
pub fn shown(command: &Command) -> String {
    const WORDS: usize = 8;
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words: Vec<_> =
        std::iter::once(name).chain(command.get_args()).take(WORDS).map(OsStr::to_string_lossy).collect();
    if command.get_args().count() >= WORDS {
        words.push("...".into());
    }
    format!("`{}`", words.join(" "))
}

/// Quotes one word for a POSIX shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_survives_a_shell() {
        for word in ["plain", "", "two words", "it's", "$HOME `x` \"y\"", "a\nb", "*"] {
            let line = format!("printf %s {}", quoted(word));
            let said = text(Command::new("sh").args(["-c", &line])).unwrap();
            assert_eq!(said, word);
        }
    }

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let error =
            output(Command::new("sh").args(["-c", "echo oh no >&2; exit 3"])).unwrap_err().to_string();
        assert!(
            error.contains("sh -c") && error.contains("exit status: 3") && error.contains("oh no"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = need("no-such-program", "some-package").unwrap_err().to_string();
        assert_eq!(error, "no-such-program is not installed: apt-get install some-package");
    }
}
