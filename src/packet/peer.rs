//! Who mirrors: the (outer source, VNI, endpoint) that a packet came from.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::packet::Ledger;

/// A VXLAN network identifier: 24 bits.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Vni(u32);

impl Vni {
    /// The largest VNI, 2^24 - 1.
    pub const MAX: Self = Self(0x00ff_ffff);

    /// The low 24 bits of `value`.
    pub const fn new(value: u32) -> Self {
        Self(value & Self::MAX.0)
    }

    /// From the three big-endian bytes of a VXLAN or GENEVE header.
    pub const fn from_bytes(b: [u8; 3]) -> Self {
        Self((b[0] as u32) << 16 | (b[1] as u32) << 8 | b[2] as u32)
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a Gateway Load Balancer endpoint's ENI: GENEVE option class 0x0108, type 1.
/// It prints as 16 hex digits; the AWS id is `eni-0` and those digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint(pub u64);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One mirror source as the wire shows it. A VNI alone is no session: many ENIs may share one, so
/// what is learnt and counted is kept by (endpoint, outer source, VNI).
#[derive(Debug)]
pub struct Peer {
    /// Place in the table of peers; unique while the process lives.
    pub id: u32,
    /// Outer source address: the primary address of the mirrored ENI.
    pub source: IpAddr,
    /// The VNI.
    pub vni: Vni,
    /// The Gateway Load Balancer endpoint, when the packets came through one.
    pub endpoint: Option<Endpoint>,
    /// The name of its session.
    pub session: std::sync::Arc<str>,
    /// What came from this peer and where it ended.
    pub ledger: Ledger,
    /// The ENI's MAC address as configured or learnt, in the low 48 bits; 0 when unknown.
    eni_mac: AtomicU64,
}

impl Peer {
    /// A peer from which nothing has come yet.
    pub fn new(
        id: u32,
        source: IpAddr,
        vni: Vni,
        endpoint: Option<Endpoint>,
        session: std::sync::Arc<str>,
    ) -> Self {
        let eni_mac = AtomicU64::new(0);
        Self {
            id,
            source,
            vni,
            endpoint,
            session,
            ledger: Ledger::new(),
            eni_mac,
        }
    }

    /// The learnt MAC address of the mirrored ENI, in the low 48 bits.
    pub fn eni_mac(&self) -> Option<u64> {
        match self.eni_mac.load(Ordering::Relaxed) {
            0 => None,
            mac => Some(mac),
        }
    }

    /// Remembers the MAC address of the mirrored ENI.
    pub fn learn_eni_mac(&self, mac: u64) {
        self.eni_mac.store(mac, Ordering::Relaxed);
    }
}
