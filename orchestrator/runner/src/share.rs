//! Which cells share a boot, and what it says of them when it does not end well. Pure.

use crate::need;
use luqual_model::{CellRecord, Outcome, Planned, Status};
use luqual_protocol::Workload;
use luqual_vm::profile;
use std::collections::{HashMap, HashSet};

/// More workloads are not run in one boot: what they hold together has to fit into the guest.
const MOST: usize = 32;

/// The places in the plan of the cells of each boot, in plan order. A boot is shared by cells that the kernels' strings predict
/// to survive, of which some may be known to lose something of their own; or by cells of which the target should refuse the
/// handover as a whole. A boot that ends otherwise is run again for each of them. `find` knows the workloads by name.
pub fn boots<'w>(planned: &[&Planned], find: impl Fn(&str) -> Option<&'w Workload>) -> Vec<Vec<usize>> {
    let mut boots: Vec<Vec<usize>> = Vec::new();
    // The boots that may take more, with what is in them.
    let mut open: HashMap<Shared<'_>, Vec<(usize, Vec<&Workload>)>> = HashMap::new();
    for (number, plan) in planned.iter().enumerate() {
        let workload = find(&plan.key.workload);
        let Some((shared, workload)) = workload.and_then(|it| may_share(plan, it).zip(Some(it))) else {
            boots.push(vec![number]);
            continue;
        };
        let open = open.entry(shared).or_default();
        // Devices of one IOMMU group have one owner at a time.
        let one_group = profile::find(&plan.key.profile).is_some_and(|it| it.bus.is_one_group());
        let beside = |it: &&Workload| it.goes_with(workload) && !(one_group && it.device().is_some());
        let takes = |taken: &[&Workload]| taken.len() < MOST && taken.iter().all(beside);
        match open.iter_mut().find(|(_, taken)| takes(taken)) {
            Some((place, taken)) => {
                taken.push(workload);
                boots[*place].push(number);
            }
            None => {
                open.push((boots.len(), vec![workload]));
                boots.push(vec![number]);
            }
        }
    }
    boots
}

/// What cells of one boot have in common: the pair and the profile, and how it should end.
type Shared<'a> = (&'a str, &'a str, &'a str, Outcome);

fn may_share<'a>(plan: &'a Planned, workload: &Workload) -> Option<Shared<'a>> {
    let warns = workload.warns && expected(plan) == (Outcome::Lost, false);
    let lacks = profile::find(&plan.key.profile).and_then(|profile| need::machine_lacks(profile, workload));
    // What is skipped takes no others with it.
    if warns || !workload.shares_boot || lacks.is_some() {
        return None;
    }
    let end = ends_as_one(plan)?;
    let key = &plan.key;
    Some((&key.source, &key.target, &key.profile, end))
}

/// How a boot should end for the cell, if it can end so for others too.
fn ends_as_one(plan: &Planned) -> Option<Outcome> {
    let predicted = plan.prediction.as_ref().map_or(Outcome::Survived, |it| it.outcome);
    let as_one = match predicted {
        // What a cell alone loses does not touch the others; what warns or crashes does.
        Outcome::Survived => matches!(expected(plan), (Outcome::Survived | Outcome::Lost, false)),
        Outcome::Incompatible => expected(plan) == (Outcome::Incompatible, false),
        _ => false,
    };
    as_one.then_some(predicted)
}

/// How a cell should end, and whether warnings should spoil it.
fn expected(plan: &Planned) -> (Outcome, bool) {
    plan.expectation.as_ref().map_or((Outcome::Survived, false), |it| (it.outcome, it.tainted))
}

/// Why a shared boot did not end well, if so.
pub(crate) fn why_not_well(records: &[CellRecord]) -> Option<String> {
    let bad = records.iter().find(|record| !ended_well(record))?;
    let outcome = if bad.outcome == Outcome::Survived { "tainted".to_owned() } else { bad.outcome.to_string() };
    let why = bad.other_probes().map_or_else(|| bad.title.clone(), |other| other.to_string());
    Some(format!("{}: {outcome}: {why}", bad.plan.key.workload))
}

/// Of a boot that did not end well, what its cells did alone. Where one of them ends alone as a cell did in the boot, with
/// the same words, that is the reason, and the boot says nothing of the cell. Else nobody knows the reason, and it is not
/// forgotten: what the cell did in the boot is an attempt at it. So is what its own probes found there.
pub(crate) fn explained(shared: Vec<CellRecord>, alone: Vec<CellRecord>) -> Vec<CellRecord> {
    let known: HashSet<End> = alone.iter().flat_map(ends).collect();
    let told = |(shared, alone): (CellRecord, CellRecord)| {
        let is_own = shared.probes.iter().any(|probe| !probe.held);
        let is_same = end(&shared) == end(&alone) && shared.against_expectation() == alone.against_expectation();
        if ended_well(&shared) || is_same || (known.contains(&end(&shared)) && !is_own) {
            return Some(alone);
        }
        crate::attempts::worst(vec![shared, alone], 2)
    };
    shared.into_iter().zip(alone).filter_map(told).collect()
}

/// A cell that ended in a shared boot as it should has said what there is to say.
fn ended_well(record: &CellRecord) -> bool {
    record.outcome.says_something() && record.against_expectation() == Status::Expected
}

/// Outcome, whether it was spoilt, and its title.
type End = (Outcome, bool, String);

fn end(record: &CellRecord) -> End {
    (record.outcome, !record.tainted.is_empty(), record.title.clone())
}

/// That of a cell, and of each attempt at it.
fn ends(record: &CellRecord) -> Vec<End> {
    let attempts = record.attempts.iter().map(|attempt| (attempt.outcome, attempt.tainted, attempt.title.clone()));
    attempts.chain([end(record)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempts::tests::record;
    use luqual_model::{CellKey, Expectation, Prediction, Probe};
    use luqual_protocol::find_workload;

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
        assert_eq!(boots(&planned, find_workload), [vec![0, 2, 5], vec![1], vec![3], vec![4]]);
    }

    #[test]
    fn what_should_end_alike_shares_a_boot_and_what_crashes_does_not() {
        let known = |predicted, expected| {
            let mut known = plan("a", "memfd.basic");
            known.prediction = Some(Prediction { outcome: predicted, why: String::new() });
            let (broken, reason) = (Vec::new(), String::new());
            known.expectation = Some(Expectation {
                outcome: expected,
                tainted: false,
                broken,
                unsteady: Vec::new(),
                reason,
                link: None,
            });
            known
        };
        let mut elsewhere = plan("a", "kexec.no-kaslr");
        elsewhere.prediction = Some(Prediction { outcome: Outcome::Survived, why: String::new() });
        let plans = [
            plan("a", "memfd.basic"),
            known(Outcome::Survived, Outcome::Lost),
            known(Outcome::Survived, Outcome::Crashed),
            known(Outcome::Incompatible, Outcome::Incompatible),
            known(Outcome::Incompatible, Outcome::Lost),
            known(Outcome::Incompatible, Outcome::Incompatible),
            elsewhere,
        ];
        let planned: Vec<&Planned> = plans.iter().collect();
        assert_eq!(boots(&planned, find_workload), [vec![0, 1], vec![2], vec![3, 5], vec![4], vec![6]]);
        // Updates that are made otherwise go together where their options do.
        let otherwise =
            ["kexec.no-kaslr", "kexec.scratch-odd", "kexec.scratch-scaled", "kexec.kho-off", "kexec.loaded-before"];
        let otherwise = otherwise.map(|workload| plan("a", workload));
        assert_eq!(
            boots(&otherwise.iter().collect::<Vec<_>>(), find_workload),
            [vec![0, 1], vec![2], vec![3], vec![4]]
        );
        // One that makes a kernel warn is alone where it is expected to.
        let mut warns = [plan("a", "luo.preserve-twice"), plan("a", "luo.preserve-twice")];
        warns[1].expectation = plans[1].expectation.clone();
        let planned: Vec<&Planned> = warns.iter().chain([&plans[0]]).collect();
        assert_eq!(boots(&planned, find_workload), [vec![0, 2], vec![1]]);
        // Each is held against what is known of itself.
        let mut lost = record(Outcome::Lost, "");
        assert!(why_not_well(&[lost.clone()]).is_some());
        lost.plan.expectation = plans[1].expectation.clone();
        assert_eq!(why_not_well(&[lost.clone()]), None);
        // A loss of other probes than are known is none that is known.
        let probe =
            |name: &str| Probe { name: name.into(), expected: String::new(), observed: String::new(), held: false };
        lost.plan.expectation.as_mut().unwrap().broken = vec!["D3 *".into()];
        lost.probes = vec![probe("D3 a")];
        assert_eq!(why_not_well(&[lost.clone()]), None);
        lost.probes.push(probe("D0 x"));
        assert_eq!(why_not_well(&[lost.clone()]).unwrap(), "w.x: lost: also broken: D0 x");
        // Alone it lost what is known: what it lost besides in the boot is not forgotten.
        let mut alone = lost.clone();
        alone.probes.pop();
        (lost.status, alone.status) = (Status::Regression, Status::Expected);
        let told = explained(vec![lost.clone()], vec![alone]);
        assert_eq!((told[0].status, told[0].probes.len(), told[0].attempts.len()), (Status::Flaky, 2, 2));
        lost.outcome = Outcome::Survived;
        assert!(why_not_well(&[lost]).is_some(), "better than expected is not as expected");
    }

    #[test]
    fn a_device_has_one_owner_and_so_has_a_group() {
        let on = |profile: &str, workload: &str| {
            let mut plan = plan("a", workload);
            plan.key.profile = profile.into();
            plan
        };
        let count = |plans: &[Planned]| boots(&plans.iter().collect::<Vec<_>>(), find_workload).len();
        let edu_and_nvme = |profile: &str| [on(profile, "vfio.edu.idle"), on(profile, "vfio.nvme.idle")];
        assert_eq!(count(&edu_and_nvme("vfio-intel")), 1);
        assert_eq!(count(&edu_and_nvme("vfio-one-slot")), 2);
        assert_eq!(count(&[on("vfio-intel", "vfio.edu.idle"), on("vfio-intel", "vfio.edu.busy")]), 2);
        // Who would miss it is elsewhere when a device is unplugged, and what is not there takes nobody with it.
        let port = "vfio-root-port";
        assert_eq!(count(&[on(port, "pci.bars"), on(port, "vfio.edu.unplugged"), on(port, "vfio.nvme.unplugged")]), 2);
        assert_eq!(count(&[on(port, "vfio.igb.idle"), on(port, "vfio.edu.idle")]), 2);
    }

    #[test]
    fn a_boot_has_a_bound() {
        let plans = vec![plan("a", "memfd.basic"); MOST + 1];
        let sizes: Vec<usize> = boots(&plans.iter().collect::<Vec<_>>(), find_workload).iter().map(Vec::len).collect();
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
        let lost = || {
            let mut lost = record(Outcome::Lost, "shared");
            let (name, expected, observed) = ("content".into(), "a".into(), "b".into());
            lost.probes.push(Probe { name, expected, observed, held: false });
            vec![lost, record(Outcome::Survived, "shared")]
        };
        let alone = vec![record(Outcome::Survived, "1"), record(Outcome::Survived, "2")];
        let one = [(Outcome::Lost, Status::Flaky, 2), (Outcome::Survived, Status::Expected, 0)];
        assert_eq!(outcomes(&explained(lost(), alone)), one);
        // What the cell's own probes found is not explained by another that is lost alone.
        let alone = vec![record(Outcome::Survived, "1"), record(Outcome::Lost, "2")];
        let both = [(Outcome::Lost, Status::Flaky, 2), (Outcome::Lost, Status::Unexpected, 0)];
        assert_eq!(outcomes(&explained(lost(), alone)), both);
        // A failure of the harness, or another end, explains no crash.
        for other in [Outcome::HarnessFailed, Outcome::Lost] {
            let alone = vec![record(other, "1"), record(Outcome::Survived, "2")];
            let told = outcomes(&explained(crashed(), alone));
            assert_eq!(told[1], (Outcome::Crashed, Status::Flaky, 2), "{told:?}");
        }
        // Nor do a crash or a warning with other words.
        let titled = |outcome, title: &str| {
            let mut titled = record(outcome, "");
            titled.title = title.into();
            titled.tainted = if outcome == Outcome::Survived { vec![title.into()] } else { Vec::new() };
            titled
        };
        for outcome in [Outcome::Crashed, Outcome::Survived] {
            let shared = vec![titled(outcome, "X"), titled(outcome, "X")];
            let told = explained(shared, vec![record(Outcome::Survived, ""), titled(outcome, "Y")]);
            assert_eq!((told[0].title.as_str(), told[0].status), ("X", Status::Flaky), "{told:?}");
        }
        // One attempt of several does.
        let mut sometimes = record(Outcome::Survived, "1");
        sometimes.attempts =
            crate::attempts::worst(vec![record(Outcome::Crashed, "x"), record(Outcome::Survived, "y")], 2)
                .map(|worst| worst.attempts)
                .unwrap();
        let told = outcomes(&explained(crashed(), vec![sometimes, record(Outcome::Survived, "2")]));
        assert_eq!(told[1], (Outcome::Survived, Status::Expected, 0));
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
