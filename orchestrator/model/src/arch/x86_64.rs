//! x86-64: Linux's arch/x86, and QEMU's q35 machines.

use super::{
    Arch, ConsoleDevice, CrashText, EmulatedNesting, HangQuestion, ImageFormat, ImageHeader, IommuEvent, IommuSupport,
    MachineFormat, PageTableFormat, PageTableNote, PageTables, Probe, QemuProgram, ReadWord, traced_number,
};
use crate::emulation::{Accel, EmulatorFault, FaultSign, FaultyVersions, QemuVersion};
use crate::finding::FindingKind;
use crate::iommu::Iommu;
use crate::pci::PciAddress;

pub(super) const X86_64: Arch = Arch {
    name: "x86-64",
    triplet: "x86_64-linux-gnu",
    debian: "amd64",
    elf_machine: 62,
    qemu: QemuProgram { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    image: ImageFormat { name: "bzImage", in_tree: "arch/x86/boot/bzImage", header },
    machine: MachineFormat {
        types: "q35 or a version of it such as pc-q35-7.2",
        starts: &["q35", "pc-q35-"],
        // Interrupt remapping requires interrupt controllers that are split between KVM and QEMU (QEMU
        // hw/i386/intel_iommu.c).
        kvm_options: ",kernel-irqchip=split",
        ram_offset,
    },
    console: ConsoleDevice { device: "ttyS0", option: "CONFIG_SERIAL_8250_CONSOLE" },
    iommu,
    iommu_events: &[TRANSLATED_BY_INTEL, FAULT_OF_INTEL, ENABLES_OF_INTEL, TRANSLATED_BY_AMD, FAULT_OF_AMD],
    iommu_event_patterns: &["vtd_*", "amdvi_*"],
    parse_iommu_event,
    iommu_options: &["CONFIG_INTEL_IOMMU", "CONFIG_AMD_IOMMU", "CONFIG_VIRTIO_IOMMU"],
    kvm_options: &["CONFIG_KVM_AMD", "CONFIG_KVM_INTEL"],
    modules: &[("CONFIG_KVM_AMD", "kvm_amd"), ("CONFIG_KVM_INTEL", "kvm_intel")],
    // arch/x86/kernel/nmi.c, unknown_nmi_error()
    hang: HangQuestion { option: "unknown_nmi_panic", answer: "NMI: Not continuing" },
    emulated_options: &[
        // An emulated TSC is the host's clock, and needs no watchdog. The watchdog of 7.3 can wait for ever for a
        // processor that stop_machine() holds, while jiffies are the clock (kernel/time/clocksource.c,
        // watchdog_wait_seq): one boot in a hundred hung on a busy host.
        "tsc=nowatchdog",
        // The timer exists. The kernel tests it by counting interrupts for ten ticks of the same clock, and panics if
        // the host was busy meanwhile (arch/x86/kernel/apic/io_apic.c, timer_irq_works). A KVM guest sets this option
        // by itself (arch/x86/kernel/kvm.c).
        "no_timer_check",
    ],
    nested: EmulatedNesting {
        // Emulated SVM changes a processor's pending interrupts without the lock that others use (QEMU
        // target/i386/tcg/sysemu/svm_helper.c, helper_vmrun() and do_vmexit(), interrupt_request). It also leaves the
        // injected vector behind, which is then delivered again when another processor stops this one
        // (exception_index). With two processors, one of sixteen machines triple-faulted or stood still in most runs;
        // with one processor this cannot happen.
        processors: 1,
        // The interrupt of a one-shot timer can be lost for the same reason, which stops the kernel; a periodic timer
        // comes again.
        options: "nohz=off highres=off",
    },
    crash: CrashText {
        function: "RIP: 0010:",
        // arch/x86/kernel/dumpstack.c
        frames: "Call Trace:",
        reporting: &["nmi_", "handle_bug", "exc_", "asm_exc_"],
    },
    cycle_counter: "TSC",
    // arch/x86/kernel/tsc.c, pit_hpet_ptimer_calibrate_cpu()
    clock_messages: &[LATE_TIMER],
    page_tables: PageTableFormat { find: find_page_tables, translate },
    probe: Probe {
        image: include_bytes!("x86_64/probe.bin"),
        machine: "q35",
        exit_device: "isa-debug-exit,iobase=0xf4,iosize=1",
        // Of the value that probe.S writes (QEMU hw/misc/debugexit.c: value << 1 | 1).
        exit_code: 0x2a << 1 | 1,
    },
    emulator_faults: EMULATOR_FAULTS,
};

/// Reads the header of a bzImage (Documentation/arch/x86/boot.rst).
fn header(image: &[u8]) -> Result<ImageHeader<'_>, &'static str> {
    let bytes = |at: usize, length: usize| image.get(at..at + length).ok_or("the file ends within its header");
    let number = |at: usize, length: usize| -> Result<usize, &'static str> {
        Ok(bytes(at, length)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    if bytes(0x202, 4)? != b"HdrS" {
        return Err("the signature HdrS is missing at offset 0x202");
    }
    if number(0x206, 2)? < 0x208 {
        return Err("its boot protocol is older than 2.08");
    }
    // XLF_KERNEL_64 of xloadflags, which protocol 2.12 brought.
    if number(0x206, 2)? >= 0x20c && number(0x236, 2)? & 1 == 0 {
        return Err("it is a kernel for 32-bit x86; luqual runs kernels for x86-64");
    }
    let setup_sectors = match number(0x1f1, 1)? {
        0 => 4,
        sectors => sectors,
    };
    let code = (setup_sectors + 1) * 512;
    let start = code + number(0x248, 4)?;
    let payload = start..start + number(0x24c, 4)?;
    if image.len() < payload.end {
        return Err("the file is shorter than its header says");
    }
    let version = image.get(number(0x20e, 2)? + 0x200..).ok_or("the version string is outside of the file")?;
    let release = version.split(|byte| *byte == 0 || *byte == b' ').next().unwrap_or_default();
    Ok(ImageHeader { release, payload })
}

/// QEMU hw/i386/pc_q35.c (pc_q35_init): memory that reaches 0xb0000000 is split at 2 GiB, and the rest starts at 4 GiB.
fn ram_offset(size: u64, address: u64, length: u64) -> Option<u64> {
    const HOLE_STARTS: u64 = 0xb000_0000;
    const LOW_WITH_HOLE: u64 = 0x8000_0000;
    const HIGH: u64 = 1 << 32;
    let low = if size >= HOLE_STARTS { LOW_WITH_HOLE } else { size };
    let end = address.checked_add(length)?;
    if end <= low {
        Some(address)
    } else if address >= HIGH && end <= HIGH + (size - low) {
        Some(address - HIGH + low)
    } else {
        None
    }
}

// QEMU hw/i386/trace-events
const TRANSLATED_BY_INTEL: &str = "vtd_dmar_translate";
const FAULT_OF_INTEL: &str = "vtd_dmar_fault";
const ENABLES_OF_INTEL: &str = "vtd_dmar_enable";
const TRANSLATED_BY_AMD: &str = "amdvi_translation_result";
const FAULT_OF_AMD: &str = "amdvi_page_fault";

fn iommu(kind: Iommu) -> IommuSupport {
    let intel = |device| IommuSupport {
        device: Some(device),
        since: None,
        translated: TRANSLATED_BY_INTEL,
        fault: FAULT_OF_INTEL,
        traces_enable: true,
    };
    match kind {
        Iommu::None => IommuSupport::default(),
        Iommu::Intel => intel("intel-iommu,intremap=on,caching-mode=on"),
        Iommu::IntelNoRemapping => intel("intel-iommu,intremap=off,caching-mode=on"),
        Iommu::IntelScalable => intel("intel-iommu,intremap=on,caching-mode=on,x-scalable-mode=on"),
        Iommu::IntelFirstStage => IommuSupport {
            since: Some(("first-stage translation of the Intel IOMMU", QemuVersion(10, 0, 0))),
            ..intel("intel-iommu,intremap=on,caching-mode=on,x-scalable-mode=on,x-flts=on")
        },
        Iommu::Amd => IommuSupport {
            device: Some("amd-iommu,intremap=on"),
            since: None,
            translated: TRANSLATED_BY_AMD,
            fault: FAULT_OF_AMD,
            traces_enable: false,
        },
        Iommu::Virtio => IommuSupport {
            device: Some("virtio-iommu-pci"),
            since: None,
            translated: Iommu::VIRTIO_TRANSLATED,
            fault: Iommu::VIRTIO_FAULT,
            traces_enable: false,
        },
    }
}

fn parse_iommu_event(name: &str, words: &[&str]) -> Option<IommuEvent> {
    let hex = traced_number;
    Some(match (name, words) {
        (TRANSLATED_BY_INTEL, ["dev", address, "iova", iova, "->", "gpa", physical, ..])
        | (TRANSLATED_BY_AMD, ["devid:", address, "gpa", iova, "hpa", physical]) => {
            IommuEvent::Translated { address: address.parse().ok()?, iova: hex(iova)?, physical: hex(physical)? }
        }
        (FAULT_OF_INTEL, ["sid", id, "fault", _, "addr", iova, ..]) => {
            IommuEvent::Fault { address: Some(PciAddress::of_requester(hex(id)? as u32)), iova: hex(iova)? }
        }
        (FAULT_OF_AMD, [.., iova]) => IommuEvent::Fault { address: None, iova: hex(iova)? },
        (ENABLES_OF_INTEL, ["enable", on]) => IommuEvent::Translates { on: *on != "0" },
        _ => return None,
    })
}

/// arch/x86/kernel/vmcore_info_64.c; the image itself is mapped at one distance from its physical address
/// (__phys_addr_nodebug()).
fn find_page_tables(note: &PageTableNote<'_>) -> Result<PageTables, String> {
    /// `__START_KERNEL_map`: the virtual address that physical address 0 of the image would have.
    const IMAGE: u64 = 0xffff_ffff_8000_0000;
    let base = (note.number)("phys_base")?;
    let top = (note.symbol)("init_top_pgt")?.wrapping_sub(IMAGE).wrapping_add_signed(base);
    let levels = if (note.number)("pgtable_l5_enabled").unwrap_or(0) == 0 { 4 } else { 5 };
    let encryption = (note.number)("sme_mask").unwrap_or(0).cast_unsigned();
    Ok(PageTables { top, levels, encryption })
}

/// arch/x86/include/asm/pgtable_types.h; Intel SDM volume 3, section 5.5.
fn translate(tables: &PageTables, read: &mut ReadWord<'_>, address: u64) -> Result<u64, String> {
    const PRESENT: u64 = 1;
    const LARGE: u64 = 1 << 7;
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let mut table = tables.top;
    for level in (0..tables.levels).rev() {
        let shift = 12 + 9 * level;
        // A note can say anything.
        let entry = read(table.wrapping_add((address >> shift & 0x1ff) * 8))? & !tables.encryption;
        if entry & PRESENT == 0 {
            return Err(format!("{address:#x} is not mapped"));
        }
        let of_entry = entry & ADDRESS;
        let is_large = entry & LARGE != 0 && (1..=2).contains(&level);
        if level == 0 || is_large {
            let within = (1 << shift) - 1;
            return Ok(of_entry & !within | address & within);
        }
        table = of_entry;
    }
    Err(format!("{address:#x} is not mapped"))
}

const LATE_TIMER: &str = "tsc: PIT calibration deviates from ";

const EMULATOR_FAULTS: &[EmulatorFault] = &[
    // Linux patches a static key by a breakpoint, which it removes again (arch/x86/kernel/alternative.c,
    // smp_text_poke_batch_finish()). A processor that runs the old translation meets the breakpoint when the kernel
    // does not expect it any more.
    EmulatorFault {
        name: "removed breakpoint",
        what: "a processor of several threads runs a breakpoint that text patching has removed (Oops: int3)",
        avoided: Some("a guest whose kernels have static keys runs in one thread"),
        source: "QEMU deba78709ae8, \"accel/tcg: Always lock pages before translation\"; \
                 https://bugs.launchpad.net/ubuntu/+source/qemu/+bug/2051965",
        versions: FaultyVersions::Before(QemuVersion(8, 1, 0)),
        accel: Accel::Tcg,
        is_met_by: |it| it.processors > 1 && !it.one_thread,
        // Before 6.10 without "Oops: " (arch/x86/kernel/dumpstack.c, __die_header()).
        shows: FaultSign::Line(FindingKind::Oops, &["Oops: int3: ", "int3: 0000 [#"]),
    },
    EmulatorFault {
        name: "interrupts of nested VMs",
        what: "emulated SVM loses and repeats interrupts of a guest with several processors",
        avoided: Some("a guest with nested VMs has one processor, and periodic ticks"),
        source: "docs/vmm.md; QEMU target/i386/tcg/sysemu/svm_helper.c, helper_vmrun() and do_vmexit()",
        versions: FaultyVersions::All,
        accel: Accel::Tcg,
        is_met_by: |it| it.nested && it.processors > 1,
        shows: FaultSign::Nothing,
    },
    EmulatorFault {
        name: "XSETBV of nested VMs",
        what: "emulated SVM does not intercept XSETBV",
        avoided: Some("the monitor sets XCR0 of nested VMs itself"),
        source: "docs/vmm.md; QEMU target/i386/tcg/translate.c",
        versions: FaultyVersions::All,
        accel: Accel::Tcg,
        is_met_by: |it| it.nested,
        shows: FaultSign::Nothing,
    },
    EmulatorFault {
        name: "STI and HLT of nested VMs",
        what: "an interrupt can come between STI and HLT of a nested VM, which then sleeps too long",
        avoided: Some("no nested VM halts"),
        source: "docs/vmm.md",
        versions: FaultyVersions::All,
        accel: Accel::Tcg,
        is_met_by: |it| it.nested,
        shows: FaultSign::Nothing,
    },
    EmulatorFault {
        name: "boot with AMD's IOMMU",
        what: "a kernel hangs when it starts its second processor on a machine with AMD's IOMMU",
        avoided: None,
        source: "docs/devices.md",
        versions: FaultyVersions::Series(10, 0),
        accel: Accel::Tcg,
        is_met_by: |it| it.iommu == Iommu::Amd && it.processors > 1,
        shows: FaultSign::BootHang,
    },
    EmulatorFault {
        name: "late PIT",
        what: "on a busy host the emulated PIT is late, and a kernel takes a wrong frequency for its TSC",
        avoided: None,
        source: "docs/host.md; Linux arch/x86/kernel/tsc.c, pit_hpet_ptimer_calibrate_cpu()",
        versions: FaultyVersions::All,
        accel: Accel::Tcg,
        is_met_by: |_| true,
        shows: FaultSign::Line(FindingKind::Clock, &[LATE_TIMER]),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn small_memory_is_in_one_piece() {
        assert_eq!(ram_offset(GIB, 0x1000, 4096), Some(0x1000));
        assert_eq!(ram_offset(GIB, GIB - 4096, 4096), Some(GIB - 4096));
        assert_eq!(ram_offset(GIB, GIB - 4095, 4096), None);
        assert_eq!(ram_offset(GIB, 4 * GIB, 1), None);
        assert_eq!(ram_offset(GIB, u64::MAX, 2), None);
    }

    #[test]
    fn large_memory_goes_on_at_4_gib() {
        assert_eq!(ram_offset(4 * GIB, 2 * GIB - 1, 1), Some(2 * GIB - 1));
        assert_eq!(ram_offset(4 * GIB, 2 * GIB, 1), None);
        assert_eq!(ram_offset(4 * GIB, 4 * GIB, 1), Some(2 * GIB));
        assert_eq!(ram_offset(4 * GIB, 6 * GIB - 1, 1), Some(4 * GIB - 1));
        assert_eq!(ram_offset(4 * GIB, 6 * GIB, 1), None);
    }
}
