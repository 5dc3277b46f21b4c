//! The Community ID of a flow, version 1: `1:` and the base64 of a SHA-1 over seed, addresses, protocol and ports, the smaller
//! endpoint first. Other tools make the same of the same flow.

use std::fmt::Write;

use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};

use crate::headers::{FlowKey, proto};

/// The default, and the one of nearly everybody.
const SEED: [u8; 2] = [0, 0];

/// Appends the Community ID; `false`, and nothing, where it can't be told: ICMP's is made of type and code, and that of TCP, UDP
/// and SCTP of ports, which a lone fragment does not have.
pub fn community_id(flow: &FlowKey, out: &mut String) -> bool {
    let icmp = matches!(flow.proto, proto::ICMP | proto::ICMPV6);
    let has_ports = matches!(flow.proto, proto::TCP | proto::UDP | proto::SCTP);
    let length = if flow.version == 4 { 4 } else { 16 };
    let (Some(src), Some(dst)) = (flow.src.get(..length), flow.dst.get(..length)) else {
        return false;
    };
    if flow.version == 0 || icmp || (has_ports && flow.sport == 0 && flow.dport == 0) {
        return false;
    }
    let ports = |port: u16| if has_ports { port } else { 0 };
    let mut ends = [(src, ports(flow.sport)), (dst, ports(flow.dport))];
    ends.sort_unstable();
    let [(low, low_port), (high, high_port)] = ends;
    let mut digest = Sha1::new();
    digest.update(SEED);
    digest.update(low);
    digest.update(high);
    digest.update([flow.proto, 0]);
    if has_ports {
        digest.update(low_port.to_be_bytes());
        digest.update(high_port.to_be_bytes());
    }
    let mut text = [0; 28];
    let Ok(text) = Base64::encode(&digest.finalize(), &mut text) else {
        return false;
    };
    // a string takes everything
    let _ = write!(out, "1:{text}");
    true
}
