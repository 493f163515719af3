//! `luqual-agent vmm`: the monitor as a process of its own, of any user. It gets every descriptor from the process that starts it,
//! and obeys commands, as a [`crate::helper`] does.

use super::device::Device;
use super::error::VmmError;
use super::linux;
use super::machine::{Image, Paused, Running};
use super::state::State;
use crate::channel::{Answer, DONE, serve};
use crate::errno::errno_name;
use crate::memfd::Memfd;
use crate::wait::until;
use kvm_ioctls::Kvm;
use luqual_program::{ACCOUNTS, DEVICE, Word};
use rustix::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::time::Duration;

/// The machine and its state.
#[derive(Default)]
enum Machine {
    #[default]
    None,
    Paused(Box<Paused>),
    Running(Running),
}

/// The descriptors that the monitor holds, and its machine.
#[derive(Default)]
struct Monitor {
    held: BTreeMap<String, OwnedFd>,
    machine: Machine,
    device: Option<Device>,
}

/// How long a machine may take to give up its device, whose two transfers take 200 ms.
const PATIENCE: Duration = Duration::from_secs(30);

/// Obeys the commands that come over standard input.
pub(crate) fn run() -> Result<(), String> {
    let mut monitor = Monitor::default();
    serve(|words, fd| monitor.obey(words, fd))
}

/// | command | effect |
/// | --- | --- |
/// | `take NAME` | holds the descriptor that comes with it: `kvm`, `memory`, `state`, `kernel`, `initrd`, `vfio`, `iommufd` |
/// | `give NAME` | answers with a copy of it; `vm` and `vcpu` are KVM's descriptors of a paused machine |
/// | `boot CPUS MIB SEED` | makes memory, and a paused machine with the bare-metal program in it |
/// | `boot-linux MIB SEED` | the same with the Linux of `kernel` and `initrd` |
/// | `pause` | pauses the machine, and saves it into `state` |
/// | `restore` | restores a paused machine from `memory` and `state` |
/// | `run` | lets a paused machine run |
/// | `attach` | gives a running machine the device of `vfio` and `iommufd` |
/// | `detach` | has the machine give up the device, and closes it |
///
/// A command whose effect is there already succeeds.
impl Monitor {
    fn obey(&mut self, words: &[&str], fd: Option<OwnedFd>) -> Result<Answer, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
        match (words, std::mem::take(&mut self.machine)) {
            (["take", name], machine) => {
                self.machine = machine;
                self.held.insert((*name).to_owned(), fd.ok_or("no descriptor came with it")?);
            }
            (["give", name @ ("vm" | "vcpu")], Machine::Paused(paused)) => {
                let copy = copy_of(&paused, name);
                self.machine = Machine::Paused(paused);
                return copy.map(|fd| (DONE.to_owned(), Some(fd)));
            }
            (["give", name], machine) => {
                self.machine = machine;
                return Ok((DONE.to_owned(), Some(self.copy(name)?)));
            }
            (["boot", cpus, mib, seed], Machine::None) => {
                let image = Image::Program { cpus: number(cpus)?, seed: number(seed)? };
                self.begin(number(mib)?, &image)?;
            }
            (["boot-linux", mib, seed], Machine::None) => {
                let [kernel, initrd] = [self.content("kernel")?, self.content("initrd")?];
                let command_line = linux::command_line(number(seed)?);
                let image = Image::Linux { kernel: &kernel, initrd: &initrd, command_line: &command_line };
                self.begin(number(mib)?, &image)?;
            }
            (["restore"], Machine::None) => {
                let state = State::read_from(&File::from(self.copy("state")?))?;
                let memory = File::from(self.copy("memory")?);
                let machine = Paused::restore(self.kvm()?, &memory, &state).map_err(message)?;
                self.machine = Machine::Paused(Box::new(machine));
            }
            (["run"], Machine::Paused(paused)) => self.machine = Machine::Running(paused.start().map_err(message)?),
            (["pause"], Machine::Running(running)) if self.device.is_none() => {
                let paused = running.pause().map_err(message)?;
                let state = paused.save().map_err(message)?.into_memfd()?;
                self.held.insert("state".to_owned(), state.into());
                self.machine = Machine::Paused(Box::new(paused));
            }
            (["attach"], Machine::Running(running)) => {
                let attached = self.attach(&running);
                self.machine = Machine::Running(running);
                self.device = Some(attached?);
            }
            (["detach"], Machine::Running(running)) => {
                let detached = self.device.take().map_or(Ok(()), |device| detach(device, &running));
                self.machine = Machine::Running(running);
                detached?;
            }
            // The effect is there already.
            (["detach" | "pause" | "restore"], machine @ Machine::Paused(_))
            | (["restore" | "run"], machine @ Machine::Running(_)) => {
                self.machine = machine;
            }
            (words, machine) => {
                self.machine = machine;
                return Err(format!("the monitor cannot {} in its present state", words.join(" ")));
            }
        }
        Ok((DONE.to_owned(), None))
    }

    fn begin(&mut self, mib: u64, image: &Image<'_>) -> Result<(), String> {
        let memory = Memfd::blank("memory", mib << 20).make(0).map_err(|error| format!("memfd: {error}"))?;
        let machine = Paused::boot(self.kvm()?, &memory, image).map_err(message)?;
        self.machine = Machine::Paused(Box::new(machine));
        self.held.insert("memory".to_owned(), memory.into());
        Ok(())
    }

    fn attach(&mut self, running: &Running) -> Result<Device, String> {
        let mut take = |name: &str| self.held.remove(name).ok_or_else(|| format!("{name} is not held"));
        let (vm, memory) = running.parts();
        let device = Device::attach(vm, memory, take("vfio")?, take("iommufd")?).map_err(message)?;
        memory.fill(DEVICE_ASKED, &DEVICE.to_le_bytes());
        Ok(device)
    }

    fn content(&self, name: &str) -> Result<Vec<u8>, String> {
        let mut file = File::from(self.copy(name)?);
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|error| format!("{name}: {error}"))?;
        Ok(bytes)
    }

    fn copy(&self, name: &str) -> Result<OwnedFd, String> {
        let fd = self.held.get(name).ok_or_else(|| format!("{name} is not held"))?;
        fd.try_clone().map_err(|error| format!("dup: {error}"))
    }

    fn kvm(&self) -> Result<Kvm, String> {
        let fd = self.copy("kvm")?.into_raw_fd();
        #[expect(unsafe_code, reason = "the descriptor was opened by another process")]
        // SAFETY: nothing else owns it. If it were not /dev/kvm, the first call would fail.
        unsafe {
            Ok(Kvm::from_raw_fd(fd))
        }
    }
}

/// The words of a machine's account that name the device that it may use, and the device that it uses.
const DEVICE_ASKED: usize = ACCOUNTS as usize + Word::DeviceAsked as usize * 8;
const DEVICE_USED: usize = ACCOUNTS as usize + Word::Device as usize * 8;

fn detach(device: Device, running: &Running) -> Result<(), String> {
    let (vm, memory) = running.parts();
    memory.fill(DEVICE_ASKED, &0_u64.to_le_bytes());
    let uses = || memory.word(DEVICE_USED) != 0;
    if !until(PATIENCE, || !uses()) {
        return Err("the machine does not give up its device".to_owned());
    }
    device.detach(vm).map_err(message)
}

fn copy_of(paused: &Paused, name: &str) -> Result<OwnedFd, String> {
    use rustix::fd::{AsRawFd, BorrowedFd};
    let (vm, cpu) = paused.descriptors();
    let raw = if name == "vm" { Some(vm.as_raw_fd()) } else { cpu.map(AsRawFd::as_raw_fd) };
    let raw = raw.ok_or("it has no processor")?;
    #[expect(unsafe_code, reason = "the crate lends no descriptor of its own")]
    // SAFETY: the machine, which has it open, is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(raw) };
    fd.try_clone_to_owned().map_err(|error| format!("dup: {error}"))
}

/// The answer for an error.
fn message(error: VmmError) -> String {
    match error {
        VmmError::Kernel(call, errno) => format!("{call}: {}", errno_name(errno)),
        VmmError::Other(why) => why,
    }
}
