//! What of a machine is outside of its memory, as KVM tells it (Documentation/virt/kvm/api.rst), and the order in which it is put
//! back. It is JSON: a version first, a name for each item, so that a person can read what was handed over.

use super::machine::Failed;
use crate::memfd::Memfd;
use crate::workloads::errno;
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

/// A machine's state, in the order in which it is put back.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u32,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) pic_master: kvm_irqchip,
    pub(crate) pic_slave: kvm_irqchip,
    pub(crate) ioapic: kvm_irqchip,
    pub(crate) pit: kvm_pit_state2,
    /// The line that was not at its end on the serial port.
    pub(crate) serial: String,
    pub(crate) clock: Clock,
}

/// A processor's, in the order in which it is put back.
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

/// KVM's clock, and when that was by the counter that goes on over a kexec.
#[derive(Serialize, Deserialize)]
pub(crate) struct Clock {
    pub(crate) ns: u64,
    pub(crate) tsc: u64,
}

/// How long it may be, in bytes; the rest of the memfd is zeros.
const SIZE: u64 = 256 << 10;

/// The time stamp counter: a host's offset, not the value, is what is handed over ([`Cpu::tsc_offset`]).
const TSC: u32 = 0x10;

impl State {
    /// Of a machine whose processors do not run. The clock is read first: from here on the machine misses time.
    pub(crate) fn save(kvm: &Kvm, vm: &VmFd, cpus: &[VcpuFd], serial: String) -> Result<Self, Failed> {
        let ns = vm.get_clock().map_err(Failed::call("KVM_GET_CLOCK"))?.clock;
        let clock = Clock { ns, tsc: counter() };
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..kvm_irqchip::default() };
            vm.get_irqchip(&mut chip).map_err(Failed::call("KVM_GET_IRQCHIP"))?;
            Ok(chip)
        };
        Ok(Self {
            version: VERSION,
            cpus: cpus.iter().map(|cpu| Cpu::save(kvm, cpu)).collect::<Result<_, Failed>>()?,
            pic_master: chip(KVM_IRQCHIP_PIC_MASTER)?,
            pic_slave: chip(KVM_IRQCHIP_PIC_SLAVE)?,
            ioapic: chip(KVM_IRQCHIP_IOAPIC)?,
            pit: vm.get_pit2().map_err(Failed::call("KVM_GET_PIT2"))?,
            serial,
            clock,
        })
    }

    /// As it is handed over.
    pub(crate) fn into_memfd(self) -> Result<File, String> {
        let file = Memfd::blank("state", SIZE).make(0).map_err(|error| format!("memfd: {error}"))?;
        self.write_to(&file)?;
        Ok(file)
    }

    pub(crate) fn write_to(&self, file: &File) -> Result<(), String> {
        let mut text = serde_json::to_vec(self).map_err(|error| format!("the state: {error}"))?;
        if text.len() as u64 >= SIZE {
            return Err(format!("the state has {} bytes, {SIZE} are set aside for it", text.len()));
        }
        text.push(0);
        file.write_all_at(&text, 0).map_err(|error| format!("the state: {error}"))
    }

    /// What was handed over, if it is of this version.
    pub(crate) fn read_from(file: &File) -> Result<Self, String> {
        /// All that every version has.
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
            return Err(format!("the state is of version {version}, this monitor reads {VERSION}"));
        }
        serde_json::from_slice(&text).map_err(wrong)
    }

    /// Into a machine that was made and has not run.
    pub(crate) fn put_back(&self, vm: &VmFd, cpus: &[VcpuFd]) -> Result<(), Failed> {
        for (cpu, saved) in cpus.iter().zip(&self.cpus) {
            saved.put_back(cpu)?;
        }
        // Behind the local ones: what is pending in them is delivered once more, and has to find its processor.
        for chip in [&self.pic_master, &self.pic_slave, &self.ioapic] {
            vm.set_irqchip(chip).map_err(Failed::call("KVM_SET_IRQCHIP"))?;
        }
        vm.set_pit2(&self.pit).map_err(Failed::call("KVM_SET_PIT2"))?;
        // Last: it runs on from here. The wall clock of a machine that was just kexeced is the RTC's, of whole seconds; the
        // counter of the processor went on, and says how long the machine was away.
        let khz = cpus.first().map_or(Ok(0), VcpuFd::get_tsc_khz).map_err(Failed::call("KVM_GET_TSC_KHZ"))?;
        let away = self.clock.away_ns(counter(), khz);
        let clock = kvm_clock_data { clock: self.clock.ns + away, ..kvm_clock_data::default() };
        vm.set_clock(&clock).map_err(Failed::call("KVM_SET_CLOCK"))
    }
}

impl Clock {
    fn away_ns(&self, now: u64, khz: u32) -> u64 {
        let ticks = u128::from(now.saturating_sub(self.tsc));
        (ticks * 1_000_000 / u128::from(khz.max(1))) as u64
    }
}

impl Cpu {
    fn save(kvm: &Kvm, cpu: &VcpuFd) -> Result<Self, Failed> {
        Ok(Self {
            cpuid: cpu
                .get_cpuid2(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
                .map_err(Failed::call("KVM_GET_CPUID2"))?
                .as_slice()
                .to_vec(),
            // Before the events, of which it may complete one.
            mp_state: cpu.get_mp_state().map_err(Failed::call("KVM_GET_MP_STATE"))?,
            sregs: cpu.get_sregs().map_err(Failed::call("KVM_GET_SREGS"))?,
            xcrs: cpu.get_xcrs().map_err(Failed::call("KVM_GET_XCRS"))?,
            xsave: cpu.get_xsave().map_err(Failed::call("KVM_GET_XSAVE"))?,
            lapic: cpu.get_lapic().map_err(Failed::call("KVM_GET_LAPIC"))?,
            msrs: msrs(kvm, cpu)?,
            tsc_offset: tsc_offset(cpu)?,
            debug: cpu.get_debug_regs().map_err(Failed::call("KVM_GET_DEBUGREGS"))?,
            regs: cpu.get_regs().map_err(Failed::call("KVM_GET_REGS"))?,
            events: cpu.get_vcpu_events().map_err(Failed::call("KVM_GET_VCPU_EVENTS"))?,
        })
    }

    fn put_back(&self, cpu: &VcpuFd) -> Result<(), Failed> {
        // Says which bits of all that follows are valid.
        let cpuid = CpuId::from_entries(&self.cpuid).map_err(|error| Failed::Other(format!("CPUID: {error:?}")))?;
        cpu.set_cpuid2(&cpuid).map_err(Failed::call("KVM_SET_CPUID2"))?;
        // Control registers and EFER; and the base of the local APIC, which says in which mode its registers are.
        cpu.set_sregs(&self.sregs).map_err(Failed::call("KVM_SET_SREGS"))?;
        // What XCR0 does not have on, XSAVE does not take.
        cpu.set_xcrs(&self.xcrs).map_err(Failed::call("KVM_SET_XCRS"))?;
        // SAFETY: no part of the state was asked for that would make it longer than this structure.
        #[expect(unsafe_code, reason = "the crate cannot know how long the state is")]
        unsafe { cpu.set_xsave(&self.xsave) }.map_err(Failed::call("KVM_SET_XSAVE"))?;
        // A timer that was under way begins again with what was left of it.
        cpu.set_lapic(&self.lapic).map_err(Failed::call("KVM_SET_LAPIC"))?;
        // Behind the APIC, in whose mode the deadline of a timer is one of them.
        for entry in &self.msrs {
            let one = Msrs::from_entries(&[*entry]).map_err(|error| Failed::Other(format!("MSRs: {error:?}")))?;
            let set = cpu.set_msrs(&one).map_err(Failed::call("KVM_SET_MSRS"))?;
            // Some can be read and not written; what they read as is the processor's own.
            if set == 0 && !is_there(cpu, entry)? {
                return Err(Failed::Other(format!("MSR {:#x} does not take {:#x}", entry.index, entry.data)));
            }
        }
        // The counter goes on over a kexec, and so does what the machine sees of it if the distance stays.
        set_tsc_offset(cpu, self.tsc_offset)?;
        cpu.set_debug_regs(&self.debug).map_err(Failed::call("KVM_SET_DEBUGREGS"))?;
        cpu.set_regs(&self.regs).map_err(Failed::call("KVM_SET_REGS"))?;
        // Behind the registers: KVM_SET_REGS forgets an exception that is pending.
        cpu.set_vcpu_events(&self.events).map_err(Failed::call("KVM_SET_VCPU_EVENTS"))?;
        cpu.set_mp_state(self.mp_state).map_err(Failed::call("KVM_SET_MP_STATE"))?;
        // A kernel with a watchdog is told that it stood still; a machine that does not use KVM's clock is refused, and needs none.
        let _ = cpu.kvmclock_ctrl();
        Ok(())
    }
}

/// Every MSR that KVM has for its machines and that can be read.
fn msrs(kvm: &Kvm, cpu: &VcpuFd) -> Result<Vec<kvm_msr_entry>, Failed> {
    let list = kvm.get_msr_index_list().map_err(Failed::call("KVM_GET_MSR_INDEX_LIST"))?;
    let mut all = Vec::new();
    for index in list.as_slice().iter().copied().filter(|index| *index != TSC) {
        all.extend(msr(cpu, index)?);
    }
    Ok(all)
}

fn msr(cpu: &VcpuFd, index: u32) -> Result<Option<kvm_msr_entry>, Failed> {
    let entry = kvm_msr_entry { index, ..kvm_msr_entry::default() };
    let mut one = Msrs::from_entries(&[entry]).map_err(|error| Failed::Other(format!("MSRs: {error:?}")))?;
    let read = cpu.get_msrs(&mut one).map_err(Failed::call("KVM_GET_MSRS"))?;
    Ok(one.as_slice().first().copied().filter(|_| read == 1))
}

fn is_there(cpu: &VcpuFd, wanted: &kvm_msr_entry) -> Result<bool, Failed> {
    Ok(msr(cpu, wanted.index)?.is_some_and(|found| found.data == wanted.data))
}

/// The time stamp counter of the processor that this runs on.
pub(crate) fn counter() -> u64 {
    #[expect(unsafe_code, reason = "an instruction that every processor of this architecture has")]
    // SAFETY: it reads a counter.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
}

/// What is added to it for the machine: Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_CTRL.
fn tsc_offset(cpu: &VcpuFd) -> Result<u64, Failed> {
    /// `_IOW(0xAE, 0xe2, struct kvm_device_attr)`.
    const GET: libc::c_ulong = 0x4018_aee2;
    let mut offset = 0;
    attribute(cpu, GET, &mut offset).map_err(|errno| Failed::Kernel("KVM_GET_DEVICE_ATTR of the TSC offset", errno))?;
    Ok(offset)
}

/// Says what is added.
pub(super) fn set_tsc_offset(cpu: &VcpuFd, mut offset: u64) -> Result<(), Failed> {
    /// `_IOW(0xAE, 0xe1, struct kvm_device_attr)`.
    const SET: libc::c_ulong = 0x4018_aee1;
    attribute(cpu, SET, &mut offset).map_err(|errno| Failed::Kernel("KVM_SET_DEVICE_ATTR of the TSC offset", errno))
}

fn attribute(cpu: &VcpuFd, command: libc::c_ulong, offset: &mut u64) -> Result<(), Errno> {
    let address = &raw mut *offset as u64;
    let attr = u64::from(KVM_VCPU_TSC_OFFSET);
    let attribute = kvm_device_attr { flags: 0, group: KVM_VCPU_TSC_CTRL, attr, addr: address };
    #[expect(unsafe_code, reason = "kvm-ioctls has these calls for processors of another architecture alone")]
    // SAFETY: the structure of both commands, which points to a word that lives through the call.
    let told = unsafe { libc::ioctl(cpu.as_raw_fd(), command, &raw const attribute) };
    if told < 0 { Err(errno(&std::io::Error::last_os_error())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_was_away_as_long_as_the_counter_says() {
        let clock = Clock { ns: 7, tsc: 1_000_000 };
        assert_eq!(clock.away_ns(1_000_000 + 2_500_000_000 * 3, 2_500_000), 3_000_000_000);
        assert_eq!(clock.away_ns(999_999, 2_500_000), 0);
        assert_eq!(clock.away_ns(u64::MAX, 1), ((u128::from(u64::MAX) - 1_000_000) * 1_000_000) as u64);
    }
}
