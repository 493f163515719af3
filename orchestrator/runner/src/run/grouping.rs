//! Decides which cells share a boot. Pure.

use crate::requirements::machine_lacks;
use luqual_model::{Outcome, PlannedCell, Profile};
use luqual_protocol::Workload;
use std::collections::HashMap;

/// The most workloads in one boot: their memory together has to fit into the guest.
const MOST: usize = 32;

/// Groups the cells into boots, in plan order; each boot has the indices of its cells in the plan. Cells share a boot
/// if the ABI strings predict that they survive (some may be known to fail probes of their own), or if the target
/// should refuse the whole handover of each. If such a boot ends otherwise, each of its cells runs again alone.
/// `find` returns a workload by name, `profile` a machine.
pub fn group_cells<'w>(
    planned: &[&PlannedCell],
    find: impl Fn(&str) -> Option<&'w Workload>,
    profile: impl Fn(&str) -> Option<&'w Profile>,
) -> Vec<Vec<usize>> {
    let mut boots: Vec<Vec<usize>> = Vec::new();
    // The boots that can take more cells, with their workloads.
    let mut open: HashMap<GroupKey<'_>, Vec<(usize, Vec<&Workload>)>> = HashMap::new();
    for (number, plan) in planned.iter().enumerate() {
        let (workload, machine) = (find(&plan.key.workload), profile(&plan.key.profile));
        let Some((shared, workload)) = workload.and_then(|it| group_key(plan, it, machine).zip(Some(it))) else {
            boots.push(vec![number]);
            continue;
        };
        let open = open.entry(shared).or_default();
        // The devices of one IOMMU group can only have one owner at a time.
        let one_group = machine.is_some_and(|it| it.bus.is_one_group());
        let beside = |it: &&Workload| it.goes_with(workload) && !(one_group && it.device.is_some());
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

/// What the cells of a boot have in common: the pair, the profile, and the expected end.
type GroupKey<'a> = (&'a str, &'a str, &'a str, Outcome);

fn group_key<'a>(plan: &'a PlannedCell, workload: &Workload, machine: Option<&Profile>) -> Option<GroupKey<'a>> {
    let lacks = machine.and_then(|machine| machine_lacks(machine, workload));
    // A cell that will be skipped must not end the boot of others.
    if !workload.shares_boot || lacks.is_some() {
        return None;
    }
    let end = group_outcome(plan)?;
    let key = &plan.key;
    Some((&key.source, &key.target, &key.profile, end))
}

/// The end of a boot that this cell expects, if other cells can share it.
fn group_outcome(plan: &PlannedCell) -> Option<Outcome> {
    let predicted = plan.prediction.as_ref().map_or(Outcome::Survived, |it| it.outcome);
    let as_one = match predicted {
        // A loss of its own does not affect other cells; warnings and crashes do.
        Outcome::Survived => matches!(expected(plan), (Outcome::Survived | Outcome::Lost, false)),
        Outcome::Incompatible => expected(plan) == (Outcome::Incompatible, false),
        _ => false,
    };
    as_one.then_some(predicted)
}

/// The expected outcome of a cell, and whether warnings are expected.
fn expected(plan: &PlannedCell) -> (Outcome, bool) {
    plan.expectation.as_ref().map_or((Outcome::Survived, false), |it| (it.outcome, !it.tainted.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_config::own_machine;
    use luqual_model::{CellKey, Expectation, Prediction};
    use luqual_protocol::find_workload;

    fn plan(source: &str, workload: &str) -> PlannedCell {
        let key = CellKey { source: source.into(), target: "b".into(), profile: "p".into(), workload: workload.into() };
        PlannedCell { key, prediction: None, expectation: None }
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
        let planned: Vec<&PlannedCell> = plans.iter().collect();
        assert_eq!(group_cells(&planned, find_workload, own_machine), [vec![0, 2, 5], vec![1], vec![3], vec![4]]);
    }

    #[test]
    fn what_should_end_alike_shares_a_boot_and_what_crashes_does_not() {
        let known = |predicted, expected| {
            let mut known = plan("a", "memfd.basic");
            known.prediction = Some(Prediction { outcome: predicted, why: String::new() });
            known.expectation = Some(Expectation::of(expected));
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
        let planned: Vec<&PlannedCell> = plans.iter().collect();
        assert_eq!(
            group_cells(&planned, find_workload, own_machine),
            [vec![0, 1], vec![2], vec![3, 5], vec![4], vec![6]]
        );
        // Updates that are made otherwise go together where their options do.
        let otherwise =
            ["kexec.no-kaslr", "kexec.scratch-odd", "kexec.scratch-scaled", "kexec.kho-off", "kexec.loaded-before"];
        let otherwise = otherwise.map(|workload| plan("a", workload));
        assert_eq!(
            group_cells(&otherwise.iter().collect::<Vec<_>>(), find_workload, own_machine),
            [vec![0, 1], vec![2], vec![3], vec![4]]
        );
        // What makes a kernel warn would taint the others.
        let mut warns = [plan("a", "luo.preserve-twice"), plan("a", "luo.preserve-twice")];
        let tainted = vec!["target: taint 512 (W)".to_owned()];
        warns[1].expectation = Some(Expectation { tainted, ..Expectation::of(Outcome::Lost) });
        let planned: Vec<&PlannedCell> = warns.iter().chain([&plans[0]]).collect();
        assert_eq!(group_cells(&planned, find_workload, own_machine), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn a_program_is_alone_unless_its_file_says_otherwise() {
        let [alone, shares] = [("external.alone", false), ("external.shares", true)]
            .map(|(name, it)| luqual_protocol::external(name, "a", "b", it));
        let find = |name: &str| [alone, shares].into_iter().find(|it| it.name == name).or_else(|| find_workload(name));
        let plans = ["external.alone", "memfd.basic", "external.shares", "external.alone"].map(|name| plan("a", name));
        assert_eq!(group_cells(&plans.iter().collect::<Vec<_>>(), find, own_machine), [vec![0], vec![1, 2], vec![3]]);
    }

    #[test]
    fn a_device_has_one_owner_and_so_has_a_group() {
        let on = |profile: &str, workload: &str| {
            let mut plan = plan("a", workload);
            plan.key.profile = profile.into();
            plan
        };
        let count =
            |plans: &[PlannedCell]| group_cells(&plans.iter().collect::<Vec<_>>(), find_workload, own_machine).len();
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
        let sizes: Vec<usize> =
            group_cells(&plans.iter().collect::<Vec<_>>(), find_workload, own_machine).iter().map(Vec::len).collect();
        assert_eq!(sizes, [MOST, 1]);
    }
}
