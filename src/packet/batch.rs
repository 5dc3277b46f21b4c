//! The batch: an arena of received bytes and the descriptors of what lies in it.
//!
//! A batch is filled by a source, unwrapped in place, and shared with the workers behind an `Arc`; no
//! byte moves until a worker copies a kept packet into a capture run. When the last worker lets go,
//! the receiver, which keeps one handle of each of its batches, is the only owner again and may refill
//! it: that is how emptied batches go home, without a return channel.
//!
//! Besides its own arena a batch may hold a lease: memory of a ring that the kernel filled, read where it is. Addresses
//! from [`LENT`] up lie in the lease, those from [`ASIDE`] up in memory for what a source had to put together while the
//! arena was not its own to write to, those below in the arena; so a descriptor needs no word more.

use std::net::IpAddr;

use crate::packet::lots::Lots;
use crate::packet::{DropReason, Endpoint, Tally, Vni};
use crate::sys::lease::Lease;
use crate::time::Timestamp;

/// Addresses of a batch from here on lie in its lease, at the address less this.
pub const LENT: u32 = Lease::LARGEST;

/// Addresses of a batch from here on, up to [`LENT`], lie in what was set aside.
const ASIDE: u32 = 1 << 30;

/// A UDP datagram as a source delivered it: payload only, outer headers gone.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// Where the payload starts in the arena.
    pub start: u32,
    /// Payload bytes present.
    pub len: u32,
    /// Payload bytes that were on the wire and are not here (a capture cut by its snaplen).
    pub cut: u32,
    /// Outer source address; IPv4-mapped addresses are given as IPv4.
    pub source: IpAddr,
    /// Outer UDP destination port.
    pub port: u16,
    /// When it arrived.
    pub time: Timestamp,
    /// Its place in the order of its receiver; see [`Batch::order`].
    pub order: u64,
}

/// A mirrored packet: the inner frame, and what its wrapping said.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Where the inner frame starts in the arena.
    pub start: u32,
    /// Bytes of the inner frame that are present.
    pub len: u32,
    /// Bytes of the inner frame that are known to be missing at its end, from the outer lengths.
    pub cut: u32,
    /// Payload bytes of the datagram that it came in, for the ledger.
    pub datagram_len: u32,
    /// The outer source: the mirrored ENI, also when a Gateway Load Balancer stood in between.
    pub source: IpAddr,
    /// The VNI.
    pub vni: Vni,
    /// The Gateway Load Balancer endpoint, if any.
    pub endpoint: Option<Endpoint>,
    /// When it arrived.
    pub time: Timestamp,
    /// Its place in the order of its receiver.
    pub order: u64,
}

/// Received bytes with their descriptors.
#[derive(Debug)]
pub struct Batch {
    arena: Vec<u8>,
    lease: Option<Lease>,
    aside: Vec<u8>,
    used: usize,
    capacity: usize,
    /// What the source delivered.
    pub datagrams: Vec<Datagram>,
    /// What decapsulation made of it.
    pub packets: Vec<Packet>,
    /// Records that the source itself refused (a replayed ARP, say), counted as received and dropped.
    pub refused: Tally,
    /// Packet numbers, grouped by worker; empty while there is one worker, whose all packets are.
    lots: Lots,
    /// Which receiver filled it.
    pub receiver: u16,
    /// No later batch of this receiver holds a packet whose order is below this. Order is the
    /// timestamp in nanoseconds for live sources and the record number for replay.
    pub order: u64,
}

impl Batch {
    /// A batch for at most `capacity` datagrams over an arena of `bytes` bytes. The arena is
    /// zero pages until something is received into it.
    pub fn new(receiver: u16, capacity: usize, bytes: usize) -> Self {
        Self {
            arena: vec![0; bytes],
            lease: None,
            aside: Vec::new(),
            used: 0,
            capacity,
            datagrams: Vec::with_capacity(capacity),
            packets: Vec::with_capacity(capacity),
            refused: Tally::default(),
            lots: Lots::default(),
            receiver,
            order: 0,
        }
    }

    /// How many datagrams fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets what it held, keeping the memory.
    pub fn clear(&mut self) {
        self.used = 0;
        self.aside.clear();
        self.datagrams.clear();
        self.packets.clear();
        self.refused = Tally::default();
        self.lots.clear();
    }

    /// Whether another datagram fits, as far as their number goes.
    pub fn has_room(&self) -> bool {
        self.datagrams.len() < self.capacity
    }

    /// Whether it is at least half full: its source is likely to have more.
    pub fn is_crowded(&self) -> bool {
        self.datagrams.len() >= self.capacity / 2
    }

    /// The whole arena, for a source that places datagrams itself.
    pub fn arena_mut(&mut self) -> &mut [u8] {
        &mut self.arena
    }

    /// The arena itself, for a source that fills memory of its own and trades it for this.
    pub fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    /// Keeps a copy of `bytes` outside the arena and returns its place. `None` beyond what addresses can say.
    pub fn set_aside(&mut self, bytes: &[u8]) -> Option<u32> {
        let start = u32::try_from(self.aside.len()).ok()?.checked_add(ASIDE)?;
        let end = (start as usize).checked_add(bytes.len())?;
        if end > LENT as usize {
            return None;
        }
        self.aside.extend_from_slice(bytes);
        Some(start)
    }

    /// How many bytes were set aside.
    pub fn aside(&self) -> usize {
        self.aside.len()
    }

    /// Takes memory of a ring, to which descriptors may point with addresses from [`LENT`] up.
    pub fn lend(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Gives the memory of the ring back, after which nothing points to it any more: the batch is cleared.
    pub fn take_lease(&mut self) -> Option<Lease> {
        let lease = self.lease.take()?;
        self.clear();
        Some(lease)
    }

    /// Copies `bytes` behind what is there and returns their place, or `None` when they do not fit
    /// into what is left of the arena.
    pub fn append(&mut self, bytes: &[u8]) -> Option<u32> {
        let end = self.used.checked_add(bytes.len())?;
        self.arena.get_mut(self.used..end)?.copy_from_slice(bytes);
        let start = u32::try_from(self.used).ok()?;
        self.used = end;
        Some(start)
    }

    /// Bytes that [`append`](Self::append) can still take.
    pub fn room(&self) -> usize {
        self.arena.len() - self.used
    }

    /// Counts a record that never became a datagram.
    pub fn refuse(&mut self, reason: DropReason, bytes: usize) {
        self.refused.receive(bytes);
        self.refused.drop(reason);
    }

    /// `len` bytes from the address `start`; empty when they lie outside the arena and the lease.
    #[inline]
    pub fn bytes(&self, start: u32, len: u32) -> &[u8] {
        if start >= LENT {
            let lease = self.lease.as_ref();
            return lease.map_or(&[], |lease| lease.bytes(start - LENT, len));
        }
        let range = start as usize..start as usize + len as usize;
        match self.arena.get(range) {
            Some(bytes) => bytes,
            None => self.bytes_aside(start, len),
        }
    }

    #[cold]
    fn bytes_aside(&self, start: u32, len: u32) -> &[u8] {
        let start = start.checked_sub(ASIDE).map(|start| start as usize);
        let bytes = start.and_then(|start| self.aside.get(start..start + len as usize));
        bytes.unwrap_or_default()
    }

    /// Groups the packets by worker, keeping their order within each; `worker_of` gives a number below `workers`.
    pub fn deal(&mut self, workers: usize, worker_of: impl Fn(&Self, &Packet) -> u16) {
        let mut lots = std::mem::take(&mut self.lots);
        lots.deal(workers, self.packets.iter().map(|p| worker_of(self, p)));
        self.lots = lots;
    }

    /// How many packets were dealt to a worker.
    pub fn lot_len(&self, worker: usize) -> usize {
        if self.lots.is_empty() {
            self.packets.len()
        } else {
            self.lots.of(worker).len()
        }
    }

    /// The packets dealt to a worker, in their order.
    pub fn packets_of(&self, worker: usize) -> impl Iterator<Item = &Packet> {
        let all = if self.lots.is_empty() {
            self.packets.as_slice()
        } else {
            &[]
        };
        let dealt = self
            .lots
            .of(worker)
            .iter()
            .filter_map(|&i| self.packets.get(usize::from(i)));
        all.iter().chain(dealt)
    }

    /// The inner frame of a packet of this batch.
    pub fn frame(&self, packet: &Packet) -> &[u8] {
        self.bytes(packet.start, packet.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_takes_bytes_until_it_is_full_and_can_be_used_again() {
        let mut batch = Batch::new(0, 4, 10);
        assert_eq!(batch.append(b"hello"), Some(0));
        assert_eq!(batch.append(b"world!"), None);
        assert_eq!(batch.append(b"world"), Some(5));
        assert_eq!(batch.bytes(5, 5), b"world");
        batch.clear();
        assert_eq!(batch.append(b"again"), Some(0));
        assert_eq!(batch.bytes(8, 5), b"");
    }

    #[test]
    fn what_was_set_aside_is_found_whatever_becomes_of_the_arena() {
        let mut batch = Batch::new(0, 4, 10);
        let places = [batch.set_aside(b"one"), batch.set_aside(b"three")];
        *batch.memory() = b"another arena".to_vec();
        let bytes = |place: Option<u32>, len| batch.bytes(place.unwrap(), len).to_vec();
        assert_eq!(
            (bytes(places[0], 3), bytes(places[1], 5)),
            (b"one".to_vec(), b"three".to_vec())
        );
        assert_eq!(
            (batch.bytes(8, 5), batch.bytes(9, 5)),
            (&b"arena"[..], &b""[..])
        );
        assert!(batch.bytes(ASIDE + 4, 5).is_empty() && batch.bytes(ASIDE - 1, 1).is_empty());
        batch.clear();
        assert_eq!((batch.aside(), batch.bytes(ASIDE, 1)), (0, &b""[..]));
    }

    fn batch_of(n: u32) -> Batch {
        let mut batch = Batch::new(0, 256, 0);
        batch.packets.extend((0..n).map(|i| Packet {
            start: i,
            len: 0,
            cut: 0,
            datagram_len: 0,
            source: IpAddr::from([127, 0, 0, 1]),
            vni: Vni::default(),
            endpoint: None,
            time: Timestamp::default(),
            order: 0,
        }));
        batch
    }

    #[test]
    fn one_worker_gets_every_packet_without_dealing() {
        let batch = batch_of(5);
        assert_eq!((batch.packets_of(0).count(), batch.lot_len(0)), (5, 5));
    }

    proptest::proptest! {
        #[test]
        fn each_packet_is_dealt_once_and_in_order(workers in 1_usize..9, n in 0_u32..200, salt: u32) {
            let mut batch = batch_of(n);
            let owner = |p: &Packet| (p.start.wrapping_mul(2_654_435_761) ^ salt) % workers as u32;
            for _ in 0..2 {
                batch.deal(workers, |_, p| owner(p) as u16);
                let mut seen = 0;
                for w in 0..workers {
                    let lot: Vec<u32> = batch.packets_of(w).map(|p| p.start).collect();
                    proptest::prop_assert_eq!(lot.len(), batch.lot_len(w));
                    proptest::prop_assert!(lot.is_sorted());
                    proptest::prop_assert!(batch.packets_of(w).all(|p| owner(p) as usize == w));
                    seen += lot.len();
                }
                proptest::prop_assert_eq!(seen, n as usize);
            }
        }
    }
}
