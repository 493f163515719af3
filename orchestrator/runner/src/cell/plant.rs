//! Faults that are planted in a boot while it runs.

use super::devices::Watched;
use super::{Run, explained, host, no_machine};
use crate::evidence::Stop;
use crate::fault::{DeviceFault, Fault, Victim};
use crate::reach::ask;
use luqual_guest::{Agent, LinkError, Output};
use luqual_model::Phase;
use luqual_protocol::{Located, Place, Reply, Request};
use luqual_vm::{Machine, PciAddress};

impl Run<'_> {
    /// A planted flip, between preserve and kexec.
    pub(super) async fn flip(&self, agent: &Agent) -> Result<(), Stop> {
        let Some((place, offset)) = self.host.plant.as_ref().and_then(flipped) else { return Ok(()) };
        // Where a fault is planted, every cell has a boot of its own.
        let workload = self.boot.parts.first().map_or_else(String::new, |part| part.workload.name.to_owned());
        let request = Request::Locate { workload: workload.clone(), place: place.clone() };
        let address = match ask(agent, &request).await? {
            Reply::Located(Located { address: Some(address) }) => address + offset,
            Reply::Located(Located { address: None }) => {
                return Err(Stop::Requirement(format!("{workload} has no {place} in which a fault could be planted")));
            }
            reply => return Err(self.not_done(Phase::Preserve, reply, agent, 1).await),
        };
        let ram = self.machine.as_ref().ok_or_else(no_machine)?.ram();
        let mut byte = [0];
        ram.read(address, &mut byte).map_err(host("the RAM file"))?;
        ram.write(address, &[byte[0] ^ 1]).map_err(host("the RAM file"))
    }

    /// Something of a virtual machine, between preserve and kexec.
    pub(super) async fn spoil(&self, agent: &Agent) -> Result<(), Stop> {
        let Some(Fault::Machine(item)) = self.host.plant else { return Ok(()) };
        let workload = self.boot.parts.first().map_or_else(String::new, |part| part.workload.name.to_owned());
        match ask(agent, &Request::Spoil { workload, item }).await? {
            Reply::Done { .. } => Ok(()),
            reply => Err(self.not_done(Phase::Preserve, reply, agent, 1).await),
        }
    }
}

/// What a planted flip flips.
pub(super) fn flipped(fault: &Fault) -> Option<(Place, u64)> {
    match fault {
        Fault::Flip { memfd, page, offset } => Some((Place::Memfd { memfd: memfd.clone(), page: *page }, *offset)),
        Fault::FlipUnpreserved => Some((Place::Unpreserved, 0)),
        Fault::Kill { .. } | Fault::Kernel { .. } | Fault::Device(_) | Fault::Machine(_) => None,
    }
}

/// When a device can be got at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The source is gone, the target has not spoken.
    Blackout,
    /// The target has taken the device again, and not used it yet.
    Taken,
}

/// A planted fault of a device, if its moment has come.
pub(super) async fn plant_in_device(
    plant: Option<&Fault>,
    now: Moment,
    machine: &Machine,
    watched: Option<&Watched>,
) -> Result<(), Stop> {
    let Some(Fault::Device(fault)) = plant else { return Ok(()) };
    let moment = if *fault == DeviceFault::InterruptLost { Moment::Taken } else { Moment::Blackout };
    if moment != now {
        return Ok(());
    }
    let Some(watched) = watched else {
        return Err(Stop::Requirement("the workload owns no device in which a fault could be planted".to_owned()));
    };
    let device = Planted { machine, watched };
    match fault {
        DeviceFault::BarMoved => device.move_bar().await,
        DeviceFault::DmaWrite => device.write_by_dma().await,
        DeviceFault::InterruptLost => device.lose_interrupts().await,
        DeviceFault::Reset => device.reset().await,
        DeviceFault::Unplugged => device.power_off().await,
    }
}

/// A device that is reached from outside of the guest.
struct Planted<'a> {
    machine: &'a Machine,
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

impl Planted<'_> {
    async fn read(&self, of: PciAddress, offset: u8) -> Result<u32, Stop> {
        self.machine.config(of, offset).await.map_err(explained)
    }

    async fn write(&self, of: PciAddress, offset: u8, value: u32) -> Result<(), Stop> {
        self.machine.set_config(of, offset, value).await.map_err(explained)
    }

    async fn capability(&self, of: PciAddress, wanted: u8) -> Result<Option<u8>, Stop> {
        let mut at = self.read(of, CAPABILITIES).await? as u8 & !3;
        // A list that goes round ends.
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

    /// To an address that nothing else has, 64 MiB below.
    async fn move_bar(&self) -> Result<(), Stop> {
        let function = self.watched.address();
        let bar = self.read(function, FIRST_BAR).await?;
        self.write(function, FIRST_BAR, bar.wrapping_sub(64 << 20)).await
    }

    /// QEMU docs/specs/edu.rst: 8 bytes of its buffer, 100 ms after it was told.
    async fn write_by_dma(&self) -> Result<(), Stop> {
        if self.watched.name() != "edu" {
            return Err(self.lacks("cannot be told from outside to write"));
        }
        let Some(page) = self.watched.quiet().nth(QUIET_PAGE) else {
            return Err(self.lacks("reaches no preserved page"));
        };
        let function = self.watched.address();
        let command = self.read(function, COMMAND).await?;
        self.write(function, COMMAND, command & 0xffff | MEMORY_AND_BUS_MASTER).await?;
        let registers = u64::from(self.read(function, FIRST_BAR).await? & !0xf);
        for (register, value) in [(0x80, 0x40000), (0x88, page), (0x90, 8), (0x98, 1 | 2)] {
            self.machine.set_register(registers + register, value).await.map_err(explained)?;
        }
        Ok(())
    }

    /// The enable bits of MSI and MSI-X.
    async fn lose_interrupts(&self) -> Result<(), Stop> {
        let function = self.watched.address();
        let mut lost = false;
        for (capability, enable) in [(CAPABILITY_MSI, 1 << 16), (CAPABILITY_MSI_X, 1 << 31)] {
            let Some(at) = self.capability(function, capability).await? else { continue };
            let control = self.read(function, at).await?;
            lost |= control & enable != 0;
            self.write(function, at, control & !enable).await?;
        }
        if lost { Ok(()) } else { Err(self.lacks("has no interrupt that is on")) }
    }

    /// By PCI Express (Base Specification, 6.6.2), with its command register and BARs put back as a kernel does.
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
        // The command register last: it is what turns the others on. Its upper half is of bits that writing clears.
        for (offset, value) in known.into_iter().rev() {
            self.write(function, offset, if offset == COMMAND { value & 0xffff } else { value }).await?;
        }
        Ok(())
    }

    /// By its port's slot control (PCI Express Base Specification, 7.5.3.10): indicator and power off.
    async fn power_off(&self) -> Result<(), Stop> {
        const SLOT_CONTROL: u8 = 0x18;
        const OFF: u32 = 3 << 8 | 1 << 10;
        let port = self.watched.port().ok_or_else(|| self.lacks("is in no slot whose power could be turned off"))?;
        let express = self.capability(port, CAPABILITY_EXPRESS).await?;
        let at = express.ok_or_else(|| self.lacks("is behind no PCI Express port"))? + SLOT_CONTROL;
        let control = self.read(port, at).await?;
        self.write(port, at, control & 0xffff | OFF).await
    }
}

/// Which of the quiet pages is written: one that no driver uses.
const QUIET_PAGE: usize = 20;

/// A planted end, if its phase has come; `Err` where it could not be planted, too. Whoever is ended may not be able to say so: it is to
/// be raced with the machine's end.
pub(super) async fn plant_end(
    plant: Option<&Fault>,
    now: Phase,
    machine: &Machine,
    agent: Option<&Agent>,
) -> Result<(), Stop> {
    let fault = match plant {
        Some(Fault::Kill { victim: Victim::Qemu, phase }) if *phase == now => {
            machine.kill();
            return Err(Stop::Machine(machine.wait_end().await));
        }
        Some(Fault::Kill { victim: Victim::Agent, phase }) if *phase == now => "kill serve",
        Some(Fault::Kill { victim: Victim::Holder, phase }) if *phase == now => "kill hold",
        Some(Fault::Kernel { end, phase }) if *phase == now => end.word(),
        _ => return Ok(()),
    };
    match agent {
        Some(agent) => is_planted(fault, agent.plant(fault).await),
        None => Err(not_planted(fault, "there is nobody to do it")),
    }
}

/// Whether somebody in the guest was ended. A connection that is cut is a sign that it was.
fn is_planted(fault: &str, done: Result<Output, LinkError>) -> Result<(), Stop> {
    match done {
        Ok(output) if output.status != 0 => Err(not_planted(fault, String::from_utf8_lossy(&output.stderr).trim_end())),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Of what was not planted nothing can be said.
fn not_planted(fault: &str, why: &str) -> Stop {
    Stop::Host(format!("`{fault}` was not planted: {why}"))
}

/// Pending for ever unless QEMU is to be killed while it boots.
pub(super) async fn kill_when_it_speaks(machine: &Machine, plant: Option<&Fault>) {
    if !matches!(plant, Some(Fault::Kill { victim: Victim::Qemu, phase: Phase::Boot })) {
        return std::future::pending().await;
    }
    machine.console().spoke().await;
    machine.kill();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_could_not_be_planted_is_told() {
        let with = |status| Output { status, stdout: Vec::new(), stderr: b"no process has the role hold\n".to_vec() };
        assert_eq!(is_planted("kill hold", Ok(with(0))), Ok(()));
        let Err(Stop::Host(why)) = is_planted("kill hold", Ok(with(1))) else { panic!("it passes") };
        assert_eq!(why, "`kill hold` was not planted: no process has the role hold");
    }
}
