//! Compares the requested run with the run in a folder, so that it can be resumed there.

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::read_folder;
use crate::plan;
use crate::request::Execution;
use crate::selection::Chosen;
use luqual_kernels::{Kernel, Store};
use luqual_model::{KernelInfo, OutcomeSettings, PlannedCell, ProgramInfo, RunInfo, Settings};
use luqual_reports::Record;
use luqual_runner::has_begun;
use std::collections::BTreeMap;
use std::path::Path;

/// The requested run.
pub(crate) struct RequestedRun {
    /// The run as it would be recorded, without a host.
    pub(crate) run: RunInfo,
    /// Whether `run` has its kernels and expectations already.
    has_kernels: bool,
    /// Whether any seed will do, since the user gave none.
    any_seed: bool,
}

impl RequestedRun {
    /// The requested run with this luqual. Without `kernels` it is from before the kernels were found, which may
    /// build them.
    pub(crate) fn of(
        context: &Context<'_>,
        chosen: &Chosen,
        options: &Execution,
        kernels: Option<&BTreeMap<String, Kernel>>,
        store: &Store,
    ) -> Self {
        let (has_kernels, none) = (kernels.is_some(), BTreeMap::new());
        let kernels = kernels.unwrap_or(&none);
        let seed = options.seed.or(chosen.seed);
        let mut run = context.new_run();
        run.kernels = kernels.iter().map(|(name, kernel)| (name.clone(), kernel.info.clone())).collect();
        run.programs = chosen.registry.programs(chosen.cells.iter().map(|key| key.workload.as_str()));
        run.machines = chosen.registry.profiles.of_cells(chosen.cells.iter());
        run.partition = chosen.partition.clone();
        run.planned = plan::planned(chosen, |name| kernels.get(name).map(|kernel| kernel.info.clone()), store);
        run.settings = Settings {
            seed: seed.unwrap_or_else(rand::random),
            retries: options.retries,
            repeat: options.repeat,
            append: options.append.clone(),
            inject: options.inject.clone(),
            deterministic: options.deterministic,
            ..Settings::default()
        };
        Self { run, has_kernels, any_seed: seed.is_none() }
    }

    /// The run in that folder, if one has begun there. An error if it differs from the requested run.
    pub(crate) fn find(&self, folder: &Path) -> Result<Option<Record>, EngineError> {
        if !has_begun(folder).map_err(EngineError::named(folder))? {
            return Ok(None);
        }
        let record = read_folder(folder)?;
        match self.differs(&record.run) {
            None => Ok(Some(record)),
            Some(what) => Err(EngineError::usage(format!("{} already has a run with {what}", folder.display()))
                .hint("name another folder, or remove this one")),
        }
    }

    /// What differs in the earlier run. Of its kernels and programs, only those count that this run uses.
    fn differs(&self, then: &RunInfo) -> Option<String> {
        let now = &self.run;
        let part = |run: &RunInfo| run.partition.as_ref().map(|it| (it.number, it.of));
        let keys = |run: &RunInfo| run.planned.iter().map(|planned| planned.key.clone()).collect::<Vec<_>>();
        let expectation = |planned: &PlannedCell| planned.expectation.clone();
        let is_other_seed = !self.any_seed && now.settings.seed != then.settings.seed;
        if then.tool != now.tool {
            Some("another luqual".to_owned())
        } else if part(then) != part(now) {
            Some("another part".to_owned())
        } else if keys(then) != keys(now) || then.partition != now.partition {
            Some("another selection".to_owned())
        } else if is_other_seed || then.settings.outcome_settings() != now.settings.outcome_settings() {
            Some(format!("other settings: {}", OutcomeSettings::WORDS))
        } else if let Some(name) = now.machines.iter().find(|(name, it)| then.machines.get(*name) != Some(*it)) {
            Some(format!("another machine {}", name.0))
        } else if let Some(name) = other_program(now, then) {
            Some(format!("another program {name}"))
        } else if !self.has_kernels {
            None
        } else if let Some(name) = other_kernel(now, then) {
            Some(format!("another kernel {name}"))
        } else if !then.planned.iter().map(expectation).eq(now.planned.iter().map(expectation)) {
            Some("other expectations".to_owned())
        } else {
            None
        }
    }
}

fn other_program<'a>(now: &'a RunInfo, then: &RunInfo) -> Option<&'a String> {
    let is_same = |(name, info): (&String, &ProgramInfo)| then.programs.get(name).is_some_and(|it| it.runs_as(info));
    now.programs.iter().find(|it| !is_same(*it)).map(|(name, _)| name)
}

fn other_kernel<'a>(now: &RunInfo, then: &'a RunInfo) -> Option<&'a String> {
    let names = then.planned.iter().flat_map(|planned| [&planned.key.source, &planned.key.target]);
    let is_other = |(now, then): (&KernelInfo, &KernelInfo)| !now.boots_as(then);
    // A run that was interrupted during the build of a kernel has run nothing with it.
    names.into_iter().find(|name| now.kernels.get(*name).zip(then.kernels.get(*name)).is_some_and(is_other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::{CellKey, Expectation, HostInfo, Partition, ProgramFile};

    fn key(workload: &str) -> CellKey {
        let [source, target, profile, workload] = ["a", "b", "p", workload].map(str::to_owned);
        CellKey { source, target, profile, workload }
    }

    fn program(sha256: &str) -> ProgramInfo {
        let file = ProgramFile::Here { path: "/p".into(), sha256: sha256.into() };
        ProgramInfo { asserts: String::new(), origin: String::new(), shares_boot: false, file }
    }

    const OTHER: &str =
        "other settings: seed, retries, repeat, deterministic, the kernels' options or the injected fault";

    #[test]
    fn a_run_is_the_one_that_is_asked_for_or_it_is_told_why_not() {
        let mut run = RunInfo::new(String::new(), "luqual".into(), Vec::new(), String::new(), HostInfo::default());
        run.partition = Some(Partition { number: 2, of: 3, cells: 6, places: vec![1, 4], selection: "s".into() });
        run.planned = ["x.one", "external.two"]
            .map(|name| PlannedCell { key: key(name), prediction: None, expectation: None })
            .into();
        run.kernels =
            ["a", "b"].map(|name| (name.to_owned(), KernelInfo { name: name.into(), ..Default::default() })).into();
        run.programs.insert("external.two".into(), program("1"));
        (run.settings.seed, run.settings.repeat) = (7, 1);
        let differs =
            |any_seed, then: &RunInfo| RequestedRun { run: run.clone(), has_kernels: true, any_seed }.differs(then);
        assert_eq!(differs(false, &run), None);
        let mut seeded = run.clone();
        seeded.settings.seed = 8;
        assert_eq!((differs(true, &seeded), differs(false, &seeded)), (None, Some(OTHER.to_owned())));
        let known: Expectation = serde_json::from_str(r#"{"outcome": "lost", "reason": "known"}"#).unwrap();
        type Change<'a> = &'a dyn Fn(&mut RunInfo);
        let changes: [(Change<'_>, &str); 16] = [
            (&|run| run.tool.push('x'), "another luqual"),
            (&|run| run.partition = None, "another part"),
            (&|run| run.partition.as_mut().unwrap().number = 3, "another part"),
            (&|run| run.partition.as_mut().unwrap().cells = 7, "another selection"),
            (&|run| run.partition.as_mut().unwrap().selection.push('x'), "another selection"),
            (&|run| run.planned[1].key.workload.push('x'), "another selection"),
            (&|run| drop(run.planned.pop()), "another selection"),
            (&|run| run.settings.retries = 1, OTHER),
            (&|run| run.settings.deterministic = true, OTHER),
            (&|run| run.settings.append.target.push_str("mem=2G"), OTHER),
            (&|run| run.settings.inject = Some("x".into()), OTHER),
            (&|run| run.planned[0].expectation = Some(known.clone()), "other expectations"),
            (&|run| run.kernels.get_mut("b").unwrap().image_sha256.push('x'), "another kernel b"),
            (&|run| run.kernels.get_mut("a").unwrap().command_line.push('x'), "another kernel a"),
            (&|run| drop(run.programs.insert("external.two".into(), program("2"))), "another program external.two"),
            (&|run| run.programs.clear(), "another program external.two"),
        ];
        for (change, told) in changes {
            let mut then = run.clone();
            change(&mut then);
            assert_eq!(differs(false, &then).as_deref(), Some(told));
        }
        let mut without = run.clone();
        without.kernels.clear();
        let early = RequestedRun { run: without, has_kernels: false, any_seed: true };
        assert_eq!(early.differs(&run), None, "nothing is said of kernels that nobody looked for");
        let mut early = run.clone();
        early.kernels.remove("a");
        assert_eq!(differs(false, &early), None, "it was cut off before the kernel was built");
        // What it is called says nothing of how it boots.
        let mut told = run.clone();
        told.kernels.get_mut("a").unwrap().facts.insert("built".into(), "today".into());
        assert_eq!(differs(false, &told), None);
    }
}
