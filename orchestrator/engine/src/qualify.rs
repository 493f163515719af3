//! Qualifies an update: may a host be updated from one kernel to the other?

use crate::context::Context;
use crate::error::EngineError;
use crate::folder::{Finished, IfExists};
use crate::interactive::Interactive;
use crate::request::RunRequest;
use crate::run::run;
use luqual_protocol::workloads;
use luqual_reports::Qualification;
use luqual_runner::JOURNAL;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The name of the HTML page in the run's folder.
pub const QUALIFICATION_PAGE: &str = "qualification.html";

/// Runs one pair and judges it. Writes the result into the run's folder, as text and as HTML.
pub async fn qualify(
    context: &Context<'_>,
    request: &RunRequest,
    interactive: Interactive,
) -> Result<(Finished, Qualification), EngineError> {
    let finished = run(context, request, IfExists::Fail, interactive).await?;
    let Finished { record, folder } = &finished;
    let qualification = Qualification::of(record).map_err(EngineError::own(folder.join(JOURNAL).display()))?;
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
        match workload.left_out.or(workload.long.then_some("it takes minutes")) {
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
        let others = workloads().filter(|it| it.left_out.is_none() && !it.long).count() - 1;
        assert!(names("it was not asked for: ").starts_with(&format!("{others} more")), "{told:?}");
    }
}
