//! Injects faults into the device of a workload, from outside of the guest.

use super::fault::{DeviceFault, Fault, InjectionPoint};
use crate::judge::Stop;
use crate::lab::Machine;
use crate::observe::Watched;
use luqual_model::PciAddress;

/// Injects a fault of a device, if it is due now.
pub(crate) async fn into_device(
    fault: Option<&Fault>,
    now: InjectionPoint,
    machine: &dyn Machine,
    watched: Option<&Watched>,
) -> Result<(), Stop> {
    let Some(Fault::Device(fault)) = fault else { return Ok(()) };
    if fault.point() != now {
        return Ok(());
    }
    let Some(watched) = watched else {
        return Err(Stop::Requirement("the workload owns no device into which a fault could be injected".to_owned()));
    };
    let device = Reached { machine, watched };
    match fault {
        DeviceFault::BarMoved => device.move_bar().await,
        DeviceFault::DmaWrite => device.write_by_dma().await,
        DeviceFault::InterruptLost => device.lose_interrupts().await,
        DeviceFault::Reset => device.reset().await,
        DeviceFault::Unplugged => device.power_off().await,
        DeviceFault::Untraced => machine.trace_no_dma().await.map_err(Stop::Host),
    }
}

/// A device that is accessed from outside of the guest.
struct Reached<'a> {
    machine: &'a dyn Machine,
    watched: &'a Watched,
}

/// Configuration space (PCI Local Bus Specification 3.0, 6.1) and capabilities (PCI Code and ID Assignment Specification, 2).
const COMMAND: u8 = 0x04;
const MEMORY_AND_BUS_MASTER: u32 = 1 << 1 | 1 << 2;
const FIRST_BAR: u8 = 0x10;
const CAPABILITIES: u8 = 0x34;
const CAPABILITY_MSI: u8 = 0x05;
const CAPABILITY_EXPRESS: u8 = 0x10;
const CAPABILITY_MSI_X: u8 = 0x11;

impl Reached<'_> {
    async fn read(&self, of: PciAddress, offset: u8) -> Result<u32, Stop> {
        self.machine.config(of, offset).await.map_err(Stop::Host)
    }

    async fn write(&self, of: PciAddress, offset: u8, value: u32) -> Result<(), Stop> {
        self.machine.set_config(of, offset, value).await.map_err(Stop::Host)
    }

    async fn capability(&self, of: PciAddress, wanted: u8) -> Result<Option<u8>, Stop> {
        let mut at = self.read(of, CAPABILITIES).await? as u8 & !3;
        // The limit ends a circular list.
        for _ in 0..48 {
            if at < 0x40 {
                break;
            }
            let header = self.read(of, at).await?;
            if header as u8 == wanted {
                return Ok(Some(at));
            }
            at = (header >> 8) as u8 & !3;
        }
        Ok(None)
    }

    fn lacks(&self, what: &str) -> Stop {
        Stop::Requirement(format!("{} {what}", self.watched.name()))
    }

    /// Moves the first BAR 64 MiB down, to an address that no other device has.
    async fn move_bar(&self) -> Result<(), Stop> {
        let function = self.watched.address();
        let bar = self.read(function, FIRST_BAR).await?;
        self.write(function, FIRST_BAR, bar.wrapping_sub(64 << 20)).await
    }

    /// Makes the device write 8 bytes of its buffer, 100 ms after the command (QEMU docs/specs/edu.rst).
    async fn write_by_dma(&self) -> Result<(), Stop> {
        if self.watched.name() != "edu" {
            return Err(self.lacks("has no DMA that the host can start"));
        }
        let Some(page) = self.watched.quiet().nth(QUIET_PAGE) else {
            return Err(self.lacks("reaches no preserved page"));
        };
        let function = self.watched.address();
        let command = self.read(function, COMMAND).await?;
        self.write(function, COMMAND, command & 0xffff | MEMORY_AND_BUS_MASTER).await?;
        let registers = u64::from(self.read(function, FIRST_BAR).await? & !0xf);
        for (register, value) in [(0x80, 0x40000), (0x88, page), (0x90, 8), (0x98, 1 | 2)] {
            self.machine.set_register(registers + register, value).await.map_err(Stop::Host)?;
        }
        Ok(())
    }

    /// Clears the enable bits of MSI and MSI-X.
    async fn lose_interrupts(&self) -> Result<(), Stop> {
        let function = self.watched.address();
        let mut lost = false;
        for (capability, enable) in [(CAPABILITY_MSI, 1 << 16), (CAPABILITY_MSI_X, 1 << 31)] {
            let Some(at) = self.capability(function, capability).await? else { continue };
            let control = self.read(function, at).await?;
            lost |= control & enable != 0;
            self.write(function, at, control & !enable).await?;
        }
        if lost { Ok(()) } else { Err(self.lacks("has no interrupt that is enabled")) }
    }

    /// Resets the function (PCI Express Base Specification, 6.6.2), and restores its command register and BARs as a
    /// kernel does.
    async fn reset(&self) -> Result<(), Stop> {
        let function = self.watched.address();
        let express = self.capability(function, CAPABILITY_EXPRESS).await?;
        let express = express.ok_or_else(|| self.lacks("has no function level reset"))?;
        if self.read(function, express + 4).await? & 1 << 28 == 0 {
            return Err(self.lacks("has no function level reset"));
        }
        let restored = [COMMAND, FIRST_BAR, 0x14, 0x18, 0x1c, 0x20, 0x24];
        let mut known = Vec::new();
        for offset in restored {
            known.push((offset, self.read(function, offset).await?));
        }
        let control = self.read(function, express + 8).await?;
        self.write(function, express + 8, control & 0xffff | 1 << 15).await?;
        // The command register comes last, since it enables the others. Writing to its upper half clears bits.
        for (offset, value) in known.into_iter().rev() {
            self.write(function, offset, if offset == COMMAND { value & 0xffff } else { value }).await?;
        }
        Ok(())
    }

    /// Switches the slot's power off, by the slot control of the port (PCI Express Base Specification, 7.5.3.10).
    async fn power_off(&self) -> Result<(), Stop> {
        const SLOT_CONTROL: u8 = 0x18;
        const OFF: u32 = 3 << 8 | 1 << 10;
        let port = self.watched.port().ok_or_else(|| self.lacks("is not in a slot that can be powered off"))?;
        let express = self.capability(port, CAPABILITY_EXPRESS).await?;
        let at = express.ok_or_else(|| self.lacks("is not behind a PCI Express port"))? + SLOT_CONTROL;
        let control = self.read(port, at).await?;
        self.write(port, at, control & 0xffff | OFF).await
    }
}

/// The index of the quiet page to write; no driver uses this one.
const QUIET_PAGE: usize = 20;
