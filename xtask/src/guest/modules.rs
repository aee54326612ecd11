//! A kernel's loadable modules: which files a wanted one needs, in the order they must be loaded.
//!
//! Debian's packages hold no `modules.dep` (it is made at installation), so what a module depends on
//! is read from the module itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A module's content, ready for `insmod`.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    pub content: Vec<u8>,
}

/// The modules of one kernel.
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
    /// Compiled into the kernel. `None` where the packages do not say (7.x).
    builtin: Option<BTreeSet<String>>,
}

impl Modules {
    /// Looks at a folder as it stands under `/lib/modules`.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        collect(&folder.join("kernel"), &mut files)
            .with_context(|| format!("could not list the modules in {}", folder.display()))?;
        let builtin = fs::read_to_string(folder.join("modules.builtin")).ok();
        let builtin = builtin.map(|list| list.lines().filter_map(|line| name(Path::new(line))).collect());
        Ok(Self { files, builtin })
    }

    /// Whether there is one of that name that can be loaded.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The named modules and all that they need, in loading order. Names that are compiled into the
    /// kernel need no file and are left out.
    pub fn load_order(&self, wanted: &[String]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(name, &mut seen, &mut order, &read)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
        read: &impl Fn(&Path) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let name = name.replace('-', "_");
        if !seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(file) = self.files.get(&name) else {
            return match &self.builtin {
                Some(builtin) if !builtin.contains(&name) => bail!("this kernel has no module {name}"),
                _ => Ok(()),
            };
        };
        let content = read(file)?;
        let facts = Facts::of(&content);
        for before in facts.preferred {
            // Only a wish, and often the alias of a module that is compiled in.
            if self.files.contains_key(&before.replace('-', "_")) {
                self.visit(&before, seen, order, read)?;
            }
        }
        for needed in facts.needed {
            self.visit(&needed, seen, order, read).with_context(|| format!("needed by module {name}"))?;
        }
        order.push(Module { name, content });
        Ok(())
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/fs/ext4/crc32c-intel.ko.xz` is `crc32c_intel`.
fn name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, end) = file.split_once(".ko")?;
    matches!(end, "" | ".xz" | ".gz" | ".zst").then(|| name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let unpacker = match path.extension().and_then(|end| end.to_str()) {
        Some("xz") => process::need("xz", "xz-utils")?,
        Some("zst") => process::need("zstd", "zstd")?,
        Some("gz") => process::need("gzip", "gzip")?,
        _ => return fs::read(path).with_context(|| format!("could not read {}", path.display())),
    };
    process::output(Command::new(unpacker).arg("-dc").arg(path))
}

/// What a module says about itself in its `.modinfo`: strings, each ended by a zero byte.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    needed: Vec<String>,
    preferred: Vec<String>,
}

impl Facts {
    fn of(module: &[u8]) -> Self {
        let mut facts = Self::default();
        for text in module.split(|&byte| byte == 0).filter_map(|bytes| std::str::from_utf8(bytes).ok()) {
            if let Some(names) = text.strip_prefix("depends=") {
                facts.needed.extend(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
            } else if let Some(names) = text.strip_prefix("softdep=pre: ") {
                let names = names.split(" post:").next().unwrap_or_default();
                facts.preferred.extend(names.split_whitespace().map(str::to_owned));
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Modules whose files hold nothing but what they depend on.
    fn modules(each: &[(&str, &str)], builtin: Option<&[&str]>) -> (tempfile::TempDir, Modules) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("kernel/drivers")).unwrap();
        for (name, facts) in each {
            let content = format!("\x7fELF\0license=GPL\0{facts}\0");
            fs::write(folder.path().join(format!("kernel/drivers/{name}.ko")), content).unwrap();
        }
        if let Some(builtin) = builtin {
            let list: Vec<_> = builtin.iter().map(|name| format!("kernel/lib/{name}.ko\n")).collect();
            fs::write(folder.path().join("modules.builtin"), list.concat()).unwrap();
        }
        let modules = Modules::of(folder.path()).unwrap();
        (folder, modules)
    }

    fn order(modules: &Modules, wanted: &[&str]) -> Result<Vec<String>> {
        let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
        Ok(modules.load_order(&wanted)?.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let each = [
            ("virtio_blk", "depends=virtio_ring,virtio"),
            ("virtio-pci", "depends=virtio,virtio_ring"),
            ("virtio_ring", "depends="),
            ("virtio", "depends=virtio_ring"),
        ];
        let (_folder, modules) = modules(&each, Some(&[]));
        let order = order(&modules, &["virtio_pci", "virtio_blk"]).unwrap();
        assert_eq!(order, ["virtio_ring", "virtio", "virtio_pci", "virtio_blk"]);
    }

    #[test]
    fn what_is_compiled_in_needs_no_file() {
        let (_folder, modules) = modules(&[("xfs", "depends=libcrc32c")], Some(&["libcrc32c", "overlay"]));
        assert_eq!(order(&modules, &["overlay", "xfs"]).unwrap(), ["xfs"]);
    }

    #[test]
    fn a_module_that_does_not_exist_is_named_with_what_needs_it() {
        let (_folder, modules) = modules(&[("xfs", "depends=gone")], Some(&[]));
        let error = format!("{:#}", order(&modules, &["xfs"]).unwrap_err());
        assert_eq!(error, "needed by module xfs: this kernel has no module gone");
    }

    #[test]
    fn soft_dependencies_come_first_where_they_exist() {
        let each = [("btrfs", "softdep=pre: xxhash64 sha256 post: late\0depends="), ("xxhash64", "depends=")];
        let (_folder, modules) = modules(&each, Some(&[]));
        assert_eq!(order(&modules, &["btrfs"]).unwrap(), ["xxhash64", "btrfs"]);
    }

    #[test]
    fn names_are_those_that_the_kernel_uses() {
        assert_eq!(name(Path::new("a/crc32c-intel.ko.xz")).as_deref(), Some("crc32c_intel"));
        assert_eq!(name(Path::new("a/ext4.ko")).as_deref(), Some("ext4"));
        assert_eq!(name(Path::new("a/modules.order")), None);
    }
}
