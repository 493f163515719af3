//! Corruption of a machine between its preservation and the kexec, for a fault that is injected on purpose.

use crate::vmm::State;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use luqual_program::{PAGE, WORK};
use luqual_protocol::Item;
use std::fs::File;

/// Corrupts one item of the first machine.
pub(crate) fn corrupt(context: &mut Context, item: Item) -> Result<(), StepError> {
    let name = context.name();
    let nothing = || StepError::Missing(format!("{name} has no virtual machine into which a fault could be injected"));
    let file = context.held("state").and_then(|fd| fd.try_clone_to_owned().ok()).map(File::from).ok_or_else(nothing)?;
    let mut state = State::read_from(&file).map_err(StepError::Agent)?;
    let cpu = state.cpus.first_mut().ok_or_else(nothing)?;
    match item {
        Item::Register => cpu.regs.rbx ^= 1,
        // A byte of ST(3).
        Item::Fpu => cpu.xsave.region[(32 + 3 * 16) / 4] ^= 1,
        Item::Msr => {
            let lstar = cpu.msrs.iter_mut().find(|entry| entry.index == 0xc000_0082);
            lstar.ok_or_else(nothing)?.data ^= 8;
        }
        Item::Page => {
            let vm = context.vms.first().ok_or_else(nothing)?;
            let at = (WORK + 5 * PAGE + 77) as usize;
            let mut byte = [0];
            vm.memory.read(at, &mut byte);
            vm.memory.fill(at, &[byte[0] ^ 1]);
            return Ok(());
        }
        // The IRR (Intel SDM volume 3, table 12-1) has 16 bytes for each 32 vectors; these are the vectors from 64 on.
        Item::Interrupt => cpu.lapic.regs[0x220..0x224].fill(0),
        // The initial count of the timer, and its current count.
        Item::Timer => {
            cpu.lapic.regs[0x380..0x384].fill(0);
            cpu.lapic.regs[0x390..0x394].fill(0);
        }
        Item::Clock => state.clock.ns += 10_000_000_000,
    }
    state.write_to(&file).map_err(StepError::Agent)
}
