//! Devices through VFIO, as far as workloads need them: include/uapi/linux/vfio.h and iommufd.h of the kernel. The structures and
//! numbers come from rust-vmm's bindings. The calls are made here, since every errno is a result of its own, and since a device
//! may come from a session instead of open(2).
#![expect(unsafe_code, reason = "ioctl(2); each block says why it is sound")]

use crate::errno::{errno, last_errno};
use crate::mapping::{Bar, Mapping, PAGE};
use iommufd_bindings::iommufd as iommu;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::ffi::c_ulong;
use std::fs::File;
use std::os::unix::fs::FileExt;
use vfio_bindings::bindings::vfio;

/// A call that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The call, as a kernel developer names it.
    pub(crate) call: &'static str,
    pub(crate) errno: Errno,
}

fn refused(call: &'static str) -> impl FnOnce(Errno) -> Refusal {
    move |errno| Refusal { call, errno }
}

type Told<T> = Result<T, Refusal>;

/// `_IO(VFIO_TYPE, VFIO_BASE + number)`.
const fn vfio_command(number: u32) -> c_ulong {
    (b';' as c_ulong) << 8 | (vfio::VFIO_BASE + number) as c_ulong
}

/// The numbers of the commands in vfio.h, whose macros bindgen does not translate.
mod number {
    pub(super) const SET_IOMMU: u32 = 2;
    pub(super) const GROUP_SET_CONTAINER: u32 = 4;
    pub(super) const GROUP_GET_DEVICE_FD: u32 = 6;
    pub(super) const DEVICE_GET_REGION_INFO: u32 = 8;
    pub(super) const DEVICE_SET_IRQS: u32 = 10;
    pub(super) const IOMMU_MAP_DMA: u32 = 13;
    pub(super) const DEVICE_BIND_IOMMUFD: u32 = 18;
    pub(super) const DEVICE_ATTACH_IOMMUFD_PT: u32 = 19;
}

/// `_IO(IOMMUFD_TYPE, number)`.
const fn iommu_command(number: u32) -> c_ulong {
    (iommu::IOMMUFD_TYPE as c_ulong) << 8 | number as c_ulong
}

/// # Safety
///
/// `argument` is the structure that the header gives for the command, or longer, and states its length if it has such a field.
unsafe fn call<T>(fd: BorrowedFd<'_>, command: c_ulong, argument: *mut T) -> Result<i32, Errno> {
    // SAFETY: as the caller promises.
    let returned = unsafe { libc::ioctl(fd.as_raw_fd(), command, argument) };
    if returned < 0 { Err(last_errno()) } else { Ok(returned) }
}

/// The device of iommufd.
pub(crate) const IOMMU: &str = "/dev/iommu";

/// The address space by which a device's accesses are translated.
pub(crate) enum Space {
    /// An IOAS of an iommufd (Documentation/userspace-api/iommufd.rst).
    Iommufd { fd: OwnedFd, ioas: u32 },
    /// A container of groups (Documentation/driver-api/vfio.rst).
    Container { fd: OwnedFd, group: OwnedFd, is_mapped: bool },
}

impl Space {
    /// Maps `length` bytes at `address` of this process for the device, at `iova`.
    pub(crate) fn map(&self, address: u64, length: u64, iova: u64) -> Told<()> {
        match self {
            Self::Iommufd { fd, ioas } => {
                let mut argument = iommu::iommu_ioas_map {
                    size: size_of::<iommu::iommu_ioas_map>() as u32,
                    flags: iommu::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA
                        | iommu::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE
                        | iommu::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE,
                    ioas_id: *ioas,
                    user_va: address,
                    length,
                    iova,
                    ..Default::default()
                };
                // SAFETY: the structure of this command. The memory that it names is pinned by the kernel, and the device's
                // writes to it are those of a mapping that this process never holds a reference into.
                unsafe { call(fd.as_fd(), iommu_command(iommu::IOMMUFD_CMD_IOAS_MAP), &raw mut argument) }
                    .map(drop)
                    .map_err(refused("ioctl IOMMU_IOAS_MAP"))
            }
            Self::Container { is_mapped: false, .. } => Ok(()),
            Self::Container { fd, .. } => {
                let mut argument = vfio::vfio_iommu_type1_dma_map {
                    argsz: size_of::<vfio::vfio_iommu_type1_dma_map>() as u32,
                    flags: vfio::VFIO_DMA_MAP_FLAG_READ | vfio::VFIO_DMA_MAP_FLAG_WRITE,
                    vaddr: address,
                    iova,
                    size: length,
                };
                // SAFETY: as for the other.
                unsafe { call(fd.as_fd(), vfio_command(number::IOMMU_MAP_DMA), &raw mut argument) }
                    .map(drop)
                    .map_err(refused("ioctl VFIO_IOMMU_MAP_DMA"))
            }
        }
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Iommufd { fd, .. } | Self::Container { fd, .. } => fd.as_fd(),
        }
    }

    /// The descriptor of the group, for a container.
    pub(crate) fn group(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Iommufd { .. } => None,
            Self::Container { group, .. } => Some(group.as_fd()),
        }
    }
}

fn open_node(path: &str, call: &'static str) -> Told<OwnedFd> {
    open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(refused(call))
}

/// An open device and its address space.
pub(crate) struct Device {
    file: File,
    pub(crate) space: Space,
}

impl Device {
    /// Opens a device by its character device, such as `/dev/vfio/devices/vfio0`, with an iommufd.
    pub(crate) fn open_cdev(node: &str) -> Told<Self> {
        let device = open_node(node, "open of the VFIO character device")?;
        Self::of_descriptors(device, open_node(IOMMU, "open of /dev/iommu")?)
    }

    /// Binds an open device to an iommufd; both are new.
    pub(crate) fn of_descriptors(device: OwnedFd, iommufd: OwnedFd) -> Told<Self> {
        let mut bind = vfio::vfio_device_bind_iommufd {
            // Up to out_devid: newer kernels have more fields.
            argsz: std::mem::offset_of!(vfio::vfio_device_bind_iommufd, token_uuid_ptr) as u32,
            iommufd: iommufd.as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: the structure of this command, which says that it is as long as its first version.
        unsafe { call(device.as_fd(), vfio_command(number::DEVICE_BIND_IOMMUFD), &raw mut bind) }
            .map_err(refused("ioctl VFIO_DEVICE_BIND_IOMMUFD"))?;
        let size = size_of::<iommu::iommu_ioas_alloc>() as u32;
        let mut ioas = iommu::iommu_ioas_alloc { size, ..Default::default() };
        // SAFETY: the structure of this command.
        unsafe { call(iommufd.as_fd(), iommu_command(iommu::IOMMUFD_CMD_IOAS_ALLOC), &raw mut ioas) }
            .map_err(refused("ioctl IOMMU_IOAS_ALLOC"))?;
        let mut attach = vfio::vfio_device_attach_iommufd_pt {
            argsz: std::mem::offset_of!(vfio::vfio_device_attach_iommufd_pt, pasid) as u32,
            pt_id: ioas.out_ioas_id,
            ..Default::default()
        };
        // SAFETY: the structure of this command, which says that it is as long as its first version.
        unsafe { call(device.as_fd(), vfio_command(number::DEVICE_ATTACH_IOMMUFD_PT), &raw mut attach) }
            .map_err(refused("ioctl VFIO_DEVICE_ATTACH_IOMMUFD_PT"))?;
        Ok(Self { file: File::from(device), space: Space::Iommufd { fd: iommufd, ioas: ioas.out_ioas_id } })
    }

    /// Opens a device by its group, such as `/dev/vfio/7`, or `/dev/vfio/noiommu-0` without an IOMMU.
    pub(crate) fn open_group(node: &str, address: &str) -> Told<Self> {
        let is_mapped = !node.contains("noiommu");
        let group = open_node(node, "open of the VFIO group")?;
        let container = open_node("/dev/vfio/vfio", "open of /dev/vfio/vfio")?;
        let mut raw = container.as_raw_fd();
        // SAFETY: this command takes a pointer to a descriptor.
        unsafe { call(group.as_fd(), vfio_command(number::GROUP_SET_CONTAINER), &raw mut raw) }
            .map_err(refused("ioctl VFIO_GROUP_SET_CONTAINER"))?;
        let kind = if is_mapped { vfio::VFIO_TYPE1v2_IOMMU } else { vfio::VFIO_NOIOMMU_IOMMU };
        // SAFETY: this command takes a number.
        let set = unsafe { libc::ioctl(container.as_raw_fd(), vfio_command(number::SET_IOMMU), c_ulong::from(kind)) };
        if set < 0 {
            return Err(refused("ioctl VFIO_SET_IOMMU")(last_errno()));
        }
        let mut name = address.as_bytes().to_vec();
        name.push(0);
        // SAFETY: this command takes a string that ends with NUL, which the kernel only reads.
        let fd = unsafe { call(group.as_fd(), vfio_command(number::GROUP_GET_DEVICE_FD), name.as_mut_ptr()) }
            .map_err(refused("ioctl VFIO_GROUP_GET_DEVICE_FD"))?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let device = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file: File::from(device), space: Space::Container { fd: container, group, is_mapped } })
    }

    fn region(&self, index: u32) -> Told<vfio::vfio_region_info> {
        let size = size_of::<vfio::vfio_region_info>() as u32;
        let mut info = vfio::vfio_region_info { argsz: size, index, ..Default::default() };
        // SAFETY: the structure of this command.
        unsafe { call(self.file.as_fd(), vfio_command(number::DEVICE_GET_REGION_INFO), &raw mut info) }
            .map_err(refused("ioctl VFIO_DEVICE_GET_REGION_INFO"))?;
        Ok(info)
    }

    /// Maps a BAR.
    pub(crate) fn bar(&self, number: u32) -> Told<Bar> {
        let region = self.region(number)?;
        Bar::of_file(&self.file, region.offset, region.size as usize).map_err(refused("mmap of a BAR"))
    }

    /// The first 256 bytes of its configuration space.
    pub(crate) fn config(&self) -> Told<Vec<u8>> {
        let mut bytes = vec![0; 256];
        let at = self.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?.offset;
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(|error| refused("read of the config region")(errno(&error)))?;
        Ok(bytes)
    }

    /// Its command register.
    pub(crate) fn command_register(&self) -> Told<CommandRegister> {
        /// PCI Local Bus Specification 3.0, 6.2.2.
        const COMMAND: u64 = 4;
        let at = self.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?.offset + COMMAND;
        let io = |error: std::io::Error| refused("dup")(errno(&error));
        Ok(CommandRegister { file: self.file.try_clone().map_err(io)?, at })
    }

    /// Enables bus mastering.
    pub(crate) fn set_bus_master(&self) -> Told<()> {
        self.command_register()?.enable_bus_master()
    }

    /// Enables the first `count` vectors of this kind. Each has a counter.
    pub(crate) fn interrupts(&self, kind: Interrupt, count: usize) -> Told<Vec<Vector>> {
        let made: Result<Vec<Vector>, Errno> =
            (0..count).map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Vector)).collect();
        let vectors = made.map_err(refused("eventfd"))?;
        // struct vfio_irq_set, followed by a descriptor for each vector.
        let mut words: Vec<u32> = vec![
            (IRQ_SET_WORDS + count) as u32 * 4,
            vfio::VFIO_IRQ_SET_DATA_EVENTFD | vfio::VFIO_IRQ_SET_ACTION_TRIGGER,
            kind.index(),
            0,
            count as u32,
        ];
        words.extend(vectors.iter().map(|vector| vector.0.as_raw_fd() as u32));
        // SAFETY: the structure of this command with its descriptors, as long as it says.
        unsafe { call(self.file.as_fd(), vfio_command(number::DEVICE_SET_IRQS), words.as_mut_ptr()) }
            .map_err(refused("ioctl VFIO_DEVICE_SET_IRQS"))?;
        Ok(vectors)
    }
}

/// The command register of a device.
pub(crate) struct CommandRegister {
    file: File,
    at: u64,
}

impl CommandRegister {
    fn enable_bus_master(&self) -> Told<()> {
        const MEMORY: u16 = 1 << 1;
        const BUS_MASTER: u16 = 1 << 2;
        let mut bytes = [0; 2];
        let read = self.file.read_exact_at(&mut bytes, self.at);
        read.map_err(|error| refused("read of the config region")(errno(&error)))?;
        let command = u16::from_le_bytes(bytes) | MEMORY | BUS_MASTER;
        let written = self.file.write_all_at(&command.to_le_bytes(), self.at);
        written.map_err(|error| refused("write of the config region")(errno(&error)))
    }

    /// Enables bus mastering again and again, as long as this kernel runs.
    pub(crate) fn keep_bus_master(&self) {
        while self.enable_bus_master().is_ok() {}
    }
}

/// The words of `struct vfio_irq_set` before its data.
const IRQ_SET_WORDS: usize = 5;

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// How a device interrupts.
#[derive(Clone, Copy)]
pub(crate) enum Interrupt {
    Msi,
    MsiX,
}

impl Interrupt {
    const fn index(self) -> u32 {
        match self {
            Self::Msi => vfio::VFIO_PCI_MSI_IRQ_INDEX,
            Self::MsiX => vfio::VFIO_PCI_MSIX_IRQ_INDEX,
        }
    }
}

/// An interrupt vector with a counter.
pub(crate) struct Vector(OwnedFd);

impl Vector {
    /// The eventfd, for another waiter.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// How many interrupts have occurred since the last call.
    pub(crate) fn taken(&self) -> u64 {
        let mut count = [0; 8];
        // An empty counter cannot be read: none has occurred.
        rustix::io::read(&self.0, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
    }

    /// Waits up to this many seconds for an interrupt. Returns how many have occurred.
    pub(crate) fn wait(&self, seconds: i64) -> u64 {
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit));
        self.taken()
    }
}

/// Memory that a device can access.
pub(crate) struct Dma {
    pub(crate) memory: Mapping,
    /// The device's address of each page.
    iova: Vec<u64>,
}

impl Dma {
    /// Maps each page at its physical address. Then a device has the same addresses without an IOMMU and after a kexec.
    pub(crate) fn by_physical(memory: Mapping, space: &Space) -> Result<Self, DmaError> {
        let pages = memory.length() / PAGE;
        let physical = |page| memory.physical_address(page * PAGE);
        let iova: Vec<u64> = (0..pages).map(physical).collect::<Result<_, _>>().map_err(DmaError::Agent)?;
        for (page, iova) in iova.iter().enumerate() {
            space.map(memory.address() + (page * PAGE) as u64, PAGE as u64, *iova).map_err(DmaError::Kernel)?;
        }
        Ok(Self { memory, iova })
    }

    /// Whether these pages are contiguous for the device.
    pub(crate) fn is_contiguous(&self, pages: std::ops::Range<usize>) -> bool {
        self.iova[pages].windows(2).all(|pair| pair[0] + PAGE as u64 == pair[1])
    }

    /// The device's address of a byte.
    pub(crate) fn iova(&self, offset: usize) -> u64 {
        self.iova[offset / PAGE] + (offset % PAGE) as u64
    }
}

/// Why memory could not be mapped for a device.
#[derive(Debug)]
pub(crate) enum DmaError {
    /// The kernel refused a call.
    Kernel(Refusal),
    /// The agent does not know the physical addresses.
    Agent(std::io::Error),
}
