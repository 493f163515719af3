//! A machine and its processors. A type for each of its two states, paused and running, has the operations of that state.

use super::error::VmmError;
use super::linux;
use super::serial::{self, Serial};
use super::state::{State, set_tsc_offset};
use crate::mapping::Mapping;
use crate::tsc;
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_RUNNABLE, KVM_PIT_SPEAKER_DUMMY, kvm_dtable, kvm_mp_state,
    kvm_pit_config, kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region, kvm_xcrs,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use luqual_program::{ACCOUNTS, BOOT_TABLES, DOORBELL, PAGE, PROGRAM, WORK, Word, stack};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// The bare-metal program of `images/program`.
const IMAGE: &[u8] = include_bytes!(env!("LUQUAL_PROGRAM"));

/// The address of three pages that Intel's processors need for themselves (KVM_SET_TSS_ADDR), outside of the memory of a PC.
const TSS: usize = 0xfffb_d000;

/// The data ports of PCI configuration (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const PCI_DATA: u16 = 0xcfc;
const PCI_DATA_LAST: u16 = 0xcff;

/// A machine whose processors do not run.
pub(crate) struct Paused {
    kvm: Kvm,
    vm: VmFd,
    /// The machine's memory, which has to stay mapped.
    memory: Mapping,
    serial: Arc<Mutex<Serial>>,
    cpus: Vec<VcpuFd>,
}

/// What a machine boots.
pub(crate) enum Image<'a> {
    /// The program, on this many processors.
    Program { cpus: u64, seed: u64 },
    /// A bzImage, its initramfs, and its command line.
    Linux { kernel: &'a [u8], initrd: &'a [u8], command_line: &'a str },
}

/// A machine whose processors run, each in a thread.
pub(crate) struct Running {
    kvm: Kvm,
    vm: VmFd,
    memory: Mapping,
    serial: Arc<Mutex<Serial>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<VcpuFd, VmmError>>>,
}

impl Paused {
    /// A new machine with this image in its memory, before its first instruction.
    pub(crate) fn boot(kvm: Kvm, memory: &File, image: &Image<'_>) -> Result<Self, VmmError> {
        let cpus = if let Image::Program { cpus, .. } = image { *cpus } else { 1 };
        let mut machine = Self::make(kvm, memory, cpus, String::new())?;
        machine.map_low();
        let entry = match image {
            Image::Program { cpus, seed } => machine.load(*cpus, *seed),
            Image::Linux { kernel, initrd, command_line } => {
                linux::load(&mut machine.memory, kernel, initrd, command_line).map_err(VmmError::Other)?
            }
        };
        // A Linux enables its extended state itself.
        let has_extended = matches!(image, Image::Program { .. });
        let supported = machine.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let supported = supported.map_err(VmmError::call("KVM_GET_SUPPORTED_CPUID"))?;
        let begun = tsc::read();
        for (number, cpu) in machine.cpus.iter().enumerate() {
            let cpuid = own_cpuid(&supported, number as u32).map_err(VmmError::Other)?;
            cpu.set_cpuid2(&cpuid).map_err(VmmError::call("KVM_SET_CPUID2"))?;
            set_tsc_offset(cpu, begun.wrapping_neg())?;
            let found = cpu.get_sregs().map_err(VmmError::call("KVM_GET_SREGS"))?;
            cpu.set_sregs(&at_start(found, has_extended)).map_err(VmmError::call("KVM_SET_SREGS"))?;
            if has_extended {
                cpu.set_xcrs(&extended(&cpuid)?).map_err(VmmError::call("KVM_SET_XCRS"))?;
            }
            let regs = kvm_regs {
                rip: entry,
                rsp: stack(number as u64),
                rdi: number as u64,
                rsi: linux::PARAMETERS,
                rflags: 2,
                ..kvm_regs::default()
            };
            cpu.set_regs(&regs).map_err(VmmError::call("KVM_SET_REGS"))?;
            // By default all processors but the first wait for a startup message.
            let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
            cpu.set_mp_state(runnable).map_err(VmmError::call("KVM_SET_MP_STATE"))?;
        }
        Ok(machine)
    }

    /// Restores a saved machine around its memory.
    pub(crate) fn restore(kvm: Kvm, memory: &File, state: &State) -> Result<Self, VmmError> {
        let machine = Self::make(kvm, memory, state.cpus.len() as u64, state.serial.clone())?;
        state.restore(&machine.vm, &machine.cpus)?;
        Ok(machine)
    }

    fn make(kvm: Kvm, memory: &File, cpus: u64, line: String) -> Result<Self, VmmError> {
        let agent = |error: std::io::Error| VmmError::Other(format!("the machine's memory: {error}"));
        let size = memory.metadata().map_err(agent)?.len();
        let serial = Serial::new(memory.try_clone().map_err(agent)?, line);
        let memory = Mapping::of_file(memory, size as usize).map_err(agent)?;
        let vm = kvm.create_vm().map_err(VmmError::call("KVM_CREATE_VM"))?;
        vm.set_tss_address(TSS).map_err(VmmError::call("KVM_SET_TSS_ADDR"))?;
        vm.create_irq_chip().map_err(VmmError::call("KVM_CREATE_IRQCHIP"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
        vm.create_pit2(pit).map_err(VmmError::call("KVM_CREATE_PIT2"))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: size,
            userspace_addr: memory.address(),
        };
        #[expect(unsafe_code, reason = "a machine's memory is what the kernel is told it is")]
        // SAFETY: the mapping is the machine's, and lives as long as it.
        unsafe { vm.set_user_memory_region(region) }.map_err(VmmError::call("KVM_SET_USER_MEMORY_REGION"))?;
        let made = (0..cpus).map(|number| vm.create_vcpu(number).map_err(VmmError::call("KVM_CREATE_VCPU")));
        let cpus = made.collect::<Result<Vec<VcpuFd>, VmmError>>()?;
        for cpu in &cpus {
            // Sets the frequency to what the kernel has measured by now. KVM's default is from its own start, when the measurement
            // was coarse. A machine whose frequency differs by more than 250 ppm needs a scaled counter; on a processor without
            // scaling its counter would not match its clock (arch/x86/kvm/x86.c, kvm_set_tsc_khz()).
            cpu.set_tsc_khz(0).map_err(VmmError::call("KVM_SET_TSC_KHZ"))?;
        }
        Ok(Self { kvm, vm, memory, serial: Arc::new(Mutex::new(serial)), cpus })
    }

    /// Writes the initial page tables: the first GiB, present and writable, in pages of 2 MiB.
    fn map_low(&mut self) {
        let memory = &mut self.memory;
        memory.store(BOOT_TABLES, (BOOT_TABLES + PAGE) | 3);
        memory.store(BOOT_TABLES + PAGE, (BOOT_TABLES + 2 * PAGE) | 3);
        for index in 0..512 {
            memory.store(BOOT_TABLES + 2 * PAGE + index * 8, (index << 21) | 0x83);
        }
    }

    /// Loads the program with its parameters. Returns its entry point.
    fn load(&mut self, cpus: u64, seed: u64) -> u64 {
        let memory = &mut self.memory;
        memory.write(PROGRAM as usize, IMAGE);
        let pages = (memory.length() as u64 - WORK) / PAGE / cpus;
        for cpu in 0..cpus {
            let mut tell = |word: Word, value| memory.store(ACCOUNTS + cpu * PAGE + word as u64 * 8, value);
            tell(Word::Seed, seed ^ cpu);
            tell(Word::Pages, pages);
            tell(Word::First, WORK + cpu * pages * PAGE);
        }
        PROGRAM
    }

    /// Starts the processors.
    pub(crate) fn start(self) -> Result<Running, VmmError> {
        extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
        register_signal_handler(SIGRTMIN(), nothing).map_err(|error| VmmError::Other(format!("a signal: {error}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = self.cpus.into_iter().map(|cpu| {
            let (stop, serial) = (stop.clone(), self.serial.clone());
            std::thread::spawn(move || run(cpu, &stop, &serial))
        });
        let threads = threads.collect();
        Ok(Running { kvm: self.kvm, vm: self.vm, memory: self.memory, serial: self.serial, threads, stop })
    }

    /// The machine's state beside its memory.
    pub(crate) fn save(&self) -> Result<State, VmmError> {
        State::save(&self.kvm, &self.vm, &self.cpus, lock(&self.serial).line.clone())
    }

    /// KVM's descriptors of the machine and of its first processor.
    pub(crate) fn descriptors(&self) -> (&VmFd, Option<&VcpuFd>) {
        (&self.vm, self.cpus.first())
    }
}

impl Running {
    /// The parts to which a device is attached.
    pub(super) fn parts(&self) -> (&VmFd, &Mapping) {
        (&self.vm, &self.memory)
    }

    /// Stops each processor between two instructions, with no exit half handled.
    pub(crate) fn pause(self) -> Result<Paused, VmmError> {
        self.stop.store(true, Ordering::SeqCst);
        let mut cpus = Vec::new();
        for thread in self.threads {
            // KVM_RUN does not see a signal that arrives before it, so the signal is sent until the thread has ended.
            while !thread.is_finished() {
                let _ = thread.kill(SIGRTMIN());
                std::thread::sleep(Duration::from_millis(1));
            }
            cpus.push(thread.join().map_err(|_| VmmError::Other("a processor's thread panicked".to_owned()))??);
        }
        Ok(Paused { kvm: self.kvm, vm: self.vm, memory: self.memory, serial: self.serial, cpus })
    }
}

fn lock(serial: &Mutex<Serial>) -> MutexGuard<'_, Serial> {
    serial.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a processor until it is told to stop.
fn run(mut cpu: VcpuFd, stop: &AtomicBool, serial: &Mutex<Serial>) -> Result<VcpuFd, VmmError> {
    const AGAIN: [i32; 2] = [libc::EINTR, libc::EAGAIN];
    while !stop.load(Ordering::SeqCst) {
        match cpu.run() {
            Err(error) if AGAIN.contains(&error.errno()) => {}
            Err(error) => return Err(VmmError::call("KVM_RUN")(error)),
            // The processor waits for its timer of 10 ms, so others may run. At each exit QEMU's emulation can lose an interrupt of
            // the guest's own (docs/vmm.md), so the sleep keeps the number of exits small.
            Ok(VcpuExit::IoOut(DOORBELL, _)) => std::thread::sleep(Duration::from_millis(5)),
            Ok(VcpuExit::IoOut(port @ serial::FIRST..=serial::LAST, bytes)) => lock(serial).write(port, bytes),
            Ok(VcpuExit::IoIn(port @ serial::FIRST..=serial::LAST, bytes)) => Serial::read(port, bytes),
            // No device has the other ports: PCI has no functions, and the PC's clock stands still.
            Ok(VcpuExit::IoIn(PCI_DATA..=PCI_DATA_LAST, bytes)) => bytes.fill(0xff),
            Ok(VcpuExit::IoIn(_, bytes)) => bytes.fill(0),
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
            Ok(VcpuExit::MmioRead(_, bytes)) => bytes.fill(0xff),
            Ok(exit) => {
                let exit = format!("the machine ended: {exit:?}");
                return Err(VmmError::Other(format!("{exit}; its last output: {}", lock(serial).last())));
            }
        }
    }
    // The next KVM_RUN completes the last exit. With this flag it then returns at once.
    cpu.set_kvm_immediate_exit(1);
    let left = cpu.run().map(|exit| format!("{exit:?}"));
    cpu.set_kvm_immediate_exit(0);
    match left {
        Err(error) if error.errno() == libc::EINTR => Ok(cpu),
        Err(error) => Err(VmmError::call("KVM_RUN")(error)),
        Ok(exit) => Err(VmmError::Other(format!("a virtual processor did not stop: {exit}"))),
    }
}

/// A processor's CPUID: everything that KVM supports, and the processor's number.
fn own_cpuid(supported: &CpuId, number: u32) -> Result<CpuId, String> {
    let mut entries = supported.as_slice().to_vec();
    for entry in &mut entries {
        match entry.function {
            1 => entry.ebx = (entry.ebx & 0x00ff_ffff) | (number << 24),
            0xb | 0x1f => entry.edx = number,
            _ => {}
        }
    }
    CpuId::from_entries(&entries).map_err(|error| format!("CPUID: {error:?}"))
}

/// XCR0 with the parts enabled for which the program has patterns: x87, SSE and AVX.
fn extended(cpuid: &CpuId) -> Result<kvm_xcrs, VmmError> {
    let has = cpuid.as_slice().iter().find(|entry| (entry.function, entry.index) == (0xd, 0));
    let has = has.ok_or_else(|| VmmError::Other("the processor has no XSAVE".to_owned()))?;
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
    xcrs.xcrs[0].value = u64::from(has.eax & 0b111);
    Ok(xcrs)
}

/// The registers of 64-bit mode with the tables of [`Paused::map_low`] (Intel SDM volume 3, 10.8.5.4).
fn at_start(found: kvm_sregs, has_extended: bool) -> kvm_sregs {
    /// Protection, extension type, native errors, write protection, alignment mask, paging.
    const CR0: u64 = 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
    /// Physical address extension, SSE and its exceptions.
    const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
    const OSXSAVE: u64 = 1 << 18;
    /// Long mode, on and active.
    const EFER: u64 = 1 << 8 | 1 << 10;
    let segment = |selector, type_, long| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: u8::from(long == 0),
        s: 1,
        l: long,
        g: 1,
        ..kvm_segment::default()
    };
    let (code, data) = (segment(8, 11, 1), segment(16, 3, 0));
    kvm_sregs {
        cs: code,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: kvm_segment { limit: 0xffff, type_: 11, present: 1, ..kvm_segment::default() },
        gdt: kvm_dtable::default(),
        idt: kvm_dtable::default(),
        cr0: CR0,
        cr3: BOOT_TABLES,
        cr4: if has_extended { CR4 | OSXSAVE } else { CR4 },
        efer: EFER,
        ..found
    }
}
