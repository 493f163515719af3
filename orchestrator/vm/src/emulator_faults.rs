//! Known faults of QEMU that a guest shows as its own. A kernel is not blamed for one that the QEMU at hand has and
//! that its machine can meet. Pure.

use crate::accel::Accel;
use crate::args::{Mode, processors};
use crate::qemu::QemuVersion;
use luqual_model::{Finding, FindingKind, Iommu, Profile};
use std::fmt;

/// What runs a guest, as far as faults of it are known by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulation {
    qemu: QemuVersion,
    accel: Accel,
    /// The guest's processors.
    processors: u32,
    /// Whether QEMU runs all of them in one thread.
    one_thread: bool,
    /// Whether the guest runs nested VMs.
    nested: bool,
    iommu: Iommu,
}

impl Emulation {
    /// What runs a guest in this mode on this machine.
    pub fn of(qemu: QemuVersion, profile: &Profile, mode: Mode) -> Self {
        let Mode { accel, nested, alone, one_thread } = mode;
        let processors = processors(profile, mode);
        // The instruction counter needs one thread (QEMU docs/devel/tcg-icount.rst).
        Self { qemu, accel, processors, one_thread: one_thread || alone.is_some(), nested, iommu: profile.iommu }
    }
}

/// A known fault of QEMU.
#[derive(Debug)]
pub struct EmulatorFault {
    /// Its name.
    pub name: &'static str,
    /// What goes wrong, in one sentence.
    pub what: &'static str,
    /// How luqual avoids it, in one sentence; `None` if it cannot.
    pub avoided: Option<&'static str>,
    /// Where it is described.
    pub source: &'static str,
    versions: Versions,
    accel: Accel,
    /// Whether a machine can meet it.
    is_met_by: fn(&Emulation) -> bool,
    shows: Signature,
}

/// The versions of QEMU that have a fault.
#[derive(Clone, Copy, Debug)]
enum Versions {
    /// All before the one that mends it.
    Before(QemuVersion),
    /// All of the series `MAJOR.MINOR` in which it was seen. No other version was looked at.
    Series(u32, u32),
    /// All: none is known to mend it.
    All,
}

/// What a guest shows of a fault.
#[derive(Clone, Copy, Debug)]
enum Signature {
    /// A message of that kind whose text begins so.
    Line(FindingKind, &'static [&'static str]),
    /// A kernel that hangs while it boots.
    BootHang,
    /// Nothing by which it is known.
    Nothing,
}

/// The known faults.
pub const EMULATOR_FAULTS: [EmulatorFault; 6] = [
    // Linux patches a static key by a breakpoint, which it removes again (arch/x86/kernel/alternative.c,
    // smp_text_poke_batch_finish()). A processor that runs the old translation meets the breakpoint when the kernel
    // does not expect it any more.
    EmulatorFault {
        name: "removed breakpoint",
        what: "a processor of several threads runs a breakpoint that text patching has removed (Oops: int3)",
        avoided: Some("a guest whose kernels have static keys runs in one thread"),
        source: "QEMU deba78709ae8, \"accel/tcg: Always lock pages before translation\"; \
                 https://bugs.launchpad.net/ubuntu/+source/qemu/+bug/2051965",
        versions: Versions::Before(QemuVersion(8, 1, 0)),
        accel: Accel::Tcg,
        is_met_by: |it| it.processors > 1 && !it.one_thread,
        // Before 6.10 without "Oops: " (arch/x86/kernel/dumpstack.c, __die_header()).
        shows: Signature::Line(FindingKind::Oops, &["Oops: int3: ", "int3: 0000 [#"]),
    },
    EmulatorFault {
        name: "interrupts of nested VMs",
        what: "emulated SVM loses and repeats interrupts of a guest with several processors",
        avoided: Some("a guest with nested VMs has one processor, and periodic ticks"),
        source: "docs/vmm.md; QEMU target/i386/tcg/sysemu/svm_helper.c, helper_vmrun() and do_vmexit()",
        versions: Versions::All,
        accel: Accel::Tcg,
        is_met_by: |it| it.nested && it.processors > 1,
        shows: Signature::Nothing,
    },
    EmulatorFault {
        name: "XSETBV of nested VMs",
        what: "emulated SVM does not intercept XSETBV",
        avoided: Some("the monitor sets XCR0 of nested VMs itself"),
        source: "docs/vmm.md; QEMU target/i386/tcg/translate.c",
        versions: Versions::All,
        accel: Accel::Tcg,
        is_met_by: |it| it.nested,
        shows: Signature::Nothing,
    },
    EmulatorFault {
        name: "STI and HLT of nested VMs",
        what: "an interrupt can come between STI and HLT of a nested VM, which then sleeps too long",
        avoided: Some("no nested VM halts"),
        source: "docs/vmm.md",
        versions: Versions::All,
        accel: Accel::Tcg,
        is_met_by: |it| it.nested,
        shows: Signature::Nothing,
    },
    EmulatorFault {
        name: "boot with AMD's IOMMU",
        what: "a kernel hangs when it starts its second processor on a machine with AMD's IOMMU",
        avoided: None,
        source: "docs/devices.md",
        versions: Versions::Series(10, 0),
        accel: Accel::Tcg,
        is_met_by: |it| it.iommu == Iommu::Amd && it.processors > 1,
        shows: Signature::BootHang,
    },
    EmulatorFault {
        name: "late PIT",
        what: "on a busy host the emulated PIT is late, and a kernel takes a wrong frequency for its TSC",
        avoided: None,
        source: "docs/host.md; Linux arch/x86/kernel/tsc.c, pit_hpet_ptimer_calibrate_cpu()",
        versions: Versions::All,
        accel: Accel::Tcg,
        is_met_by: |_| true,
        shows: Signature::Line(FindingKind::Clock, &["tsc: PIT calibration deviates from "]),
    },
];

impl EmulatorFault {
    /// Whether a QEMU with this accelerator has it, whatever its guest.
    pub fn is_of(&self, qemu: QemuVersion, accel: Accel) -> bool {
        let is_of_version = match self.versions {
            Versions::Before(mended) => qemu < mended,
            Versions::Series(major, minor) => (qemu.0, qemu.1) == (major, minor),
            Versions::All => true,
        };
        self.accel == accel && is_of_version
    }

    fn can_be_met(&self, emulation: &Emulation) -> bool {
        self.is_of(emulation.qemu, emulation.accel) && (self.is_met_by)(emulation)
    }

    /// Which QEMU does not have it, in words.
    pub fn mended(&self) -> String {
        match self.versions {
            Versions::Before(mended) => format!("QEMU {mended} mends it"),
            Versions::Series(major, minor) => format!("use another QEMU than {major}.{minor}"),
            Versions::All => "no version of QEMU is known to mend it".to_owned(),
        }
    }
}

impl fmt::Display for EmulatorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a fault of QEMU, {}: {}; {} ({})", self.name, self.what, self.mended(), self.source)
    }
}

/// The fault that a line shows, if its machine can meet one that does.
pub fn fault_behind_line(emulation: &Emulation, line: &Finding) -> Option<&'static EmulatorFault> {
    let is_shown = |fault: &&EmulatorFault| match fault.shows {
        Signature::Line(kind, starts) => kind == line.kind && starts.iter().any(|start| line.text.starts_with(start)),
        Signature::BootHang | Signature::Nothing => false,
    };
    EMULATOR_FAULTS.iter().filter(is_shown).find(|fault| fault.can_be_met(emulation))
}

/// The fault that a hang of a booting kernel shows, if its machine can meet one that does.
pub fn fault_behind_boot_hang(emulation: &Emulation) -> Option<&'static EmulatorFault> {
    let hangs = EMULATOR_FAULTS.iter().filter(|fault| matches!(fault.shows, Signature::BootHang));
    hangs.into_iter().find(|fault| fault.can_be_met(emulation))
}

/// Whether QEMU has to run all processors in one thread for kernels that patch static keys while they run
/// (CONFIG_JUMP_LABEL), or that may.
pub fn needs_one_thread(qemu: QemuVersion, accel: Accel) -> bool {
    EMULATOR_FAULTS[0].is_of(qemu, accel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_config::{DEFAULT_MACHINE, own_machine};
    use luqual_model::Side;

    const OLD: QemuVersion = QemuVersion(7, 2, 22);

    fn emulation(qemu: QemuVersion, profile: &str, mode: Mode) -> Emulation {
        Emulation::of(qemu, own_machine(profile).unwrap(), mode)
    }

    fn line(kind: FindingKind, text: &str) -> Finding {
        Finding { kind, side: Side::Target, hop: 1, at_us: 0, line: 1, text: text.to_owned(), function: None }
    }

    #[test]
    fn a_breakpoint_is_the_emulators_only_where_that_can_be() {
        let name = DEFAULT_MACHINE;
        let oops = line(FindingKind::Oops, "Oops: int3: 0000 [#1] SMP NOPTI");
        let is_excused = |qemu, mode| fault_behind_line(&emulation(qemu, name, mode), &oops).is_some();
        for version in [OLD, QemuVersion(8, 0, 5)] {
            assert!(is_excused(version, Mode::plain(Accel::Tcg)));
            assert!(needs_one_thread(version, Accel::Tcg) && !needs_one_thread(version, Accel::Kvm));
        }
        // Another accelerator, a QEMU that mends it, one thread, one processor.
        assert!(!is_excused(OLD, Mode::plain(Accel::Kvm)));
        for version in [QemuVersion(8, 1, 0), QemuVersion(10, 0, 2)] {
            assert!(!is_excused(version, Mode::plain(Accel::Tcg)) && !needs_one_thread(version, Accel::Tcg));
        }
        assert!(!is_excused(OLD, Mode { one_thread: true, ..Mode::plain(Accel::Tcg) }));
        assert!(!is_excused(OLD, Mode { alone: Some(1), ..Mode::plain(Accel::Tcg) }));
        assert!(!is_excused(OLD, Mode { nested: true, ..Mode::plain(Accel::Tcg) }));
        // The older form, and other crashes.
        let of = |kind, text| fault_behind_line(&emulation(OLD, name, Mode::plain(Accel::Tcg)), &line(kind, text));
        assert!(of(FindingKind::Oops, "int3: 0000 [#1] SMP").is_some());
        assert!(of(FindingKind::Oops, "Oops: general protection fault: 0000 [#1]").is_none());
        assert!(of(FindingKind::Panic, "Oops: int3: 0000 [#1] SMP").is_none());
    }

    #[test]
    fn a_late_timer_is_the_emulators_with_tcg_alone() {
        let late = line(FindingKind::Clock, "tsc: PIT calibration deviates from HPET: 267321 2592875");
        let is_excused = |accel| {
            let emulation = emulation(QemuVersion(10, 0, 2), DEFAULT_MACHINE, Mode::plain(accel));
            fault_behind_line(&emulation, &late).is_some()
        };
        assert_eq!([Accel::Tcg, Accel::Kvm].map(is_excused), [true, false]);
    }

    #[test]
    fn a_boot_that_hangs_is_the_emulators_only_with_that_device_and_version() {
        let hangs =
            |qemu, profile| fault_behind_boot_hang(&emulation(qemu, profile, Mode::plain(Accel::Tcg))).is_some();
        assert!(hangs(QemuVersion(10, 0, 2), "vfio-amd"));
        assert!(!hangs(QemuVersion(10, 0, 2), "vfio-intel") && !hangs(OLD, "vfio-amd"));
        assert!(!hangs(QemuVersion(10, 1, 0), "vfio-amd"));
    }

    #[test]
    fn a_fault_is_told_with_what_mends_it_and_where_it_is_described() {
        let told = EMULATOR_FAULTS[0].to_string();
        assert!(told.starts_with("a fault of QEMU, removed breakpoint: ") && told.contains("QEMU 8.1.0 mends it"));
        for fault in &EMULATOR_FAULTS {
            assert!(!fault.source.is_empty() && !fault.mended().is_empty(), "{}", fault.name);
            // What is neither avoided nor known by anything would be a kernel's.
            assert!(fault.avoided.is_some() || !matches!(fault.shows, Signature::Nothing), "{}", fault.name);
        }
    }
}
