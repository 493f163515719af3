//! Whole virtual machines that go on after the update.

use super::{LoadTime, Need, Update, Workload, w};

const NEEDS: &[Need] = &[Need::Luo, Need::Kvm];

/// The machine is paused for as little as can be: the target is loaded before.
const QUICK: Update = Update { load: LoadTime::BeforePreserve, ..Update::PLAIN };

pub(super) const WORKLOADS: &[Workload] = &[
    w(
        "vmm.basic-linux",
        "a virtual machine with Linux in it goes on where it was, and its processes notice nothing but the time",
        "Documentation/virt/kvm/api.rst; docs/vmm.md has each item of the state",
        "state that a program without an operating system does not use",
    )
    .needs(NEEDS)
    .by(QUICK)
    .alone(),
    w(
        "vmm.basic-program",
        "a virtual machine with one processor goes on where it was: its memory, registers, timers, pending interrupts and clocks",
        "Documentation/virt/kvm/api.rst; docs/vmm.md has each item of the state",
        "a target whose KVM takes a state back otherwise than the source gave it out, or memory that it cannot run from",
    )
    .needs(NEEDS)
    .by(QUICK),
    w(
        "vmm.descriptors",
        "KVM's own descriptors are preserved: the machine, and a processor of it",
        "kernel/liveupdate/luo_file.c: a descriptor of a kind that has no handler is refused with ENOENT",
        "the first kernel that can hand a virtual machine over as it is",
    )
    .needs(NEEDS)
    .by(QUICK)
    .kept_by_none(),
    w(
        "vmm.four",
        "four virtual machines go on where each was",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "what one machine is given of another's",
    )
    .needs(NEEDS)
    .by(QUICK),
    w(
        "vmm.linux-three-updates",
        "a virtual machine with Linux in it that survives an update survives the next two",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "state that only a kernel uses, given out otherwise than it was put back, a little more each time",
    )
    .needs(NEEDS)
    .by(Update { hops: 3, ..QUICK })
    .alone(),
    w(
        "vmm.monitor-killed",
        "a virtual machine whose monitor is killed once all of it is preserved goes on under another",
        "kernel/liveupdate/luo_file.c, luo_preserve_file(): LUO is a co-owner of the file",
        "memory that ends with who ran the machine",
    )
    .needs(NEEDS)
    .by(QUICK),
    w(
        "vmm.one-lost",
        "of four virtual machines, of which one ends with its monitor before it is preserved, three go on, and nothing comes of the fourth",
        "kernel/liveupdate/luo_session.c: what was not preserved is not handed over",
        "a machine that takes others with it, or that is handed over by none",
    )
    .needs(NEEDS)
    .by(QUICK),
    w(
        "vmm.sixteen",
        "sixteen virtual machines go on where each was",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "what holds for few machines alone",
    )
    .needs(NEEDS)
    .by(QUICK)
    .alone(),
    w(
        "vmm.three-updates",
        "a virtual machine that survives an update survives the next two",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "state that is given out otherwise than it was put back, a little more each time",
    )
    .needs(NEEDS)
    .by(Update { hops: 3, ..QUICK }),
    w(
        "vmm.two-processors",
        "a virtual machine with two processors goes on where each was",
        "Documentation/virt/kvm/api.rst; docs/vmm.md",
        "state of one processor that is put back into another",
    )
    .needs(NEEDS)
    .by(QUICK),
];
