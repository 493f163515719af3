//! From a profile to QEMU's arguments. Pure.

use crate::accel::Accel;
use crate::ivshmem;
use crate::profile::{Bus, Device, IntelMode, Iommu, Profile, VIRTIO_QUEUE};
use std::path::Path;

/// What one QEMU is started with.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The machine.
    pub profile: &'a Profile,
    /// How its guest is run.
    pub mode: Mode,
    /// The source's bzImage.
    pub kernel: &'a Path,
    /// The source's initramfs.
    pub initrd: &'a Path,
    /// The source's whole command line.
    pub command_line: &'a str,
    /// The folder for the RAM file and the sockets; short, since a socket's path has 107 bytes at most.
    pub folder: &'a Path,
    /// The folder for what QEMU writes down: [`TRACE`], [`CONSOLE_RAW`] and [`ANSWERS`].
    pub logs: &'a Path,
    /// Whether the devices can be reached from outside, for injected faults.
    pub open: bool,
    /// Whether a debugger can be attached, at [`GDB`] in [`Launch::folder`].
    pub gdb: bool,
}

/// How a guest is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// What runs its code.
    pub accel: Accel,
    /// Whether it runs virtual machines of its own.
    pub nested: bool,
    /// Of a guest that nobody talks to: what all chance in it is drawn from. It does the same each time, instruction by
    /// instruction, and so it has one processor, whose instructions are its clock (QEMU docs/devel/tcg-icount.rst).
    pub alone: Option<u64>,
}

/// What QEMU's devices do, in [`Launch::logs`].
pub const TRACE: &str = "qemu-trace.log";
/// What a guest that nobody talks to writes on its console, byte for byte, in [`Launch::logs`].
pub const CONSOLE_RAW: &str = "console.raw";
/// What it writes on its second serial port, in [`Launch::logs`].
pub const ANSWERS: &str = "answers.jsonl";

/// The RAM file in [`Launch::folder`].
pub(crate) const RAM: &str = "ram";
/// The console's pipes in [`Launch::folder`], with `.in` and `.out` after it (QEMU chardev/char-pipe.c).
pub(crate) const CONSOLE: &str = "console";
/// The QMP socket in [`Launch::folder`].
pub(crate) const QMP: &str = "qmp";
/// The socket to reach devices by in [`Launch::folder`], where they can be (QEMU docs/devel/qtest.rst).
pub(crate) const QTEST: &str = "qtest";

/// The socket for a debugger in [`Launch::folder`], where one is wanted (QEMU docs/system/gdb.rst).
pub const GDB: &str = "gdb";

/// What QEMU writes down of its devices: accesses to their configuration, resets, translated DMA, and faults. One that a QEMU
/// does not have is a warning of it: `qdev_reset` is of those before 9, `resettable_phase_hold_exec` of those after.
const TRACED: [&str; 9] = [
    "pci_cfg_write",
    "qdev_reset",
    "resettable_phase_hold_exec",
    "vtd_dmar_translate",
    "vtd_dmar_fault",
    "amdvi_translation_result",
    "amdvi_page_fault",
    "virtio_iommu_translate_out",
    "virtio_iommu_report_fault",
];

/// A file that a device shares with the host, in [`Launch::folder`].
pub fn file_of(device: Device) -> String {
    format!("{}.file", device.id())
}

/// The socket at which the host serves a device, in [`Launch::folder`].
pub(crate) fn server_of(device: Device) -> String {
    format!("{}.server", device.id())
}

/// No socket in [`Launch::folder`] has a longer name.
pub(crate) const LONGEST_SOCKET: &str = "ivshmem-doorbell.server";

/// The sockets by which frames go to a device and come from it, in [`Launch::folder`].
pub fn frames_of(device: Device) -> (String, String) {
    (format!("{}.in", device.id()), format!("{}.out", device.id()))
}

/// The size of [`file_of`] in bytes, if the device has such a file.
pub(crate) fn file_size(device: Device) -> Option<u64> {
    match device {
        Device::IvshmemPlain | Device::IvshmemDoorbell => Some(1 << 20),
        Device::Nvme => Some(16 << 20),
        _ => None,
    }
}

/// QEMU's arguments, without the program's name.
pub fn arguments(launch: &Launch<'_>) -> Vec<String> {
    let Profile { machine, cpu, memory_mib, iommu, .. } = *launch.profile;
    let file = |name: &str| escaped(&launch.folder.join(name));
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);

    // Interrupt remapping wants the interrupt controllers split between KVM and QEMU (QEMU hw/i386/intel_iommu.c).
    let Mode { accel, alone, .. } = launch.mode;
    let irqchip = if accel == Accel::Kvm { ",kernel-irqchip=split" } else { "" };
    add("-machine", format!("{machine},memory-backend=ram{irqchip}"));
    add("-accel", accel.word().to_owned());
    add("-cpu", cpu.to_owned());
    add("-smp", processors(launch).to_string());
    add("-m", format!("{memory_mib}M"));
    add("-object", format!("memory-backend-file,id=ram,size={memory_mib}M,mem-path={},share=on", file(RAM)));
    // An IOMMU has to be there before the devices that it serves.
    if let Some(device) = iommu_device(iommu) {
        add("-device", device);
    }
    match alone {
        None => {
            // The guest reaches nobody, and only this host's loopback reaches the guest, at a port that QEMU finds. This card
            // comes first, so that it is eth0.
            add("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22".to_owned());
            add("-device", "virtio-net-pci,netdev=net,romfile=".to_owned());
            add("-device", "virtio-rng-pci".to_owned());
        }
        Some(seed) => {
            // An instruction takes 2 ns of the only clock, and waiting takes none of the host's.
            add("-icount", "shift=1,sleep=off".to_owned());
            add("-rtc", "base=2026-01-01T00:00:00,clock=vm".to_owned());
            // RDRAND and what the kernel is given at its start.
            add("-seed", seed.to_string());
        }
    }
    add("-device", "pvpanic-pci".to_owned());
    // A kernel says by it where its vmcoreinfo is, and a core of the guest's memory has that in a note (QEMU docs/specs/vmcoreinfo.rst).
    add("-device", "vmcoreinfo".to_owned());
    // What a device does in its own time, or in somebody else's, is not the same each time.
    for (option, value) in devices(launch).into_iter().filter(|_| alone.is_none()) {
        add(option, value);
    }
    for event in TRACED {
        add("-trace", format!("enable={event}"));
    }
    add("-msg", "timestamp=on".to_owned());
    add("-D", launch.logs.join(TRACE).display().to_string());
    if launch.open {
        add("-qtest", format!("unix:{},server=on,wait=off", file(QTEST)));
        add("-qtest-log", "none".to_owned());
    }
    if launch.gdb {
        add("-chardev", format!("socket,id=gdb,path={},server=on,wait=off", file(GDB)));
        add("-gdb", "chardev:gdb".to_owned());
    }
    if alone.is_none() {
        // Not a socket: QEMU writes byte by byte, some 280 of which fill a Unix socket's buffer, and when the host then is
        // busy for 10 ms the guest's driver gives up on the port and characters are lost. A pipe takes 64 KiB of them.
        add("-chardev", format!("pipe,id=console,path={}", file(CONSOLE)));
        add("-serial", "chardev:console".to_owned());
    } else {
        // A file takes all, always: the guest never notices how busy the host is.
        for (id, name) in [("console", CONSOLE_RAW), ("answers", ANSWERS)] {
            add("-chardev", format!("file,id={id},path={}", escaped(&launch.logs.join(name))));
            add("-serial", format!("chardev:{id}"));
        }
    }
    add("-qmp", format!("unix:{},server=on,wait=off", file(QMP)));
    // However it ends, it stays where it ended, to be looked into; luqual is told by an event.
    add("-action", "reboot=shutdown,shutdown=pause,panic=pause".to_owned());
    add("-display", "none".to_owned());
    arguments.extend(["-nodefaults", "-no-user-config", "-S"].map(str::to_owned));
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-kernel", launch.kernel.display().to_string());
    add("-initrd", launch.initrd.display().to_string());
    add("-append", launch.command_line.to_owned());
    arguments
}

/// Emulated SVM changes the set of a processor's pending interrupts without the lock under which others do (QEMU
/// target/i386/tcg/sysemu/svm_helper.c, helper_vmrun() and do_vmexit(), interrupt_request), and leaves the vector that it injected
/// behind, to be delivered once more when another processor asks this one to stop (exception_index). With one processor nobody is
/// there who would: with two, of sixteen machines one triple-faulted or stood still in most runs.
fn processors(launch: &Launch<'_>) -> u32 {
    let Mode { accel, nested, alone } = launch.mode;
    if accel == Accel::Tcg && nested || alone.is_some() { 1 } else { launch.profile.vcpus }
}

fn iommu_device(iommu: Iommu) -> Option<String> {
    let intel = |remapping: bool, more: &str| {
        let remapping = if remapping { "on" } else { "off" };
        Some(format!("intel-iommu,intremap={remapping},caching-mode=on{more}"))
    };
    match iommu {
        Iommu::None => None,
        Iommu::Intel { mode: IntelMode::Legacy, remapping } => intel(remapping, ""),
        Iommu::Intel { mode: IntelMode::Scalable, remapping } => intel(remapping, ",x-scalable-mode=on"),
        Iommu::Intel { mode: IntelMode::FirstStage, remapping } => intel(remapping, ",x-scalable-mode=on,x-flts=on"),
        Iommu::Amd => Some("amd-iommu,intremap=on".to_owned()),
        Iommu::Virtio => Some("virtio-iommu-pci".to_owned()),
    }
}

/// The devices that workloads own, with the buses that they are on and what is behind them.
fn devices(launch: &Launch<'_>) -> Vec<(&'static str, String)> {
    let mut options = Vec::new();
    if launch.profile.bus == Bus::Bridge {
        options.push(("-device", "pcie-pci-bridge,id=bridge".to_owned()));
    }
    for (number, device) in launch.profile.devices.iter().copied().enumerate() {
        let place = match launch.profile.bus {
            Bus::Root => String::new(),
            Bus::RootPort => {
                let number = number + 1;
                let port = format!("pcie-root-port,id=port-{number},chassis={number},slot={number}");
                options.push(("-device", port));
                format!(",bus=port-{number}")
            }
            Bus::Bridge => format!(",bus=bridge,addr={:#x}", number + 1),
            Bus::OneSlot => format!(",addr={ONE_SLOT:#x}.{number:x},multifunction=on"),
        };
        options.extend(behind(device, launch.folder));
        options.push(("-device", format!("{},id={}{place}", front(device), device.id())));
    }
    options
}

/// The slot of [`Bus::OneSlot`], which nothing else takes.
const ONE_SLOT: u32 = 0x10;

/// What a device has behind it on the host.
fn behind(device: Device, folder: &Path) -> Option<(&'static str, String)> {
    let id = device.id();
    let path = |name: &str| escaped(&folder.join(name));
    let file = path(&file_of(device));
    match device {
        Device::IvshmemPlain => {
            let size = file_size(device).unwrap_or_default();
            Some(("-object", format!("memory-backend-file,id={id}-memory,size={size},mem-path={file},share=on")))
        }
        Device::IvshmemDoorbell => {
            let socket = path(&server_of(device));
            Some(("-chardev", format!("socket,id={id}-server,path={socket}")))
        }
        Device::Nvme => Some(("-drive", format!("if=none,id={id}-drive,format=raw,file={file}"))),
        Device::E1000e | Device::Igb | Device::VirtioNet => {
            let (input, output) = frames_of(device);
            let (input, output) = (path(&input), path(&output));
            let ends = format!("local.type=unix,local.path={input},remote.type=unix,remote.path={output}");
            Some(("-netdev", format!("dgram,id={id}-frames,{ends}")))
        }
        Device::Edu | Device::PciTestdev => None,
    }
}

/// A device as QEMU knows it, with what it has behind it.
fn front(device: Device) -> String {
    let (kind, id) = (device.qemu_type(), device.id());
    match device {
        // All of the machine's memory can be reached by its DMA; by default it has 28 bits.
        Device::Edu => format!("{kind},dma_mask=0xffffffffffffffff"),
        Device::IvshmemPlain => format!("{kind},memdev={id}-memory"),
        Device::IvshmemDoorbell => format!("{kind},vectors={},chardev={id}-server", ivshmem::VECTORS),
        Device::PciTestdev => kind.to_owned(),
        Device::Nvme => format!("{kind},drive={id}-drive,serial=luqual"),
        Device::E1000e | Device::Igb => format!("{kind},netdev={id}-frames,romfile="),
        Device::VirtioNet => {
            let shape = format!("iommu_platform=on,disable-legacy=on,rx_queue_size={VIRTIO_QUEUE}");
            format!("{kind},netdev={id}-frames,{shape},romfile=")
        }
    }
}

/// What every kernel is told of the machine that it runs in, whichever boots first.
pub fn kernel_options(profile: &Profile, Mode { accel, nested, alone }: Mode) -> String {
    // The address is given, not asked for: nothing waits for a DHCP server. 10.0.2.15 is what QEMU forwards to.
    let address = Some("ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off").filter(|_| alone.is_none());
    let options = [
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
    let is_emulated = accel == Accel::Tcg;
    let emulated = emulated.into_iter().filter(|_| is_emulated);
    // A timer that was set once and whose interrupt was lost (see processors()) is waited for for ever; one that comes again and
    // again is not.
    let emulated = emulated.chain(Some("nohz=off highres=off").filter(|_| is_emulated && nested));
    let own = Some(profile.kernel_options).filter(|own| !own.is_empty());
    address.into_iter().chain(options).chain(emulated).chain(own).collect::<Vec<_>>().join(" ")
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

    #[test]
    fn no_socket_has_a_longer_name() {
        let devices = PROFILES.iter().flat_map(|profile| profile.devices);
        let names = devices.flat_map(|device| {
            let (input, output) = frames_of(*device);
            [server_of(*device), input, output]
        });
        assert_eq!(names.map(|name| name.len()).max(), Some(LONGEST_SOCKET.len()));
        assert!([QMP, QTEST, CONSOLE, GDB].iter().all(|name| name.len() < LONGEST_SOCKET.len()));
    }
    use crate::profile::{self, PROFILES};

    fn arguments_of(profile: &str, accel: Accel, folder: &str) -> String {
        let launch = launch(profile, accel, folder);
        command_line(Path::new("/usr/bin/qemu-system-x86_64"), &arguments(&launch)).replace(" -", "\n-")
    }

    fn launch<'a>(profile: &str, accel: Accel, folder: &'a str) -> Launch<'a> {
        Launch {
            profile: profile::find(profile).unwrap(),
            mode: Mode { accel, nested: false, alone: None },
            kernel: Path::new("/store/a b/bzImage"),
            initrd: Path::new("/work/initrd"),
            command_line: "console=ttyS0 kho=on",
            folder: Path::new(folder),
            logs: Path::new("/run"),
            open: false,
            gdb: false,
        }
    }

    #[test]
    fn an_emulated_guest_with_machines_of_its_own_has_one_processor() {
        let mode = |accel, nested| Mode { accel, nested, alone: None };
        let processors =
            |accel, nested| processors(&Launch { mode: mode(accel, nested), ..launch("q35-intel", accel, "/work") });
        assert_eq!(processors(Accel::Tcg, true), 1);
        assert_eq!([processors(Accel::Tcg, false), processors(Accel::Kvm, true)], [2, 2]);
        let is_periodic =
            |accel, nested| kernel_options(&PROFILES[0], mode(accel, nested)).ends_with(" nohz=off highres=off");
        assert!(is_periodic(Accel::Tcg, true) && !is_periodic(Accel::Tcg, false) && !is_periodic(Accel::Kvm, true));
    }

    #[test]
    fn a_guest_that_nobody_talks_to_has_nothing_from_outside() {
        let mode = Mode { accel: Accel::Tcg, nested: false, alone: Some(7) };
        let launch = Launch { mode, ..launch("q35-intel", Accel::Tcg, "/work") };
        let line = arguments(&launch).join(" ");
        for here in ["-smp 1 ", "-icount shift=1,sleep=off ", "-seed 7 ", "file,id=answers,path=/run/answers.jsonl "] {
            assert!(line.contains(here), "{here}: {line}");
        }
        for outside in ["netdev", "virtio-rng", "pipe,", "edu"] {
            assert!(!line.contains(outside), "{outside}: {line}");
        }
        assert!(!kernel_options(&PROFILES[0], mode).contains("ip="));
    }

    #[test]
    fn a_debugger_has_a_socket_only_where_it_is_wanted() {
        let plain = launch("q35-intel", Accel::Tcg, "/work");
        let line = |gdb| arguments(&Launch { gdb, ..plain }).join(" ");
        assert!(line(true).contains("-chardev socket,id=gdb,path=/work/gdb,server=on,wait=off -gdb chardev:gdb "));
        assert!(!line(false).contains("gdb"));
    }

    #[test]
    fn the_default_profile() {
        insta::assert_snapshot!(arguments_of(PROFILES[0].name, Accel::Tcg, "/work"));
    }

    /// What a profile has that the default one has not.
    fn differs(profile: &str) -> String {
        let of = |profile: &str| arguments_of(profile, Accel::Tcg, "/work");
        let (plain, other) = (of(PROFILES[0].name), of(profile));
        let known: Vec<&str> = plain.lines().collect();
        other.lines().filter(|line| !known.contains(line)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_other_profiles() {
        let all: Vec<String> =
            PROFILES.iter().skip(1).map(|it| format!("{}\n{}\n", it.name, differs(it.name))).collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn only_an_emulated_clock_is_neither_watched_nor_tested() {
        let options = |name: &str, accel| {
            kernel_options(profile::find(name).unwrap(), Mode { accel, nested: false, alone: None })
        };
        assert!(options("q35-intel", Accel::Tcg).ends_with("_secs=40 tsc=nowatchdog no_timer_check"));
        assert!(options("q35-intel", Accel::Kvm).ends_with("_secs=10"));
        assert!(options("vfio-intel", Accel::Kvm).ends_with("_secs=10 initcall_blacklist=nvme_init,e1000_init_module"));
    }

    #[test]
    fn kvm_splits_the_interrupt_controllers_and_a_comma_is_doubled() {
        let text = arguments_of("vfio-intel", Accel::Kvm, "/a,b");
        assert!(text.contains("q35,memory-backend=ram,kernel-irqchip=split"), "{text}");
        assert!(text.contains("mem-path=/a,,b/ram,share=on"), "{text}");
        assert!(text.contains("local.path=/a,,b/e1000e.in"), "{text}");
    }
}
