//! Routes: the directory entries through which a path is reached.
//!
//! A path changes its meaning when any of them does: a directory on the way is renamed, or removed and made
//! again; a symbolic link on the way is pointed elsewhere. So each is to be listened to.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs,
    path::{Component, Path, PathBuf},
};

/// As many symbolic links as the kernel follows: `MAXSYMLINKS`, include/linux/namei.h.
const MOST_LINKS: usize = 40;

/// The entries through which `path` is reached, each with the directory it is in, in their order. The last
/// one is what the path comes to, or the first one that is missing.
pub fn route(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut entries = Vec::new();
    let mut here = PathBuf::from(".");
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    push_front(&mut ahead, path, &mut here);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            // What is above may have been reached by a link: only the kernel knows where that is.
            here.push("..");
            continue;
        }
        let next = here.join(&name);
        entries.push((here.clone(), name));
        let Ok(metadata) = fs::symlink_metadata(&next) else { break };
        if !metadata.is_symlink() {
            here = next;
            continue;
        }
        links += 1;
        let Ok(target) = fs::read_link(&next) else { break };
        if links > MOST_LINKS {
            break;
        }
        push_front(&mut ahead, &target, &mut here);
    }
    entries
}

/// Has the components of `path` walked before those that are ahead.
fn push_front(ahead: &mut VecDeque<OsString>, path: &Path, here: &mut PathBuf) {
    for component in path.components().rev() {
        match component {
            Component::RootDir => *here = PathBuf::from("/"),
            Component::ParentDir => ahead.push_front(OsStr::new("..").to_owned()),
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_directory_and_every_link_on_the_way_is_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("v1/n")).unwrap();
        fs::write(at("v1/n/a.log"), "").unwrap();
        symlink("v1", at("cur")).unwrap();
        symlink(at("cur/n/a.log"), at("link")).unwrap();
        let found: Vec<PathBuf> =
            route(&at("link")).into_iter().map(|(directory, name)| directory.join(name)).collect();
        let end: Vec<PathBuf> = ["link", "cur", "v1", "v1/n", "v1/n/a.log"].into_iter().map(at).collect();
        let interesting: Vec<PathBuf> =
            found.into_iter().filter(|path| path.starts_with(dir.path()) && *path != dir.path()).collect();
        assert_eq!(interesting, end);
    }

    #[test]
    fn a_missing_entry_is_the_last_one() {
        assert_eq!(
            route(Path::new("/nonexistent/a/b")),
            [(PathBuf::from("/"), OsString::from("nonexistent"))]
        );
        assert_eq!(route(Path::new("nonexistent")), [(PathBuf::from("."), OsString::from("nonexistent"))]);
    }

    #[test]
    fn a_link_to_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(route(&dir.path().join("loop")).len() < 100);
    }
}
