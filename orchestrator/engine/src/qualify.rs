//! Qualifies an update: may a host be updated from one kernel to the other?

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{Finished, IfExists};
use crate::interactive::Interactive;
use crate::kernels::open_store;
use crate::request::{KernelSource, RunRequest};
use crate::run::run;
use crate::selection;
use luqual_model::Policy;
use luqual_protocol::workloads;
use luqual_reports::Qualification;
use luqual_runner::JOURNAL;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The name of the HTML page in the run's folder.
pub const QUALIFICATION_PAGE: &str = "qualification.html";

/// The policy of that name in a matrix file; luqual's own if none is named.
pub fn policy(name: Option<&str>, matrix_file: Option<&Path>, kernels: &KernelSource) -> Result<Policy, EngineError> {
    let own = Policy::own();
    let Some(name) = name.filter(|name| *name != own.name) else { return Ok(own) };
    let policies = selection::matrix_file(matrix_file, &open_store(kernels)?)?.policies;
    let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).chain([own.name.as_str()]).collect();
    let hint = format!("there are {}; --matrix-file names a file with [policy.{name}]", names.join(", "));
    let found = policies.iter().find(|policy| policy.name == name).cloned();
    found.ok_or_else(|| EngineError::usage(format!("there is no policy `{name}`")).hint(hint))
}

/// Runs one pair and judges it by a policy. Writes the result into the run's folder, as text and as HTML.
pub async fn qualify(
    context: &Context<'_>,
    request: &RunRequest,
    policy: &Policy,
    interactive: Interactive,
) -> Result<(Finished, Qualification), EngineError> {
    let finished = run(context, request, IfExists::Fail, interactive).await?;
    let Finished { record, folder } = &finished;
    let qualification = Qualification::of(record, policy).map_err(EngineError::own(folder.join(JOURNAL).display()))?;
    let qualification =
        qualification.leaving_out(left_out(record.run.planned.iter().map(|cell| cell.key.workload.as_str())));
    let (text, page) = (qualification.text(&record.run), qualification.html(&record.run));
    for (name, content) in [("qualification.txt", &text), (QUALIFICATION_PAGE, &page)] {
        let path = folder.join(name);
        fs::write(&path, content).map_err(EngineError::own(path.display()))?;
    }
    Ok((finished, qualification))
}

/// The workloads that a run did not have, by the reason.
fn left_out<'a>(planned: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let planned: BTreeSet<&str> = planned.into_iter().collect();
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut others = 0;
    for workload in workloads().filter(|workload| !planned.contains(workload.name)) {
        match workload.left_out.or(workload.only_named) {
            Some(why) => by_reason.entry(why).or_default().push(workload.name),
            None => others += 1,
        }
    }
    let named = by_reason.into_iter().map(|(why, names)| format!("{why}: {}", names.join(", ")));
    let others = (others > 0).then(|| format!("it was not asked for: {others} more of `luqual workloads list`"));
    named.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workload_that_is_not_run_is_named_with_the_reason() {
        let told = left_out(["memfd.basic"]);
        let names = |why: &str| told.iter().find_map(|line| line.strip_prefix(why)).unwrap_or_default();
        assert!(names("no released kernel passes it: ").contains("vfio.edu.preserved-busy"), "{told:?}");
        assert!(names("it takes minutes: ").contains("lifecycle.hundred"), "{told:?}");
        let others = workloads().filter(|it| it.left_out.is_none() && it.only_named.is_none()).count() - 1;
        assert!(names("it was not asked for: ").starts_with(&format!("{others} more")), "{told:?}");
    }
}
