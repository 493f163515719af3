//! What depends on the processor architecture. All of it for one architecture is one value, in a file of its own; no other
//! file of the host's crates may assume one (`cargo xtask claims`).

mod x86_64;

use crate::emulation::{Accel, EmulatorFault, QemuVersion};
use crate::iommu::Iommu;
use crate::pci::PciAddress;
use std::ops::Range;

/// The architecture of the kernels and machines.
pub const ARCH: &Arch = &x86_64::X86_64;

/// An architecture.
pub struct Arch {
    /// Its name in a sentence.
    pub name: &'static str,
    /// The name of its folder of headers and libraries (GNU triplet).
    pub triplet: &'static str,
    /// The name of it in Debian's packages.
    pub debian: &'static str,
    /// `e_machine` in its ELF files (include/uapi/linux/elf-em.h).
    pub elf_machine: u16,
    /// The program that emulates it.
    pub qemu: QemuProgram,
    /// A kernel's image.
    pub image: ImageFormat,
    /// The machine.
    pub machine: MachineFormat,
    /// The console that a kernel writes to.
    pub console: ConsoleDevice,
    /// What QEMU and its traces have of an IOMMU.
    pub iommu: fn(Iommu) -> IommuSupport,
    /// QEMU's trace events of the IOMMUs that only this architecture has.
    pub iommu_events: &'static [&'static str],
    /// Patterns that match these events and no other device's.
    pub iommu_event_patterns: &'static [&'static str],
    /// Reads one of these events from its name and the words after it.
    pub parse_iommu_event: fn(&str, &[&str]) -> Option<IommuEvent>,
    /// The options of a kernel for an IOMMU, of which one is needed.
    pub iommu_options: &'static [&'static str],
    /// The options of a kernel for KVM, of which one is needed.
    pub kvm_options: &'static [&'static str],
    /// The modules that options of this architecture make.
    pub modules: &'static [(&'static str, &'static str)],
    /// How a kernel that hangs is asked where it is.
    pub hang: HangQuestion,
    /// Options for a kernel on an emulated machine.
    pub emulated_options: &'static [&'static str],
    /// How an emulated machine runs nested VMs.
    pub nested: EmulatedNesting,
    /// How a kernel reports a crash.
    pub crash: CrashText,
    /// The name of its cycle counter in probes.
    pub cycle_counter: &'static str,
    /// The starts of messages that say that the kernel took a wrong frequency for its clock.
    pub clock_messages: &'static [&'static str],
    /// How a kernel maps its memory.
    pub page_tables: PageTableFormat,
    /// The guest code that shows whether an accelerator works.
    pub probe: Probe,
    /// Known faults of QEMU when it emulates this architecture.
    pub emulator_faults: &'static [EmulatorFault],
}

/// The program that emulates an architecture.
pub struct QemuProgram {
    /// Its name.
    pub program: &'static str,
    /// The package of Debian and Ubuntu with it.
    pub package: &'static str,
}

/// The image of a kernel.
pub struct ImageFormat {
    /// Its name, which is also the goal of make.
    pub name: &'static str,
    /// Its place in the tree in which it was built.
    pub in_tree: &'static str,
    /// Reads its header; an error says why it is not such an image.
    pub header: fn(&[u8]) -> Result<ImageHeader<'_>, &'static str>,
}

/// What the header of an image says.
pub struct ImageHeader<'a> {
    /// The output of `uname -r`, as it is in the file.
    pub release: &'a [u8],
    /// Where the compressed ELF is in the file.
    pub payload: Range<usize>,
}

/// The machines of QEMU.
pub struct MachineFormat {
    /// The types that luqual can run, in words.
    pub types: &'static str,
    /// The starts of their names.
    pub starts: &'static [&'static str],
    /// What the type needs more under KVM.
    pub kvm_options: &'static str,
    /// The offset of a guest-physical range in a machine's memory of `size` bytes, given as `(size, address, length)`; `None`
    /// if the range is not contiguous memory.
    pub ram_offset: fn(u64, u64, u64) -> Option<u64>,
}

impl MachineFormat {
    /// Whether luqual can run machines of that type.
    pub fn is_type(&self, name: &str) -> bool {
        self.starts.iter().any(|start| name.starts_with(start))
    }

    /// What the type needs more with an accelerator.
    pub const fn options(&self, accel: Accel) -> &'static str {
        match accel {
            Accel::Kvm => self.kvm_options,
            Accel::Tcg => "",
        }
    }
}

/// A serial console.
pub struct ConsoleDevice {
    /// Its name for `console=`.
    pub device: &'static str,
    /// The option of a kernel that can write to it.
    pub option: &'static str,
}

/// What QEMU has of an IOMMU.
#[derive(Clone, Copy, Debug, Default)]
pub struct IommuSupport {
    /// The device; `None` for a machine without an IOMMU.
    pub device: Option<&'static str>,
    /// What older versions of QEMU lack for it, and the first that has it.
    pub since: Option<(&'static str, QemuVersion)>,
    /// The trace event of a translated access.
    pub translated: &'static str,
    /// The trace event of a refused access.
    pub fault: &'static str,
    /// Whether it traces when it begins and ceases to translate.
    pub traces_enable: bool,
}

/// An event of an IOMMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IommuEvent {
    /// It translated an access of the device.
    Translated {
        /// The requester.
        address: PciAddress,
        /// The address in the access.
        iova: u64,
        /// The physical address.
        physical: u64,
    },
    /// It refused an access.
    Fault {
        /// The requester, if the event names it.
        address: Option<PciAddress>,
        /// The address in the access.
        iova: u64,
    },
    /// It began or ceased to translate.
    Translates {
        /// Whether it translates now.
        on: bool,
    },
}

/// A hexadecimal number in a trace of QEMU's, with or without `0x`.
pub fn traced_number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// How a kernel that hangs is asked where it is: by QMP's inject-nmi.
pub struct HangQuestion {
    /// The option by which a kernel panics at it.
    pub option: &'static str,
    /// A part of that panic's text.
    pub answer: &'static str,
}

/// How an emulated machine runs nested VMs.
pub struct EmulatedNesting {
    /// The most processors that it may have.
    pub processors: u32,
    /// Options for its kernel.
    pub options: &'static str,
}

/// How a kernel reports a crash.
pub struct CrashText {
    /// What precedes the function in which it happened.
    pub function: &'static str,
    /// The line before the frames of the stack.
    pub frames: &'static str,
    /// The starts of functions that only report what another one did.
    pub reporting: &'static [&'static str],
}

/// The page tables of a kernel, by what its vmcoreinfo says.
#[derive(Clone, Copy, Debug)]
pub struct PageTables {
    /// The physical address of the highest table.
    pub top: u64,
    /// How many levels there are.
    pub levels: u32,
    /// The bits of an entry that encrypt memory, which are no part of an address.
    pub encryption: u64,
}

/// How a kernel maps its memory.
pub struct PageTableFormat {
    /// Finds the tables by numbers and by addresses of symbols.
    pub find: fn(&PageTableNote<'_>) -> Result<PageTables, String>,
    /// The physical address of a virtual one, by a function that reads a word at a physical address.
    pub translate: fn(&PageTables, &mut ReadWord<'_>, u64) -> Result<u64, String>,
}

/// What a kernel's vmcoreinfo says (Documentation/admin-guide/kdump/vmcoreinfo.rst).
pub struct PageTableNote<'a> {
    /// `NUMBER(name)`.
    pub number: &'a dyn Fn(&str) -> Result<i64, String>,
    /// `SYMBOL(name)`.
    pub symbol: &'a dyn Fn(&str) -> Result<u64, String>,
}

/// Reads a word at a physical address.
pub type ReadWord<'a> = dyn FnMut(u64) -> Result<u64, String> + 'a;

/// Guest code that shows whether an accelerator works.
pub struct Probe {
    /// The firmware that is the code.
    pub image: &'static [u8],
    /// The type of the machine.
    pub machine: &'static str,
    /// The device to which the code writes that it ran.
    pub exit_device: &'static str,
    /// QEMU's exit code then.
    pub exit_code: i32,
}
