//! Requests as values: the command line creates them, and the tasks of a job array read them from a file.

use crate::error::EngineError;
use crate::interactive::Interactive;
use luqual_model::bounds::TEXT_FILE;
use luqual_model::{Append, Vmcore};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The version of the file format. It rises with every incompatible change.
pub const REQUEST_VERSION: u32 = 2;

/// The request of a run: its cells, how they are run, and the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// [`REQUEST_VERSION`].
    pub version: u32,
    /// The pairs before anything is filtered.
    pub pairs: Pairs,
    /// Which cells of the pairs.
    pub selection: Selection,
    /// The part of the cells to run; `None` for all.
    pub partition: Option<Part>,
    /// How cells are run.
    pub execution: Execution,
    /// The QEMU and the accelerator.
    pub machine: MachineChoice,
    /// Where kernels come from.
    pub kernels: KernelSource,
    /// When the run is a success.
    pub demand: Demand,
    /// The run's folder; `None` for `luqual-runs/ID`.
    pub report_dir: Option<PathBuf>,
}

/// The pairs before anything is filtered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// The pairs of a named matrix.
    Matrix(String),
    /// One pair: source, target.
    One(String, String),
    /// An update, the way back, and each of the two kernels into itself: source, target.
    BothWays(String, String),
}

/// Which cells of the pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The matrix file; `None` for luqual's own.
    pub matrix_file: Option<PathBuf>,
    /// Names or globs of workloads; if empty, those of the matrix, or [`Self::otherwise`].
    pub workloads: Vec<String>,
    /// The machine profiles; if empty, the one that each workload declares.
    pub profiles: Vec<String>,
    /// The size of each machine.
    #[serde(default)]
    pub size: MachineSize,
    /// A filter expression for the cells (`luqual_config::FILTER_SYNTAX`).
    pub filter: Option<String>,
    /// The workloads if neither the user nor the matrix names any.
    pub otherwise: Otherwise,
}

/// The size that the user gives each machine, whatever its profile says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSize {
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// The number of processors.
    pub cpus: Option<u32>,
}

/// The workloads if none are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// All, except those that run only if they are named.
    #[default]
    All,
    /// The workloads that a policy requires, by their globs, and that a released kernel passes; others only by their full
    /// names.
    Required(Vec<String>),
    /// One workload.
    Only(String),
}

/// One of several parts of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The number of the part, from 1.
    pub number: u32,
    /// The number of parts.
    pub of: u32,
}

impl Part {
    /// All parts of a selection in `of` parts.
    pub(crate) fn all(of: u32) -> impl Iterator<Item = Self> {
        (1..=of).map(move |number| Self { number, of })
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            Some(_) => Err("the parts of N are 1/N to N/N".to_owned()),
            None => Err("write a part as K/N, such as 2/8 for the second of eight".to_owned()),
        }
    }
}

/// How cells are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// The repetitions of each cell, from 1.
    pub repeat: u32,
    /// The retries of a cell that is not as expected.
    pub retries: u32,
    /// The number of machines at once; `None` for a number from processors and free memory.
    pub jobs: Option<u64>,
    /// The seed of the run; `None` for a new one.
    pub seed: Option<u64>,
    /// What is kept of machines.
    pub kept: KeepOptions,
    /// What is added to the command lines of the kernels.
    pub append: Append,
    /// A fault for each cell (`luqual_runner::FAULT_SYNTAX`).
    pub inject: Option<String>,
    /// Whether each cell is deterministic.
    pub deterministic: bool,
}

impl Default for Execution {
    fn default() -> Self {
        Self {
            repeat: 1,
            retries: 0,
            jobs: None,
            seed: None,
            kept: KeepOptions::default(),
            append: Append::default(),
            inject: None,
            deterministic: false,
        }
    }
}

/// How the cells of several runs are selected and run, such as those of a bisection.
#[derive(Clone, Debug, Default)]
pub struct RunsOptions {
    /// The selection of each run's cells.
    pub selection: Selection,
    /// How they are run.
    pub execution: Execution,
    /// The QEMU and the accelerator.
    pub machine: MachineChoice,
    /// Where kernels come from.
    pub kernels: KernelSource,
    /// The folder of the runs.
    pub report_dir: Option<PathBuf>,
    /// The interactive options.
    pub interactive: Interactive,
}

impl RunsOptions {
    /// The request of one of the runs.
    pub(crate) fn run(&self, pairs: Pairs, folder: PathBuf) -> RunRequest {
        RunRequest {
            selection: self.selection.clone(),
            execution: self.execution.clone(),
            machine: self.machine.clone(),
            kernels: self.kernels.clone(),
            report_dir: Some(folder),
            ..RunRequest::of(pairs)
        }
    }
}

/// What is kept of machines, beside their logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepOptions {
    /// Whether memory and initramfs of each machine are kept.
    pub memory: bool,
    /// Which machines' memory is kept as an ELF core.
    pub vmcore: Option<Vmcore>,
}

/// The choice of QEMU and accelerator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineChoice {
    /// The accelerator.
    pub accel: AccelWanted,
    /// The path of QEMU; `None` for the first in PATH.
    pub qemu: Option<PathBuf>,
    /// Whether the record of a run that is resumed or reproduced may choose arguments of QEMU.
    #[serde(default)]
    pub allow_arguments: bool,
}

impl MachineChoice {
    pub(crate) fn arguments(&self) -> QemuArguments {
        if self.allow_arguments { QemuArguments::Allowed } else { QemuArguments::Refused }
    }
}

/// Whether a record may choose arguments of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QemuArguments {
    /// The user has seen them.
    Allowed,
    /// The record can be somebody else's, and arguments of QEMU can do anything.
    Refused,
}

/// The requested accelerator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccelWanted {
    /// KVM if it can run a guest, otherwise TCG.
    #[default]
    Auto,
    /// KVM; an error if it cannot run a guest.
    Kvm,
    /// TCG.
    Tcg,
}

/// Where kernels come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSource {
    /// The kernel catalog; `None` for luqual's own.
    pub catalog: Option<PathBuf>,
    /// The mirror of Debian's source packages: a URL or a folder.
    pub debian_mirror: Option<String>,
}

/// When a run is a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Every cell has to survive, untainted, whatever is expected.
    pub survived: bool,
    /// An improvement is a failure, too.
    pub strict: bool,
    /// A skipped cell is no failure.
    #[serde(default)]
    pub allow_skips: bool,
}

impl RunRequest {
    /// A request for all cells of these pairs, once each.
    pub fn of(pairs: Pairs) -> Self {
        Self {
            version: REQUEST_VERSION,
            pairs,
            selection: Selection::default(),
            partition: None,
            execution: Execution::default(),
            machine: MachineChoice::default(),
            kernels: KernelSource::default(),
            demand: Demand::default(),
            report_dir: None,
        }
    }

    /// Writes the request as JSON.
    pub fn write(&self, path: &Path) -> Result<(), EngineError> {
        let text = serde_json::to_vec_pretty(self).map_err(EngineError::own(path.display()))?;
        fs::write(path, text).map_err(EngineError::own(path.display()))
    }

    /// Reads the request from JSON. An error if it has another version.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let text = luqual_files::read_text(path, TEXT_FILE).map_err(EngineError::named(path))?;
        let wrong = |why: String| {
            EngineError::usage(format!("{}: {why}", path.display()))
                .hint("`luqual run --executor slurm` writes this file; run that command again")
        };
        // Another version can have another shape, so the version is read first.
        let Versioned { version } = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if version != REQUEST_VERSION {
            return Err(wrong(format!(
                "its format has version {version}, and this luqual reads version {REQUEST_VERSION}"
            )));
        }
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use luqual_model::VmcoreOf;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.json");
        let all = RunRequest {
            selection: Selection {
                matrix_file: Some("m.toml".into()),
                workloads: vec!["memfd.*".into()],
                profiles: vec!["q35-intel".into()],
                size: MachineSize { memory_mib: Some(8192), cpus: Some(4) },
                filter: Some("source(<7.1) & !target(7.3)".into()),
                otherwise: Otherwise::Only("memfd.basic".into()),
            },
            partition: Some(Part { number: 2, of: 8 }),
            execution: Execution {
                repeat: 3,
                retries: 1,
                jobs: Some(2),
                seed: Some(u64::MAX),
                kept: KeepOptions { memory: true, vmcore: Some(Vmcore { of: VmcoreOf::All, limit_mib: 7 }) },
                append: Append { source: "mem=2G".into(), target: "nokaslr".into() },
                inject: Some("flip:64m:3:17".into()),
                deterministic: true,
            },
            machine: MachineChoice { accel: AccelWanted::Tcg, qemu: Some("/q".into()), allow_arguments: true },
            kernels: KernelSource { catalog: Some("c.toml".into()), debian_mirror: Some("/m".into()) },
            demand: Demand { survived: true, strict: true, allow_skips: true },
            report_dir: Some("it's 100 %".into()),
            ..RunRequest::of(Pairs::One("./a b".into(), "7.3.4".into()))
        };
        let both_ways = RunRequest::of(Pairs::BothWays("7.2.12".into(), "7.3.4".into()));
        for request in [RunRequest::of(Pairs::Matrix("default".into())), both_ways, all] {
            request.write(&path).unwrap();
            assert_eq!(RunRequest::read(&path).unwrap(), request);
        }
    }

    #[test]
    fn a_file_that_is_no_request_of_this_version_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.json");
        for (text, told) in [
            ("{\"version\": 1, \"pairs\": 7}", "its format has version 1, and this luqual reads version 2"),
            ("{\"version\": 2}", "missing field"),
            ("nonsense", "expected"),
        ] {
            fs::write(&path, text).unwrap();
            let error = RunRequest::read(&path).unwrap_err();
            assert!(error.to_string().contains(told) && error.kind() == ErrorKind::Usage, "{error}");
        }
        assert_eq!(RunRequest::read(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_part_has_a_number_and_a_count() {
        assert_eq!("2/8".parse(), Ok(Part { number: 2, of: 8 }));
        for wrong in ["0/8", "9/8", "0/0"] {
            assert_eq!(wrong.parse::<Part>().unwrap_err(), "the parts of N are 1/N to N/N");
        }
        for wrong in ["", "2", "a/b", "-1/4", "1/2/3"] {
            assert!(wrong.parse::<Part>().unwrap_err().contains("the second of eight"), "{wrong}");
        }
    }
}
