//! Packets that are ready to go: their payloads in one buffer, and what is to be counted of each.

use crate::sys::send::Place;
use crate::time::Timestamp;

/// A window is at most this many packets.
pub(crate) const MOST: u64 = 1024;

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    /// Its UDP payload.
    pub place: Place,
    /// Which source port, of 128.
    pub slot: u8,
    /// Which VNI, by place in the set.
    pub vni: u32,
    /// Whether its inner frame was cut.
    pub cut: bool,
    /// When it is sent, or was captured.
    pub time: Timestamp,
}

/// Packets that go out together.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// All payloads.
    pub buffer: Vec<u8>,
    /// The packets, in the order of sending.
    pub items: Vec<Item>,
    /// Their places again, side by side as the system call wants them.
    places: Vec<Place>,
}

impl Window {
    /// Forgets what it held, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.items.clear();
    }

    /// Takes what was appended to the buffer since it was `start` bytes long as a packet.
    pub(crate) fn push(&mut self, start: usize, item: Item) {
        let place = Place {
            start: start as u32,
            len: (self.buffer.len() - start) as u32,
        };
        self.items.push(Item { place, ..item });
    }

    /// Brings the packets of each source port together, so that one system call sends many. The
    /// order within a port, and thus within a flow, stays.
    pub(crate) fn sort(&mut self) {
        let order = |item: &Item| (item.slot, item.place.start);
        self.items.sort_unstable_by_key(order);
    }

    /// Runs of packets with one source port: the port's number, the packets, their places.
    pub(crate) fn runs(&mut self) -> impl Iterator<Item = (&[Item], &[Place], &[u8])> {
        self.places.clear();
        self.places.extend(self.items.iter().map(|item| item.place));
        let (places, buffer) = (&self.places, &self.buffer);
        let mut start = 0;
        let runs = self.items.chunk_by(|a, b| a.slot == b.slot);
        runs.map(move |run| {
            let range = start..start + run.len();
            start = range.end;
            (run, &places[range], &buffer[..])
        })
    }
}
