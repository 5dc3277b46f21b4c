//! Which interfaces a source reads that works on interfaces and not on addresses.
//!
//! Takes: the `[source]` table. Gives: [`Interface`]s: those that are named, else those that have the addresses listened on, else,
//! for addresses like `[::]`, the one of the default route. Holds: each interface once, and all of them have Ethernet headers.

use std::net::{IpAddr, SocketAddr};

use crate::source::{Clock, Config, Timestamps};
use crate::sys::interface;

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// The largest packet that it carries, in bytes, the link header not counted.
    pub mtu: u32,
}

/// Why an interface can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says which one to read.
    #[error(
        "cannot tell which interface to read: there is no default route; name one (--interface, or source.interface)"
    )]
    NoRoute,
    /// An address to listen on that no interface has.
    #[error(
        "no interface has the address {0}; listen on one that `ip address` shows, or name the interface (--interface)"
    )]
    NoAddress(IpAddr),
    /// It is not there.
    #[error("cannot read interface {name}: {error}; `ip link` shows those that there are")]
    Unknown {
        /// Its name.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Its frames do not begin with an Ethernet header.
    #[error("cannot read interface {0}: it is not Ethernet; use source.kind = \"udp\"")]
    NotEthernet(String),
    /// The system does not tell.
    #[error("cannot list the interfaces: {0}")]
    List(std::io::Error),
}

/// The interfaces to read.
///
/// # Errors
/// None is named and none can be found, or one can't be read.
pub fn find(config: &Config) -> Result<Vec<Interface>, Error> {
    let mut names = match config.interface.as_slice() {
        [] => of_addresses(&config.listen)?,
        named => named.to_vec(),
    };
    names.sort_unstable();
    names.dedup();
    let found = names.into_iter().map(open).collect::<Result<_, _>>()?;
    Ok(each_once(found))
}

/// An interface may have several names (ip-link(8), altname); read twice, each packet would be there twice.
fn each_once(mut found: Vec<Interface>) -> Vec<Interface> {
    found.sort_by_key(|interface| interface.index);
    found.dedup_by_key(|interface| interface.index);
    found
}

fn open(name: String) -> Result<Interface, Error> {
    let found = interface::index(&name).and_then(|index| {
        let mtu = interface::mtu(&name)?;
        Ok((index, mtu, interface::is_ethernet(&name)?))
    });
    match found {
        Ok((index, mtu, true)) => Ok(Interface { name, index, mtu }),
        Ok((_, _, false)) => Err(Error::NotEthernet(name)),
        Err(error) => Err(Error::Unknown { name, error }),
    }
}

fn of_addresses(listen: &[SocketAddr]) -> Result<Vec<String>, Error> {
    let known = interface::addresses().map_err(Error::List)?;
    let of_address = |address: &SocketAddr| {
        let wanted = address.ip().to_canonical();
        if wanted.is_unspecified() {
            return default_route().ok_or(Error::NoRoute);
        }
        let found = known.iter().find(|(_, has)| *has == wanted);
        found
            .map(|(name, _)| name.clone())
            .ok_or(Error::NoAddress(wanted))
    };
    listen.iter().map(of_address).collect()
}

/// The clock for packets of these interfaces: the network cards' where it was asked for and each of them has one.
pub fn clock(config: &Config, interfaces: &[Interface]) -> Clock {
    if config.timestamps == Timestamps::Kernel {
        return Clock::Kernel;
    }
    let has_clock = |i: &Interface| {
        let stamped = interface::stamp_all(&i.name);
        if let Err(error) = &stamped {
            tracing::warn!(interface = i.name, %error, "The network card gives no receive times (`ethtool -T` shows what it can; \
                CAP_NET_ADMIN may be missing); packets have the kernel's.");
        }
        stamped.is_ok()
    };
    match !interfaces.is_empty() && interfaces.iter().all(has_clock) {
        true => Clock::Hardware,
        false => Clock::Kernel,
    }
}

/// The addresses that packets have to be for; none where any will do.
pub fn wanted_addresses(listen: &[SocketAddr]) -> Vec<IpAddr> {
    let addresses = || listen.iter().map(|a| a.ip().to_canonical());
    if addresses().any(|a| a.is_unspecified()) {
        return Vec::new();
    }
    let mut all: Vec<_> = addresses().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The interface of the default route, of IPv4 before that of IPv6.
fn default_route() -> Option<String> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    v4_route(&read("/proc/net/route")).or_else(|| v6_route(&read("/proc/net/ipv6_route")))
}

/// Of lines like `eth0 00000000 0101A8C0 0003 0 0 100 00000000 …`: destination, gateway, flags, …, metric, mask.
fn v4_route(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, "00000000", _, _, _, _, metric, "00000000", ..] => {
                Some((metric.parse::<u32>().ok()?, (*name).to_owned()))
            }
            _ => None,
        }
    });
    routes.min().map(|(_, name)| name)
}

/// Of lines with destination, its prefix length, source, …, metric, …, flags, name; reject routes are on `lo`.
fn v6_route(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [to, "00", _, _, _, metric, .., name] if to.bytes().all(|b| b == b'0') => {
                let metric = u32::from_str_radix(metric, 16).ok()?;
                (*name != "lo").then(|| (metric, (*name).to_owned()))
            }
            _ => None,
        }
    });
    routes.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_of_the_lowest_metric_is_found() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            ens6\t00000000\t0101A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
            ens5\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            ens5\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(v4_route(table), Some("ens5".to_owned()));
        let zeros = "0".repeat(32);
        let table = format!(
            "{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n\
             {zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     ens5\n"
        );
        assert_eq!(v6_route(&table), Some("ens5".to_owned()));
        assert_eq!(v4_route(""), None);
    }

    #[test]
    fn an_address_names_its_interface() {
        let config = Config {
            listen: vec!["127.0.0.1:4789".parse().unwrap()],
            ..Config::default()
        };
        let found = find(&config).unwrap();
        assert_eq!(
            found.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(),
            ["lo"]
        );
        assert_eq!(
            wanted_addresses(&config.listen),
            [IpAddr::from([127, 0, 0, 1])]
        );
        assert!(wanted_addresses(&Config::default().listen).is_empty());
    }

    #[test]
    fn an_interface_with_two_names_is_read_once() {
        let of = |name: &str, index| Interface {
            name: name.to_owned(),
            index,
            mtu: 1500,
        };
        let found = each_once(vec![of("enp0s5", 2), of("ens5", 2), of("ens6", 3)]);
        assert_eq!(found, [of("enp0s5", 2), of("ens6", 3)]);
    }

    #[test]
    fn an_address_that_nobody_has_is_told() {
        let config = Config {
            listen: vec!["192.0.2.1:4789".parse().unwrap()],
            ..Config::default()
        };
        assert!(matches!(find(&config), Err(Error::NoAddress(_))));
    }
}
