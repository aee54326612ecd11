//! Which mirror of Debian's archive this machine should use.
//!
//! `$LOG_TAIL_DEBIAN_MIRROR` where it is set; else the one that this machine's own apt configuration
//! names; else (Ubuntu and others) the default of the installed debootstrap.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};

/// Tells Debian's own archive from the many others that `sources.list.d` may hold.
const KEYRING: &str = "debian-archive-keyring";
const CODENAMES: [&str; 9] =
    ["bullseye", "bookworm", "trixie", "forky", "duke", "stable", "testing", "unstable", "sid"];

/// Where the keys are that Debian's archive is signed with.
pub fn keyring() -> Result<&'static Path> {
    let places =
        ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
    let found = places.into_iter().map(Path::new).find(|place| place.is_file());
    found.context("Debian's archive keys are not installed: apt-get install debian-archive-keyring")
}

/// The mirror, as it stands in a source list.
pub fn mirror() -> Result<String> {
    if let Some(mirror) = env::var("LOG_TAIL_DEBIAN_MIRROR").ok().filter(|value| !value.is_empty()) {
        return Ok(mirror);
    }
    for (file, text) in source_lists() {
        let found = if file.ends_with(".sources") { in_sources(&text) } else { in_list(&text) };
        if let Some(mirror) = found {
            return Ok(mirror);
        }
    }
    let debootstrap = fs::read_to_string("/usr/sbin/debootstrap").unwrap_or_default();
    in_debootstrap(&debootstrap).context(
        "no mirror of Debian's archive is known here: set LOG_TAIL_DEBIAN_MIRROR to one, \
         or apt-get install debootstrap, whose default is then used",
    )
}

/// Apt's configured sources: names and texts.
fn source_lists() -> Vec<(String, String)> {
    let mut files = vec!["/etc/apt/sources.list".into()];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    files.sort();
    let read = |file: std::path::PathBuf| Some((file.to_str()?.to_owned(), fs::read_to_string(&file).ok()?));
    files.into_iter().filter_map(read).collect()
}

/// One line a source: `deb [options] uri suite component...`.
fn in_list(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let words: Vec<_> = rest.split_whitespace().collect();
        let (uri, rest) = words.split_first()?;
        let (suite, components) = rest.split_first()?;
        let ours = is_debians(&[suite], components, options.contains("signed-by").then_some(options));
        ours.then(|| (*uri).to_owned())
    })
}

/// Paragraphs of `Field: value`, as in deb822(5).
fn in_sources(text: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).find_map(|paragraph| {
        let field = |name: &str| {
            paragraph.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
            })
        };
        let words =
            |name| field(name).map(|value| value.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
        let ours = is_debians(&words("Suites"), &words("Components"), field("Signed-By"));
        ours.then(|| words("URIs").first().map(|&uri| uri.to_owned())).flatten()
    })
}

fn is_debians(suites: &[&str], components: &[&str], signed_by: Option<&str>) -> bool {
    suites.iter().any(|suite| CODENAMES.contains(suite))
        && components.contains(&"main")
        && signed_by.is_none_or(|keys| keys.contains(KEYRING))
}

fn in_debootstrap(script: &str) -> Option<String> {
    let value = script.lines().find_map(|line| line.trim().strip_prefix("DEF_MIRROR="))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_own_archive_is_told_from_others_in_deb822_files() {
        let text = "Types: deb\nURIs: http://other.invalid/debian\nSuites: bookworm\nComponents: main\n\
                    Signed-By: /usr/share/keyrings/other.gpg\n\n\
                    # comment\nTypes: deb\nURIs: http://ours.invalid/debian\nSuites: bookworm bookworm-updates\n\
                    Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        assert_eq!(in_sources(text).as_deref(), Some("http://ours.invalid/debian"));
        assert_eq!(in_sources(&text.replace("archive-keyring", "else")), None);
    }

    #[test]
    fn debians_own_archive_is_told_from_others_in_one_line_files() {
        let text = "# deb http://old.invalid/debian bookworm main\n\
                    deb [signed-by=/k/other.gpg arch=amd64] http://other.invalid/debian bookworm main\n\
                    deb http://security.invalid/debian-security bookworm-security main\n\
                    deb http://tool.invalid/debian bookworm stable\n\
                    deb http://ours.invalid/debian bookworm main\n";
        assert_eq!(in_list(text).as_deref(), Some("http://ours.invalid/debian"));
        assert_eq!(in_list("deb http://archive.invalid/ubuntu noble main universe\n"), None);
    }

    #[test]
    fn debootstraps_default_is_read() {
        let script = "#!/bin/sh\nDEF_MIRROR=\"http://default.invalid/debian\"\nDEF_HTTPS_MIRROR=\"x\"\n";
        assert_eq!(in_debootstrap(script).as_deref(), Some("http://default.invalid/debian"));
    }
}
