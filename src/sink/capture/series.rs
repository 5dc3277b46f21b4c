//! The files of one session, one after the other.
//!
//! Takes: a target, and the worker where each has files of its own. Gives: [`Series`] (what waits, and
//! the file being written) and [`Current`] (that file). Holds: a file knows when it may not take a record
//! any more: it never grows past its limit, trailer included, unless a single record is larger than that.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use crate::capfile::{Format, LinkType, encode};
use crate::packet::DropReason;
use crate::packet::Peer;
use crate::sink::capture::closed::{Cause, Closed, NAMED};
use crate::sink::capture::peers::{Peers, Slots, Told};
use crate::sink::capture::plan::Plan;
use crate::sink::capture::queue::{Queue, Stretch};
use crate::sink::capture::run::Run;
use crate::sink::capture::weights::Weights;
use crate::spool::{Name, Partial, Settings, Staging, Target};
use crate::time::{Monotonic, Timestamp};

/// The file being written.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) partial: Partial,
    pub(super) packets: u64,
    first: Timestamp,
    last: Timestamp,
    /// A packet of this time or later belongs into the next file.
    pub(super) boundary: Timestamp,
    pub(super) slots: Slots,
}

/// Records that would come next in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct More {
    pub(super) packets: u64,
    /// Their bytes, with the interface blocks before them.
    pub(super) bytes: u64,
    /// The latest of their times.
    pub(super) last: Timestamp,
    /// Peers that the file has not met.
    pub(super) slots: usize,
}

impl Current {
    /// A new file, whose first packet came at `start`.
    pub(super) fn new(partial: Partial, start: Timestamp, settings: &Settings) -> Self {
        let interval = settings.rotate_interval.unwrap_or_default();
        Self {
            partial,
            packets: 0,
            first: start,
            last: start,
            boundary: start.next_boundary(interval),
            slots: Slots::default(),
        }
    }

    /// Why records have to go into the next file, if they have to.
    pub(super) fn refuses(&self, more: &More, plan: &Plan, settings: &Settings) -> Option<Cause> {
        let packets = self.packets + plan.packets();
        if packets == 0 && more.packets == 1 {
            return None;
        }
        if more.last >= self.boundary {
            return Some(Cause::Interval);
        }
        let packets = packets + more.packets;
        if settings.rotate_packets.is_some_and(|most| packets > most) {
            return Some(Cause::Packets);
        }
        let slots = self.slots.len() + more.slots;
        let size = self.partial.len() + plan.bytes() + more.bytes;
        let size = size + trailer(settings, slots) as u64;
        settings
            .rotate_size
            .is_some_and(|most| size > most)
            .then_some(Cause::Size)
    }

    /// Counts records `from..to` of a run as written.
    pub(super) fn count(&mut self, run: &Run, from: usize, to: usize) {
        let times = run.times(from, to);
        if self.packets == 0 {
            (self.first, self.last) = (times.first, times.last);
        }
        self.packets += (to - from) as u64;
        self.first = self.first.min(times.first);
        self.last = self.last.max(times.last);
        if let Some(shares) = run.shares(from, to) {
            for share in shares {
                self.count_peer(share.peer, share.packets, share.bytes);
            }
            return;
        }
        for mark in run.marks(from, to) {
            self.count_peer(mark.peer, 1, u64::from(run.caplen_of(mark)));
        }
    }

    fn count_peer(&mut self, peer: u32, packets: u64, bytes: u64) {
        if let Some(slot) = self.slots.find(peer) {
            self.slots.count(slot, packets, bytes);
        }
    }

    /// What a pcapng file ends with: the statistics of each interface.
    pub(super) fn statistics(&self, peers: &mut Peers, settings: &Settings) -> Vec<u8> {
        let mut out = Vec::new();
        if settings.format == Format::Pcapng {
            for (interface, slot) in (0..).zip(self.slots.iter()) {
                let told = peers.news(slot.id);
                statistics(&mut out, interface, told, self.first, self.last, settings);
            }
        }
        out
    }

    /// Ends it with them. A file without statistics is still whole, so a failure here is no more than a pity.
    pub(super) fn append_statistics(&mut self, bytes: &[u8], staging: &mut Staging) {
        if bytes.is_empty() {
            return;
        }
        let partial = &mut self.partial;
        let mut parts = [IoSlice::new(bytes)];
        if partial.wake().is_err() || partial.append(&mut parts, staging).is_err() {
            partial.keep(0);
            tracing::warn!(
                path = %partial.path().display(),
                "the interface statistics of a capture file could not be written"
            );
        }
    }

    /// What is told of it, its path being filled in by whoever publishes it.
    pub(super) fn describe(&self, target: &Target, worker: Option<u16>, cause: Cause) -> Closed {
        let peers = || self.slots.iter().filter_map(|s| s.peer.as_ref());
        let mut sources: Vec<_> = peers().map(|p| p.source).collect();
        let mut vnis: Vec<_> = peers().map(|p| p.vni.value()).collect();
        sources.sort_unstable();
        sources.dedup();
        sources.truncate(NAMED);
        vnis.sort_unstable();
        vnis.dedup();
        vnis.truncate(NAMED);
        Closed {
            path: self.partial.path().clone(),
            session: Arc::clone(&target.name),
            worker,
            format: target.settings.format,
            packets: self.packets,
            bytes: self.partial.stored(),
            first: self.first,
            last: self.last,
            vnis,
            sources,
            peers: self.slots.len(),
            cause,
            recovered: false,
            sha256: None,
        }
    }
}

/// One session's files.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) target: Arc<Target>,
    pub(super) worker: Option<u16>,
    pub(super) queue: Queue,
    pub(super) current: Option<Current>,
    /// What was told to be in it, for the sum of unpublished bytes.
    pub(super) weighed: u64,
    /// Number of the last file.
    pub(super) seq: u32,
    /// Highest order that was written.
    pub(super) highest: u64,
    /// When what waits has to be written.
    pub(super) deadline: Option<Monotonic>,
    /// Whether it is in the writer's list of those with much to write.
    pub(super) is_listed: bool,
    /// Whether a timer will close its file.
    pub(super) is_timed: bool,
    /// Its place among the open files.
    pub(super) ticket: Option<u64>,
    /// No file is opened before this, because the last attempt failed.
    pub(super) retry_at: Monotonic,
    /// Why packets are not written for the rest of this flush.
    pub(super) gave_up: Option<DropReason>,
    /// Its file will take nothing any more: an I/O error, or the process' limit on file sizes.
    pub(super) is_hopeless: bool,
    /// No more packets are expected: its file is closed as soon as nothing waits.
    pub(super) is_retired: bool,
}

impl Series {
    /// A series without a file.
    pub(super) fn new(target: Arc<Target>, worker: Option<u16>) -> Self {
        Self {
            target,
            worker,
            queue: Queue::default(),
            current: None,
            weighed: 0,
            seq: 0,
            highest: 0,
            deadline: None,
            is_listed: false,
            is_timed: false,
            ticket: None,
            retry_at: Monotonic::default(),
            gave_up: None,
            is_hopeless: false,
            is_retired: false,
        }
    }

    /// Whether a descriptor is held.
    pub(super) fn is_open(&self) -> bool {
        self.current.as_ref().is_some_and(|c| c.partial.is_open())
    }

    /// Writes the numbers of their interfaces in the open file into records.
    pub(super) fn number(&mut self, stretch: Stretch) {
        let (Some(current), Some(run)) = (&mut self.current, self.queue.run_mut(stretch.run))
        else {
            return;
        };
        for at in stretch.from..stretch.to {
            let peer = run.marks(at, at + 1).first().map(|mark| mark.peer);
            if let Some(slot) = peer.and_then(|peer| current.slots.find(peer)) {
                run.set_interface(at, slot);
            }
        }
    }

    /// Tells what the file being written has grown to.
    pub(super) fn weigh(&mut self, weights: &Weights) {
        let (name, partial) = (&self.target.name, self.current.as_ref().map(|c| &c.partial));
        if let Some(partial) = partial.filter(|_| self.weighed == 0) {
            weights.born(name, partial.path());
        }
        let bytes = partial.map_or(0, Partial::len);
        weights.grow(name, self.weighed, bytes);
        self.weighed = bytes;
    }

    /// The same of a file that is finished: it weighs until it is told.
    pub(super) fn let_go(&mut self, finished: &Current, weights: &Weights) {
        let (name, bytes) = (&self.target.name, finished.partial.len());
        weights.grow(name, self.weighed, bytes);
        weights.sealed(name, finished.partial.path(), bytes);
        self.weighed = 0;
    }

    /// Where its files go.
    pub(super) fn directory(&self) -> &Path {
        &self.target.settings.directory
    }

    /// The name of its next file.
    pub(super) fn next_name(&self, start: Timestamp) -> Name {
        let settings = &self.target.settings;
        let seq = self.seq.wrapping_add(1);
        let name = match self.worker {
            Some(worker) => format!("{}-w{worker}", self.target.name),
            None => self.target.name.to_string(),
        };
        let kind = (settings.format, settings.compression);
        Name::new(&settings.directory, &name, start, kind, seq)
    }

    /// What a file begins with.
    pub(super) fn header(&self) -> Vec<u8> {
        let (mut out, settings) = (Vec::new(), &self.target.settings);
        match settings.format {
            Format::Pcap => {
                let (precision, snaplen) = (settings.precision, settings.snaplen);
                encode::pcap_header(&mut out, precision, snaplen, LinkType::ETHERNET);
            }
            Format::Pcapng => {
                let app = concat!("mirrortap ", env!("CARGO_PKG_VERSION"));
                let comment = format!("mirror session {}", self.target.name);
                encode::section(&mut out, app, &comment);
            }
        }
        out
    }
}

/// Whether a file that refused a write with this error will refuse the next ones too: another one is begun.
pub(super) fn is_hopeless(error: &std::io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO) || error.kind() == std::io::ErrorKind::FileTooLarge
}

/// The interface block of a peer; nothing in a pcap file.
pub(super) fn interface(out: &mut Vec<u8>, peer: Option<&Arc<Peer>>, settings: &Settings) {
    if settings.format == Format::Pcap {
        return;
    }
    let (name, description, comment) = peer.map_or_else(Default::default, |peer| {
        let endpoint = peer.endpoint;
        (
            format!("vni-{}@{}", peer.vni, peer.source),
            peer.session.to_string(),
            endpoint.map_or_else(String::new, |e| {
                format!("Gateway Load Balancer endpoint eni-0{e}")
            }),
        )
    });
    let interface = encode::Interface {
        link: LinkType::ETHERNET,
        snaplen: settings.snaplen,
        precision: settings.precision,
        name: &name,
        description: &description,
        filter: "",
        comment: &comment,
    };
    encode::interface(out, &interface);
}

/// Bytes that the statistics of `interfaces` interfaces take.
fn trailer(settings: &Settings, interfaces: usize) -> usize {
    match settings.format {
        Format::Pcap => 0,
        Format::Pcapng => interfaces * STATISTICS_LEN,
    }
}

/// Block of one interface: fixed part 20, six options of 12, end of options 4, length 4.
const STATISTICS_LEN: usize = 100;

fn statistics(
    out: &mut Vec<u8>,
    interface_id: u32,
    told: Told,
    first: Timestamp,
    last: Timestamp,
    settings: &Settings,
) {
    let statistics = encode::Statistics {
        interface_id,
        precision: settings.precision,
        time: last,
        start: first,
        end: last,
        received: told.received,
        dropped: told.dropped,
        filter_accepted: told.accepted,
        // The kernel does not tell whose packets it dropped; its losses are in the ledger of the run.
        os_dropped: 0,
    };
    encode::statistics(out, &statistics);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_kept_for_statistics_is_what_they_take() {
        let target = crate::sink::capture::tests::target(0);
        let mut out = Vec::new();
        let time = Timestamp::default();
        statistics(&mut out, 0, Told::default(), time, time, &target.settings);
        assert_eq!(out.len(), STATISTICS_LEN);
    }
}
