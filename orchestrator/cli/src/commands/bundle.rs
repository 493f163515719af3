//! `luqual bundle`: one cell of a run with all that it takes to make it again elsewhere, as one file.

mod archive;

use super::KernelSource;
use super::execute::{Images, Since, kernels_of};
use super::registry::Registry;
use super::report::{folder, read, write_report};
use super::repro::{cell_of, in_its_boot};
use crate::error::{CliError, Exit};
use crate::output;
use archive::{Packer, place, unpack};
use clap::Args;
use luqual_kernels::Kernel;
use luqual_model::{CellId, CellRecord, ProgramFile, Run};
use luqual_reports::{Record, write_journal};
use luqual_runner::JOURNAL;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What to pack.
#[derive(Args, Debug)]
#[command(after_help = "\
The file has the record of the cell and of those that shared its boot, their kernels with symbols, programs of a matrix file, and
the logs. `luqual repro FILE` makes the cell again wherever there are this luqual and QEMU. It is a gzipped tar; unpacked it
is a run's folder: `luqual report show FOLDER`. Memory that was kept (ram, initrd, vmcore) is left out.

Examples:
  luqual bundle 20261126-061541-2f31 7.2.12_7.3.4_q35-intel_memfd.basic -o red.tar.gz
  luqual repro red.tar.gz")]
pub(crate) struct Bundle {
    /// The run's folder, or its id
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The cell's id, as reports show it, or a part of it
    #[arg(value_name = "CELL")]
    cell: String,
    /// The file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    kernels: KernelSource,
}

/// What a bundle is about; the rest of it is a run's folder.
#[derive(Serialize, Deserialize)]
struct About {
    /// [`VERSION`].
    bundle: u32,
    /// Which cell it is for; others may have shared its boot.
    cell: CellId,
}

/// Grows when an older luqual would not understand a bundle.
const VERSION: u32 = 1;

const ABOUT: &str = "bundle.json";
/// A folder each, by the digest of the image.
const KERNELS: &str = "kernels";
/// The evidence of the boot.
const LOGS: &str = "logs";
/// Files by their digest.
const PROGRAMS: &str = "programs";

/// What is beside a kernel's image, for whoever looks into it.
const BESIDE: [&str; 3] = ["vmlinux", "System.map", "config"];

/// Evidence that is as large as a machine's memory.
const LARGE: [&str; 3] = ["ram", "initrd", "vmcore"];

/// Packs it.
pub(crate) async fn run(command: &Bundle) -> Result<Exit, CliError> {
    let store = command.kernels.store()?;
    let source = folder(&command.run)?;
    let record = read(&source)?;
    let cell = cell_of(&record, &command.cell)?;
    let (run, cells) = alone(&record, &cell)?;
    let since = Since::Refused("a bundle has what was run, and nothing else");
    Registry::of_run(&run.programs)?;
    let kernels = kernels_of(&run, Images::Store(&store), run.planned.iter(), since).await?;
    write_report(&command.output, |to| {
        let mut packer = Packer::new(to);
        let about = About { bundle: VERSION, cell: cell.id.clone() };
        packer.add(ABOUT, &serde_json::to_vec(&about)?)?;
        let mut journal = Vec::new();
        write_journal(&run, cells.into_iter().map(Ok), &mut journal)?;
        packer.add(JOURNAL, &journal)?;
        add_logs(&mut packer, &source.join(&cell.folder))?;
        add_programs(&mut packer, &run)?;
        add_kernels(&mut packer, &kernels)?;
        packer.finish().map(drop)
    })?;
    let size = fs::metadata(&command.output).map_or(0, |about| about.len());
    output::line(format_args!("{}: {} MiB, {}", command.output.display(), size.div_ceil(1 << 20), cell.id))?;
    output::line(format_args!(
        "again: {}",
        luqual_reports::command(&["luqual", "repro", &command.output.to_string_lossy()])
    ))?;
    Ok(Exit::Ok)
}

/// The run as if it had had this cell's boot alone, and what became of that.
fn alone(record: &Record, cell: &CellRecord) -> Result<(Run, Vec<CellRecord>), CliError> {
    let mut run = record.run.clone();
    run.planned = in_its_boot(&record.run.planned, cell, false);
    run.partition = None;
    let is_used = |name: &String| run.planned.iter().any(|it| [&it.key.source, &it.key.target].contains(&name));
    run.kernels.retain(|name, _| is_used(name));
    run.programs.retain(|name, _| run.planned.iter().any(|it| it.key.workload == *name));
    let mut cells = Vec::new();
    for (number, planned) in record.run.planned.iter().enumerate() {
        if run.planned.iter().any(|own| own.key == planned.key) {
            cells.extend(record.cell_of(number).map_err(CliError::file(&record.name))?);
        }
    }
    cells.iter_mut().for_each(|cell| LOGS.clone_into(&mut cell.folder));
    Ok((run, cells))
}

fn add_logs(packer: &mut Packer<impl Write>, from: &Path) -> io::Result<()> {
    let mut files: Vec<PathBuf> = match fs::read_dir(from) {
        // What was skipped has no evidence.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?,
    };
    // No link: what is packed is the run's own.
    files.retain(|path| path.symlink_metadata().is_ok_and(|about| about.is_file()));
    files.sort();
    for path in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !LARGE.contains(&name.as_str()) {
            packer.add_file(&format!("{LOGS}/{name}"), &path)?;
        }
    }
    Ok(())
}

fn add_kernels(packer: &mut Packer<impl Write>, kernels: &BTreeMap<String, Kernel>) -> io::Result<()> {
    let images: BTreeMap<&str, &Kernel> =
        kernels.values().map(|kernel| (kernel.info.image_sha256.as_str(), kernel)).collect();
    for (digest, kernel) in &images {
        packer.add_file(&image_of(digest), &kernel.image)?;
    }
    for (digest, kernel) in &images {
        let beside = kernel.symbols.as_deref().and_then(Path::parent);
        for (name, path) in BESIDE.iter().filter_map(|name| Some((name, beside?.join(name)))) {
            match path.metadata().ok().filter(fs::Metadata::is_file) {
                Some(about) if packer.has_room_for(about.len()) => {
                    packer.add_file(&format!("{KERNELS}/{digest}/{name}"), &path)?;
                }
                Some(_) => eprintln!("warning: left out, since it is too large for a bundle: {}", path.display()),
                None => {}
            }
        }
    }
    Ok(())
}

fn add_programs(packer: &mut Packer<impl Write>, run: &Run) -> io::Result<()> {
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

fn image_of(digest: &str) -> String {
    format!("{KERNELS}/{digest}/bzImage")
}

/// A bundle that was unpacked, for as long as this lives.
pub(crate) struct Unpacked {
    folder: TempDir,
    /// The cell that it is about.
    pub(crate) cell: CellId,
    /// Of the run that it is from. Its programs are those of the bundle.
    pub(crate) record: Record,
}

impl Unpacked {
    /// Unpacks it into a temporary folder. Nothing of it is taken on trust.
    pub(crate) fn of(file: &Path) -> Result<Self, CliError> {
        let wrong = |why: String| {
            CliError::usage(format!("{}: {why}", file.display())).hint("a bundle is what luqual bundle writes")
        };
        let opened = File::open(file).map_err(|error| wrong(error.to_string()))?;
        let folder = tempfile::tempdir().map_err(CliError::file("a temporary folder"))?;
        unpack(opened, folder.path()).map_err(wrong)?;
        let text = fs::read_to_string(folder.path().join(ABOUT)).map_err(|_| wrong(format!("it has no {ABOUT}")))?;
        let about: About = serde_json::from_str(&text).map_err(|error| wrong(format!("{ABOUT}: {error}")))?;
        if about.bundle != VERSION {
            return Err(wrong(format!("it is of version {}, this luqual reads {VERSION}", about.bundle)));
        }
        let journal = File::open(folder.path().join(JOURNAL)).map_err(|_| wrong(format!("it has no {JOURNAL}")))?;
        let mut record = Record::read(journal).map_err(|error| wrong(format!("{JOURNAL}: {error}")))?;
        record.name = file.display().to_string();
        for (name, info) in &mut record.run.programs {
            if let ProgramFile::Here { path, sha256 } = &mut info.file {
                // Never a file of this host that the record names.
                let own = place(&format!("{PROGRAMS}/{sha256}"));
                let own = own.ok_or_else(|| wrong(format!("the digest of {name} is `{}`", sha256.escape_debug())))?;
                *path = folder.path().join(own).display().to_string();
            }
        }
        Ok(Self { folder, cell: about.cell, record })
    }

    /// A kernel of its run, as the record has it; its image has to be the one that the record names.
    pub(crate) fn kernel(&self, name: &str) -> Result<Kernel, CliError> {
        let wrong = |why: String| CliError::usage(format!("{}: {why}", self.record.name));
        let info = self.record.run.kernels.get(name);
        let info = info.ok_or_else(|| wrong(format!("its record has no kernel {}", name.escape_debug())))?.clone();
        let digest = &info.image_sha256;
        let image = place(&image_of(digest)).map(|place| self.folder.path().join(place));
        let image = image.filter(|path| path.is_file());
        let image =
            image.ok_or_else(|| wrong(format!("it has no kernel with the digest {}", digest.escape_debug())))?;
        let found = luqual_kernels::digest::of_file(&image).map_err(CliError::file(image.display()))?;
        if found != *digest {
            return Err(wrong(format!("{name} in it has the digest {found}, and had {digest}")));
        }
        let symbols = Some(image.with_file_name("vmlinux")).filter(|path| path.is_file());
        Ok(Kernel { info, image, symbols })
    }
}
