//! Builds QEMU's arguments from a profile. Pure.

use crate::ivshmem;
use crate::trace::traced;
use luqual_model::{ARCH, Accel, Bus, Device, Emulation, Profile, QemuVersion};
use std::path::Path;

/// The configuration of a QEMU process.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The machine.
    pub profile: &'a Profile,
    /// The mode of the guest.
    pub mode: Mode,
    /// The source's image.
    pub kernel: &'a Path,
    /// The source's initramfs.
    pub initrd: &'a Path,
    /// The source's whole command line.
    pub command_line: &'a str,
    /// The folder for the RAM file and the sockets; short, since a socket's path has 107 bytes at most.
    pub folder: &'a Path,
    /// The folder for QEMU's logs: [`TRACE`], [`CONSOLE_RAW`] and [`ANSWERS`].
    pub logs: &'a Path,
    /// Whether devices can be accessed from outside of the guest, for injected faults.
    pub open: bool,
    /// Whether gdb can attach, at [`GDB`] in [`Launch::folder`].
    pub gdb: bool,
}

/// How a guest is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// The accelerator.
    pub accel: Accel,
    /// Whether it runs nested virtual machines.
    pub nested: bool,
    /// The seed of a deterministic guest, which has no connection and one processor, whose instructions are its clock
    /// (QEMU docs/devel/tcg-icount.rst); `None` for any other guest.
    pub alone: Option<u64>,
    /// Whether QEMU emulates all processors in one thread, which avoids a fault of some versions; KVM has no such mode.
    pub one_thread: bool,
}

impl Mode {
    /// Of a guest with a connection and without nested VMs, whose processors have a thread each.
    pub const fn plain(accel: Accel) -> Self {
        Self { accel, nested: false, alone: None, one_thread: false }
    }

    /// What runs a guest in this mode on a machine.
    pub fn emulation(self, qemu: QemuVersion, profile: &Profile) -> Emulation {
        let Self { accel, nested, alone, one_thread } = self;
        let processors = processors(profile, self);
        // The instruction counter needs one thread (QEMU docs/devel/tcg-icount.rst).
        let one_thread = one_thread || alone.is_some();
        Emulation { qemu, accel, processors, one_thread, nested, iommu: profile.iommu }
    }
}

/// The trace of QEMU's devices, in [`Launch::logs`].
pub const TRACE: &str = "qemu-trace.log";
/// The raw console of a guest without a connection, in [`Launch::logs`].
pub const CONSOLE_RAW: &str = "console.raw";
/// The output of its second serial port, in [`Launch::logs`].
pub const ANSWERS: &str = "answers.jsonl";

/// The RAM file in [`Launch::folder`]; those of further nodes have a number after it.
const RAM: &str = "ram";
/// The console's pipes in [`Launch::folder`], with `.in` and `.out` after it (QEMU chardev/char-pipe.c).
pub(crate) const CONSOLE: &str = "console";
/// The QMP socket in [`Launch::folder`].
pub(crate) const QMP: &str = "qmp";
/// The qtest socket in [`Launch::folder`], if devices can be accessed from outside (QEMU docs/devel/qtest.rst).
pub(crate) const QTEST: &str = "qtest";

/// The gdb socket in [`Launch::folder`], if it is enabled (QEMU docs/system/gdb.rst).
pub const GDB: &str = "gdb";

/// A file that a device shares with the host, in [`Launch::folder`].
pub fn file_of(device: Device) -> String {
    format!("{}.file", device.id())
}

/// The socket on which the host serves a device, in [`Launch::folder`].
pub(crate) fn server_of(device: Device) -> String {
    format!("{}.server", device.id())
}

/// The longest socket name in [`Launch::folder`].
pub(crate) const LONGEST_SOCKET: &str = "ivshmem-doorbell.server";

/// The sockets for frames to a device and from it, in [`Launch::folder`].
pub fn frames_of(device: Device) -> (String, String) {
    (format!("{}.in", device.id()), format!("{}.out", device.id()))
}

/// The size of [`file_of`] in bytes, if the device has such a file.
pub(crate) fn file_size(device: Device) -> Option<u64> {
    device.file_mib().map(|mib| mib << 20)
}

/// The RAM files in [`Launch::folder`], in the order of the addresses, with the size of each in MiB: one, or one for each
/// node with memory.
pub fn ram_files(profile: &Profile) -> Vec<(String, u64)> {
    if profile.nodes.is_empty() {
        return vec![(RAM.to_owned(), profile.memory_mib)];
    }
    let sizes = profile.nodes.iter().map(|node| node.memory_mib).enumerate().filter(|(_, mib)| *mib > 0);
    sizes.map(|(number, mib)| (ram_of_node(number), mib)).collect()
}

fn ram_of_node(number: usize) -> String {
    if number == 0 { RAM.to_owned() } else { format!("{RAM}-{number}") }
}

/// QEMU's arguments, without the program's name.
pub fn arguments(launch: &Launch<'_>) -> Vec<String> {
    let Profile { machine, cpu, sockets, memory_mib, iommu, .. } = launch.profile;
    let file = |name: &str| escaped(&launch.folder.join(name));
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);

    let Mode { accel, alone, one_thread, .. } = launch.mode;
    // With nodes each has a memory of its own.
    let memory = if launch.profile.nodes.is_empty() { ",memory-backend=ram" } else { "" };
    add("-machine", format!("{machine}{memory}{}", ARCH.machine.options(accel)));
    let one_thread = if accel == Accel::Tcg && one_thread { ",thread=single" } else { "" };
    add("-accel", format!("{}{one_thread}", accel.word()));
    add("-cpu", cpu.clone());
    let processors = processors(launch.profile, launch.mode);
    // A machine whose processors are fewer than it has is of one socket.
    let sockets = if processors == launch.profile.cpus { *sockets } else { 1 };
    add("-smp", if sockets == 1 { processors.to_string() } else { format!("{processors},sockets={sockets}") });
    add("-m", format!("{memory_mib}M"));
    for (name, mib) in ram_files(launch.profile) {
        add("-object", format!("memory-backend-file,id={name},size={mib}M,mem-path={},share=on", file(&name)));
    }
    for (number, node) in launch.profile.nodes.iter().enumerate() {
        let cpus = node.cpus.iter().filter(|cpu| **cpu < processors).map(|cpu| format!(",cpus={cpu}"));
        let memory = Some(format!(",memdev={}", ram_of_node(number))).filter(|_| node.memory_mib > 0);
        add("-numa", format!("node,nodeid={number}{}", cpus.chain(memory).collect::<String>()));
    }
    // An IOMMU has to come before the devices that it serves.
    if let Some(device) = (ARCH.iommu)(*iommu).device {
        add("-device", device.to_owned());
    }
    match alone {
        None => {
            // The guest has no network access, and only this host's loopback can connect to it, at a port that QEMU
            // chooses. This card comes first, so that it is eth0.
            add("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22".to_owned());
            add("-device", "virtio-net-pci,netdev=net,romfile=".to_owned());
            add("-device", "virtio-rng-pci".to_owned());
        }
        Some(seed) => {
            // An instruction takes 2 ns of the guest's clock, and sleeping takes no time of the host.
            add("-icount", "shift=1,sleep=off".to_owned());
            add("-rtc", "base=2026-01-01T00:00:00,clock=vm".to_owned());
            // The seed of RDRAND and of the kernel's initial entropy.
            add("-seed", seed.to_string());
        }
    }
    add("-device", "pvpanic-pci".to_owned());
    // A kernel reports its vmcoreinfo with this device, and a core of the guest's memory then has a note with it
    // (QEMU docs/specs/vmcoreinfo.rst).
    add("-device", "vmcoreinfo".to_owned());
    // A device that works in its own time is not deterministic.
    for (option, value) in devices(launch).into_iter().filter(|_| alone.is_none()) {
        add(option, value);
    }
    for event in traced() {
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
        // A pipe, not a socket: QEMU writes single bytes, and about 280 of them fill the buffer of a Unix socket. If
        // the host is then busy for 10 ms, the guest's driver gives up and characters are lost. A pipe takes 64 KiB.
        add("-chardev", format!("pipe,id=console,path={}", file(CONSOLE)));
        add("-serial", "chardev:console".to_owned());
    } else {
        // A file never blocks, so that the guest does not notice how busy the host is.
        for (id, name) in [("console", CONSOLE_RAW), ("answers", ANSWERS)] {
            add("-chardev", format!("file,id={id},path={}", escaped(&launch.logs.join(name))));
            add("-serial", format!("chardev:{id}"));
        }
    }
    add("-qmp", format!("unix:{},server=on,wait=off", file(QMP)));
    // A machine that ends is paused for analysis; an event tells luqual.
    add("-action", "reboot=shutdown,shutdown=pause,panic=pause".to_owned());
    add("-display", "none".to_owned());
    arguments.extend(["-nodefaults", "-no-user-config", "-S"].map(str::to_owned));
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-kernel", launch.kernel.display().to_string());
    add("-initrd", launch.initrd.display().to_string());
    add("-append", launch.command_line.to_owned());
    arguments.extend(launch.profile.qemu.iter().cloned());
    arguments
}

/// The number of processors.
fn processors(profile: &Profile, Mode { accel, nested, alone, .. }: Mode) -> u32 {
    match alone {
        Some(_) => 1,
        None if accel == Accel::Tcg && nested => profile.cpus.min(ARCH.nested.processors),
        None => profile.cpus,
    }
}

/// The devices of workloads, with their buses and backends.
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

/// The slot of [`Bus::OneSlot`], which no other device uses.
const ONE_SLOT: u32 = 0x10;

/// The host backend of a device.
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

/// The frontend of a device, with its backend.
fn front(device: Device) -> String {
    let (kind, id) = (device.qemu_type(), device.id());
    match device {
        // Its DMA can access all of the machine's memory; the default is 28 bits.
        Device::Edu => format!("{kind},dma_mask=0xffffffffffffffff"),
        Device::IvshmemPlain => format!("{kind},memdev={id}-memory"),
        Device::IvshmemDoorbell => format!("{kind},vectors={},chardev={id}-server", ivshmem::VECTORS),
        Device::PciTestdev => kind.to_owned(),
        Device::Nvme => format!("{kind},drive={id}-drive,serial=luqual"),
        Device::E1000e | Device::Igb => format!("{kind},netdev={id}-frames,romfile="),
        Device::VirtioNet => {
            let shape = format!("iommu_platform=on,disable-legacy=on,rx_queue_size={}", Device::VIRTIO_QUEUE);
            format!("{kind},netdev={id}-frames,{shape},romfile=")
        }
    }
}

/// The command line options that every kernel gets, beside those of its machine's profile.
pub fn kernel_options(Mode { accel, nested, alone, .. }: Mode) -> String {
    // The address is fixed, so that no kernel waits for DHCP. QEMU forwards to 10.0.2.15.
    let address = Some("ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off").filter(|_| alone.is_none());
    let options = [
        // The host asks a hanging kernel where it is, on every processor.
        ARCH.hang.option,
        "panic_sys_info=all_bt",
        // A kernel that panicked resets the machine at once. A distribution's waits for a person, and its pvpanic is a
        // module, so that the cell would take until the phase's deadline.
        "panic=-1",
        // The kernel has to report a hung task before the phase's deadline, or the agent would be blamed; it takes up
        // to twice this time (kernel/hung_task.c).
        match accel {
            Accel::Kvm => "sysctl.kernel.hung_task_timeout_secs=10",
            Accel::Tcg => "sysctl.kernel.hung_task_timeout_secs=40",
        },
    ];
    let is_emulated = accel == Accel::Tcg;
    let emulated = ARCH.emulated_options.iter().copied().filter(|_| is_emulated);
    let emulated = emulated.chain(Some(ARCH.nested.options).filter(|_| is_emulated && nested));
    address.into_iter().chain(options).chain(emulated).collect::<Vec<_>>().join(" ")
}

/// Escapes a path in an option: QEMU reads a doubled comma as one (QEMU util/qemu-option.c).
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The command line, quoted for a shell.
pub fn command_line(program: &Path, arguments: &[String]) -> String {
    let program = program.display().to_string();
    let words = std::iter::once(program.as_str()).chain(arguments.iter().map(String::as_str));
    // Only a NUL cannot be quoted, and no process can have an argument with one.
    shlex::try_join(words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_config::{DEFAULT_MACHINE, own_machine, own_machines};
    use luqual_model::Node;

    #[test]
    fn no_socket_has_a_longer_name() {
        let names = Device::ALL.into_iter().flat_map(|device| {
            let (input, output) = frames_of(device);
            [server_of(device), input, output]
        });
        assert_eq!(names.map(|name| name.len()).max(), Some(LONGEST_SOCKET.len()));
        assert!([QMP, QTEST, CONSOLE, GDB].iter().all(|name| name.len() < LONGEST_SOCKET.len()));
    }

    fn arguments_of(profile: &str, accel: Accel, folder: &str) -> String {
        let launch = launch(profile, accel, folder);
        command_line(Path::new("/usr/bin/qemu-system-x86_64"), &arguments(&launch)).replace(" -", "\n-")
    }

    fn launch<'a>(profile: &str, accel: Accel, folder: &'a str) -> Launch<'a> {
        Launch {
            profile: own_machine(profile).unwrap(),
            mode: Mode::plain(accel),
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
        let mode = |accel, nested| Mode { nested, ..Mode::plain(accel) };
        let processors = |accel, nested| processors(own_machine(DEFAULT_MACHINE).unwrap(), mode(accel, nested));
        assert_eq!(processors(Accel::Tcg, true), 1);
        assert_eq!([processors(Accel::Tcg, false), processors(Accel::Kvm, true)], [2, 2]);
        let is_periodic = |accel, nested| kernel_options(mode(accel, nested)).ends_with(" nohz=off highres=off");
        assert!(is_periodic(Accel::Tcg, true) && !is_periodic(Accel::Tcg, false) && !is_periodic(Accel::Kvm, true));
    }

    #[test]
    fn only_an_emulator_has_one_thread_for_all_processors() {
        let line = |accel, one_thread| {
            let mode = Mode { one_thread, ..Mode::plain(accel) };
            arguments(&Launch { mode, ..launch("q35-intel", accel, "/work") }).join(" ")
        };
        assert!(
            line(Accel::Tcg, true).contains(" -accel tcg,thread=single ") && line(Accel::Tcg, true).contains("-smp 2")
        );
        assert!(line(Accel::Tcg, false).contains(" -accel tcg ") && line(Accel::Kvm, true).contains(" -accel kvm "));
    }

    #[test]
    fn a_guest_that_nobody_talks_to_has_nothing_from_outside() {
        let mode = Mode { alone: Some(7), ..Mode::plain(Accel::Tcg) };
        let launch = Launch { mode, ..launch("q35-intel", Accel::Tcg, "/work") };
        let line = arguments(&launch).join(" ");
        for here in ["-smp 1 ", "-icount shift=1,sleep=off ", "-seed 7 ", "file,id=answers,path=/run/answers.jsonl "] {
            assert!(line.contains(here), "{here}: {line}");
        }
        for outside in ["netdev", "virtio-rng", "pipe,", "edu"] {
            assert!(!line.contains(outside), "{outside}: {line}");
        }
        assert!(!kernel_options(mode).contains("ip="));
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
        insta::assert_snapshot!(arguments_of(DEFAULT_MACHINE, Accel::Tcg, "/work"));
    }

    /// What a profile has that the default one has not.
    fn differs(profile: &str) -> String {
        let of = |profile: &str| arguments_of(profile, Accel::Tcg, "/work");
        let (plain, other) = (of(DEFAULT_MACHINE), of(profile));
        let known: Vec<&str> = plain.lines().collect();
        other.lines().filter(|line| !known.contains(line)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_other_profiles() {
        let all: Vec<String> = own_machines()
            .iter()
            .filter(|it| it.name != DEFAULT_MACHINE)
            .map(|it| format!("{}\n{}\n", it.name, differs(&it.name)))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn only_an_emulated_clock_is_neither_watched_nor_tested() {
        let options = |accel| kernel_options(Mode::plain(accel));
        assert!(options(Accel::Tcg).ends_with("_secs=40 tsc=nowatchdog no_timer_check"));
        assert!(options(Accel::Kvm).ends_with("_secs=10"));
    }

    #[test]
    fn kvm_splits_the_interrupt_controllers_and_a_comma_is_doubled() {
        let text = arguments_of("vfio-intel", Accel::Kvm, "/a,b");
        assert!(text.contains("q35,memory-backend=ram,kernel-irqchip=split"), "{text}");
        assert!(text.contains("mem-path=/a,,b/ram,share=on"), "{text}");
        assert!(text.contains("local.path=/a,,b/e1000e.in"), "{text}");
    }

    #[test]
    fn nodes_have_a_memory_each_and_a_processor_is_in_one() {
        let node = |memory_mib, cpus: &[u32]| Node { memory_mib, cpus: cpus.to_vec() };
        let profile = Profile {
            cpus: 4,
            sockets: 2,
            memory_mib: 6144,
            nodes: vec![node(0, &[0, 1]), node(4096, &[2, 3]), node(2048, &[])],
            qemu: vec!["-device".into(), "usb-kbd".into()],
            ..own_machine(DEFAULT_MACHINE).unwrap().clone()
        };
        assert_eq!(profile.mistake(), None);
        let line =
            |mode| arguments(&Launch { profile: &profile, mode, ..launch("q35-intel", Accel::Tcg, "/w") }).join(" ");
        let all = line(Mode::plain(Accel::Tcg));
        for part in [
            "-machine q35 ",
            "-smp 4,sockets=2 -m 6144M ",
            "-object memory-backend-file,id=ram-1,size=4096M,mem-path=/w/ram-1,share=on ",
            "-object memory-backend-file,id=ram-2,size=2048M,mem-path=/w/ram-2,share=on ",
            "-numa node,nodeid=0,cpus=0,cpus=1 -numa node,nodeid=1,cpus=2,cpus=3,memdev=ram-1 -numa node,nodeid=2,memdev=ram-2 ",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        assert!(all.ends_with(" -device usb-kbd"));
        // A mode with one processor leaves the others out.
        let one = line(Mode { alone: Some(1), ..Mode::plain(Accel::Tcg) });
        assert!(one.contains("-smp 1 -m") && one.contains("nodeid=1,memdev=ram-1 "), "{one}");
    }
}
