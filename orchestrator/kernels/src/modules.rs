//! The modules of an installed kernel: which ones a capability needs, in the order in which they are loaded.
//!
//! A package has no `modules.dep`: depmod writes it where the package is installed. Each module names the ones that it
//! needs itself (`depends=` in its section `.modinfo`, scripts/mod/modpost.c).

use crate::config::KernelConfig;
use crate::payload::unpack;
use luqual_files::{Folder, Kind, digest};
use luqual_model::bounds::{FOLDER_DEPTH, MODULE, MODULES};
use luqual_model::{Capability, KernelModule};
use object::{Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The longest row of modules of which each needs the next. A distribution's have 8.
const DEEPEST: usize = 32;

/// The modules of a kernel.
#[derive(Default)]
pub(crate) struct Modules {
    /// The names of all that are there.
    pub(crate) names: BTreeSet<String>,
    /// Those that a guest may load, in their order.
    pub(crate) in_order: Vec<KernelModule>,
}

impl Modules {
    /// The modules of the kernel `release` in a folder such as `lib/modules/VERSION`. Without a configuration it is
    /// not known which of them are needed.
    pub(crate) fn read(folder: &Path, release: &str, config: Option<&KernelConfig>) -> Result<Self, String> {
        let folder = ModuleFolder::open(folder, release)?;
        let names = folder.names();
        let wanted = config.map(|config| config.wanted(&names)).unwrap_or_default();
        Ok(Self { in_order: folder.in_order(&wanted)?, names })
    }

    /// What reports say of them.
    pub(crate) fn facts(&self) -> Option<(String, String)> {
        let unsigned = self.in_order.iter().filter(|module| !module.is_signed()).count();
        let told = "without a signature: the taint flag E of a kernel that loads them is luqual's doing, and left out";
        (unsigned > 0).then(|| ("modules".to_owned(), format!("{unsigned} of {} {told}", self.in_order.len())))
    }

    /// The digest of each that a guest may load, by name.
    pub(crate) fn digests(&self) -> BTreeMap<String, String> {
        self.in_order.iter().map(|module| (module.name.clone(), digest::of_bytes(&module.elf))).collect()
    }
}

/// A folder such as `lib/modules/VERSION`.
struct ModuleFolder {
    folder: Folder,
    release: String,
    /// The file of each module, by its name.
    files: BTreeMap<String, PathBuf>,
}

impl ModuleFolder {
    /// Looks what modules of the kernel `release` are in the folder.
    fn open(path: &Path, release: &str) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        let folder = Folder::open(path).map_err(wrong)?;
        let mut files = BTreeMap::new();
        let mut open = vec![PathBuf::new()];
        while let Some(within) = open.pop() {
            let entries = match within.as_os_str().is_empty() {
                true => folder.entries(),
                false => folder.folder(&within).and_then(|folder| folder.entries()),
            };
            for (name, kind) in entries.map_err(wrong)? {
                let file = within.join(&name);
                match (kind, name.to_str().and_then(module_name)) {
                    (Kind::Folder, _) if file.components().count() < FOLDER_DEPTH => open.push(file),
                    (Kind::File, Some(module)) => drop(files.insert(module, file)),
                    _ => {}
                }
            }
            if files.len() + open.len() > MODULES {
                return Err(format!("{} has more than {MODULES} modules", path.display()));
            }
        }
        Ok(Self { folder, release: release.to_owned(), files })
    }

    /// The names of its modules.
    fn names(&self) -> BTreeSet<String> {
        self.files.keys().cloned().collect()
    }

    /// The modules that are wanted, each with the capability that wants it, and all that they need before them.
    fn in_order(&self, wanted: &[(Capability, &str)]) -> Result<Vec<KernelModule>, String> {
        let mut ordered: Vec<KernelModule> = Vec::new();
        for (capability, module) in wanted {
            self.add(&mut ordered, module, *capability, &mut Vec::new())?;
        }
        Ok(ordered)
    }

    /// Adds a module behind all that it needs. `below` are the modules that need it.
    fn add(
        &self,
        ordered: &mut Vec<KernelModule>,
        name: &str,
        capability: Capability,
        below: &mut Vec<String>,
    ) -> Result<(), String> {
        let known = ordered.iter().find(|module| module.name == name);
        // What it needs was added with it. Modules of which each needs two others would be visited for ever.
        if known.is_some_and(|module| module.needed_by.contains(&capability)) {
            return Ok(());
        }
        let elf = match known {
            Some(module) => module.elf.clone(),
            None => self.read(name)?.into(),
        };
        let about = ModuleInfo::read(&elf).map_err(|why| format!("the module {name}: {why}"))?;
        if about.release != self.release {
            return Err(format!("the module {name} is of the kernel {}, and not of {}", about.release, self.release));
        }
        if below.iter().any(|it| it == name) {
            return Err(format!("the module {name} needs itself: {}", below.join(", ")));
        }
        if below.len() == DEEPEST {
            return Err(format!("more than {DEEPEST} modules need each other in a row: {}, …", below[..3].join(", ")));
        }
        below.push(name.to_owned());
        for needed in about.depends {
            self.add(ordered, &needed, capability, below)?;
        }
        below.pop();
        match ordered.iter_mut().find(|module| module.name == name) {
            Some(module) => drop(module.needed_by.insert(capability)),
            None => {
                let needed_by = BTreeSet::from([capability]);
                ordered.push(KernelModule { name: name.to_owned(), elf, needed_by });
            }
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let lacks = || format!("{} has no module {name}", self.folder.path().display());
        let file = self.files.get(name).ok_or_else(lacks)?;
        let wrong = |why: String| format!("{}: {why}", self.folder.path().join(file).display());
        let packed = self.folder.read(file, MODULE).map_err(|error| wrong(error.to_string()))?;
        unpack(&packed).map_err(wrong)
    }
}

/// The name of a module, from that of its file. The kernel takes `-` for `_` (include/linux/module.h).
fn module_name(file: &str) -> Option<String> {
    let (name, packed) = file.rsplit_once(".ko")?;
    matches!(packed, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

/// What a module says of itself.
struct ModuleInfo {
    /// The kernel that it is of.
    release: String,
    /// The names of the modules that it needs.
    depends: Vec<String>,
}

impl ModuleInfo {
    fn read(elf: &[u8]) -> Result<Self, String> {
        let file = object::File::parse(elf).map_err(|error| error.to_string())?;
        let section = file.section_by_name(".modinfo").ok_or("it has no section .modinfo")?;
        let text = section.data().map_err(|error| error.to_string())?;
        let value = |key: &str| {
            let of_key = |line: &[u8]| Some(String::from_utf8_lossy(line.strip_prefix(key.as_bytes())?).into_owned());
            text.split(|byte| *byte == 0).find_map(of_key)
        };
        let magic = value("vermagic=").ok_or("it does not say of which kernel it is (vermagic)")?;
        let depends = value("depends=").unwrap_or_default();
        let names = depends.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_"));
        Ok(Self { release: magic.split(' ').next().unwrap_or_default().to_owned(), depends: names.collect() })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    /// A module of nothing but its `.modinfo`.
    fn module(release: &str, depends: &str) -> Vec<u8> {
        let text = format!("license=GPL\0depends={depends}\0vermagic={release} SMP preempt mod_unload \0");
        let names = b"\0.modinfo\0.shstrtab\0";
        let (text_at, names_at) = (64, 64 + text.len());
        let sections_at = names_at + names.len();
        // A header (e_type 1, e_machine 62) and three sections: none, .modinfo, and the names of both.
        let mut elf = [&b"\x7fELF\x02\x01\x01"[..], &[0; 9], &[1, 0, 62, 0, 1, 0, 0, 0], &[0; 16]].concat();
        elf.extend((sections_at as u64).to_le_bytes());
        elf.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        elf.extend(text.as_bytes());
        elf.extend(names);
        for (name, kind, at, size) in
            [(0_u32, 0_u32, 0, 0), (1, 1, text_at, text.len()), (10, 3, names_at, names.len())]
        {
            elf.extend([name.to_le_bytes(), kind.to_le_bytes()].concat());
            for word in [0, 0, at as u64, size as u64, 0, 1, 0] {
                elf.extend(word.to_le_bytes());
            }
        }
        elf
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn xz(elf: &[u8]) -> Vec<u8> {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(elf).unwrap();
        xz.finish().unwrap()
    }

    fn ordered(files: &[(&str, Vec<u8>)], wanted: &[(Capability, &str)]) -> Result<Vec<String>, String> {
        let root = folder(files);
        let modules = ModuleFolder::open(root.path(), "1.2")?.in_order(wanted)?;
        Ok(modules.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn what_a_module_needs_comes_before_it_and_nothing_twice() {
        let files = [
            ("kernel/drivers/net/virtio_net.ko.xz", xz(&module("1.2", "net-failover"))),
            ("kernel/drivers/net/net_failover.ko", module("1.2", "failover")),
            ("kernel/net/core/failover.ko.zst", {
                let elf = module("1.2", "");
                ruzstd::encoding::compress_to_vec(&elf[..], ruzstd::encoding::CompressionLevel::Fastest)
            }),
            ("kernel/drivers/vfio/vfio.ko", module("1.2", "failover")),
            ("modules.order", b"kernel/net/core/failover.ko\n".to_vec()),
        ];
        let wanted = [(Capability::Agent, "virtio_net"), (Capability::Vfio, "vfio")];
        assert_eq!(ordered(&files, &wanted).unwrap(), ["failover", "net_failover", "virtio_net", "vfio"]);
        let root = folder(&files);
        let modules = ModuleFolder::open(root.path(), "1.2").unwrap();
        assert!(modules.names().contains("net_failover") && modules.names().len() == 4);
        let all = modules.in_order(&wanted).unwrap();
        assert_eq!(all[0].needed_by, BTreeSet::from([Capability::Agent, Capability::Vfio]));
        assert!(all.iter().all(|module| module.elf.starts_with(b"\x7fELF")));
    }

    #[test]
    fn what_cannot_be_loaded_is_told_before_anything_boots() {
        let cut = xz(&module("1.2", ""));
        let wanted = [(Capability::Agent, "a")];
        for (files, why) in [
            (vec![("b.ko", module("1.2", ""))], "has no module a"),
            (vec![("a.ko", module("1.2", "b"))], "has no module b"),
            (vec![("a.ko", module("1.3", ""))], "the module a is of the kernel 1.3, and not of 1.2"),
            (vec![("a.ko", module("1.2", "b")), ("b.ko", module("1.2", "a"))], "needs itself"),
            (vec![("a.ko.xz", cut[..cut.len() / 2].to_vec())], "a.ko.xz: "),
            (vec![("a.ko", b"#!/bin/sh".to_vec())], "a.ko: its compression is unknown"),
        ] {
            let told = ordered(&files, &wanted).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        let row = |length: usize| {
            let needed = |number: usize| if number < length { format!("a{}", number + 1) } else { String::new() };
            let files = (1..=length).map(|number| (format!("a{number}.ko"), module("1.2", &needed(number))));
            let files: Vec<(String, Vec<u8>)> = files.collect();
            let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, elf)| (name.as_str(), elf.clone())).collect();
            ordered(&files, &[(Capability::Agent, "a1")])
        };
        assert_eq!(row(DEEPEST).unwrap().len(), DEEPEST);
        assert!(row(DEEPEST + 1).unwrap_err().contains("in a row: a1, a2, a3, …"));
    }

    #[test]
    fn nothing_outside_of_the_folder_is_read() {
        let root = folder(&[("modules/x", Vec::new()), ("elsewhere/a.ko", module("1.2", ""))]);
        std::os::unix::fs::symlink(root.path().join("elsewhere"), root.path().join("modules/kernel")).unwrap();
        std::os::unix::fs::symlink("../elsewhere/a.ko", root.path().join("modules/a.ko")).unwrap();
        let modules = ModuleFolder::open(&root.path().join("modules"), "1.2").unwrap();
        assert!(modules.names().is_empty());
    }
}
