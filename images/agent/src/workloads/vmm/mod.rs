//! `vmm.*`: whole virtual machines. A monitor of its own user runs each machine, and a control plane brings all of them through the
//! update. A machine is observed through its memory, where the program in it writes its account ([`luqual_program`]).

mod boot;
pub(super) mod control_plane;
mod corrupt;
mod memory;
mod preserve;
mod restore;
pub(super) mod spec;
mod verify;
pub(super) mod vm;

pub(super) use corrupt::corrupt;

use super::case::Case;
use spec::{Kill, Stage, System, Victim, VmSpec};

const ONE: VmSpec = VmSpec { count: 1, cpus: 1, mib: 16, ..VmSpec::NONE };
const LINUX: VmSpec = VmSpec { system: System::Linux, mib: 128, ..ONE };

pub(super) const CASES: &[Case] = &[
    with("vmm.basic-linux", LINUX),
    with("vmm.basic-program", ONE),
    kills("vmm.broker-killed-claimed", Victim::Broker, Stage::Claimed),
    kills("vmm.broker-killed-preserved", Victim::Broker, Stage::Preserved),
    kills("vmm.broker-killed-ready", Victim::Broker, Stage::Ready),
    kills("vmm.broker-killed-retrieved", Victim::Broker, Stage::Retrieved),
    kills("vmm.broker-killed-running", Victim::Broker, Stage::Running),
    Case { source: preserve::preserve_with_kvm, retrieved: restore::restore_with_kvm, ..with("vmm.descriptors", ONE) },
    with("vmm.edu.detached", VmSpec { has_device: true, ..ONE }),
    with("vmm.four", VmSpec { count: 4, ..ONE }),
    with("vmm.linux-three-updates", LINUX),
    kills("vmm.monitor-killed-preserved", Victim::Monitor, Stage::Preserved),
    with("vmm.monitor-killed-ready", VmSpec { count: 4, ..killing(Victim::Monitor, Stage::Ready) }),
    kills("vmm.monitor-killed-restored", Victim::Monitor, Stage::Restored),
    with("vmm.monitor-killed-running", VmSpec { count: 4, ..killing(Victim::Monitor, Stage::Running) }),
    kills("vmm.orchestrator-killed-claimed", Victim::Orchestrator, Stage::Claimed),
    kills("vmm.orchestrator-killed-paused", Victim::Orchestrator, Stage::Paused),
    kills("vmm.orchestrator-killed-preserved", Victim::Orchestrator, Stage::Preserved),
    kills("vmm.orchestrator-killed-restored", Victim::Orchestrator, Stage::Restored),
    kills("vmm.orchestrator-killed-retrieved", Victim::Orchestrator, Stage::Retrieved),
    with("vmm.sixteen", VmSpec { count: 16, mib: 4, ..ONE }),
    with("vmm.three-updates", ONE),
    with("vmm.two-processors", VmSpec { cpus: 2, ..ONE }),
];

const fn with(name: &'static str, vms: VmSpec) -> Case {
    Case {
        prepare: boot::boot,
        source: preserve::preserve,
        retrieved: restore::restore,
        target: verify::verify,
        finished: restore::finish,
        vms,
        ..Case::new(name)
    }
}

const fn kills(name: &'static str, victim: Victim, stage: Stage) -> Case {
    with(name, killing(victim, stage))
}

const fn killing(victim: Victim, stage: Stage) -> VmSpec {
    VmSpec { kill: Some(Kill { victim, stage }), ..ONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_named_for_the_process_that_it_kills_and_the_stage() {
        let mut kills = 0;
        for case in CASES {
            let name =
                case.vms.kill.map(|Kill { victim, stage }| format!("vmm.{}-killed-{}", victim.name(), stage.name()));
            kills += usize::from(name.is_some());
            assert_eq!(case.name.contains("-killed-"), name.is_some(), "{}", case.name);
            assert!(name.is_none_or(|name| name == case.name), "{}", case.name);
        }
        assert_eq!(kills, 14);
    }
}
