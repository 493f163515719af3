//! Unpacks a bundle into a working folder. Nothing in a bundle is trusted.

use super::archive::{
    ABOUT, About, NotUnpacked, PROGRAMS, PackedModule, VERSION, image_of, module_of, modules_of, place, unpack,
};
use crate::context::Context;
use crate::error::EngineError;
use crate::machine::work_folder;
use luqual_kernels::Kernel;
use luqual_model::bounds::{MODULE, TEXT_FILE};
use luqual_model::{CellId, KernelInfo, KernelModule, PlannedCell, ProgramFile};
use luqual_reports::Record;
use luqual_runner::JOURNAL;
use luqual_vm::WorkFolder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// An unpacked bundle. Its folder exists while this lives.
pub(crate) struct Unpacked {
    folder: PathBuf,
    /// If luqual is killed, the next start removes the folder.
    _work: WorkFolder,
    /// The cell of the bundle.
    pub(crate) cell: CellId,
    /// The record of the run. Its programs are those of the bundle.
    pub(crate) record: Record,
}

impl Unpacked {
    /// Unpacks the bundle in `file`, and checks it.
    pub(crate) fn of(context: &Context<'_>, file: &Path) -> Result<Self, EngineError> {
        let wrong = |why: String| {
            EngineError::usage(format!("{}: {why}", file.display())).hint("give a file that `luqual bundle` wrote")
        };
        let opened = luqual_files::open(file).map_err(EngineError::named(file))?;
        let work = work_folder(context.listener)?;
        let folder = work.path().join("bundle");
        fs::create_dir(&folder).map_err(EngineError::own(folder.display()))?;
        unpack(opened, &folder).map_err(|why| match why {
            NotUnpacked::Refused(why) => wrong(why),
            NotUnpacked::Host(why) => EngineError::harness(why),
        })?;
        let text =
            luqual_files::read_text(&folder.join(ABOUT), TEXT_FILE).map_err(|_| wrong(format!("it has no {ABOUT}")))?;
        let about: About = serde_json::from_str(&text).map_err(|error| wrong(format!("{ABOUT}: {error}")))?;
        if about.bundle != VERSION {
            return Err(wrong(format!(
                "its format has version {}, and this luqual reads version {VERSION}",
                about.bundle
            )));
        }
        let journal = File::open(folder.join(JOURNAL)).map_err(|_| wrong(format!("it has no {JOURNAL}")))?;
        let mut record = Record::read(journal).map_err(|error| wrong(format!("{JOURNAL}: {error}")))?;
        record.name = file.display().to_string();
        for (name, info) in &mut record.run.programs {
            if let ProgramFile::Here { path, sha256 } = &mut info.file {
                // Use the bundle's file, never a file of this host that the record names.
                let own = place(&format!("{PROGRAMS}/{sha256}"));
                let own = own.ok_or_else(|| wrong(format!("the digest of {name} is `{}`", sha256.escape_debug())))?;
                *path = folder.join(own).display().to_string();
            }
        }
        Ok(Self { folder, _work: work, cell: about.cell, record })
    }

    /// The kernels of these cells, by name.
    pub(crate) fn kernels<'a>(
        &self,
        cells: impl Iterator<Item = &'a PlannedCell>,
    ) -> Result<BTreeMap<String, Kernel>, EngineError> {
        let names: BTreeSet<&String> = cells.flat_map(|cell| [&cell.key.source, &cell.key.target]).collect();
        names.into_iter().map(|name| Ok((name.clone(), self.kernel(name)?))).collect()
    }

    fn wrong(&self, why: String) -> EngineError {
        EngineError::usage(format!("{}: {why}", self.record.name))
    }

    /// A kernel of the run. The digest of its image has to be that of the record.
    fn kernel(&self, name: &str) -> Result<Kernel, EngineError> {
        let info = self.record.run.kernels.get(name);
        let info = info
            .ok_or_else(|| self.wrong(format!("its record does not describe the kernel {}", name.escape_debug())))?
            .clone();
        let digest = &info.image_sha256;
        let image = place(&image_of(digest)).map(|place| self.folder.join(place));
        let image = image.filter(|path| path.is_file());
        let image = image
            .ok_or_else(|| self.wrong(format!("it has no kernel image with the digest {}", digest.escape_debug())))?;
        let found = luqual_files::digest::of_file(&image).map_err(EngineError::own(image.display()))?;
        if found != *digest {
            return Err(self.wrong(format!("its file {name} has the digest {found}; the record says {digest}")));
        }
        let symbols = Some(image.with_file_name("vmlinux")).filter(|path| path.is_file());
        let map = Some(image.with_file_name("System.map")).filter(|path| path.is_file());
        let modules = self.modules(&info)?;
        Ok(Kernel { info, image, symbols, map, modules })
    }

    /// The modules of a kernel. They have to be those of the record.
    fn modules(&self, info: &KernelInfo) -> Result<Vec<KernelModule>, EngineError> {
        if info.modules.is_empty() {
            return Ok(Vec::new());
        }
        let digest = &info.image_sha256;
        let read = |name: String, most: u64| {
            let path = place(&name).map(|place| self.folder.join(place));
            let bytes = path.and_then(|path| luqual_files::read(&path, most).ok());
            bytes.ok_or_else(|| self.wrong(format!("it has no {}", name.escape_debug())))
        };
        let list = modules_of(digest);
        let listed: Vec<PackedModule> = serde_json::from_slice(&read(list.clone(), TEXT_FILE)?)
            .map_err(|error| self.wrong(format!("{list}: {error}")))?;
        let names: BTreeSet<&String> = listed.iter().map(|module| &module.name).collect();
        if !names.into_iter().eq(info.modules.keys()) || listed.len() != info.modules.len() {
            return Err(self.wrong(format!("{list} does not list the modules of the record")));
        }
        let mut modules = Vec::new();
        for PackedModule { name, needed_by } in listed {
            let elf = read(module_of(digest, &name), MODULE)?;
            if info.modules.get(&name) != Some(&luqual_files::digest::of_bytes(&elf)) {
                return Err(self.wrong(format!("its module {} is not that of the record", name.escape_debug())));
            }
            modules.push(KernelModule { name, elf: elf.into(), needed_by });
        }
        Ok(modules)
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive::Packer;
    use super::super::pack::add_modules;
    use super::*;
    use crate::context::tests::{Heard, context};
    use crate::error::ErrorKind;
    use luqual_model::{Capability, Event, HostInfo, RunInfo, Stamped};

    fn bundle(version: u32) -> Vec<u8> {
        of_parts(version, BTreeMap::new(), |_| {})
    }

    fn of_parts(
        version: u32,
        kernels: BTreeMap<String, KernelInfo>,
        add: impl FnOnce(&mut Packer<Vec<u8>>),
    ) -> Vec<u8> {
        let mut run = RunInfo::new("x".into(), "luqual".into(), Vec::new(), String::new(), HostInfo::default());
        run.kernels = kernels;
        let started = Stamped { at_us: 0, event: Event::RunStarted { run: Box::new(run) } };
        let journal = serde_json::to_string(&started).unwrap() + "\n";
        let about = About { bundle: version, cell: CellId("a_b_p_w.x".into()) };
        let mut packer = Packer::new(Vec::new());
        packer.add(ABOUT, &serde_json::to_vec(&about).unwrap()).unwrap();
        packer.add(JOURNAL, journal.as_bytes()).unwrap();
        add(&mut packer);
        packer.finish().unwrap()
    }

    #[test]
    fn what_is_unpacked_is_in_a_working_folder_that_the_next_start_would_remove() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("red.tar.gz");
        fs::write(&file, bundle(VERSION)).unwrap();
        let heard = Heard::default();
        let unpacked = Unpacked::of(&context(&heard).0, &file).unwrap();
        assert_eq!((unpacked.cell.0.as_str(), unpacked.record.run.id.as_str()), ("a_b_p_w.x", "x"));
        let work = unpacked.folder.parent().unwrap().to_owned();
        assert!(work.starts_with(luqual_vm::work_base()) && work.join("lock").exists(), "{}", work.display());
        drop(unpacked);
        assert!(!work.exists());
    }

    #[test]
    fn modules_are_those_of_the_record_in_their_order() {
        let module = |name: &str, elf: &[u8]| KernelModule {
            name: name.into(),
            elf: elf.into(),
            needed_by: BTreeSet::from([Capability::Vfio]),
        };
        let modules = [module("virtio", b"v"), module("failover", b"f")];
        let image = luqual_files::digest::of_bytes(b"image");
        let unpacked = |packed: &[KernelModule], recorded: &[KernelModule]| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("red.tar.gz");
            let digests = recorded.iter().map(|it| (it.name.clone(), luqual_files::digest::of_bytes(&it.elf)));
            let kernel =
                KernelInfo { image_sha256: image.clone(), modules: digests.collect(), ..KernelInfo::default() };
            let content = of_parts(VERSION, BTreeMap::from([("k".to_owned(), kernel)]), |packer| {
                packer.add(&image_of(&image), b"image").unwrap();
                add_modules(packer, &image, packed).unwrap();
            });
            fs::write(&file, content).unwrap();
            let heard = Heard::default();
            let unpacked = Unpacked::of(&context(&heard).0, &file).unwrap();
            unpacked.kernel("k").map(|kernel| kernel.modules).map_err(|error| error.to_string())
        };
        assert_eq!(unpacked(&modules, &modules).unwrap(), modules);
        assert_eq!(unpacked(&[], &[]).unwrap(), []);
        let [first, second] = &modules;
        let other = module("failover", b"x");
        for (packed, said) in [
            (vec![], "it has no kernels/"),
            (vec![first.clone()], "does not list the modules"),
            (vec![first.clone(), second.clone(), module("more", b"m")], "does not list the modules"),
            (vec![first.clone(), other], "its module failover is not that of the record"),
        ] {
            let told = unpacked(&packed, &modules).unwrap_err();
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn a_file_that_is_no_bundle_is_the_users_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("red.tar.gz");
        let heard = Heard::default();
        for (content, told) in [
            (bundle(9), "its format has version 9, and this luqual reads version 1"),
            (b"x".to_vec(), "not a gzipped tar"),
        ] {
            fs::write(&file, content).unwrap();
            let error = Unpacked::of(&context(&heard).0, &file).err().unwrap();
            assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(told), "{error}");
        }
        let error = Unpacked::of(&context(&heard).0, Path::new("/nowhere.tar.gz")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
