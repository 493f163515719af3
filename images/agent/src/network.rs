//! Gives the network card its address under a kernel that does not do it itself (`CONFIG_IP_PNP`), or whose card came with a
//! module.
#![expect(
    unsafe_code,
    reason = "the ioctls of network devices have no safe wrapper; the blocks say why they are sound"
)]

use crate::errno::{errno_name, last_errno};
use crate::facts;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use std::fs;
use std::net::Ipv4Addr;

/// Gives the card the address in `ip=` on the command line (Documentation/admin-guide/nfs/nfsroot.rst), unless it has
/// one.
pub(crate) fn configure() -> Result<(), String> {
    let command_line = fs::read_to_string("/proc/cmdline").map_err(|error| format!("/proc/cmdline: {error}"))?;
    let Some(wanted) = facts::option(&command_line, "ip=").and_then(Wanted::parse) else { return Ok(()) };
    let failed = |what: &'static str| move |errno: Errno| format!("{what}: {}", errno_name(errno));
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(failed("socket"))?;
    let card = Card { socket: &socket, name: wanted.device };
    if card.has_address() {
        return Ok(());
    }
    Card { socket: &socket, name: "lo" }.up().map_err(failed("lo: SIOCSIFFLAGS"))?;
    card.set(libc::SIOCSIFADDR, wanted.address).map_err(failed("SIOCSIFADDR"))?;
    card.set(libc::SIOCSIFNETMASK, wanted.mask).map_err(failed("SIOCSIFNETMASK"))?;
    card.up().map_err(failed("SIOCSIFFLAGS"))
}

/// What `ip=CLIENT:SERVER:GATEWAY:NETMASK:HOST:DEVICE:METHOD` asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    address: Ipv4Addr,
    mask: Ipv4Addr,
    device: &'a str,
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let [address, _, _, mask, _, device, ..] = parts[..] else { return None };
        Some(Self { address: address.parse().ok()?, mask: mask.parse().ok()?, device })
    }
}

/// A network device (netdevice(7)).
struct Card<'a> {
    socket: &'a OwnedFd,
    name: &'a str,
}

impl Card<'_> {
    fn has_address(&self) -> bool {
        self.ioctl(libc::SIOCGIFADDR, &mut self.request()).is_ok()
    }

    fn set(&self, what: libc::c_ulong, address: Ipv4Addr) -> Result<(), Errno> {
        let mut request = self.request();
        // SAFETY: each bit pattern is a valid `sockaddr`.
        let to = unsafe { &mut request.ifr_ifru.ifru_addr };
        // As struct sockaddr_in: family, port, address; the port stays 0.
        to.sa_family = libc::AF_INET as libc::sa_family_t;
        for (place, byte) in to.sa_data[2..].iter_mut().zip(address.octets()) {
            *place = byte as libc::c_char;
        }
        self.ioctl(what, &mut request)
    }

    fn up(&self) -> Result<(), Errno> {
        let mut request = self.request();
        self.ioctl(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: the kernel has written the flags.
        unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
        self.ioctl(libc::SIOCSIFFLAGS, &mut request)
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: zeros are a valid `ifreq`: numbers, and a union of numbers and a pointer.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays 0.
        for (place, byte) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(self.name.bytes()) {
            *place = byte as libc::c_char;
        }
        request
    }

    fn ioctl(&self, what: libc::c_ulong, request: &mut libc::ifreq) -> Result<(), Errno> {
        // SAFETY: these requests take an `ifreq`, which is alive through the call, and write no further than it.
        let returned = unsafe { libc::ioctl(self.socket.as_raw_fd(), what, std::ptr::from_mut(request)) };
        if returned == 0 { Ok(()) } else { Err(last_errno()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_command_line() {
        let wanted = Wanted::parse("10.0.2.15::10.0.2.2:255.255.255.0::eth0:off").unwrap();
        let address = "10.0.2.15".parse().unwrap();
        assert_eq!(wanted, Wanted { address, mask: "255.255.255.0".parse().unwrap(), device: "eth0" });
        for other in ["dhcp", "", "x::10.0.2.2:255.255.255.0::eth0:off", "10.0.2.15:::::eth0"] {
            assert_eq!(Wanted::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_device_is_asked_by_the_kernels_own_interface() {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        let card = |name| Card { socket: &socket, name };
        assert_eq!(
            card("luqual-none").ioctl(libc::SIOCGIFFLAGS, &mut card("luqual-none").request()),
            Err(Errno::NODEV)
        );
        assert!(!card("luqual-none").has_address());
        card("lo").ioctl(libc::SIOCGIFFLAGS, &mut card("lo").request()).unwrap();
    }
}
