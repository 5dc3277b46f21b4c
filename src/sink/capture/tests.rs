//! What the unit tests of this folder share.

use std::net::IpAddr;
use std::sync::Arc;

use crate::packet::{Ledger, Peer, Vni};
use crate::spool::{Compression, Format, Precision, Settings, Target};

/// A pcap target without limits.
pub(crate) fn target(id: u32) -> Arc<Target> {
    let settings = Settings {
        directory: "nowhere".into(),
        format: Format::Pcap,
        precision: Precision::Nanos,
        snaplen: 65_535,
        compression: Compression::None,
        level: 0,
        rotate_size: None,
        rotate_interval: None,
        rotate_packets: None,
    };
    Arc::new(Target {
        id,
        name: format!("session-{id}").into(),
        settings,
        ledger: Arc::new(Ledger::new()),
    })
}

/// A peer of VNI `id`.
pub(crate) fn peer(id: u32) -> Arc<Peer> {
    let source = IpAddr::from([10, 0, 0, 1]);
    Arc::new(Peer::new(id, source, Vni::new(id), None, "session".into()))
}
