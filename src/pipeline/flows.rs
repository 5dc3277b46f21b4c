//! Flow logs beside the packet path: what was lost before workers could see it.
//!
//! Takes: the ledgers of peers, what belongs to none, and what the kernel counts. Gives: [`Losses`], whenever the thread that writes flow logs asks.
//! Holds: what was lost behind the workers (the disk was slow, or full) is not in it: records were made of it all the same.

use std::sync::Arc;

use crate::flowlog::{Ask, Eni, Losses};
use crate::packet::{DropReason, Peer, Tally};
use crate::pipeline::report;
use crate::session::Table;
use crate::source::Facts;

/// What is lost between the socket and a worker, or with a thread.
const BEFORE: [DropReason; 3] = [
    DropReason::QueueFull,
    DropReason::PoolEmpty,
    DropReason::ThreadLost,
];

/// What was a mirrored packet and could not be told whose. What is no mirrored packet at all is lost to nobody.
const NOBODYS: [DropReason; 5] = [
    DropReason::QueueFull,
    DropReason::PoolEmpty,
    DropReason::ThreadLost,
    DropReason::FragmentIncomplete,
    DropReason::DatagramTruncated,
];

/// Who answers the thread.
pub(super) fn losses(table: &Arc<Table>, sources: &[Arc<Facts>]) -> Ask {
    let (table, sources) = (Arc::clone(table), sources.to_vec());
    Box::new(move || {
        let kernel = report::kernel_dropped(&sources).values().sum::<u64>();
        let peers = table.peers();
        Losses {
            of_any: kernel + dropped(&table.unattributed.read(), &NOBODYS),
            of_one: peers.iter().filter_map(|peer| of_peer(peer)).collect(),
        }
    })
}

fn of_peer(peer: &Peer) -> Option<(Eni, u64)> {
    let lost = dropped(&peer.ledger.read(), &BEFORE);
    let eni = Eni {
        source: peer.source,
        endpoint: peer.endpoint,
    };
    (lost > 0).then_some((eni, lost))
}

fn dropped(tally: &Tally, reasons: &[DropReason]) -> u64 {
    let each = reasons
        .iter()
        .map(|reason| tally.dropped.get(reason.index()));
    each.flatten().sum()
}
