//! Flow logs beside the packet path: what was lost before workers could see it.
//!
//! Takes: the ledgers of peers, what belongs to none, and what the kernel counts. Gives: [`Losses`], whenever the thread that writes flow logs asks.
//! Holds: what was lost behind the workers (the disk was slow, or full) is not in it: records were made of it all the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::flowlog::{Ask, Eni, Losses, Lost};
use crate::packet::{DropReason, Peer, Tally};
use crate::pipeline::report;
use crate::receiver;
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

/// Who answers the thread. While a receiver is missing something is lost at each asking.
pub(super) fn losses(
    table: &Arc<Table>,
    sources: &[Arc<Facts>],
    shared: &Arc<receiver::Shared>,
) -> Ask {
    let (table, sources, shared) = (Arc::clone(table), sources.to_vec(), Arc::clone(shared));
    let mut unseen = 0;
    Box::new(move || {
        unseen += u64::from(shared.deserted.load(Ordering::Acquire));
        // fragments are judged before it is known whether they may come: where not all may, they would be a way to have everything told as incomplete
        let nobodys = match shared.allowed.load().is_everybody() {
            true => &NOBODYS[..],
            false => &BEFORE[..],
        };
        let kernel = report::kernel_dropped(&sources).values().sum::<u64>();
        let mut peers = table.peers();
        peers.extend(table.other());
        Losses {
            of_any: kernel + unseen + dropped(&table.unattributed.read(), nobodys),
            of_one: peers.iter().filter_map(|peer| of_peer(peer)).collect(),
        }
    })
}

fn of_peer(peer: &Peer) -> Option<Lost> {
    let packets = dropped(&peer.ledger.read(), &BEFORE);
    let eni = Eni {
        source: peer.source,
        endpoint: peer.endpoint,
    };
    let peer = peer.id;
    (packets > 0).then_some(Lost { peer, eni, packets })
}

fn dropped(tally: &Tally, reasons: &[DropReason]) -> u64 {
    let each = reasons
        .iter()
        .map(|reason| tally.dropped.get(reason.index()));
    each.flatten().sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::packet::Vni;
    use crate::session::{Keep, Key};

    #[test]
    fn each_peer_of_an_interface_has_its_own_losses_and_a_missing_receiver_loses_at_every_asking() {
        let mut keep = Keep::default();
        let snapshot = Config::default().snapshot(Path::new("."), &mut keep);
        let table = Arc::new(Table::new(snapshot.unwrap(), keep));
        let shared = Arc::new(receiver::Shared::default());
        let mut ask = losses(&table, &[], &shared);
        for (vni, packets) in [(1, 10), (2, 3)] {
            let key = Key {
                source: [10, 0, 0, 5].into(),
                vni: Vni::new(vni),
                endpoint: None,
            };
            let (peer, _) = table.find(key);
            peer.ledger.add_dropped(DropReason::QueueFull, packets);
        }
        let told = ask();
        let mut packets: Vec<_> = told.of_one.iter().map(|lost| lost.packets).collect();
        packets.sort_unstable();
        assert_eq!((told.of_any, packets), (0, vec![3, 10]));
        assert_eq!(told.of_one[0].eni, told.of_one[1].eni);
        assert_ne!(told.of_one[0].peer, told.of_one[1].peer);
        shared.deserted.store(true, Ordering::Release);
        assert_eq!([ask().of_any, ask().of_any], [1, 2]);
    }
}
