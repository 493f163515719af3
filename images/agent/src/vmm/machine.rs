//! A machine and its processors. It is paused or it runs, and each state has what can be done in it.

use super::linux;
use super::serial::{self, Serial};
use super::state::{State, counter, set_tsc_offset};
use crate::mapping::Mapping;
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_RUNNABLE, KVM_PIT_SPEAKER_DUMMY, kvm_dtable, kvm_mp_state,
    kvm_pit_config, kvm_regs, kvm_segment, kvm_sregs, kvm_userspace_memory_region, kvm_xcrs,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use luqual_program::{ACCOUNTS, BOOT_TABLES, DOORBELL, PAGE, PROGRAM, WORK, Word, stack};
use rustix::io::Errno;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// Why a machine could not be made, saved or put back.
#[derive(Debug)]
pub(crate) enum Failed {
    /// A call that KVM refused.
    Kernel(&'static str, Errno),
    /// Anything else.
    Other(String),
}

impl Failed {
    /// For `map_err` on a call to KVM.
    pub(crate) fn call(name: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Kernel(name, Errno::from_raw_os_error(error.errno()))
    }
}

/// The program that machines run.
const IMAGE: &[u8] = include_bytes!(env!("LUQUAL_PROGRAM"));

/// Three pages behind the memory of a PC that Intel's processors want for themselves (KVM_SET_TSS_ADDR).
const TSS: usize = 0xfffb_d000;

/// Where a PC's PCI bus is asked (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const PCI_DATA: u16 = 0xcfc;
const PCI_DATA_LAST: u16 = 0xcff;

/// A machine whose processors do not run.
pub(crate) struct Paused {
    kvm: Kvm,
    vm: VmFd,
    /// It is the machine's: it has to stay.
    memory: Mapping,
    serial: Arc<Mutex<Serial>>,
    cpus: Vec<VcpuFd>,
}

/// What a machine begins with.
pub(crate) enum Image<'a> {
    /// The program, on so many processors.
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
    threads: Vec<JoinHandle<Result<VcpuFd, Failed>>>,
}

impl Paused {
    /// One with that in its memory, about to begin.
    pub(crate) fn boot(kvm: Kvm, memory: &File, image: &Image<'_>) -> Result<Self, Failed> {
        let cpus = if let Image::Program { cpus, .. } = image { *cpus } else { 1 };
        let mut machine = Self::make(kvm, memory, cpus, String::new())?;
        machine.map_low();
        let entry = match image {
            Image::Program { cpus, seed } => machine.load(*cpus, *seed),
            Image::Linux { kernel, initrd, command_line } => {
                linux::load(&mut machine.memory, kernel, initrd, command_line).map_err(Failed::Other)?
            }
        };
        // What a Linux has of it, it turns on itself.
        let has_extended = matches!(image, Image::Program { .. });
        let supported = machine.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let supported = supported.map_err(Failed::call("KVM_GET_SUPPORTED_CPUID"))?;
        let begun = counter();
        for (number, cpu) in machine.cpus.iter().enumerate() {
            let cpuid = own_cpuid(&supported, number as u32).map_err(Failed::Other)?;
            cpu.set_cpuid2(&cpuid).map_err(Failed::call("KVM_SET_CPUID2"))?;
            set_tsc_offset(cpu, begun.wrapping_neg())?;
            let found = cpu.get_sregs().map_err(Failed::call("KVM_GET_SREGS"))?;
            cpu.set_sregs(&at_start(found, has_extended)).map_err(Failed::call("KVM_SET_SREGS"))?;
            if has_extended {
                cpu.set_xcrs(&extended(&cpuid)?).map_err(Failed::call("KVM_SET_XCRS"))?;
            }
            let regs = kvm_regs {
                rip: entry,
                rsp: stack(number as u64),
                rdi: number as u64,
                rsi: linux::PARAMETERS,
                rflags: 2,
                ..kvm_regs::default()
            };
            cpu.set_regs(&regs).map_err(Failed::call("KVM_SET_REGS"))?;
            // All but the first would wait for it to wake them.
            let runnable = kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
            cpu.set_mp_state(runnable).map_err(Failed::call("KVM_SET_MP_STATE"))?;
        }
        Ok(machine)
    }

    /// The one that was saved, around the memory that it had.
    pub(crate) fn restore(kvm: Kvm, memory: &File, state: &State) -> Result<Self, Failed> {
        let machine = Self::make(kvm, memory, state.cpus.len() as u64, state.serial.clone())?;
        state.put_back(&machine.vm, &machine.cpus)?;
        Ok(machine)
    }

    fn make(kvm: Kvm, memory: &File, cpus: u64, line: String) -> Result<Self, Failed> {
        let agent = |error: std::io::Error| Failed::Other(format!("the machine's memory: {error}"));
        let size = memory.metadata().map_err(agent)?.len();
        let serial = Serial::new(memory.try_clone().map_err(agent)?, line);
        let memory = Mapping::of_file(memory, size as usize).map_err(agent)?;
        let vm = kvm.create_vm().map_err(Failed::call("KVM_CREATE_VM"))?;
        vm.set_tss_address(TSS).map_err(Failed::call("KVM_SET_TSS_ADDR"))?;
        vm.create_irq_chip().map_err(Failed::call("KVM_CREATE_IRQCHIP"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
        vm.create_pit2(pit).map_err(Failed::call("KVM_CREATE_PIT2"))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: size,
            userspace_addr: memory.address(),
        };
        #[expect(unsafe_code, reason = "a machine's memory is what the kernel is told it is")]
        // SAFETY: the mapping is the machine's, and lives as long as it.
        unsafe { vm.set_user_memory_region(region) }.map_err(Failed::call("KVM_SET_USER_MEMORY_REGION"))?;
        let made = (0..cpus).map(|number| vm.create_vcpu(number).map_err(Failed::call("KVM_CREATE_VCPU")));
        let cpus = made.collect::<Result<Vec<VcpuFd>, Failed>>()?;
        for cpu in &cpus {
            // As fast as this kernel knows the counter to be now. KVM knows it from its own start on, when it was not measured as
            // well; a machine that differs by more than 250 ppm needs a counter that is scaled, and where the processor does not
            // do that, it gets none that moves with its clock (arch/x86/kvm/x86.c, kvm_set_tsc_khz()).
            cpu.set_tsc_khz(0).map_err(Failed::call("KVM_SET_TSC_KHZ"))?;
        }
        Ok(Self { kvm, vm, memory, serial: Arc::new(Mutex::new(serial)), cpus })
    }

    /// The tables that a machine begins with: of the first GiB, present, writable; and large, of 2 MiB each.
    fn map_low(&mut self) {
        let memory = &mut self.memory;
        memory.store(BOOT_TABLES, (BOOT_TABLES + PAGE) | 3);
        memory.store(BOOT_TABLES + PAGE, (BOOT_TABLES + 2 * PAGE) | 3);
        for index in 0..512 {
            memory.store(BOOT_TABLES + 2 * PAGE + index * 8, (index << 21) | 0x83);
        }
    }

    /// The program, and what it is told; where it begins.
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

    /// Lets the processors run.
    pub(crate) fn start(self) -> Result<Running, Failed> {
        extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
        register_signal_handler(SIGRTMIN(), nothing).map_err(|error| Failed::Other(format!("a signal: {error}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = self.cpus.into_iter().map(|cpu| {
            let (stop, serial) = (stop.clone(), self.serial.clone());
            std::thread::spawn(move || run(cpu, &stop, &serial))
        });
        let threads = threads.collect();
        Ok(Running { kvm: self.kvm, vm: self.vm, memory: self.memory, serial: self.serial, threads, stop })
    }

    /// What of it is outside of its memory.
    pub(crate) fn save(&self) -> Result<State, Failed> {
        State::save(&self.kvm, &self.vm, &self.cpus, lock(&self.serial).line.clone())
    }

    /// Its descriptors: of the machine, and of its first processor.
    pub(crate) fn descriptors(&self) -> (&VmFd, Option<&VcpuFd>) {
        (&self.vm, self.cpus.first())
    }
}

impl Running {
    /// What a device is attached to, and detached from.
    pub(super) fn parts(&self) -> (&VmFd, &Mapping) {
        (&self.vm, &self.memory)
    }

    /// Stops each processor between two instructions, with nothing half done.
    pub(crate) fn pause(self) -> Result<Paused, Failed> {
        self.stop.store(true, Ordering::SeqCst);
        let mut cpus = Vec::new();
        for thread in self.threads {
            // One that comes before KVM_RUN is not seen by it: it is sent until it was.
            while !thread.is_finished() {
                let _ = thread.kill(SIGRTMIN());
                std::thread::sleep(Duration::from_millis(1));
            }
            cpus.push(thread.join().map_err(|_| Failed::Other("a processor's thread panicked".to_owned()))??);
        }
        Ok(Paused { kvm: self.kvm, vm: self.vm, memory: self.memory, serial: self.serial, cpus })
    }
}

fn lock(serial: &Mutex<Serial>) -> MutexGuard<'_, Serial> {
    serial.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A processor, until it is told to stop.
fn run(mut cpu: VcpuFd, stop: &AtomicBool, serial: &Mutex<Serial>) -> Result<VcpuFd, Failed> {
    const AGAIN: [i32; 2] = [libc::EINTR, libc::EAGAIN];
    while !stop.load(Ordering::SeqCst) {
        match cpu.run() {
            Err(error) if AGAIN.contains(&error.errno()) => {}
            Err(error) => return Err(Failed::call("KVM_RUN")(error)),
            // It has nothing to do until its timer comes, and others have. Each exit is a chance for QEMU's emulation to lose an
            // interrupt of the guest's own (docs/vmm.md): no more of them than a timer of 10 ms needs.
            Ok(VcpuExit::IoOut(DOORBELL, _)) => std::thread::sleep(Duration::from_millis(5)),
            Ok(VcpuExit::IoOut(port @ serial::FIRST..=serial::LAST, bytes)) => lock(serial).write(port, bytes),
            Ok(VcpuExit::IoIn(port @ serial::FIRST..=serial::LAST, bytes)) => Serial::read(port, bytes),
            // Nobody is at the others: PCI has no functions, and the clock of a PC stands.
            Ok(VcpuExit::IoIn(PCI_DATA..=PCI_DATA_LAST, bytes)) => bytes.fill(0xff),
            Ok(VcpuExit::IoIn(_, bytes)) => bytes.fill(0),
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
            Ok(VcpuExit::MmioRead(_, bytes)) => bytes.fill(0xff),
            Ok(exit) => {
                let exit = format!("the machine ended: {exit:?}");
                return Err(Failed::Other(format!("{exit}; the last that it said: {}", lock(serial).last())));
            }
        }
    }
    // What an exit was about is completed by the next KVM_RUN, which then leaves at once.
    cpu.set_kvm_immediate_exit(1);
    let left = cpu.run().map(|exit| format!("{exit:?}"));
    cpu.set_kvm_immediate_exit(0);
    match left {
        Err(error) if error.errno() == libc::EINTR => Ok(cpu),
        Err(error) => Err(Failed::call("KVM_RUN")(error)),
        Ok(exit) => Err(Failed::Other(format!("a processor did not stop: {exit}"))),
    }
}

/// What the processor says of itself: all that is supported, and its number.
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

/// XCR0, with as much on as the program has patterns for: x87, SSE and AVX.
fn extended(cpuid: &CpuId) -> Result<kvm_xcrs, Failed> {
    let has = cpuid.as_slice().iter().find(|entry| (entry.function, entry.index) == (0xd, 0));
    let has = has.ok_or_else(|| Failed::Other("the processor has no XSAVE".to_owned()))?;
    let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
    xcrs.xcrs[0].value = u64::from(has.eax & 0b111);
    Ok(xcrs)
}

/// 64-bit mode, with the tables that [`Paused::load`] writes (Intel SDM volume 3, 10.8.5.4).
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
