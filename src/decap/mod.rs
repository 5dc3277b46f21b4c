//! Taking the wrapping off.
//!
//! Takes: a UDP payload and the port that it came to. Gives: where the inner frame lies, with VNI, mirrored
//! ENI and Gateway Load Balancer endpoint, or the [`DropReason`]. Holds: only the outermost wrapping that AWS
//! adds is opened; a tunnel inside the mirrored packet is the customer's own and stays. A refusal is final and
//! named; nothing is guessed from bytes that are not there.
//!
//! ```text
//! ENI and NLB targets   UDP 4789 │ VXLAN │ inner Ethernet …
//! GWLB endpoint target  UDP 6081 │ GENEVE + options │ IP │ UDP 4789 │ VXLAN │ inner Ethernet …
//! other GENEVE          UDP 6081 │ GENEVE + options │ inner Ethernet …
//! ```

mod geneve;
mod vxlan;

use std::net::IpAddr;

use crate::metrics::Counter;
use crate::packet::{Batch, Datagram, DropReason, Endpoint, Packet, Ports, Tally, Vni};

/// A mirrored frame found in a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inner {
    /// Where the inner frame starts in the payload.
    pub start: usize,
    /// Its bytes that are present. Anything behind belongs to nobody (padding of a middle header).
    pub len: usize,
    /// Its bytes that the outer lengths promise and that are not here.
    pub cut: usize,
    /// The VNI.
    pub vni: Vni,
    /// The source address of the middle IP header (GWLB): the mirrored ENI. `None`: the outer source is.
    pub source: Option<IpAddr>,
    /// The Gateway Load Balancer endpoint's ENI, when its option was there.
    pub endpoint: Option<Endpoint>,
    /// Whether a reserved bit was set, which receivers must ignore (RFC 7348, section 5).
    pub reserved_bits: bool,
}

/// Oddities that are no reason to drop, counted by receivers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets whose VXLAN or GENEVE header had reserved bits set.
    pub reserved_bits: Counter,
    /// Packets that came as GENEVE → IP → UDP → VXLAN.
    pub gwlb: Counter,
}

/// Finds the inner frame of a payload that came to `port`. `cut` is how many payload bytes were on the
/// wire and are not here.
///
/// # Errors
/// The drop reason.
pub fn unwrap(payload: &[u8], cut: usize, port: u16, ports: Ports) -> Result<Inner, DropReason> {
    match wrapping(payload, port, ports) {
        Wrapping::Vxlan => vxlan::unwrap(payload, cut),
        Wrapping::Geneve => geneve::unwrap(payload, cut, ports),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    Vxlan,
    Geneve,
}

/// The destination port decides. A port that is configured as both, or as neither (an NLB target group on
/// another port), is told apart by shape: GENEVE has version 0 and a protocol type where VXLAN has zeros.
#[inline]
fn wrapping(payload: &[u8], port: u16, ports: Ports) -> Wrapping {
    match (port == ports.vxlan, port == ports.geneve) {
        (true, false) => Wrapping::Vxlan,
        (false, true) => Wrapping::Geneve,
        _ if geneve::looks_like(payload) => Wrapping::Geneve,
        _ => Wrapping::Vxlan,
    }
}

/// Turns the datagrams of a batch into packets; what is refused is counted in `refused`, received and dropped.
/// Packets keep the order of their datagrams.
pub fn unwrap_batch(batch: &mut Batch, ports: Ports, refused: &mut Tally, counters: &Counters) {
    let mut packets = std::mem::take(&mut batch.packets);
    packets.reserve(batch.datagrams.len());
    let mut odd = Odd::default();
    for datagram in &batch.datagrams {
        let payload = batch.bytes(datagram.start, datagram.len);
        let refusal = match wrapping(payload, datagram.port, ports) {
            Wrapping::Vxlan => match vxlan::unwrap(payload, datagram.cut as usize) {
                Ok(inner) => {
                    push(&mut packets, odd.packet(datagram, &inner));
                    continue;
                }
                Err(reason) => reason,
            },
            Wrapping::Geneve => match geneve::unwrap(payload, datagram.cut as usize, ports) {
                Ok(inner) => {
                    packets.push(odd.packet(datagram, &inner));
                    continue;
                }
                Err(reason) => reason,
            },
        };
        refused.receive(datagram.len as usize);
        refused.drop(refusal);
    }
    batch.packets = packets;
    counters.reserved_bits.add(odd.reserved_bits);
    counters.gwlb.add(odd.gwlb);
}

#[inline(always)]
fn push(packets: &mut Vec<Packet>, packet: Packet) {
    if packets.len() < packets.capacity() {
        packets.push(packet);
    }
}

/// What a batch adds to the [`Counters`].
#[derive(Default)]
struct Odd {
    reserved_bits: u64,
    gwlb: u64,
}

impl Odd {
    /// Makes a packet of what was found in a datagram, and counts what is odd about it.
    #[inline(always)]
    fn packet(&mut self, datagram: &Datagram, inner: &Inner) -> Packet {
        self.reserved_bits += u64::from(inner.reserved_bits);
        self.gwlb += u64::from(inner.source.is_some());
        Packet {
            start: datagram.start + inner.start as u32,
            len: inner.len as u32,
            cut: inner.cut as u32,
            datagram_len: datagram.len,
            source: inner.source.unwrap_or(datagram.source),
            vni: inner.vni,
            endpoint: inner.endpoint,
            time: datagram.time,
            order: datagram.order,
        }
    }
}

/// A frame that lies behind a header of `start` bytes, or the reason why there is none.
#[inline]
fn behind(start: usize, len: usize, cut: usize) -> Result<(usize, usize), DropReason> {
    match len.checked_sub(start) {
        None => Err(DropReason::Short),
        Some(0) => Err(DropReason::EmptyInner),
        Some(rest) => Ok((rest, cut)),
    }
}

#[cfg(test)]
mod tests;
