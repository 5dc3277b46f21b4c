//! Network interfaces: their numbers, addresses, kinds and clocks.

use std::ffi::{CStr, CString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::sys::check;

/// The kinds of link that begin with an Ethernet header (linux/if_arp.h): Ethernet itself, and the loopback.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

/// The number of an interface.
///
/// # Errors
/// ENODEV when there is none of this name.
pub fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: if_nametoindex(3) reads a string that ends with a zero byte, as this one does.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Whether there is an interface of this number, whatever it is called now: one that is down may be given another name.
pub fn is_there(index: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: if_indextoname(3): "copies the name ... into ifname, which should be a buffer of at least IF_NAMESIZE bytes".
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    !found.is_null()
}

/// The largest packet that an interface sends, in bytes, its link header not counted.
///
/// # Errors
/// Those of netdevice(7), SIOCGIFMTU.
pub fn mtu(name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU: "Get ... the MTU ... of a device using ifr_mtu": the kernel has written that member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(u32::try_from(mtu).unwrap_or(0))
}

/// Whether frames of an interface begin with an Ethernet header.
///
/// # Errors
/// Those of netdevice(7), SIOCGIFHWADDR.
pub fn is_ethernet(name: &str) -> io::Result<bool> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: SIOCGIFHWADDR: "Get ... the hardware address of a device using ifr_hwaddr": the kernel has written that
    // member, whose sa_family "contains the ARPHRD_* device type".
    let kind = unsafe { request.ifr_ifru.ifru_hwaddr.sa_family };
    Ok(matches!(kind, ARPHRD_ETHER | ARPHRD_LOOPBACK))
}

/// The Ethernet address of an interface.
///
/// # Errors
/// Those of netdevice(7), SIOCGIFHWADDR.
pub fn ethernet_address(name: &str) -> io::Result<[u8; 6]> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: SIOCGIFHWADDR: "Get ... the hardware address of a device using ifr_hwaddr": the kernel has written that
    // member, whose sa_data "contains the L2 hardware address starting from byte 0".
    let [a, b, c, d, e, f, ..] = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    Ok([a, b, c, d, e, f].map(|byte| byte as u8))
}

/// `struct hwtstamp_config` of linux/net_tstamp.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct ClockConfig {
    flags: libc::c_int,
    tx_type: libc::c_int,
    rx_filter: libc::c_int,
}

/// Makes the network card stamp every packet that it receives (Documentation/networking/timestamping.rst, SIOCSHWTSTAMP), unless it
/// does (SIOCGHWTSTAMP: "return the current configuration", as far as the driver tells).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, EOPNOTSUPP or ERANGE where the card or its driver can't.
pub fn stamp_all(name: &str) -> io::Result<()> {
    const TX_OFF: libc::c_int = 0;
    const FILTER_ALL: libc::c_int = 1;
    let mut config = ClockConfig {
        flags: 0,
        tx_type: TX_OFF,
        rx_filter: 0,
    };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut config).cast();
    // who sets the clock (ptp4l, chronyd) may have switched on the times of what is sent: they stay as they are
    if ioctl(libc::SIOCGHWTSTAMP, &mut request).is_err() {
        config.tx_type = TX_OFF;
    } else if config.rx_filter == FILTER_ALL {
        return Ok(());
    }
    config.rx_filter = FILTER_ALL;
    request.ifr_ifru.ifru_data = (&raw mut config).cast();
    ioctl(libc::SIOCSHWTSTAMP, &mut request)?;
    // "the driver may return a more permissive configuration", or less of one than was asked for
    if config.rx_filter == FILTER_ALL {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// Every address of every interface of this network namespace.
///
/// # Errors
/// Those of getifaddrs(3).
pub fn addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let mut first = ptr::null_mut();
    // SAFETY: getifaddrs(3) stores the address of the list's first item in `first`.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut found = Vec::new();
    let mut item = first;
    // SAFETY: getifaddrs(3): the list is linked by ifa_next, "or NULL if this is the last item", and stays until
    // freeifaddrs, which is called below.
    while let Some(entry) = unsafe { item.as_ref() } {
        // SAFETY: "ifa_name ... the null-terminated interface name".
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: ifa_addr is NULL or points to an address of this list; see `address`.
        if let Some(address) = unsafe { address(entry.ifa_addr) } {
            found.push((name.to_string_lossy().into_owned(), address));
        }
        item = entry.ifa_next;
    }
    // SAFETY: "The data returned by getifaddrs() is dynamically allocated and should be freed using freeifaddrs()";
    // nothing of it is referred to any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// # Safety
/// `address` is null or points to a socket address of the size that its family has.
unsafe fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by this function's contract.
    let family = unsafe { address.as_ref() }?.sa_family;
    match libc::c_int::from(family) {
        libc::AF_INET => {
            // SAFETY: a socket address of family AF_INET is a sockaddr_in (ip(7)).
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: a socket address of family AF_INET6 is a sockaddr_in6 (ipv6(7)).
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// An empty request about an interface.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq holds characters, integers and a pointer, for which zero bytes are valid values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) takes three integers and returns a new descriptor or -1.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: the descriptor was made just now and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: netdevice(7): these requests "can be used on any socket's file descriptor" and "pass an ifreq structure",
    // live and writable here; where it points to more (ifr_data), the caller has that alive.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), what, ptr::from_mut(request)) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_known_with_number_mtu_and_address() {
        assert!(index("lo").unwrap() > 0);
        assert!(is_there(index("lo").unwrap()) && !is_there(u32::MAX));
        assert!(mtu("lo").unwrap() >= 1280);
        assert!(is_ethernet("lo").unwrap());
        assert_eq!(ethernet_address("lo").unwrap(), [0; 6]);
        let all = addresses().unwrap();
        assert!(all.contains(&("lo".to_owned(), IpAddr::from([127, 0, 0, 1]))));
    }

    #[test]
    fn a_name_that_no_interface_has_is_an_error_and_so_is_one_too_long() {
        for name in ["none-such", "a-name-of-an-interface-that-is-too-long", ""] {
            assert!(index(name).is_err() && mtu(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_loopback_has_no_clock_of_its_own() {
        assert!(stamp_all("lo").is_err());
    }
}
