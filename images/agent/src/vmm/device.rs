//! A device that is passed through to a machine. VFIO provides its registers, its interrupt and its DMA, and KVM maps them into the
//! machine, which has no PCI bus: its account says where the registers are.

use super::error::VmmError;
use crate::errno::errno_name;
use crate::mapping::{Bar, Mapping};
use crate::vfio::{self, Interrupt, Refusal, Vector};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_userspace_memory_region,
};
use kvm_ioctls::VmFd;
use luqual_program::{DEVICE, DEVICE_VECTOR};
use rustix::fd::{FromRawFd, IntoRawFd, OwnedFd};
use vmm_sys_util::eventfd::EventFd;

/// The memory slot of the registers. The machine's memory has slot 0.
const SLOT: u32 = 1;
/// The interrupt line of the device, behind the pins of the IOAPIC.
const GSI: u32 = 24;
/// The address of messages that interrupt processor 0 (Intel SDM volume 3, 11.11.1).
const MESSAGES: u32 = 0xfee0_0000;

/// The parts of the device, which live as long as the machine has it.
pub(super) struct Device {
    _device: vfio::Device,
    registers: Bar,
    interrupt: EventFd,
}

impl Device {
    /// Passes the device through to a running machine.
    pub(super) fn attach(vm: &VmFd, memory: &Mapping, device: OwnedFd, iommufd: OwnedFd) -> Result<Self, VmmError> {
        let device = vfio::Device::of_descriptors(device, iommufd).map_err(refused)?;
        // Machine and device have the memory at the same addresses.
        device.space.map(memory.address(), memory.length() as u64, 0).map_err(refused)?;
        let registers = device.bar(0).map_err(refused)?;
        slot(vm, registers.length() as u64, registers.address())?;
        let [vector] = <[Vector; 1]>::try_from(device.interrupts(Interrupt::Msi, 1).map_err(refused)?)
            .map_err(|_| VmmError::Other("the device has not one interrupt".to_owned()))?;
        let interrupt = vector.into_fd().into_raw_fd();
        #[expect(unsafe_code, reason = "one crate's descriptor becomes another's")]
        // SAFETY: it is an eventfd that nothing else owns.
        let interrupt = unsafe { EventFd::from_raw_fd(interrupt) };
        let routes = KvmIrqRouting::from_entries(&routes()).map_err(|error| VmmError::Other(format!("{error:?}")))?;
        vm.set_gsi_routing(&routes).map_err(VmmError::call("KVM_SET_GSI_ROUTING"))?;
        vm.register_irqfd(&interrupt, GSI).map_err(VmmError::call("KVM_IRQFD"))?;
        device.set_bus_master().map_err(refused)?;
        Ok(Self { _device: device, registers, interrupt })
    }

    /// Takes the device from a machine that no longer uses it.
    pub(super) fn detach(self, vm: &VmFd) -> Result<(), VmmError> {
        vm.unregister_irqfd(&self.interrupt, GSI).map_err(VmmError::call("KVM_IRQFD"))?;
        slot(vm, 0, self.registers.address())
    }
}

fn refused(refusal: Refusal) -> VmmError {
    VmmError::Other(format!("{}: {}", refusal.call, errno_name(refusal.errno)))
}

/// Maps this many bytes of registers into the machine; 0 removes the mapping.
fn slot(vm: &VmFd, size: u64, address: u64) -> Result<(), VmmError> {
    let region = kvm_userspace_memory_region {
        slot: SLOT,
        flags: 0,
        guest_phys_addr: DEVICE,
        memory_size: size,
        userspace_addr: address,
    };
    #[expect(unsafe_code, reason = "a machine's memory is what the kernel is told it is")]
    // SAFETY: registers of a device, mapped as long as the slot is there; the slot ends before they do.
    unsafe { vm.set_user_memory_region(region) }.map_err(VmmError::call("KVM_SET_USER_MEMORY_REGION"))
}

/// KVM's default interrupt routes (arch/x86/kvm/irq.c, default_routing), and the device's.
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
    fn the_default_routes_stay_and_the_device_has_its_own() {
        let routes = routes();
        let gsis: Vec<u32> = routes.iter().map(|route| route.gsi).collect();
        assert_eq!(gsis.iter().filter(|gsi| **gsi < 16).count(), 32, "a PC's interrupts go to both");
        assert_eq!(gsis.iter().max(), Some(&GSI));
        assert_eq!(gsis.iter().filter(|gsi| **gsi == GSI).count(), 1);
    }
}
