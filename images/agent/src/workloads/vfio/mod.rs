//! `vfio.DEVICE.CASE`: a device that userspace owns. All devices are asked the same, level by level: D0 present, D1 usable,
//! D2 quiet; and where the descriptor is preserved, D3 not reset, D4 its descriptor preserved, D5 running. A probe's name
//! begins with its level. `crate::drivers` has what differs from device to device. Each entry of the table whose name
//! matches is a case.

mod attach;
mod device;
pub(super) mod plan;
mod snapshot;
mod source;
mod target;

use super::case::{Case, nothing};
use plan::{Access, Memory, Plan};

/// The case of that name, which lives as long as the process that asks for it.
pub(super) fn case(name: &str) -> Option<&'static Case> {
    let workload = luqual_protocol::find_workload(name)?;
    let (_, case) = name.strip_prefix("vfio.")?.split_once('.')?;
    let plan = plan_of(case)?;
    let finished = if case == "unplugged-after" { target::close } else { nothing };
    Some(&*Box::leak(Box::new(Case {
        source: source::preserve,
        retrieved: target::compare_and_open,
        target: target::exercise,
        finished,
        plan,
        ..Case::new(workload.name)
    })))
}

fn plan_of(case: &str) -> Option<Plan> {
    Some(match case {
        "bound-at-boot" | "busy" | "idle" | "other-driver" | "unplugged-after" => Plan::PLAIN,
        "bus-master" => Plan { keeps_bus_master: true, ..Plan::PLAIN },
        "group" => Plan { access: Access::Group, ..Plan::PLAIN },
        "ordinary" => Plan { memory: Memory::Ordinary, ..Plan::PLAIN },
        "preserved" | "preserved-busy" => Plan { preserves: true, ..Plan::PLAIN },
        "silent" => Plan { interrupts: false, ..Plan::PLAIN },
        "unclaimed" => Plan { claims: false, ..Plan::PLAIN },
        "unplugged" => Plan { lets_go: true, ..Plan::PLAIN },
        _ => return None,
    })
}
