//! What is asked for, as a value: the command line makes it, a job array's tasks read it from a file.

use crate::error::EngineError;
use luqual_model::Vmcore;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The version of a request's file. It grows when an older luqual would not understand one.
pub const REQUEST_VERSION: u32 = 2;

/// A run: which cells, how often, on what, and where its folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// [`REQUEST_VERSION`].
    pub version: u32,
    /// The pairs before anything is filtered.
    pub pairs: Pairs,
    /// Which cells of the pairs.
    pub selection: Selection,
    /// Which part of them, if not all.
    pub partition: Option<Part>,
    /// How cells are run.
    pub execution: Execution,
    /// On what they are run.
    pub machine: MachineChoice,
    /// Where kernels come from.
    pub kernels: KernelSource,
    /// When the run is a success.
    pub demand: Demand,
    /// The run's folder; `luqual-runs/ID` where none is named.
    pub report_dir: Option<PathBuf>,
}

/// The pairs before anything is filtered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// Those of a named matrix.
    Matrix(String),
    /// One: source, target.
    One(String, String),
}

/// Which cells of the pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Where matrices and expectations are, if not luqual's own.
    pub matrix_file: Option<PathBuf>,
    /// Names or globs of workloads; none means those of the matrix, or [`Self::otherwise`].
    pub workloads: Vec<String>,
    /// The machines; none means the one that each workload declares.
    pub profiles: Vec<String>,
    /// An expression that takes some of the cells (`luqual_config::FILTER_SYNTAX`).
    pub filter: Option<String>,
    /// The workloads where neither the user nor a matrix names any.
    pub otherwise: Otherwise,
}

/// The workloads where none are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// All but those that take minutes.
    #[default]
    All,
    /// Of these, those that a released kernel passes.
    Qualifying,
    /// One.
    Only(String),
}

/// One of several parts of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which, from 1.
    pub number: u32,
    /// How many there are.
    pub of: u32,
}

impl Part {
    /// All parts of so many.
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
            Some(_) => Err("of N parts there are 1/N to N/N".to_owned()),
            None => Err("a part is named such as 2/8, the second of eight".to_owned()),
        }
    }
}

/// How cells are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// How often each cell is run, from 1.
    pub repeat: u32,
    /// How often a cell that is not as expected is tried again.
    pub retries: u32,
    /// Machines at once; by processors and free memory where it is not said.
    pub jobs: Option<u64>,
    /// What seeds are drawn from; any number where it is not said.
    pub seed: Option<u64>,
    /// What is kept of machines.
    pub kept: KeepOptions,
    /// A fault for each cell (`luqual_runner::FAULT_SYNTAX`).
    pub inject: Option<String>,
    /// Whether each cell does the same every time, instruction by instruction.
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
            inject: None,
            deterministic: false,
        }
    }
}

/// What is kept of machines, beside their logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepOptions {
    /// Memory and initramfs of each.
    pub memory: bool,
    /// The memory of some as an ELF core.
    pub vmcore: Option<Vmcore>,
}

/// Which QEMU, and what runs the guests' code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineChoice {
    /// What runs the guests' code.
    pub accel: AccelWanted,
    /// The QEMU, if not the first in PATH.
    pub qemu: Option<PathBuf>,
}

/// What is to run the guests' code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccelWanted {
    /// KVM where it runs guests, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG.
    Tcg,
}

/// Where kernels come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSource {
    /// A catalog instead of luqual's own.
    pub catalog: Option<PathBuf>,
    /// Where Debian's source packages are: a URL or a folder.
    pub debian_mirror: Option<String>,
}

/// When a run is a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Every cell survives, untainted, whatever is expected.
    pub survived: bool,
    /// An improvement over what is expected is a failure too.
    pub strict: bool,
}

impl RunRequest {
    /// All cells of these pairs, once each.
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

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<(), EngineError> {
        let text = serde_json::to_vec_pretty(self).map_err(EngineError::own(path.display()))?;
        fs::write(path, text).map_err(EngineError::own(path.display()))
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let text = fs::read_to_string(path).map_err(EngineError::named(path))?;
        let wrong = |why: String| {
            EngineError::usage(format!("{}: {why}", path.display()))
                .hint("a request is what luqual run --executor slurm writes; give the command of its run again")
        };
        // One of another version may have another shape: its version is looked at before the rest.
        let Versioned { version } = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if version != REQUEST_VERSION {
            return Err(wrong(format!("it is of version {version}, this luqual reads {REQUEST_VERSION}")));
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
                inject: Some("flip:64m:3:17".into()),
                deterministic: true,
            },
            machine: MachineChoice { accel: AccelWanted::Tcg, qemu: Some("/q".into()) },
            kernels: KernelSource { catalog: Some("c.toml".into()), debian_mirror: Some("/m".into()) },
            demand: Demand { survived: true, strict: true },
            report_dir: Some("it's 100 %".into()),
            ..RunRequest::of(Pairs::One("./a b".into(), "7.3.4".into()))
        };
        for request in [RunRequest::of(Pairs::Matrix("default".into())), all] {
            request.write(&path).unwrap();
            assert_eq!(RunRequest::read(&path).unwrap(), request);
        }
    }

    #[test]
    fn a_file_that_is_no_request_of_this_version_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("request.json");
        for (text, told) in [
            ("{\"version\": 1, \"pairs\": 7}", "it is of version 1, this luqual reads 2"),
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
            assert_eq!(wrong.parse::<Part>().unwrap_err(), "of N parts there are 1/N to N/N");
        }
        for wrong in ["", "2", "a/b", "-1/4", "1/2/3"] {
            assert!(wrong.parse::<Part>().unwrap_err().contains("the second of eight"), "{wrong}");
        }
    }
}
