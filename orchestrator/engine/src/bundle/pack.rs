//! Packs one cell of a run into a bundle.

use super::archive::{
    ABOUT, About, KERNELS, LOGS, PROGRAMS, PackedModule, Packer, VERSION, image_of, module_of, modules_of,
};
use crate::context::Context;
use crate::error::EngineError;
use crate::find_cell::{cell_of, in_its_boot};
use crate::folder::{find_run, read_folder};
use crate::kernels::open_store;
use crate::notice::Notice;
use crate::registry::Registry;
use crate::report_files::write_report;
use crate::request::{KernelSource, QemuArguments};
use crate::run_folder::RunFolder;
use crate::unchanged::{OnChange, kernels_of, names_of};
use luqual_kernels::Kernel;
use luqual_model::{CellId, CellRecord, KernelModule, ProgramFile, RunInfo};
use luqual_reports::{Record, write_journal};
use luqual_runner::JOURNAL;
use luqual_vm::ram_files;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What to pack.
#[derive(Clone, Debug)]
pub struct BundleRequest {
    /// The run's folder or id.
    pub run: PathBuf,
    /// The cell's id, or a part of it.
    pub cell: String,
    /// The file to write.
    pub output: PathBuf,
    /// Where kernels come from.
    pub kernels: KernelSource,
}

/// What was packed.
pub struct Packed {
    /// The cell.
    pub cell: CellId,
    /// The size of the file, in bytes.
    pub size: u64,
}

/// Evidence that is as large as a machine's memory; it is left out, and so is the memory itself.
const LARGE: [&str; 2] = ["initrd", "vmcore"];

/// Packs the cell.
pub async fn pack(context: &Context<'_>, request: &BundleRequest) -> Result<Packed, EngineError> {
    let store = open_store(&request.kernels)?;
    let source = find_run(&request.run)?;
    let record = read_folder(&source)?;
    let source = RunFolder::open(&source)?;
    let cell = cell_of(&record, &request.cell)?;
    let (run, cells) = alone(&record, &cell)?;
    let since = OnChange::Refused("a bundle can only have what was run");
    let registry = Registry::of_run(&run, QemuArguments::Allowed)?;
    let memory = ram_files(registry.profiles.find(&cell.plan.key.profile)?);
    let large: Vec<&str> = memory.iter().map(|(name, _)| name.as_str()).chain(LARGE).collect();
    let kernels = kernels_of(context, &run, &store, names_of(run.planned.iter()), since)?;
    write_report(&request.output, |to| {
        let mut packer = Packer::new(to);
        let about = About { bundle: VERSION, cell: cell.id.clone() };
        packer.add(ABOUT, &serde_json::to_vec(&about)?)?;
        let mut journal = Vec::new();
        write_journal(&run, cells.into_iter().map(Ok), &mut journal)?;
        packer.add(JOURNAL, &journal)?;
        for (name, content) in source.files(&cell, &large)? {
            packer.add(&format!("{LOGS}/{name}"), &content)?;
        }
        add_programs(&mut packer, &run)?;
        add_kernels(context, &mut packer, &kernels)?;
        packer.finish().map(drop)
    })?;
    let size = fs::metadata(&request.output).map_or(0, |about| about.len());
    Ok(Packed { cell: cell.id, size })
}

/// The run, reduced to this cell's boot, with its result.
fn alone(record: &Record, cell: &CellRecord) -> Result<(RunInfo, Vec<CellRecord>), EngineError> {
    let mut run = record.run.clone();
    run.planned = in_its_boot(&record.run.planned, cell, false);
    run.partition = None;
    let is_used = |name: &String| run.planned.iter().any(|it| [&it.key.source, &it.key.target].contains(&name));
    run.kernels.retain(|name, _| is_used(name));
    run.programs.retain(|name, _| run.planned.iter().any(|it| it.key.workload == *name));
    let mut cells = Vec::new();
    for (number, planned) in record.run.planned.iter().enumerate() {
        if run.planned.iter().any(|own| own.key == planned.key) {
            cells.extend(record.cell_of(number).map_err(EngineError::named(&record.name))?);
        }
    }
    cells.iter_mut().for_each(|cell| LOGS.clone_into(&mut cell.folder));
    Ok((run, cells))
}

fn add_kernels(
    context: &Context<'_>,
    packer: &mut Packer<impl Write>,
    kernels: &BTreeMap<String, Kernel>,
) -> io::Result<()> {
    let images: BTreeMap<&str, &Kernel> =
        kernels.values().map(|kernel| (kernel.info.image_sha256.as_str(), kernel)).collect();
    for (digest, kernel) in &images {
        packer.add_file(&image_of(digest), &kernel.image)?;
        add_modules(packer, digest, &kernel.modules)?;
    }
    for (digest, kernel) in &images {
        for (name, path) in beside(kernel) {
            match path.metadata().ok().filter(fs::Metadata::is_file) {
                Some(about) if packer.has_room_for(about.len()) => {
                    packer.add_file(&format!("{KERNELS}/{digest}/{name}"), &path)?;
                }
                Some(_) => context.tell(Notice::LeftOut(&path)),
                None => {}
            }
        }
    }
    Ok(())
}

/// The files of a kernel that help an analysis.
fn beside(kernel: &Kernel) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let config = kernel.symbols.as_deref().and_then(Path::parent).map(|folder| folder.join("config"));
    let files = [("vmlinux", kernel.symbols.clone()), ("System.map", kernel.map.clone()), ("config", config)];
    files.into_iter().filter_map(|(name, path)| Some((name, path?)))
}

pub(super) fn add_modules(packer: &mut Packer<impl Write>, digest: &str, modules: &[KernelModule]) -> io::Result<()> {
    if modules.is_empty() {
        return Ok(());
    }
    let of = |module: &KernelModule| PackedModule { name: module.name.clone(), needed_by: module.needed_by.clone() };
    packer.add(&modules_of(digest), &serde_json::to_vec(&modules.iter().map(of).collect::<Vec<_>>())?)?;
    modules.iter().try_for_each(|module| packer.add(&module_of(digest, &module.name), &module.elf))
}

fn add_programs(packer: &mut Packer<impl Write>, run: &RunInfo) -> io::Result<()> {
    let mut packed = Vec::new();
    for info in run.programs.values() {
        if let ProgramFile::Here { path, sha256 } = &info.file
            && !packed.contains(&sha256)
        {
            packed.push(sha256);
            packer.add_file(&format!("{PROGRAMS}/{sha256}"), Path::new(path))?;
        }
    }
    Ok(())
}
