//! Which cells share a boot, and what it says of them when it does not end well. Pure.

use luqual_model::{CellRecord, Outcome, Planned, Status};
use luqual_protocol::find_workload;
use std::collections::HashMap;

/// More workloads are not run in one boot: what they hold together has to fit into the guest.
const MOST: usize = 8;

/// The places in the plan of the cells of each boot, in plan order. Only cells that should survive share one, since a
/// boot that ends otherwise is run again for each of them.
pub fn boots(planned: &[&Planned]) -> Vec<Vec<usize>> {
    let mut boots: Vec<Vec<usize>> = Vec::new();
    let mut open: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for (number, plan) in planned.iter().enumerate() {
        let key = &plan.key;
        let machine = (key.source.as_str(), key.target.as_str(), key.profile.as_str());
        let place = open.get(&machine).copied().filter(|place| boots[*place].len() < MOST);
        match place {
            _ if !may_share(plan) => boots.push(vec![number]),
            Some(place) => boots[place].push(number),
            None => {
                open.insert(machine, boots.len());
                boots.push(vec![number]);
            }
        }
    }
    boots
}

fn may_share(plan: &Planned) -> bool {
    let shares = find_workload(&plan.key.workload).is_some_and(|workload| workload.shares_boot);
    let expected = plan.expectation.as_ref().is_none_or(|it| it.outcome == Outcome::Survived && !it.tainted);
    let predicted = plan.prediction.as_ref().is_none_or(|it| it.outcome == Outcome::Survived);
    shares && expected && predicted
}

/// Why a shared boot did not end well, if so.
pub(crate) fn why_not_well(records: &[CellRecord]) -> Option<String> {
    let bad = records.iter().find(|record| !record.survived_clean())?;
    let outcome = if bad.outcome == Outcome::Survived { "tainted".to_owned() } else { bad.outcome.to_string() };
    Some(format!("{}: {outcome}: {}", bad.plan.key.workload, bad.title))
}

/// Of a boot that did not end well, what its cells did alone. If one of them did not survive alone either, that is the
/// reason, and the boot says nothing of the others. If all did, nobody knows the reason, and it is not forgotten: what a
/// cell did in the boot is an attempt at it.
pub(crate) fn explained(shared: Vec<CellRecord>, alone: Vec<CellRecord>) -> Vec<CellRecord> {
    if alone.iter().any(|record| !record.survived_clean() || record.status == Status::Flaky) {
        return alone;
    }
    let both = shared.into_iter().zip(alone);
    both.filter_map(|(shared, alone)| crate::attempts::worst(vec![shared, alone])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempts::tests::record;
    use luqual_model::{CellKey, Prediction};

    fn plan(source: &str, workload: &str) -> Planned {
        let key = CellKey { source: source.into(), target: "b".into(), profile: "p".into(), workload: workload.into() };
        Planned { key, prediction: None, expectation: None }
    }

    #[test]
    fn cells_of_one_machine_that_should_survive_share_a_boot() {
        let mut doomed = plan("a", "memfd.basic");
        doomed.prediction = Some(Prediction { outcome: Outcome::Incompatible, why: String::new() });
        let plans = [
            plan("a", "memfd.basic"),
            plan("c", "memfd.basic"),
            plan("a", "memfd.basic"),
            doomed,
            plan("a", "nobody.knows"),
            plan("a", "memfd.basic"),
        ];
        let planned: Vec<&Planned> = plans.iter().collect();
        assert_eq!(boots(&planned), [vec![0, 2, 5], vec![1], vec![3], vec![4]]);
    }

    #[test]
    fn a_boot_has_a_bound() {
        let plans = vec![plan("a", "memfd.basic"); MOST + 1];
        let sizes: Vec<usize> = boots(&plans.iter().collect::<Vec<_>>()).iter().map(Vec::len).collect();
        assert_eq!(sizes, [MOST, 1]);
    }

    #[test]
    fn one_failure_fakes_no_other_and_none_is_forgotten() {
        let crashed = || vec![record(Outcome::Crashed, "shared"), record(Outcome::Crashed, "shared")];
        let outcomes = |records: &[CellRecord]| -> Vec<(Outcome, Status, usize)> {
            records.iter().map(|it| (it.outcome, it.status, it.attempts.len())).collect()
        };
        let alone = vec![record(Outcome::Crashed, "1"), record(Outcome::Survived, "2")];
        let known = [(Outcome::Crashed, Status::Unexpected, 0), (Outcome::Survived, Status::Expected, 0)];
        assert_eq!(outcomes(&explained(crashed(), alone)), known);
        let alone = vec![record(Outcome::Survived, "1"), record(Outcome::Survived, "2")];
        assert_eq!(outcomes(&explained(crashed(), alone)), [(Outcome::Crashed, Status::Flaky, 2); 2]);
        let lost = vec![record(Outcome::Lost, "shared"), record(Outcome::Survived, "shared")];
        let alone = vec![record(Outcome::Survived, "1"), record(Outcome::Survived, "2")];
        let one = [(Outcome::Lost, Status::Flaky, 2), (Outcome::Survived, Status::Expected, 2)];
        assert_eq!(outcomes(&explained(lost, alone)), one);
    }

    #[test]
    fn a_warning_is_not_well() {
        let mut tainted = record(Outcome::Survived, "");
        assert_eq!(why_not_well(&[tainted.clone()]), None);
        tainted.tainted = vec!["WARNING".into()];
        tainted.title = "WARNING".into();
        assert_eq!(why_not_well(&[tainted]).unwrap(), "w.x: tainted: WARNING");
    }
}
