//! Known faults of QEMU that a guest shows as its own. A kernel is not blamed for one that the QEMU at hand has and
//! that its machine can meet. Pure. The faults are in luqual-model, `arch/`.

use luqual_model::{ARCH, Accel, Emulation, EmulatorFault, FaultSign, Finding, Iommu, QemuVersion};

/// The fault that a line shows, if its machine can meet one that does.
pub fn fault_behind_line(emulation: &Emulation, line: &Finding) -> Option<&'static EmulatorFault> {
    let is_shown = |fault: &&EmulatorFault| match fault.shows {
        FaultSign::Line(kind, starts) => kind == line.kind && starts.iter().any(|start| line.text.starts_with(start)),
        FaultSign::BootHang | FaultSign::Nothing => false,
    };
    ARCH.emulator_faults.iter().filter(is_shown).find(|fault| fault.can_be_met(emulation))
}

/// The fault that a hang of a booting kernel shows, if its machine can meet one that does.
pub fn fault_behind_boot_hang(emulation: &Emulation) -> Option<&'static EmulatorFault> {
    let hangs = ARCH.emulator_faults.iter().filter(|fault| matches!(fault.shows, FaultSign::BootHang));
    hangs.into_iter().find(|fault| fault.can_be_met(emulation))
}

/// Whether QEMU has to run all processors in one thread for kernels that patch static keys while they run
/// (CONFIG_JUMP_LABEL), or that may.
pub fn needs_one_thread(qemu: QemuVersion, accel: Accel) -> bool {
    let guest = |one_thread| Emulation { qemu, accel, processors: 2, one_thread, nested: false, iommu: Iommu::None };
    let avoids = |fault: &EmulatorFault| fault.can_be_met(&guest(false)) && !fault.can_be_met(&guest(true));
    ARCH.emulator_faults.iter().any(avoids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Mode;
    use luqual_config::{DEFAULT_MACHINE, own_machine};
    use luqual_model::{FindingKind, Side};

    const OLD: QemuVersion = QemuVersion(7, 2, 22);

    fn emulation(qemu: QemuVersion, profile: &str, mode: Mode) -> Emulation {
        mode.emulation(qemu, own_machine(profile).unwrap())
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
        let told = ARCH.emulator_faults[0].to_string();
        assert!(told.starts_with("a fault of QEMU, removed breakpoint: ") && told.contains("QEMU 8.1.0 mends it"));
        for fault in ARCH.emulator_faults {
            assert!(!fault.source.is_empty() && !fault.mended().is_empty(), "{}", fault.name);
            // What is neither avoided nor known by anything would be a kernel's.
            assert!(fault.avoided.is_some() || !matches!(fault.shows, FaultSign::Nothing), "{}", fault.name);
        }
    }
}
