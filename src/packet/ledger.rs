//! The ledger: where every datagram ends, in exactly one counter.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::metrics::Counter;
use crate::packet::{DropReason, FilterReason};

/// Shared counters of one session, one peer, or of what belongs to no session. Threads count in a
/// [`Tally`] of their own and add it once per batch. What every packet counts in is one cache line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Ledger {
    received: Counter,
    bytes_received: Counter,
    written: Counter,
    bytes_written: Counter,
    filtered: [Counter; FilterReason::COUNT],
    dropped: [Counter; DropReason::COUNT],
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a thread has counted.
    pub fn add(&self, tally: &Tally) {
        self.received.add(tally.received);
        self.bytes_received.add(tally.bytes_received);
        self.written.add(tally.written);
        self.bytes_written.add(tally.bytes_written);
        for (counter, n) in self.filtered.iter().zip(tally.filtered) {
            counter.add(n);
        }
        for (counter, n) in self.dropped.iter().zip(tally.dropped) {
            counter.add(n);
        }
    }

    /// Adds what nearly every packet counts in.
    pub fn add_judged(&self, judged: &Judged) {
        self.received.add(judged.received);
        self.bytes_received.add(judged.bytes_received);
        for (counter, n) in self.filtered.iter().zip(judged.filtered) {
            counter.add(u64::from(n));
        }
    }

    /// Looks at what [`Self::add_judged`] will change, so that it is in the cache by then: additions wait for one another,
    /// looking does not.
    #[inline]
    pub fn look(&self) -> u64 {
        self.received.value()
    }

    /// Adds `packets` written to a file, of `bytes` captured bytes together.
    pub fn add_written(&self, packets: u64, bytes: u64) {
        self.written.add(packets);
        self.bytes_written.add(bytes);
    }

    /// Adds `packets` dropped for `reason`.
    pub fn add_dropped(&self, reason: DropReason, packets: u64) {
        if let Some(counter) = self.dropped.get(reason.index()) {
            counter.add(packets);
        }
    }

    /// What stands in the ledger now. Ends are read before beginnings, so that nothing that is
    /// counted meanwhile makes the ledger look overspent.
    pub fn read(&self) -> Tally {
        let dropped = std::array::from_fn(|i| self.dropped[i].value());
        let filtered = std::array::from_fn(|i| self.filtered[i].value());
        let (written, bytes_written) = (self.written.value(), self.bytes_written.value());
        Tally {
            received: self.received.value(),
            bytes_received: self.bytes_received.value(),
            written,
            bytes_written,
            filtered,
            dropped,
        }
    }
}

/// The part of a [`Tally`] that nearly every packet counts in, for a batch: small, since there is one for every peer.
#[derive(Clone, Default, Debug)]
pub struct Judged {
    received: u64,
    bytes_received: u64,
    filtered: [u32; FilterReason::COUNT],
}

impl Judged {
    /// Counts one datagram of `bytes` payload bytes as received.
    #[inline]
    pub fn receive(&mut self, bytes: u32) {
        self.received += 1;
        self.bytes_received += u64::from(bytes);
    }

    /// Counts one packet as filtered.
    #[inline]
    pub fn filter(&mut self, reason: FilterReason) {
        self.filtered[reason.index()] += 1;
    }
}

/// Plain numbers in the shape of a [`Ledger`]: a thread's own counting, or a reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Datagrams handed to the program.
    pub received: u64,
    /// Their UDP payload bytes.
    pub bytes_received: u64,
    /// Packets in capture files.
    pub written: u64,
    /// Their captured bytes (the sum of caplen).
    pub bytes_written: u64,
    /// Packets left out on purpose, by [`FilterReason::index`].
    pub filtered: [u64; FilterReason::COUNT],
    /// Datagrams lost or refused, by [`DropReason::index`].
    pub dropped: [u64; DropReason::COUNT],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            received: 0,
            bytes_received: 0,
            written: 0,
            bytes_written: 0,
            filtered: [0; FilterReason::COUNT],
            dropped: [0; DropReason::COUNT],
        }
    }
}

impl Tally {
    /// Counts one datagram of `bytes` payload bytes as received.
    pub fn receive(&mut self, bytes: usize) {
        self.received += 1;
        self.bytes_received += bytes as u64;
    }

    /// Counts one datagram as dropped.
    pub fn drop(&mut self, reason: DropReason) {
        self.dropped[reason.index()] += 1;
    }

    /// Counts one packet as filtered.
    pub fn filter(&mut self, reason: FilterReason) {
        self.filtered[reason.index()] += 1;
    }

    /// Adds another tally to this one.
    pub fn merge(&mut self, other: &Self) {
        self.received += other.received;
        self.bytes_received += other.bytes_received;
        self.written += other.written;
        self.bytes_written += other.bytes_written;
        for (mine, theirs) in self.filtered.iter_mut().zip(other.filtered) {
            *mine += theirs;
        }
        for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
            *mine += theirs;
        }
    }

    /// What this reading has beyond an earlier one of the same ledger.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        since.received = self.received.saturating_sub(earlier.received);
        since.bytes_received = self.bytes_received.saturating_sub(earlier.bytes_received);
        since.written = self.written.saturating_sub(earlier.written);
        since.bytes_written = self.bytes_written.saturating_sub(earlier.bytes_written);
        for (mine, theirs) in since.filtered.iter_mut().zip(earlier.filtered) {
            *mine = mine.saturating_sub(theirs);
        }
        for (mine, theirs) in since.dropped.iter_mut().zip(earlier.dropped) {
            *mine = mine.saturating_sub(theirs);
        }
        since
    }

    /// All packets filtered, whatever the reason.
    pub fn filtered_total(&self) -> u64 {
        self.filtered.iter().sum()
    }

    /// All datagrams dropped, whatever the reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Datagrams that were received and have not ended anywhere yet.
    pub fn in_flight(&self) -> i64 {
        let ended = self.written + self.filtered_total() + self.dropped_total();
        self.received as i64 - ended as i64
    }

    /// Closes a reading that other threads may have counted in meanwhile: what has not ended is lost with its thread.
    pub fn close(&mut self) {
        let left = self.in_flight();
        let lost = &mut self.dropped[DropReason::ThreadLost.index()];
        *lost = lost.saturating_add_signed(left);
    }

    /// Whether received = written + filtered + dropped.
    pub fn is_closed(&self) -> bool {
        self.in_flight() == 0
    }
}

/// `{"received":…, "written":…, "filtered":{reason:…}, "dropped":{reason:…}, "bytes_received":…,
/// "bytes_written":…}`; reasons that never happened are left out.
impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("received", &self.received)?;
        map.serialize_entry("written", &self.written)?;
        let filtered = FilterReason::ALL
            .iter()
            .map(|r| r.name())
            .zip(self.filtered);
        map.serialize_entry("filtered", &NonZero(filtered.collect()))?;
        let dropped = DropReason::ALL.iter().map(|r| r.name()).zip(self.dropped);
        map.serialize_entry("dropped", &NonZero(dropped.collect()))?;
        map.serialize_entry("bytes_received", &self.bytes_received)?;
        map.serialize_entry("bytes_written", &self.bytes_written)?;
        map.end()
    }
}

struct NonZero(Vec<(&'static str, u64)>);

impl Serialize for NonZero {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter(|(_, n)| *n != 0).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_closed_only_when_every_datagram_has_ended() {
        let mut tally = Tally::default();
        tally.receive(100);
        tally.receive(60);
        assert_eq!(tally.in_flight(), 2);
        tally.drop(DropReason::Short);
        tally.filter(FilterReason::Expression);
        assert!(tally.is_closed());
    }

    #[test]
    fn the_json_of_a_tally_names_only_what_happened() {
        let ledger = Ledger::new();
        let mut tally = Tally::default();
        tally.receive(60);
        tally.drop(DropReason::NoVniFlag);
        ledger.add(&tally);
        let json = serde_json::to_value(ledger.read()).expect("a tally is plain JSON");
        assert_eq!(
            json,
            serde_json::json!({"received":1, "written":0, "filtered":{}, "dropped":{"no_vni_flag":1},
                "bytes_received":60, "bytes_written":0})
        );
    }
}
