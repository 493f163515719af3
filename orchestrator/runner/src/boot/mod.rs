//! One boot, from the start of its source to the end of its machine, and the cells that run in it. A boot is a value;
//! [`steps`] lists what is done in it, and [`driver`] executes the steps.

mod alone;
mod attempt;
mod connect;
mod driver;
mod end;
mod guard;
mod host;
mod identity;
mod interactive;
mod kexec_images;
mod late_log;
mod memory;
mod part;
mod refusal;
mod session;
mod start;
mod steps;
mod update;
mod vmcore;

pub(crate) use attempt::run_once;
pub use host::{Attempts, Host};
pub use interactive::visit;
pub use session::{InteractiveOptions, InteractiveSession, SessionEnd, SessionFuture, SessionHandler};
pub use vmcore::CoresTaken;

use crate::requirements::{capability, machine_lacks};
use identity::Identity;
use luqual_model::{Accel, Append, Capability, CellId, KernelInfo, KernelModule, PlannedCell, Profile, QemuVersion};
use luqual_protocol::{Kernel, MODULES_OPTION, Requirement, Update, Workload, program_path};
use luqual_vm::{Mode, needs_one_thread, qemu_lacks};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct BootKernel {
    /// The kernel's description.
    pub info: KernelInfo,
    /// The path of its image.
    pub image: PathBuf,
    /// The path of its System.map, if it is known to be of this image.
    pub symbols: Option<PathBuf>,
    /// The modules that a guest may load, in their order.
    pub modules: Vec<KernelModule>,
}

/// One life of a machine, and the cells that run in it: one, or several that share it.
#[derive(Clone)]
pub struct Boot<'a> {
    /// The kernel before the kexec.
    pub source: &'a BootKernel,
    /// The kernel after it.
    pub target: &'a BootKernel,
    /// The machine.
    pub profile: &'a Profile,
    /// The cells; at least one, except in a boot for an interactive session.
    pub parts: Vec<BootCell<'a>>,
}

/// One cell of a boot.
#[derive(Clone, Copy)]
pub struct BootCell<'a> {
    /// The workload that runs in the guest.
    pub workload: &'a Workload,
    /// The cell's key, prediction and expectation.
    pub plan: &'a PlannedCell,
    /// The program that the workload runs in the guest, if it is a program of the user.
    pub program: Option<Program<'a>>,
}

/// A program of the user, which runs as a workload.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// Its file's content.
    Here(&'a [u8]),
    /// Why the file is missing, and what to do.
    Missing(&'a str),
}

/// Which of the two kernels runs after `hop` kexecs.
fn role(hop: u32) -> Kernel {
    if hop.is_multiple_of(2) { Kernel::Source } else { Kernel::Target }
}

impl Boot<'_> {
    /// The update of the parts, without the options of the command lines.
    fn update(&self) -> Update {
        self.parts.first().map_or(Update::PLAIN, |part| part.workload.update)
    }

    /// The kernel that runs after `hop` kexecs.
    fn kernel(&self, hop: u32) -> &BootKernel {
        match role(hop) {
            Kernel::Source => self.source,
            Kernel::Target => self.target,
        }
    }

    /// Whether both kernels are one image.
    fn is_one(&self) -> bool {
        self.source.info.image_sha256 == self.target.info.image_sha256
    }

    /// The identity of the kernel that runs after `hop` kexecs, with a nonce of its own. Its command line has the options of
    /// the parts, of the machine, of the injected fault, and of the user: what comes later wins.
    fn identity(&self, hop: u32, nonce: u64, of_fault: &str, of_user: &Append) -> Identity<'_> {
        let of_part = |update: Update| if hop == 0 { update.source_options } else { update.target_options };
        // Several parts can add the same option.
        let parts: BTreeSet<&str> = self.parts.iter().map(|part| of_part(part.workload.update)).collect();
        let modules = format!("{MODULES_OPTION}{}", role(hop).modules());
        let modules = Some(modules.as_str()).filter(|_| !self.kernel(hop).modules.is_empty());
        let [of_machine, of_user] = [&self.profile.append, of_user].map(|append| match role(hop) {
            Kernel::Source => append.source.as_str(),
            Kernel::Target => append.target.as_str(),
        });
        let all = parts.into_iter().chain(modules).chain([of_machine, of_fault, of_user]);
        let options: Vec<&str> = all.filter(|options| !options.is_empty()).collect();
        Identity::new(&self.kernel(hop).info, options.join(" "), nonce)
    }

    /// The mode of the guest.
    fn mode(&self, qemu: QemuVersion, accel: Accel, alone: Option<u64>) -> Mode {
        // Of a kernel without a configuration nothing is known.
        let has_static_keys = [self.source, self.target].iter().any(|it| it.info.static_keys != Some(false));
        let one_thread = has_static_keys && needs_one_thread(qemu, accel);
        Mode { accel, nested: self.needs(Requirement::Kvm), alone, one_thread }
    }

    /// The programs of the parts: the path in the guest, and the content.
    fn programs(&self) -> Vec<(String, &[u8])> {
        let parts = self.parts.iter().filter_map(|part| match part.program {
            Some(Program::Here(content)) => program_path(part.workload.name).zip(Some(content)),
            Some(Program::Missing(_)) | None => None,
        });
        parts.collect()
    }

    /// The modules of both kernels that the parts require, and luqual itself: the path of each in the guest, in their
    /// order by name, and its ELF.
    fn modules(&self) -> Vec<(String, &[u8])> {
        let required = self.parts.iter().flat_map(|part| part.workload.requires).map(|need| capability(*need));
        let required: BTreeSet<Capability> = required.chain([Capability::Agent]).collect();
        let mut files = Vec::new();
        for (kernel, role) in [(self.source, Kernel::Source), (self.target, Kernel::Target)] {
            for (number, module) in kernel.modules.iter().enumerate() {
                if !module.needed_by.is_disjoint(&required) {
                    files.push((format!("{}/{number:03}-{}.ko", role.modules(), module.name), &*module.elf));
                }
            }
        }
        files
    }

    /// The taint flag that the kernel after `hop` kexecs can have because of the modules that luqual brings: E, of a module
    /// without a signature where the kernel looks for one (include/linux/panic.h, TAINT_UNSIGNED_MODULE).
    fn taint_of_modules(&self, hop: u32) -> u64 {
        let is_unsigned = self.kernel(hop).modules.iter().any(|module| !module.is_signed());
        if is_unsigned { 1 << 13 } else { 0 }
    }

    /// What this QEMU or the machine lacks for a part; `None` if nothing.
    fn lacks(&self, qemu: QemuVersion) -> Option<String> {
        let of_parts = || self.parts.iter().find_map(|part| machine_lacks(self.profile, part.workload));
        qemu_lacks(self.profile, qemu).or_else(of_parts)
    }

    /// Whether a part has the requirement `need`.
    fn needs(&self, need: Requirement) -> bool {
        self.parts.iter().any(|part| part.workload.requires.contains(&need))
    }

    /// The id of the boot, unique in a run: that of its only cell, or that of the first cell with the number of the
    /// others, as in `…_memfd.basic+3`.
    pub fn id(&self) -> CellId {
        let first = self.parts.first().map_or_else(String::new, |part| part.plan.key.id().to_string());
        match self.parts.len() {
            0 | 1 => CellId(first),
            count => CellId(format!("{first}+{}", count - 1)),
        }
    }
}
