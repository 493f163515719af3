//! Whole virtual machines that go on after the update.

use super::device::Device;
use super::entry::{LoadTime, Requirement, Update, Workload, w};

const NEEDS: &[Requirement] = &[Requirement::Luo, Requirement::Kvm];

/// The machine is paused for as little as can be: the target is loaded before.
const QUICK: Update = Update { load: LoadTime::BeforePreserve, ..Update::PLAIN };

/// A VM of which a process is killed that brings it through the update. It has a boot of its own: nested VMs of one boot
/// share its two processors, so that a boot of many takes longer than a boot for each (docs/testing.md).
const fn dies(name: &'static str, asserts: &'static str, rule: &'static str, finds: &'static str) -> Workload {
    w(name, asserts, rule, finds).requires(NEEDS).by(QUICK).alone()
}

pub(super) const WORKLOADS: &[Workload] = &[
    w(
        "vmm.basic-linux",
        "a virtual machine with Linux in it goes on where it was, and its processes notice nothing but the time",
        "Documentation/virt/kvm/api.rst; docs/vmm.md has each item of the state",
        "state that a program without an operating system does not use",
    )
    .requires(NEEDS)
    .by(QUICK)
    .alone(),
    w(
        "vmm.basic-program",
        "a virtual machine with one processor goes on where it was: its memory, registers, timers, pending interrupts and clocks",
        "Documentation/virt/kvm/api.rst; docs/vmm.md has each item of the state",
        "a target whose KVM takes a state back otherwise than the source gave it out, or memory that it cannot run from",
    )
    .requires(NEEDS)
    .by(QUICK),
    dies(
        "vmm.broker-killed-claimed",
        "a broker that is killed in the target once it has the session is replaced by one that is given a copy of it",
        "kernel/liveupdate/luo_session.c, luo_session_release(): a session ends with its last descriptor",
        "a session that is finished though somebody has it",
    ),
    dies(
        "vmm.broker-killed-preserved",
        "a broker that is killed once all is preserved is replaced by one that preserves the same again",
        "kernel/liveupdate/luo_session.c, luo_session_release(): a session ends with its last descriptor",
        "what is preserved by nobody and cannot be preserved again",
    ),
    dies(
        "vmm.broker-killed-ready",
        "a broker that is killed before it preserves anything is replaced by one that has a session of the same name",
        "kernel/liveupdate/luo_session.c, luo_session_release(): a session ends with its last descriptor",
        "a session that outlives who had it",
    ),
    dies(
        "vmm.broker-killed-retrieved",
        "a broker that is killed in the target with what it retrieved is replaced by one that is given it again",
        "kernel/liveupdate/luo_file.c, luo_retrieve_file(): a file that was retrieved is given again",
        "what can be had once, and is lost with who had it",
    ),
    dies(
        "vmm.broker-killed-running",
        "a broker that is killed when its machines run takes none of them along, and the next one finishes the session",
        "kernel/liveupdate/luo_file.c, luo_retrieve_file(): a file that was retrieved is given again",
        "memory that ends with who retrieved it",
    ),
    w(
        "vmm.descriptors",
        "KVM's own descriptors are preserved: the machine, and a processor of it",
        "kernel/liveupdate/luo_file.c: a descriptor of a kind that has no handler is refused with ENOENT",
        "the first kernel that can hand a virtual machine over as it is",
    )
    .requires(NEEDS)
    .by(QUICK)
    .kept_by_none(),
    w(
        "vmm.edu.detached",
        "a virtual machine lets go of its device before the update, is given it again after it, and both work on",
        "Documentation/driver-api/vfio.rst; no released kernel preserves a VFIO descriptor, so the device cannot stay",
        "a device that cannot be given to a machine that was updated",
    )
    .requires(&[Requirement::Luo, Requirement::Iommu, Requirement::Kvm, Requirement::Vfio])
    .by(QUICK)
    .owns(Device::Edu)
    .on("vfio-intel"),
    w(
        "vmm.four",
        "four virtual machines go on where each was",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "what one machine is given of another's",
    )
    .requires(NEEDS)
    .by(QUICK),
    w(
        "vmm.linux-three-updates",
        "a virtual machine with Linux in it that survives an update survives the next two",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "state that only a kernel uses, given out otherwise than it was put back, a little more each time",
    )
    .requires(NEEDS)
    .by(Update { hops: 3, ..QUICK })
    .alone(),
    dies(
        "vmm.monitor-killed-preserved",
        "a virtual machine whose monitor is killed once all of it is preserved goes on under another",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): LUO is a co-owner of the file",
        "memory that ends with who ran the machine",
    ),
    dies(
        "vmm.monitor-killed-ready",
        "of four virtual machines, of which one ends with its monitor before it is preserved, three go on, and nothing comes of the fourth",
        "kernel/liveupdate/luo_session.c: what was not preserved is not handed over",
        "a machine that takes others with it, or that is handed over by none",
    ),
    dies(
        "vmm.monitor-killed-restored",
        "a virtual machine whose monitor is killed in the target before it runs goes on under another",
        "kernel/liveupdate/luo_file.c, luo_retrieve_file(): a file that was retrieved is given again",
        "state that can be read once",
    ),
    dies(
        "vmm.monitor-killed-running",
        "of four virtual machines, of which one ends with its monitor when it runs in the target, three go on, and its memory is free again once the session is finished",
        "kernel/liveupdate/luo_file.c, luo_file_finish(): LUO lets go of what it kept",
        "memory of a machine that is gone and that nobody can free",
    ),
    dies(
        "vmm.orchestrator-killed-claimed",
        "an orchestrator that is killed when the broker has the session in the target is replaced by one that begins at the beginning",
        "kernel/liveupdate: no state of the kernel is of who asked",
        "what hangs on who said what comes next",
    ),
    dies(
        "vmm.orchestrator-killed-paused",
        "an orchestrator that is killed when the machine is paused is replaced by one that begins at the beginning",
        "kernel/liveupdate: no state of the kernel is of who asked",
        "what hangs on who said what comes next",
    ),
    dies(
        "vmm.orchestrator-killed-preserved",
        "an orchestrator that is killed when all of it is preserved is replaced by one that begins at the beginning",
        "kernel/liveupdate: no state of the kernel is of who asked",
        "what hangs on who said what comes next",
    ),
    dies(
        "vmm.orchestrator-killed-restored",
        "an orchestrator that is killed when the machine is there in the target, and before it runs is replaced by one that begins at the beginning",
        "kernel/liveupdate: no state of the kernel is of who asked",
        "what hangs on who said what comes next",
    ),
    dies(
        "vmm.orchestrator-killed-retrieved",
        "an orchestrator that is killed when the monitor has memory and state in the target is replaced by one that begins at the beginning",
        "kernel/liveupdate: no state of the kernel is of who asked",
        "what hangs on who said what comes next",
    ),
    w(
        "vmm.sixteen",
        "sixteen virtual machines go on where each was",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "what holds for few machines alone",
    )
    .requires(NEEDS)
    .by(QUICK)
    .alone(),
    w(
        "vmm.three-updates",
        "a virtual machine that survives an update survives the next two",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "state that is given out otherwise than it was put back, a little more each time",
    )
    .requires(NEEDS)
    .by(Update { hops: 3, ..QUICK }),
    w(
        "vmm.two-processors",
        "a virtual machine with two processors goes on where each was",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "state of one processor that is put back into another",
    )
    .requires(NEEDS)
    .by(QUICK),
];
