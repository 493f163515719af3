//! The state of a machine beside its memory, as KVM reports it (Documentation/virt/kvm/api.rst), and the order in which it is
//! restored. It is handed over as JSON, with a version and a name for each item, so that it can be read.

use super::error::VmmError;
use crate::errno::last_errno;
use crate::memfd::Memfd;
use crate::tsc;
use kvm_bindings::{
    CpuId, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET,
    Msrs, kvm_clock_data, kvm_cpuid_entry2, kvm_debugregs, kvm_device_attr, kvm_irqchip, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_pit_state2, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use rustix::fd::AsRawFd;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Grows with every change that an older monitor would misread.
pub(crate) const VERSION: u32 = 1;

/// A machine's state, in the order in which it is restored.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u32,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) pic_master: kvm_irqchip,
    pub(crate) pic_slave: kvm_irqchip,
    pub(crate) ioapic: kvm_irqchip,
    pub(crate) pit: kvm_pit_state2,
    /// The incomplete line of the serial port.
    pub(crate) serial: String,
    pub(crate) clock: Clock,
}

/// A processor's state, in the order in which it is restored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) cpuid: Vec<kvm_cpuid_entry2>,
    pub(crate) sregs: kvm_sregs,
    pub(crate) xcrs: kvm_xcrs,
    pub(crate) xsave: kvm_xsave,
    pub(crate) lapic: kvm_lapic_state,
    pub(crate) msrs: Vec<kvm_msr_entry>,
    pub(crate) tsc_offset: u64,
    pub(crate) debug: kvm_debugregs,
    pub(crate) regs: kvm_regs,
    pub(crate) events: kvm_vcpu_events,
    pub(crate) mp_state: kvm_mp_state,
}

/// KVM's clock, and the time stamp counter when it was read. The counter keeps counting over a kexec.
#[derive(Serialize, Deserialize)]
pub(crate) struct Clock {
    pub(crate) ns: u64,
    pub(crate) tsc: u64,
}

/// The largest state in bytes. The rest of the memfd is zero.
const SIZE: u64 = 256 << 10;

/// The MSR of the time stamp counter. Its offset to the host's counter is handed over, not its value ([`Cpu::tsc_offset`]).
const TSC: u32 = 0x10;

impl State {
    /// Saves the state of a machine whose processors do not run. The clock is read first: the machine misses the time from here on.
    pub(crate) fn save(kvm: &Kvm, vm: &VmFd, cpus: &[VcpuFd], serial: String) -> Result<Self, VmmError> {
        let ns = vm.get_clock().map_err(VmmError::call("KVM_GET_CLOCK"))?.clock;
        let clock = Clock { ns, tsc: tsc::read() };
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..kvm_irqchip::default() };
            vm.get_irqchip(&mut chip).map_err(VmmError::call("KVM_GET_IRQCHIP"))?;
            Ok(chip)
        };
        Ok(Self {
            version: VERSION,
            cpus: cpus.iter().map(|cpu| Cpu::save(kvm, cpu)).collect::<Result<_, VmmError>>()?,
            pic_master: chip(KVM_IRQCHIP_PIC_MASTER)?,
            pic_slave: chip(KVM_IRQCHIP_PIC_SLAVE)?,
            ioapic: chip(KVM_IRQCHIP_IOAPIC)?,
            pit: vm.get_pit2().map_err(VmmError::call("KVM_GET_PIT2"))?,
            serial,
            clock,
        })
    }

    /// The memfd that is handed over.
    pub(crate) fn into_memfd(self) -> Result<File, String> {
        let file = Memfd::blank("state", SIZE).make(0).map_err(|error| format!("memfd: {error}"))?;
        self.write_to(&file)?;
        Ok(file)
    }

    pub(crate) fn write_to(&self, file: &File) -> Result<(), String> {
        let mut text = serde_json::to_vec(self).map_err(|error| format!("the state: {error}"))?;
        if text.len() as u64 >= SIZE {
            return Err(format!("the state has {} bytes; {SIZE} bytes are reserved for it", text.len()));
        }
        text.push(0);
        file.write_all_at(&text, 0).map_err(|error| format!("the state: {error}"))
    }

    /// Reads a state that was handed over. A state of another version is an error.
    pub(crate) fn read_from(file: &File) -> Result<Self, String> {
        /// The field that every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let mut text = vec![0; SIZE as usize];
        file.read_exact_at(&mut text, 0).map_err(|error| format!("the state: {error}"))?;
        text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
        let wrong = |error: serde_json::Error| format!("the state: {error}");
        let Versioned { version } = serde_json::from_slice(&text).map_err(wrong)?;
        if version != VERSION {
            return Err(format!("the state has version {version}, and this monitor reads version {VERSION}"));
        }
        serde_json::from_slice(&text).map_err(wrong)
    }

    /// Restores the state into a new machine.
    pub(crate) fn restore(&self, vm: &VmFd, cpus: &[VcpuFd]) -> Result<(), VmmError> {
        for (cpu, saved) in cpus.iter().zip(&self.cpus) {
            saved.restore(cpu)?;
        }
        // After the local APICs: an interrupt that is pending here is delivered again, and has to find its processor.
        for chip in [&self.pic_master, &self.pic_slave, &self.ioapic] {
            vm.set_irqchip(chip).map_err(VmmError::call("KVM_SET_IRQCHIP"))?;
        }
        vm.set_pit2(&self.pit).map_err(VmmError::call("KVM_SET_PIT2"))?;
        // Last, since the clock runs from here on. After a kexec the wall clock is that of the RTC, in whole seconds. The processor's
        // counter kept counting, so it tells for how long the machine did not run.
        let khz = cpus.first().map_or(Ok(0), VcpuFd::get_tsc_khz).map_err(VmmError::call("KVM_GET_TSC_KHZ"))?;
        let away = self.clock.away_ns(tsc::read(), khz);
        let clock = kvm_clock_data { clock: self.clock.ns + away, ..kvm_clock_data::default() };
        vm.set_clock(&clock).map_err(VmmError::call("KVM_SET_CLOCK"))
    }
}

impl Clock {
    /// The time since the clock was read, by the counter.
    fn away_ns(&self, now: u64, khz: u32) -> u64 {
        let ticks = u128::from(now.saturating_sub(self.tsc));
        (ticks * 1_000_000 / u128::from(khz.max(1))) as u64
    }
}

impl Cpu {
    fn save(kvm: &Kvm, cpu: &VcpuFd) -> Result<Self, VmmError> {
        Ok(Self {
            cpuid: cpu
                .get_cpuid2(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
                .map_err(VmmError::call("KVM_GET_CPUID2"))?
                .as_slice()
                .to_vec(),
            // Before the events: this call may complete one of them.
            mp_state: cpu.get_mp_state().map_err(VmmError::call("KVM_GET_MP_STATE"))?,
            sregs: cpu.get_sregs().map_err(VmmError::call("KVM_GET_SREGS"))?,
            xcrs: cpu.get_xcrs().map_err(VmmError::call("KVM_GET_XCRS"))?,
            xsave: cpu.get_xsave().map_err(VmmError::call("KVM_GET_XSAVE"))?,
            lapic: cpu.get_lapic().map_err(VmmError::call("KVM_GET_LAPIC"))?,
            msrs: msrs(kvm, cpu)?,
            tsc_offset: tsc_offset(cpu)?,
            debug: cpu.get_debug_regs().map_err(VmmError::call("KVM_GET_DEBUGREGS"))?,
            regs: cpu.get_regs().map_err(VmmError::call("KVM_GET_REGS"))?,
            events: cpu.get_vcpu_events().map_err(VmmError::call("KVM_GET_VCPU_EVENTS"))?,
        })
    }

    fn restore(&self, cpu: &VcpuFd) -> Result<(), VmmError> {
        // It defines which bits of the following items are valid.
        let cpuid = CpuId::from_entries(&self.cpuid).map_err(|error| VmmError::Other(format!("CPUID: {error:?}")))?;
        cpu.set_cpuid2(&cpuid).map_err(VmmError::call("KVM_SET_CPUID2"))?;
        // Control registers and EFER, and the base of the local APIC, which defines the mode of its registers.
        cpu.set_sregs(&self.sregs).map_err(VmmError::call("KVM_SET_SREGS"))?;
        // KVM rejects extended state that XCR0 does not enable.
        cpu.set_xcrs(&self.xcrs).map_err(VmmError::call("KVM_SET_XCRS"))?;
        // SAFETY: no part of the state was asked for that would make it longer than this structure.
        #[expect(unsafe_code, reason = "the crate cannot know how long the state is")]
        unsafe { cpu.set_xsave(&self.xsave) }.map_err(VmmError::call("KVM_SET_XSAVE"))?;
        // A running timer starts again with its remaining time.
        cpu.set_lapic(&self.lapic).map_err(VmmError::call("KVM_SET_LAPIC"))?;
        // After the APIC, whose mode decides whether the timer's deadline is an MSR.
        for entry in &self.msrs {
            let one = Msrs::from_entries(&[*entry]).map_err(|error| VmmError::Other(format!("MSRs: {error:?}")))?;
            let set = cpu.set_msrs(&one).map_err(VmmError::call("KVM_SET_MSRS"))?;
            // Some MSRs are read-only. Their value has to be the same on this processor.
            if set == 0 && !is_there(cpu, entry)? {
                return Err(VmmError::Other(format!("MSR {:#x} does not take {:#x}", entry.index, entry.data)));
            }
        }
        // The counter keeps counting over a kexec. With the same offset the machine's counter does too.
        set_tsc_offset(cpu, self.tsc_offset)?;
        cpu.set_debug_regs(&self.debug).map_err(VmmError::call("KVM_SET_DEBUGREGS"))?;
        cpu.set_regs(&self.regs).map_err(VmmError::call("KVM_SET_REGS"))?;
        // After the registers: KVM_SET_REGS drops a pending exception.
        cpu.set_vcpu_events(&self.events).map_err(VmmError::call("KVM_SET_VCPU_EVENTS"))?;
        cpu.set_mp_state(self.mp_state).map_err(VmmError::call("KVM_SET_MP_STATE"))?;
        // Tells the watchdog of a kernel in the machine about the pause. KVM refuses this for a machine that does not use its clock.
        let _ = cpu.kvmclock_ctrl();
        Ok(())
    }
}

/// Every MSR that KVM supports and that can be read.
fn msrs(kvm: &Kvm, cpu: &VcpuFd) -> Result<Vec<kvm_msr_entry>, VmmError> {
    let list = kvm.get_msr_index_list().map_err(VmmError::call("KVM_GET_MSR_INDEX_LIST"))?;
    let mut all = Vec::new();
    for index in list.as_slice().iter().copied().filter(|index| *index != TSC) {
        all.extend(msr(cpu, index)?);
    }
    Ok(all)
}

fn msr(cpu: &VcpuFd, index: u32) -> Result<Option<kvm_msr_entry>, VmmError> {
    let entry = kvm_msr_entry { index, ..kvm_msr_entry::default() };
    let mut one = Msrs::from_entries(&[entry]).map_err(|error| VmmError::Other(format!("MSRs: {error:?}")))?;
    let read = cpu.get_msrs(&mut one).map_err(VmmError::call("KVM_GET_MSRS"))?;
    Ok(one.as_slice().first().copied().filter(|_| read == 1))
}

/// Whether the MSR has this value already.
fn is_there(cpu: &VcpuFd, wanted: &kvm_msr_entry) -> Result<bool, VmmError> {
    Ok(msr(cpu, wanted.index)?.is_some_and(|found| found.data == wanted.data))
}

/// The offset of the machine's time stamp counter: Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_CTRL.
fn tsc_offset(cpu: &VcpuFd) -> Result<u64, VmmError> {
    /// `_IOW(0xAE, 0xe2, struct kvm_device_attr)`.
    const GET: libc::c_ulong = 0x4018_aee2;
    let mut offset = 0;
    attribute(cpu, GET, &mut offset)
        .map_err(|errno| VmmError::Kernel("KVM_GET_DEVICE_ATTR of the TSC offset", errno))?;
    Ok(offset)
}

/// Sets the offset.
pub(super) fn set_tsc_offset(cpu: &VcpuFd, mut offset: u64) -> Result<(), VmmError> {
    /// `_IOW(0xAE, 0xe1, struct kvm_device_attr)`.
    const SET: libc::c_ulong = 0x4018_aee1;
    attribute(cpu, SET, &mut offset).map_err(|errno| VmmError::Kernel("KVM_SET_DEVICE_ATTR of the TSC offset", errno))
}

fn attribute(cpu: &VcpuFd, command: libc::c_ulong, offset: &mut u64) -> Result<(), Errno> {
    let address = &raw mut *offset as u64;
    let attr = u64::from(KVM_VCPU_TSC_OFFSET);
    let attribute = kvm_device_attr { flags: 0, group: KVM_VCPU_TSC_CTRL, attr, addr: address };
    #[expect(unsafe_code, reason = "kvm-ioctls has these calls for processors of another architecture alone")]
    // SAFETY: the structure of both commands, which points to a word that lives through the call.
    let told = unsafe { libc::ioctl(cpu.as_raw_fd(), command, &raw const attribute) };
    if told < 0 { Err(last_errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_away_follows_from_the_counter() {
        let clock = Clock { ns: 7, tsc: 1_000_000 };
        assert_eq!(clock.away_ns(1_000_000 + 2_500_000_000 * 3, 2_500_000), 3_000_000_000);
        assert_eq!(clock.away_ns(999_999, 2_500_000), 0);
        assert_eq!(clock.away_ns(u64::MAX, 1), ((u128::from(u64::MAX) - 1_000_000) * 1_000_000) as u64);
    }
}
