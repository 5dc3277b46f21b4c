//! What the kernel says of a network interface (netdevice(7)).

use std::ffi::CString;
use std::io;

/// The number of an interface.
///
/// # Errors
/// ENODEV: there is no such interface.
pub fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: if_nametoindex(3): "returns the index of the network interface corresponding to the name ifname"; a live
    // string that ends in NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// What sysfs says of an interface: of the network namespace that /sys was mounted in, which is ours everywhere but after a bare
/// setns(2).
fn read(name: &str, what: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/{what}"))?;
    Ok(text.trim().to_owned())
}

/// The largest packet that it takes, without the link header.
///
/// # Errors
/// There is no such interface, or no sysfs.
pub fn mtu(name: &str) -> io::Result<u32> {
    let text = read(name, "mtu")?;
    text.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// How many queues it receives into.
///
/// # Errors
/// There is no such interface, or no sysfs.
pub fn receive_queues(name: &str) -> io::Result<u32> {
    let entries = std::fs::read_dir(format!("/sys/class/net/{name}/queues"))?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    Ok(names.filter(|n| n.starts_with("rx-")).count() as u32)
}

/// Its Ethernet address; `None` where it has none.
///
/// # Errors
/// There is no such interface, or no sysfs.
pub fn ethernet_address(name: &str) -> io::Result<Option<[u8; 6]>> {
    Ok(parse_ethernet(&read(name, "address")?))
}

fn parse_ethernet(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_known_and_another_is_not() {
        assert!(index("lo").unwrap() > 0 && mtu("lo").unwrap() > 1500);
        assert_eq!(receive_queues("lo").unwrap(), 1);
        assert_eq!(ethernet_address("lo").unwrap(), Some([0; 6]));
        for error in [index("no-such-if").map(drop), mtu("no-such-if").map(drop)] {
            assert!(error.is_err());
        }
    }

    #[test]
    fn an_address_that_is_not_ethernet_is_none() {
        let ethernet = parse_ethernet("02:00:5e:10:0a:ff");
        assert_eq!(ethernet, Some([2, 0, 0x5e, 0x10, 0x0a, 0xff]));
        for other in [
            "",
            "00",
            "00:11:22:33:44",
            "00:11:22:33:44:55:66",
            "a:b:c:d:e:xx",
        ] {
            assert_eq!(parse_ethernet(other), None, "{other}");
        }
    }
}
