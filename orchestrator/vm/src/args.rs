//! From a profile to QEMU's arguments. Pure.

use crate::accel::Accel;
use crate::profile::{Device, Iommu, Profile};
use std::path::Path;

/// What one QEMU is started with.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The machine.
    pub profile: &'a Profile,
    /// What runs the guest's code.
    pub accel: Accel,
    /// The source's bzImage.
    pub kernel: &'a Path,
    /// The source's initramfs.
    pub initrd: &'a Path,
    /// The source's whole command line.
    pub command_line: &'a str,
    /// The folder for the RAM file and the sockets; short, since a socket's path has 107 bytes at most.
    pub folder: &'a Path,
}

/// The RAM file in [`Launch::folder`].
pub(crate) const RAM: &str = "ram";
/// The console's pipes in [`Launch::folder`], with `.in` and `.out` after it (QEMU chardev/char-pipe.c).
pub(crate) const CONSOLE: &str = "console";
/// The QMP socket in [`Launch::folder`].
pub(crate) const QMP: &str = "qmp";

/// QEMU's arguments, without the program's name.
pub fn arguments(launch: &Launch<'_>) -> Vec<String> {
    let Profile { machine, cpu, vcpus, memory_mib, iommu, devices, .. } = *launch.profile;
    let file = |name: &str| escaped(&launch.folder.join(name));
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);

    // Interrupt remapping wants the interrupt controllers split between KVM and QEMU (QEMU hw/i386/intel_iommu.c).
    let irqchip = if launch.accel == Accel::Kvm { ",kernel-irqchip=split" } else { "" };
    add("-machine", format!("{machine},memory-backend=ram{irqchip}"));
    add("-accel", launch.accel.word().to_owned());
    add("-cpu", cpu.to_owned());
    add("-smp", vcpus.to_string());
    add("-m", format!("{memory_mib}M"));
    add("-object", format!("memory-backend-file,id=ram,size={memory_mib}M,mem-path={},share=on", file(RAM)));
    // An IOMMU has to be there before the devices that it serves.
    match iommu {
        Iommu::Intel => add("-device", "intel-iommu,intremap=on,caching-mode=on".to_owned()),
    }
    for device in devices {
        match device {
            Device::Edu => add("-device", "edu".to_owned()),
        }
    }
    // The guest reaches nobody, and only this host's loopback reaches the guest, at a port that QEMU finds.
    add("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22".to_owned());
    add("-device", "virtio-net-pci,netdev=net,romfile=".to_owned());
    add("-device", "virtio-rng-pci".to_owned());
    add("-device", "pvpanic-pci".to_owned());
    // Not a socket: QEMU writes byte by byte, some 280 of which fill a Unix socket's buffer, and when the host then is
    // busy for 10 ms the guest's driver gives up on the port and characters are lost. A pipe takes 64 KiB of them.
    add("-chardev", format!("pipe,id=console,path={}", file(CONSOLE)));
    add("-serial", "chardev:console".to_owned());
    add("-qmp", format!("unix:{},server=on,wait=off", file(QMP)));
    add("-action", "reboot=shutdown,panic=pause".to_owned());
    add("-display", "none".to_owned());
    arguments.extend(["-nodefaults", "-no-user-config", "-S"].map(str::to_owned));
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-kernel", launch.kernel.display().to_string());
    add("-initrd", launch.initrd.display().to_string());
    add("-append", launch.command_line.to_owned());
    arguments
}

/// What every kernel is told of the machine that it runs in, whichever boots first.
pub fn kernel_options(accel: Accel) -> String {
    let options = [
        // The address is given, not asked for: nothing waits for a DHCP server. 10.0.2.15 is what QEMU forwards to.
        "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off",
        // An NMI that nobody expects is the host asking a kernel that hangs where it is: on every processor.
        "unknown_nmi_panic panic_sys_info=all_bt",
        // A task that a kernel does not wake is told before the phase's deadline, else the agent would be blamed: it takes
        // up to twice this long (kernel/hung_task.c).
        match accel {
            Accel::Kvm => "sysctl.kernel.hung_task_timeout_secs=10",
            Accel::Tcg => "sysctl.kernel.hung_task_timeout_secs=40",
        },
    ];
    let emulated = [
        // An emulated TSC is the host's clock: there is nothing to watch. 7.3's watchdog can wait for ever for a processor
        // that stop_machine() holds, while jiffies are the clock (kernel/time/clocksource.c, watchdog_wait_seq): one boot
        // in a hundred of a busy host hung.
        "tsc=nowatchdog",
        // The timer is there. Whether it is gets tested by counting its interrupts for ten ticks of that same clock; when
        // the host was busy elsewhere meanwhile, the kernel panics (arch/x86/kernel/apic/io_apic.c, timer_irq_works).
        // A guest of KVM says this to itself (arch/x86/kernel/kvm.c).
        "no_timer_check",
    ];
    let emulated = emulated.into_iter().filter(|_| accel == Accel::Tcg);
    options.into_iter().chain(emulated).collect::<Vec<_>>().join(" ")
}

/// A path inside of an option: QEMU takes a doubled comma for one (QEMU util/qemu-option.c).
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// One command to paste into a shell.
pub fn command_line(program: &Path, arguments: &[String]) -> String {
    let program = program.display().to_string();
    let words = std::iter::once(program.as_str()).chain(arguments.iter().map(String::as_str));
    // Only a NUL cannot be quoted, and no argument with one could have been given to QEMU either.
    shlex::try_join(words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::PROFILES;

    fn arguments_of(accel: Accel, folder: &str) -> String {
        let launch = Launch {
            profile: &PROFILES[0],
            accel,
            kernel: Path::new("/store/a b/bzImage"),
            initrd: Path::new("/work/initrd"),
            command_line: "console=ttyS0 kho=on",
            folder: Path::new(folder),
        };
        command_line(Path::new("/usr/bin/qemu-system-x86_64"), &arguments(&launch)).replace(" -", "\n-")
    }

    #[test]
    fn the_default_profile() {
        insta::assert_snapshot!(arguments_of(Accel::Tcg, "/work"));
    }

    #[test]
    fn only_an_emulated_clock_is_neither_watched_nor_tested() {
        assert!(kernel_options(Accel::Tcg).ends_with("_secs=40 tsc=nowatchdog no_timer_check"));
        assert!(kernel_options(Accel::Kvm).ends_with("_secs=10"));
    }

    #[test]
    fn kvm_splits_the_interrupt_controllers_and_a_comma_is_doubled() {
        let text = arguments_of(Accel::Kvm, "/a,b");
        assert!(text.contains("q35,memory-backend=ram,kernel-irqchip=split"), "{text}");
        assert!(text.contains("mem-path=/a,,b/ram,share=on"), "{text}");
    }
}
