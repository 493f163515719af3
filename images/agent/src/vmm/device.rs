//! A device that a machine owns: VFIO gives its registers, its interrupt and its DMA, and KVM puts each where the machine has it.
//! The machine has no PCI bus; where the registers are stands in its account.

use super::machine::Failed;
use crate::mapping::{Bar, Mapping};
use crate::vfio::{self, Interrupt, Refusal, Vector};
use crate::workloads::errno_name;
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_userspace_memory_region,
};
use kvm_ioctls::VmFd;
use luqual_program::{DEVICE, DEVICE_VECTOR};
use rustix::fd::{FromRawFd, IntoRawFd, OwnedFd};
use vmm_sys_util::eventfd::EventFd;

/// Memory is in slot 0.
const SLOT: u32 = 1;
/// Behind the pins of the IOAPIC.
const GSI: u32 = 24;
/// Where a message is an interrupt for processor 0 (Intel SDM volume 3, 11.11.1).
const MESSAGES: u32 = 0xfee0_0000;

/// What has to live as long as the machine has the device.
pub(super) struct Device {
    _device: vfio::Device,
    registers: Bar,
    interrupt: EventFd,
}

impl Device {
    /// From here on the machine can use it.
    pub(super) fn attach(vm: &VmFd, memory: &Mapping, device: OwnedFd, iommufd: OwnedFd) -> Result<Self, Failed> {
        let device = vfio::Device::of_descriptors(device, iommufd).map_err(refused)?;
        // What the machine has at an address the device has at the same.
        device.space.map(memory.address(), memory.length() as u64, 0).map_err(refused)?;
        let registers = device.bar(0).map_err(refused)?;
        slot(vm, registers.length() as u64, registers.address())?;
        let [vector] = <[Vector; 1]>::try_from(device.interrupts(Interrupt::Msi, 1).map_err(refused)?)
            .map_err(|_| Failed::Other("the device has not one interrupt".to_owned()))?;
        let interrupt = vector.into_fd().into_raw_fd();
        #[expect(unsafe_code, reason = "one crate's descriptor becomes another's")]
        // SAFETY: it is an eventfd, and nobody else's.
        let interrupt = unsafe { EventFd::from_raw_fd(interrupt) };
        let routes = KvmIrqRouting::from_entries(&routes()).map_err(|error| Failed::Other(format!("{error:?}")))?;
        vm.set_gsi_routing(&routes).map_err(Failed::call("KVM_SET_GSI_ROUTING"))?;
        vm.register_irqfd(&interrupt, GSI).map_err(Failed::call("KVM_IRQFD"))?;
        device.set_bus_master().map_err(refused)?;
        Ok(Self { _device: device, registers, interrupt })
    }

    /// The machine, which does not use it any longer, is without it.
    pub(super) fn detach(self, vm: &VmFd) -> Result<(), Failed> {
        vm.unregister_irqfd(&self.interrupt, GSI).map_err(Failed::call("KVM_IRQFD"))?;
        slot(vm, 0, self.registers.address())
    }
}

fn refused(refusal: Refusal) -> Failed {
    Failed::Other(format!("{}: {}", refusal.call, errno_name(refusal.errno)))
}

/// So many bytes of registers; none is no slot.
fn slot(vm: &VmFd, size: u64, address: u64) -> Result<(), Failed> {
    let region = kvm_userspace_memory_region {
        slot: SLOT,
        flags: 0,
        guest_phys_addr: DEVICE,
        memory_size: size,
        userspace_addr: address,
    };
    #[expect(unsafe_code, reason = "a machine's memory is what the kernel is told it is")]
    // SAFETY: registers of a device, mapped as long as the slot is there; the slot ends before they do.
    unsafe { vm.set_user_memory_region(region) }.map_err(Failed::call("KVM_SET_USER_MEMORY_REGION"))
}

/// Those that a machine has from KVM (arch/x86/kvm/irq.c, default_routing), and the device's.
fn routes() -> Vec<kvm_irq_routing_entry> {
    let pin = |gsi: u32, irqchip: u32, pin: u32| {
        let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
        entry.u.irqchip.irqchip = irqchip;
        entry.u.irqchip.pin = pin;
        entry
    };
    let masters = (0..8).map(|gsi| pin(gsi, KVM_IRQCHIP_PIC_MASTER, gsi));
    let slaves = (8..16).map(|gsi| pin(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8));
    let pins = (0..GSI).map(|gsi| pin(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    let mut message = kvm_irq_routing_entry { gsi: GSI, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    message.u.msi.address_lo = MESSAGES;
    message.u.msi.data = u32::from(DEVICE_VECTOR);
    masters.chain(slaves).chain(pins).chain([message]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pin_goes_where_it_went_and_the_device_has_its_own() {
        let routes = routes();
        let gsis: Vec<u32> = routes.iter().map(|route| route.gsi).collect();
        assert_eq!(gsis.iter().filter(|gsi| **gsi < 16).count(), 32, "a PC's interrupts go to both");
        assert_eq!(gsis.iter().max(), Some(&GSI));
        assert_eq!(gsis.iter().filter(|gsi| **gsi == GSI).count(), 1);
    }
}
