//! The kexec itself: loaded at another time, with other command lines, or refused.

use super::entry::{LoadTime, Update, Workload, w};

const PLAIN: Update = Update::PLAIN;

pub(super) const WORKLOADS: &[Workload] = &[
    w(
        "kexec.cancelled",
        "a target that was loaded and unloaded (the kexec then says EINVAL) leaves all as it was, and the next update works",
        "kexec_file_load(2), KEXEC_FILE_UNLOAD; kernel/kexec_core.c, kernel_kexec(): no image, -EINVAL",
        "state that is frozen for an update which does not come",
    ),
    w(
        "kexec.crash-kernel",
        "a source that has a crash kernel loaded hands over as any other, to a target that has none",
        "kernel/liveupdate/kexec_handover.c, kho_fill_kimage() and kho_locate_mem_hole(): not for KEXEC_TYPE_CRASH",
        "a crash kernel that is put where KHO has targets put, outside of what crashkernel= sets aside",
    )
    // KHO's scratch areas grow with what is reserved (scratch_size_update()): 192M left no place for them in 1 GiB.
    .by(Update { source_options: "crashkernel=64M", ..PLAIN }),
    w(
        "kexec.garbage",
        "a target that is no kernel is refused (ENOEXEC), and what is preserved is handed over by the next one",
        "kernel/kexec_file.c, arch_kexec_kernel_image_probe()",
        "a failed load that drops what KHO has",
    ),
    w(
        "kexec.kho-off",
        "a target that is started with kho=off takes nothing over: it has no /dev/liveupdate",
        "Documentation/admin-guide/kernel-parameters.txt, kho=; kernel/liveupdate/luo_core.c, luo_early_startup()",
        "a target that uses what it was told not to use",
    )
    .kept_by_none()
    .alone()
    .by(Update { target_options: "kho=off", ..PLAIN }),
    w(
        "kexec.liveupdate-off",
        "a target that is started with liveupdate=off has no /dev/liveupdate, and runs",
        "Documentation/admin-guide/kernel-parameters.txt, liveupdate=; kernel/liveupdate/luo_core.c",
        "a target that stumbles over memory which it does not give out",
    )
    .kept_by_none()
    .alone()
    .by(Update { target_options: "liveupdate=off", ..PLAIN }),
    w(
        "kexec.loaded-before",
        "a target that is loaded before anything is preserved takes over what is preserved after it",
        "kernel/liveupdate/kexec_handover.c, kho_fill_kimage(): the image has the place of KHO's tree, not its content",
        "a tree that is copied when the target is loaded",
    )
    .by(Update { load: LoadTime::BeforePreserve, ..PLAIN }),
    w(
        "kexec.long-command-line",
        "a target with a command line of 1900 bytes takes all over",
        "arch/x86/include/asm/setup.h, COMMAND_LINE_SIZE; arch/x86/kernel/kexec-bzimage64.c",
        "setup data of KHO that the command line runs into",
    )
    .alone()
    .by(Update { target_options: LONG, ..PLAIN }),
    w(
        "kexec.no-kaslr",
        "a target that is placed where it was linked takes all over",
        "Documentation/admin-guide/kernel-parameters.txt, nokaslr; arch/x86/boot/compressed/kaslr.c, mem_avoid",
        "a target that is put over memory which was preserved",
    )
    .by(Update { target_options: "nokaslr", ..PLAIN }),
    w(
        "kexec.one-cpu-source",
        "a source with one processor hands over to a target with two",
        "Documentation/admin-guide/kernel-parameters.txt, maxcpus=",
        "state that is kept by processor",
    )
    .by(Update { source_options: "maxcpus=1", ..PLAIN }),
    w(
        "kexec.one-cpu-target",
        "a source with two processors hands over to a target with one",
        "Documentation/admin-guide/kernel-parameters.txt, nr_cpus=",
        "state that is kept by processor",
    )
    .by(Update { target_options: "nr_cpus=1", ..PLAIN }),
    w(
        "kexec.reloaded",
        "a target that is loaded a second time, in place of the first, takes all over",
        "kernel/kexec_file.c, kexec_file_load(): the new image replaces the old one",
        "a tree that is freed with the image which is replaced",
    ),
    // From 7.4 on the option is called kho_bootmem=. A kernel ignores the name that it does not know.
    w(
        "kexec.scratch-odd",
        "with kho_scratch= of odd sizes all is handed over, and the areas are as long as they are reserved: whole pageblocks",
        "Documentation/admin-guide/kernel-parameters.txt, kho_scratch=; kernel/liveupdate/kexec_handover.c, scratch_size_update()",
        "sizes that are not rounded, so that memory beside the area is given to both",
    )
    .by(Update { source_options: "kho_scratch=41M,63M,47M kho_bootmem=41M,63M,47M", ..PLAIN }),
    w(
        "kexec.scratch-scaled",
        "with kho_scratch=150% all is handed over",
        "Documentation/admin-guide/kernel-parameters.txt, kho_scratch=; kernel/liveupdate/kexec_handover.c, scratch_size_update()",
        "a scale that is rounded to nothing",
    )
    .by(Update { source_options: "kho_scratch=150% kho_bootmem=150%", ..PLAIN }),
    w(
        "kexec.scratch-too-small",
        "a target that does not fit into the areas of kho_scratch= is refused when it is loaded, and the source goes on",
        "Documentation/admin-guide/kernel-parameters.txt, kho_scratch=; kernel/liveupdate/kexec_handover.c, kho_locate_mem_hole()",
        "a target that is put over memory which is preserved, for want of another place",
    )
    .kept_by_none()
    .alone()
    .by(Update { source_options: "kho_scratch=4M,4M,4M kho_bootmem=4M,4M,4M", ..PLAIN }),
];

/// 1700 bytes that no kernel knows; with luqual's own options the line stays below 2048.
const LONG: &str = concat!(
    "luqual.fill=",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
);
