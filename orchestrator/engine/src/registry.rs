//! What the names of cells mean: the workloads, luqual's own and the programs of a matrix file, and the machines.

use crate::error::EngineError;
use crate::profiles::Profiles;
use crate::request::QemuArguments;
use luqual_config::{Origin, Program, matches};
use luqual_files::digest;
use luqual_kernels::{KernelError, Selftests, Store, not_a_program};
use luqual_model::bounds::PROGRAM;
use luqual_model::{ProgramFile, ProgramInfo, RunInfo};
use luqual_protocol::{Workload, external, workloads};
use luqual_runner as runner;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// The workloads and the machines by name.
#[derive(Clone)]
pub struct Registry {
    all: Vec<&'static Workload>,
    programs: BTreeMap<String, Found>,
    /// The machines.
    pub profiles: Profiles,
}

/// A program, and the result of the search for it.
#[derive(Clone)]
struct Found {
    info: ProgramInfo,
    /// The content of its file; empty if there is none.
    content: Vec<u8>,
}

impl Registry {
    /// Adds the programs of a matrix file. A program with a path has to exist; a selftest that is not built is
    /// skipped.
    pub fn new(programs: &[Program], profiles: Profiles, store: &Store) -> Result<Self, EngineError> {
        let mut selftests: BTreeMap<&str, Option<Selftests>> = BTreeMap::new();
        for program in programs {
            if let Origin::Selftest { version, .. } = &program.origin
                && !selftests.contains_key(version.as_str())
            {
                selftests.insert(version, built(version, store)?);
            }
        }
        let found = programs.iter().map(|program| Ok((program.workload.clone(), look_for(program, &selftests)?)));
        found.collect::<Result<_, EngineError>>().map(|programs| Self::with(programs, profiles))
    }

    /// The registry of a run that is resumed or reproduced. Its programs must not have changed.
    pub(crate) fn of_run(run: &RunInfo, arguments: QemuArguments) -> Result<Self, EngineError> {
        let profiles = Profiles::of_run(&run.machines, arguments)?;
        let again = |(name, info): (&String, &ProgramInfo)| {
            let content = match &info.file {
                ProgramFile::Missing { .. } => Vec::new(),
                ProgramFile::Here { path, sha256 } => {
                    let content = luqual_files::read(Path::new(path), PROGRAM).map_err(named(name, Path::new(path)))?;
                    if digest::of_bytes(&content) != *sha256 {
                        return Err(EngineError::usage(format!(
                            "the program {name} is not the one that the run was started with"
                        ))
                        .hint(format!("{path} has changed since then; restore it, or start a new run")));
                    }
                    content
                }
            };
            Ok((name.clone(), Found { info: info.clone(), content }))
        };
        run.programs
            .iter()
            .map(again)
            .collect::<Result<_, EngineError>>()
            .map(|programs| Self::with(programs, profiles))
    }

    fn with(programs: BTreeMap<String, Found>, profiles: Profiles) -> Self {
        let entry = |(name, Found { info, .. }): (&String, &Found)| {
            // A program that will be skipped must not end the boot of others.
            let shares_boot = info.shares_boot && matches!(info.file, ProgramFile::Here { .. });
            external(name, &info.asserts, &info.origin, shares_boot)
        };
        let mut all: Vec<&Workload> = workloads().chain(programs.iter().map(entry)).collect();
        all.sort_by_key(|workload| workload.name);
        Self { all, programs, profiles }
    }

    /// All workloads, by name.
    pub fn all(&self) -> impl Iterator<Item = &'static Workload> + Clone {
        self.all.iter().copied()
    }

    /// The workload with that name.
    pub fn find(&self, name: &str) -> Option<&'static Workload> {
        self.all().find(|workload| workload.name == name)
    }

    /// The workloads that match any of these names or globs. An error if one of them matches nothing.
    pub fn matching(&self, globs: &[String]) -> Result<Vec<&'static Workload>, EngineError> {
        self.taken(globs, |glob, workload| matches(glob, workload.name))
    }

    /// The same, but a workload that is left to those who name it only matches its full name.
    pub(crate) fn to_run(&self, globs: &[String]) -> Result<Vec<&'static Workload>, EngineError> {
        self.taken(globs, |glob, workload| {
            glob == workload.name || workload.only_named.is_none() && matches(glob, workload.name)
        })
    }

    fn taken(
        &self,
        globs: &[String],
        takes: impl Fn(&str, &Workload) -> bool,
    ) -> Result<Vec<&'static Workload>, EngineError> {
        if let Some(glob) = globs.iter().find(|glob| !self.all().any(|workload| takes(glob, workload))) {
            return Err(EngineError::usage(format!("no workload matches `{glob}`"))
                .hint("`luqual workloads list` shows all names; some run only if they are named in full, since they take minutes or need another kernel"));
        }
        Ok(self.all().filter(|workload| globs.iter().any(|glob| takes(glob, workload))).collect())
    }

    /// The descriptions of the programs among these workloads.
    pub(crate) fn programs<'a>(&self, names: impl Iterator<Item = &'a str>) -> BTreeMap<String, ProgramInfo> {
        names.filter_map(|name| Some((name.to_owned(), self.programs.get(name)?.info.clone()))).collect()
    }

    /// The program of a workload, if it has one.
    pub fn program(&self, name: &str) -> Option<runner::Program<'_>> {
        self.programs.get(name).map(|found| match &found.info.file {
            ProgramFile::Here { .. } => runner::Program::Here(&found.content),
            ProgramFile::Missing { why } => runner::Program::Missing(why),
        })
    }
}

/// The selftests of a kernel, if they are built. Without a compiler, those of any build are used.
fn built(version: &str, store: &Store) -> Result<Option<Selftests>, EngineError> {
    match store.catalog().find(version).map(|entry| store.selftests(entry)).transpose() {
        Err(KernelError::Tools(_)) => Ok(None),
        found => Ok(found?.flatten()),
    }
}

/// For `map_err` on the file of a program that a matrix file names.
fn named(workload: &str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    EngineError::named(format!("{workload}: {}", path.display()))
}

fn look_for(program: &Program, selftests: &BTreeMap<&str, Option<Selftests>>) -> Result<Found, EngineError> {
    let Program { workload, origin, asserts, shares_boot } = program;
    let found = |origin: String, file: ProgramFile, content: Vec<u8>| Found {
        info: ProgramInfo { asserts: asserts.clone(), origin, shares_boot: *shares_boot, file },
        content,
    };
    let here = |origin: String, path: &Path| {
        let content = luqual_files::read(path, PROGRAM).map_err(named(workload, path))?;
        if let Some(why) = not_a_program(&content) {
            return Err(EngineError::usage(format!("{workload}: {}: {why}", path.display())));
        }
        let path = fs::canonicalize(path).map_err(named(workload, path))?;
        let file = ProgramFile::Here { path: path.display().to_string(), sha256: digest::of_bytes(&content) };
        Ok(found(origin, file, content))
    };
    match origin {
        Origin::Path(path) => here(path.display().to_string(), path),
        Origin::Selftest { program, version } => {
            let origin = Selftests::origin(program, version);
            match selftests.get(version.as_str()).and_then(Option::as_ref) {
                Some(built) if built.programs.contains(program) => here(origin, &built.folder.join(program)),
                Some(built) => Err(EngineError::usage(format!("{workload}: {version} has no selftest `{program}`"))
                    .hint(format!("it has {}", built.programs.join(", ")))),
                None => {
                    let why = format!("{program} of {version} is not built; run `luqual selftests build {version}`");
                    Ok(found(origin, ProgramFile::Missing { why }, Vec::new()))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_kernels::Catalog;
    use luqual_model::HostInfo;

    fn program(origin: Origin) -> Program {
        Program { workload: "external.mine".into(), origin, asserts: "all is well".into(), shares_boot: true }
    }

    fn look(origin: Origin) -> Result<Registry, EngineError> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), Catalog::load(None).unwrap(), None);
        Registry::new(&[program(origin)], Profiles::default(), &store)
    }

    #[test]
    fn a_selftest_that_is_not_built_is_skipped_and_says_what_to_do() {
        let origin = Origin::Selftest { program: "luo_kexec_simple".into(), version: "7.3.4".into() };
        let registry = look(origin).unwrap_or_else(|error| panic!("{error:?}"));
        let Some(runner::Program::Missing(why)) = registry.program("external.mine") else { panic!() };
        assert_eq!(why, "luo_kexec_simple of 7.3.4 is not built; run `luqual selftests build 7.3.4`");
        assert!(!registry.find("external.mine").unwrap().shares_boot, "others would be skipped with it");
        assert_eq!(registry.matching(&["external.*".into()]).unwrap().len(), 1);
        assert!(registry.program("memfd.basic").is_none() && registry.find("memfd.basic").is_some());
        assert!(registry.all().is_sorted_by_key(|workload| workload.name));
    }

    #[test]
    fn a_path_has_to_be_a_program_and_to_stay_what_it_was() {
        assert!(format!("{:?}", look(Origin::Path("/nowhere/x".into())).err()).contains("No such file"));
        assert!(format!("{:?}", look(Origin::Path("/etc/passwd".into())).err()).contains("not a 64-bit ELF"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        // The one static program that is at hand.
        fs::write(&path, luqual_guest::agent_binary()).unwrap();
        let registry = look(Origin::Path(path.clone())).unwrap_or_else(|error| panic!("{error:?}"));
        let programs = registry.programs(["external.mine", "memfd.basic"].into_iter());
        assert_eq!(programs.len(), 1);
        let [id, tool, started] = ["id", "luqual", "now"].map(str::to_owned);
        let run = RunInfo { programs, ..RunInfo::new(id, tool, Vec::new(), started, HostInfo::default()) };
        let of_run = || Registry::of_run(&run, QemuArguments::Refused);
        let again = of_run().unwrap_or_else(|error| panic!("{error:?}"));
        assert!(matches!(again.program("external.mine"), Some(runner::Program::Here(content)) if !content.is_empty()));
        assert!(again.find("external.mine").unwrap().shares_boot);
        fs::write(&path, "other").unwrap();
        assert!(format!("{:?}", of_run().err()).contains("is not the one"));
    }
}
