//! The start of the machines, in the first source.

use super::control_plane::ControlPlane;
use super::spec::{System, VmSpec};
use super::vm::{Vm, start_monitor};
use crate::helper::Helper;
use crate::log::say;
use crate::memfd::Memfd;
use crate::nested_init;
use crate::own;
use crate::pci::Function;
use crate::vmm::orchestrator::SESSION;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use luqual_protocol::{AGENT, Archive, Kernel};
use rustix::fd::AsFd;
use std::fs::File;

type Done = Result<(), StepError>;

/// How many attempts a machine has to start working. Under QEMU's emulation one of some dozens of machines triple-faults at its
/// start, long before anything is preserved, which says nothing about the update.
const ATTEMPTS: u32 = 2;

/// In the first source: starts all machines, and waits until they work.
pub(super) fn boot(context: &mut Context) -> Done {
    let (spec, seed) = (context.vm_spec(), context.seed());
    let started = (0..spec.count).map(|number| start(spec, number, seed));
    for mut vm in started.collect::<Result<Vec<_>, StepError>>()? {
        let mut attempts_left = ATTEMPTS;
        while !vm.works() {
            let told = format!("the {} does not work: {}", vm.name, vm.summary());
            attempts_left -= 1;
            if attempts_left == 0 {
                return Err(StepError::Agent(told));
            }
            say(&format!("luqual-agent: {told}; it starts again"));
            vm = start(spec, vm.number, seed)?;
        }
        context.vms.push(vm);
    }
    let control_plane = ControlPlane::start(context.session_name(SESSION))?;
    for vm in &context.vms {
        control_plane.add_monitor(vm.number, &vm.monitor)?;
        if spec.has_device {
            attach(context, &control_plane, vm)?;
            if !vm.uses_device(0) {
                return Err(StepError::Agent(format!("the {} does not use its device: {}", vm.name, vm.summary())));
            }
        }
    }
    context.control_plane = Some(control_plane);
    Ok(())
}

/// Gives a machine the case's device.
pub(super) fn attach(context: &Context, control_plane: &ControlPlane, vm: &Vm) -> Done {
    let function = Function { address: context.address()?.to_owned() };
    function.bind("vfio-pci").map_err(StepError::Missing)?;
    let node = function.cdev().map_err(StepError::Missing)?;
    control_plane.attach(vm.number, &format!("/dev/vfio/devices/{node}"))
}

/// Starts a machine.
fn start(spec: VmSpec, number: u64, seed: u64) -> Result<Vm, StepError> {
    let monitor = start_monitor()?;
    let (seed, mib) = (seed.wrapping_add(number << 32), spec.mib);
    let boot = match spec.system {
        System::Program => format!("boot {} {mib} {seed}", spec.cpus),
        System::Linux => {
            give_linux(&monitor)?;
            format!("boot-linux {mib} {seed}")
        }
    };
    monitor.tell(&boot, None).map_err(StepError::Agent)?;
    monitor.tell("run", None).map_err(StepError::Agent)?;
    Vm::new(number, spec, monitor)
}

/// Gives a monitor the target's kernel, which the guest carries, and an initramfs with this agent as /init.
fn give_linux(monitor: &Helper) -> Done {
    let kernel = File::open(Kernel::Target.path()).map_err(StepError::agent(Kernel::Target.path()))?;
    let agent = std::fs::read(own::FILE).map_err(StepError::agent(AGENT))?;
    let file = Memfd::blank("initrd", 0).make(0).map_err(StepError::agent("the machine's initramfs"))?;
    let mut archive = Archive::new(&file);
    let written = archive.file(nested_init::PATH, 0o755, &agent).and_then(|()| archive.finish().map(drop));
    written.map_err(StepError::agent("the machine's initramfs"))?;
    let given = [("take kernel", kernel.as_fd()), ("take initrd", file.as_fd())];
    given.into_iter().try_for_each(|(words, fd)| monitor.tell(words, Some(fd))).map_err(StepError::Agent)
}
