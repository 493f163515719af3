//! `vfio.DEVICE.CASE`: what is asked of every device stands in `owned.rs`, what each can do in `drivers/`. There is one case for
//! each entry of the table that has its name.

use super::owned::{self, Access, Memory, Plan};
use super::{Case, nothing};

/// The case of that name, which lives as long as the process that asks for it.
pub(super) fn case(name: &str) -> Option<&'static Case> {
    let workload = luqual_protocol::find_workload(name)?;
    let (_, case) = name.strip_prefix("vfio.")?.split_once('.')?;
    let plan = plan(case)?;
    let finished = if case == "unplugged-after" { owned::let_go } else { nothing };
    Some(&*Box::leak(Box::new(Case {
        source: owned::leave,
        retrieved: owned::reattach,
        target: owned::try_out,
        finished,
        plan,
        ..Case::new(workload.name)
    })))
}

fn plan(case: &str) -> Option<Plan> {
    Some(match case {
        "bound-at-boot" | "busy" | "idle" | "other-driver" | "unplugged-after" => Plan::PLAIN,
        "bus-master" => Plan { keeps_bus_master: true, ..Plan::PLAIN },
        "group" => Plan { access: Access::Group, ..Plan::PLAIN },
        "ordinary" => Plan { memory: Memory::Ordinary, ..Plan::PLAIN },
        "retrieved-twice" => Plan { retrieves_twice: true, ..Plan::PLAIN },
        "silent" => Plan { interrupts: false, ..Plan::PLAIN },
        "unclaimed" => Plan { claims: false, ..Plan::PLAIN },
        "unplugged" => Plan { lets_go: true, ..Plan::PLAIN },
        _ => return None,
    })
}
