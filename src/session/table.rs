//! The table of sessions and peers: the current snapshot, and what outlives it.
//!
//! Threads look up through their own [`Seats`](crate::session::Seats) and come here only for a peer
//! that they have not met; the lock is therefore off the packet path. Both tables are bounded: what comes
//! beyond the bounds (a flood of VNIs or forged sources) shares one peer and one session, `vni-other`.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::filter::Filter;
use crate::metrics::Counter;
use crate::packet::{DropReason, Endpoint, Ledger, Packet, Peer, Tally, Vni};
use crate::session::{Learner, Session, Snapshot, Unknown};
use crate::spool::{Settings, Target};

/// Most peers that are told apart.
pub const MAX_PEERS: usize = 32_768;
/// Most unknown sessions that get a name of their own.
pub const MAX_UNKNOWN: usize = 32_768;

const OTHER: &str = "vni-other";

/// What tells peers apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Outer source.
    pub source: IpAddr,
    /// VNI.
    pub vni: Vni,
    /// Gateway Load Balancer endpoint.
    pub endpoint: Option<Endpoint>,
}

impl From<&Packet> for Key {
    fn from(packet: &Packet) -> Self {
        Self {
            source: packet.source,
            vni: packet.vni,
            endpoint: packet.endpoint,
        }
    }
}

/// What outlives a reload: ledgers and targets by session name.
#[derive(Debug, Default)]
pub struct Keep {
    /// With the order in which sessions became known.
    ledgers: HashMap<Arc<str>, (u64, Arc<Ledger>)>,
    targets: HashMap<Arc<str>, Arc<Target>>,
    next_target: u32,
}

impl Keep {
    /// The ledger of a session, the same one for the same name for ever.
    pub fn ledger(&mut self, name: &Arc<str>) -> Arc<Ledger> {
        let order = self.ledgers.len() as u64;
        let entry = self.ledgers.entry(Arc::clone(name));
        Arc::clone(&entry.or_insert_with(|| (order, Arc::default())).1)
    }

    /// The target of a session: the one it had if its settings are the same, otherwise a new one.
    pub fn target(&mut self, name: &Arc<str>, settings: Settings) -> Arc<Target> {
        if let Some(target) = self.targets.get(name).filter(|t| t.settings == settings) {
            return Arc::clone(target);
        }
        let ledger = self.ledger(name);
        let id = self.next_target;
        self.next_target += 1;
        let target = Arc::new(Target {
            id,
            name: Arc::clone(name),
            settings,
            ledger,
        });
        self.targets.insert(Arc::clone(name), Arc::clone(&target));
        target
    }
}

#[derive(Debug, Default)]
struct Known {
    keep: Keep,
    peers: HashMap<Key, Arc<Peer>>,
    /// Unknown sessions of this generation, by VNI.
    unknown: HashMap<Vni, Arc<Session>>,
    other: Option<Arc<Peer>>,
    /// Numbers are dense: sinks index by them.
    next_peer: u32,
}

/// The table. Shared by receivers, workers, and whoever reads the ledgers.
#[derive(Debug)]
pub struct Table {
    current: ArcSwap<Snapshot>,
    generation: AtomicU64,
    known: Mutex<Known>,
    /// What was refused before it could be told whose it was.
    pub unattributed: Ledger,
    /// Look-ups of peers that found no room in the table.
    pub overflowed: Counter,
}

impl Table {
    /// A table over the first snapshot and the `keep` that it was built with.
    pub fn new(snapshot: Snapshot, keep: Keep) -> Self {
        Self {
            current: ArcSwap::from_pointee(snapshot),
            generation: AtomicU64::new(1),
            known: Mutex::new(Known {
                keep,
                ..Known::default()
            }),
            unattributed: Ledger::new(),
            overflowed: Counter::new(),
        }
    }

    /// Which configuration is in force, counted from 1.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Builds a snapshot with what is kept and, if that succeeds, puts it in force. Gives its generation and the
    /// targets that get no packets any more.
    ///
    /// # Errors
    /// What `build` says; the old snapshot stays in force.
    pub fn swap<E>(
        &self,
        build: impl FnOnce(&mut Keep) -> Result<Snapshot, E>,
    ) -> Result<(u64, Vec<u32>), E> {
        let mut known = self.lock();
        let snapshot = build(&mut known.keep)?;
        let retired = known.retired(&self.current.load(), &snapshot);
        known.unknown.clear();
        self.current.store(Arc::new(snapshot));
        // the lock is held: nobody resolves a peer between the snapshot and its number
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        Ok((generation, retired))
    }

    /// The peer and the session of a packet. Slow: for peers that a thread meets for the first time.
    pub fn find(&self, key: Key) -> (Arc<Peer>, Arc<Session>) {
        let mut known = self.lock();
        let snapshot = self.current.load();
        let session = match snapshot.find(key.source, key.vni) {
            Some(session) => Arc::clone(session),
            None => known.unknown(&snapshot, key.vni),
        };
        let peer = known.peer(key, &session.name);
        let shared = known
            .other
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, &peer));
        self.overflowed.add(u64::from(shared));
        (peer, session)
    }

    /// The ledger of every session that has had one, by name, with the order in which they became known.
    pub fn ledgers(&self) -> Vec<(Arc<str>, u64, Tally)> {
        let known = self.lock();
        let mut all: Vec<_> = known
            .keep
            .ledgers
            .iter()
            .map(|(name, (order, ledger))| (Arc::clone(name), *order, ledger.read()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Counts what is still on its way in every session and of every peer as dropped (`thread_lost`): for the very end, when a
    /// thread panicked, or is stuck and will not count it. `received` is how many datagrams there were in all: those that no session has heard of
    /// belong to none.
    pub fn give_up(&self, received: u64) {
        let known = self.lock();
        let sessions = known.keep.ledgers.values().map(|(_, ledger)| &**ledger);
        let peers = known.peers.values().map(|peer| &peer.ledger);
        sessions.chain(peers).for_each(close);
        let all = known.keep.ledgers.values().map(|(_, ledger)| ledger.read());
        let told = all.map(|tally| tally.received).sum::<u64>() + self.unattributed.read().received;
        let missing = received.saturating_sub(told);
        self.unattributed.add(&Tally {
            received: missing,
            ..Tally::default()
        });
        close(&self.unattributed);
    }

    /// The one that stands for all that find no room, if there are any.
    pub fn other(&self) -> Option<Arc<Peer>> {
        self.lock().other.clone()
    }

    /// Every peer met so far, but for that one.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.lock().peers.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // a thread that panicked in here left whole entries behind: the maps are changed in single steps
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what has not ended as lost with its thread.
fn close(ledger: &Ledger) {
    let left = ledger.read().in_flight().max(0);
    ledger.add_dropped(DropReason::ThreadLost, left as u64);
}

/// The ids of the targets of sessions.
fn targets<'a>(sessions: impl Iterator<Item = &'a Arc<Session>>) -> HashSet<u32> {
    sessions
        .filter_map(|s| s.target.as_ref().map(|t| t.id))
        .collect()
}

impl Known {
    /// Targets of the old snapshot that the new one sends nothing to. An unknown session ends when every peer of it
    /// is claimed, or unknown sessions are made otherwise than before.
    fn retired(&self, old: &Snapshot, new: &Snapshot) -> Vec<u32> {
        let kept = targets(new.sessions());
        let same = old.unknown == new.unknown && old.defaults == new.defaults;
        let unclaimed = |key: &&Key| new.find(key.source, key.vni).is_none();
        let alive: HashSet<Vni> = self
            .peers
            .keys()
            .filter(unclaimed)
            .map(|key| key.vni)
            .collect();
        let ended = self
            .unknown
            .iter()
            .filter(|(vni, _)| !same || !alive.contains(vni));
        let mut retired = targets(old.sessions());
        retired.extend(targets(ended.map(|(_, session)| session)));
        retired.difference(&kept).copied().collect()
    }

    fn unknown(&mut self, snapshot: &Snapshot, vni: Vni) -> Arc<Session> {
        if let Some(session) = self.unknown.get(&vni) {
            return Arc::clone(session);
        }
        let full = self.unknown.len() >= MAX_UNKNOWN;
        let drop = snapshot.unknown == Unknown::Drop;
        let name: Arc<str> = match (drop, full) {
            (true, _) => "unknown".into(),
            (false, true) => OTHER.into(),
            (false, false) => format!("vni-{vni}").into(),
        };
        let mut settings = snapshot.defaults.clone();
        settings.directory = settings.directory.join(&*name);
        let session = Arc::new(Session {
            filter: Filter::default(),
            rule_hits: Vec::new(),
            packet_length: None,
            learner: Learner::default(),
            target: (!drop).then(|| self.keep.target(&name, settings)),
            ledger: self.keep.ledger(&name),
            name,
        });
        if !full {
            self.unknown.insert(vni, Arc::clone(&session));
        }
        session
    }

    /// The peer of a key. One whose session has another name since a reload is made anew, with a number of its own, so
    /// that files name the session that they belong to; what was learnt of it goes along.
    fn peer(&mut self, key: Key, session: &Arc<str>) -> Arc<Peer> {
        let known = self.peers.get(&key);
        if let Some(peer) = known.filter(|p| p.session == *session) {
            return Arc::clone(peer);
        }
        let id = self.next_peer;
        if known.is_none() && self.peers.len() >= MAX_PEERS {
            return Arc::clone(self.other.get_or_insert_with(|| {
                self.next_peer += 1;
                let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                Arc::new(Peer::new(id, nowhere, Vni::default(), None, OTHER.into()))
            }));
        }
        self.next_peer += 1;
        let session = Arc::clone(session);
        let peer = Arc::new(Peer::new(id, key.source, key.vni, key.endpoint, session));
        if let Some(mac) = known.and_then(|p| p.eni_mac()) {
            peer.learn_eni_mac(mac);
        }
        self.peers.insert(key, Arc::clone(&peer));
        peer
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::session::Config;
    use crate::spool::{Compression, Format, Precision};

    fn settings() -> Settings {
        Settings {
            directory: "out".into(),
            format: Format::Pcap,
            precision: Precision::Nanos,
            snaplen: 65_535,
            compression: Compression::None,
            level: 0,
            rotate_size: None,
            rotate_interval: None,
            rotate_packets: None,
        }
    }

    fn build(text: &str, keep: &mut Keep) -> Snapshot {
        #[derive(serde::Deserialize)]
        struct File {
            #[serde(default)]
            session: Vec<Config>,
        }
        let file: File = toml::from_str(text).unwrap();
        Snapshot::build(
            &file.session,
            Unknown::Keep,
            settings(),
            Path::new("."),
            keep,
        )
        .unwrap()
    }

    fn table(text: &str) -> Table {
        let mut keep = Keep::default();
        Table::new(build(text, &mut keep), keep)
    }

    fn key(source: [u8; 4], vni: u32) -> Key {
        Key {
            source: source.into(),
            vni: Vni::new(vni),
            endpoint: None,
        }
    }

    #[test]
    fn source_and_vni_go_before_vni_before_source_before_the_default() {
        let table = table(
            "[[session]]\nname = 'rest'\n[[session]]\nname = 'net'\nsource = ['10.0.0.0/8']\n\
             [[session]]\nname = 'vni'\nvni = 7\n[[session]]\nname = 'both'\nvni = 7\nsource = ['10.1.0.0/16']\n",
        );
        for (source, vni, name) in [
            ([10, 1, 0, 1], 7, "both"),
            ([10, 2, 0, 1], 7, "vni"),
            ([10, 1, 0, 1], 8, "net"),
            ([192, 0, 2, 1], 8, "rest"),
        ] {
            assert_eq!(&*table.find(key(source, vni)).1.name, name);
        }
    }

    #[test]
    fn a_flood_of_peers_shares_one_and_numbers_stay_dense() {
        let table = table("");
        let flood = MAX_PEERS as u32 + 1_000;
        let most = (0..flood)
            .map(|vni| table.find(key([10, 0, 0, 1], vni)).0.id)
            .max()
            .unwrap();
        assert_eq!(
            most as usize, MAX_PEERS,
            "one number for each, and one for all others"
        );
        assert_eq!(table.overflowed.value(), 1_000);
        let (peer, session) = table.find(key([10, 0, 0, 1], flood + 5));
        assert_eq!((&*peer.session, &*session.name), (OTHER, OTHER));
        assert!(table.ledgers().len() <= MAX_UNKNOWN + 1);
    }

    #[test]
    fn a_reload_keeps_ledgers_and_what_was_learnt_and_retires_what_is_claimed() {
        let table = table("");
        let (old, unknown) = table.find(key([10, 0, 0, 1], 7));
        old.learn_eni_mac(42);
        let (_, retired) = table
            .swap(|keep| Ok::<_, ()>(build("[[session]]\nname = 'web'\nvni = 7\n", keep)))
            .unwrap();
        assert_eq!(retired, [unknown.target.as_ref().unwrap().id]);
        let (new, web) = table.find(key([10, 0, 0, 1], 7));
        assert_eq!(
            (&*web.name, &*new.session, new.eni_mac()),
            ("web", "web", Some(42))
        );
        assert_ne!(
            new.id, old.id,
            "files of the two sessions name each its own"
        );
        table.swap(|keep| Ok::<_, ()>(build("", keep))).unwrap();
        let (_, again) = table.find(key([10, 0, 0, 1], 7));
        assert!(Arc::ptr_eq(&again.ledger, &unknown.ledger));
    }

    #[test]
    fn a_refused_reload_changes_nothing() {
        let table = table("");
        assert!(table.swap(|_| Err::<Snapshot, _>("no")).is_err());
        assert_eq!(table.generation(), 1);
    }
}
