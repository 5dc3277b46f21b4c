//! One thread's view of the sessions it meets: look-up without a lock, counting without sharing.
//!
//! A seat holds a peer, its session, and what this thread has counted for them since it last published. Counts
//! are published once per batch, to the session's and the peer's ledger.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::metrics::Counter;
use crate::packet::{DropReason, FilterReason, Judged, Ledger, Packet, Peer};
use crate::session::table::{Key, MAX_PEERS};
use crate::session::{Session, Table};

/// From so many seats on it pays to look at them all before the packets are judged.
const MANY: usize = 8;

/// Batches after which hits of rules are published at the latest.
const HITS_EVERY: u32 = 64;

/// A [`Key`] in four words, which are hashed and compared without a question asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Words {
    source: (u64, u64),
    /// With bits above it that tell an IPv6 source and an endpoint.
    vni: u64,
    endpoint: u64,
}

impl Words {
    const V6: u64 = 1 << 32;
    const ENDPOINT: u64 = 1 << 33;

    #[inline]
    fn of(packet: &Packet) -> Self {
        let (source, family) = match packet.source {
            IpAddr::V4(v4) => ((0, u64::from(v4.to_bits())), 0),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                (((bits >> 64) as u64, bits as u64), Self::V6)
            }
        };
        let (endpoint, there) = packet.endpoint.map_or((0, 0), |e| (e.0, Self::ENDPOINT));
        let vni = u64::from(packet.vni.value()) | family | there;
        Self {
            source,
            vni,
            endpoint,
        }
    }
}

/// A peer, its session, and this thread's counts.
#[derive(Debug)]
#[repr(align(64))]
pub struct Seat {
    words: Words,
    /// Who mirrors.
    pub peer: Arc<Peer>,
    /// What is wanted of it.
    pub session: Arc<Session>,
    /// The session's ledger, one step nearer.
    ledger: Arc<Ledger>,
    /// Counted since the last publication.
    judged: Judged,
    /// Dropped since then, for the reason named last.
    dropped: (DropReason, u64),
    /// Hits of each rule since the last publication, and which have any.
    rule_hits: Vec<u32>,
    rules_hit: Vec<u32>,
    dirty: bool,
    /// Whether the seat is among those that have hits.
    hit: bool,
    /// Where its packets count apart from ledgers: whoever has these counts notes it here. A new seat has none.
    pub counted: Option<(u32, u32)>,
}

impl Seat {
    fn new(words: Words, peer: Arc<Peer>, session: Arc<Session>) -> Self {
        Self {
            words,
            peer,
            ledger: Arc::clone(&session.ledger),
            rule_hits: vec![0; session.rule_hits.len()],
            session,
            judged: Judged::default(),
            dropped: (DropReason::QueueFull, 0),
            rules_hit: Vec::new(),
            dirty: false,
            hit: false,
            counted: None,
        }
    }

    /// Counts one datagram of `bytes` payload bytes as received.
    #[inline]
    pub fn receive(&mut self, bytes: u32) {
        self.judged.receive(bytes);
    }

    /// Counts one packet as filtered.
    #[inline]
    pub fn filter(&mut self, reason: FilterReason) {
        self.judged.filter(reason);
    }

    /// Counts one packet as dropped. Many are dropped for one reason at a time.
    pub fn drop(&mut self, reason: DropReason) {
        if self.dropped.0 != reason {
            self.publish_counts();
            self.dropped.0 = reason;
        }
        self.dropped.1 += 1;
    }

    /// Counts a hit of a rule.
    #[inline]
    pub fn hit(&mut self, rule: u32) {
        if let Some(hits) = self.rule_hits.get_mut(rule as usize) {
            if *hits == 0 {
                self.rules_hit.push(rule);
            }
            *hits += 1;
        }
    }

    fn look(&self) -> u64 {
        let target = self.session.target.as_ref();
        let numbers = [
            self.ledger.look(),
            self.peer.ledger.look(),
            self.peer.eni_mac().unwrap_or_default(),
            target.map_or(0, |target| u64::from(target.id)),
            self.session.rule_hits.first().map_or(0, Counter::value),
            self.rule_hits.first().map_or(0, |hits| u64::from(*hits)),
        ];
        numbers.into_iter().fold(0, u64::wrapping_add)
    }

    /// Adds its rules' hits to the session's.
    fn publish_hits(&mut self) {
        for rule in self.rules_hit.drain(..) {
            let own = self.rule_hits.get_mut(rule as usize);
            if let (Some(own), Some(shared)) = (own, self.session.rule_hits.get(rule as usize)) {
                shared.add(u64::from(std::mem::take(own)));
            }
        }
        self.hit = false;
    }

    /// What was received first: it is what was dropped.
    fn publish_counts(&mut self) {
        let judged = std::mem::take(&mut self.judged);
        let (reason, dropped) = (self.dropped.0, std::mem::take(&mut self.dropped.1));
        for ledger in [&*self.ledger, &self.peer.ledger] {
            ledger.add_judged(&judged);
            ledger.add_dropped(reason, dropped);
        }
    }
}

/// The seats of one thread.
#[derive(Debug)]
pub struct Seats {
    table: Arc<Table>,
    generation: u64,
    hasher: foldhash::fast::RandomState,
    /// Numbers of seats, by the hash of their words.
    places: HashTable<u32>,
    seats: Vec<Seat>,
    /// The places of those that have something unpublished, and of those that have hits of rules.
    dirty: Vec<u32>,
    hit: Vec<u32>,
    /// Batches since hits were published.
    batches: u32,
}

impl Seats {
    /// No seats yet.
    pub fn new(table: Arc<Table>) -> Self {
        let generation = table.generation();
        Self {
            table,
            generation,
            hasher: foldhash::fast::RandomState::default(),
            places: HashTable::new(),
            seats: Vec::new(),
            dirty: Vec::new(),
            hit: Vec::new(),
            batches: 0,
        }
    }

    /// Seats of the same table for somebody else, none taken yet.
    pub fn beside(&self) -> Self {
        Self::new(Arc::clone(&self.table))
    }

    /// Follows a reload, and makes room: to be called between batches.
    pub fn refresh(&mut self) {
        let generation = self.table.generation();
        if generation != self.generation || self.seats.len() >= 2 * MAX_PEERS {
            self.clear();
            self.generation = generation;
        }
    }

    /// The seat of a packet's peer, taken as touched.
    pub fn seat(&mut self, packet: &Packet) -> Option<&mut Seat> {
        let place = self.place(packet);
        self.at(place)
    }

    /// The place of a packet's peer, taken as touched. It holds until the next [`Self::refresh`]. To place a whole batch
    /// before its packets are looked at is faster: the look-ups of different packets do not wait for each other.
    #[inline(always)]
    pub fn place(&mut self, packet: &Packet) -> u32 {
        let words = Words::of(packet);
        let hash = self.hasher.hash_one(words);
        let is_it = |place: &u32| {
            let seat = self.seats.get(*place as usize);
            seat.is_some_and(|seat| seat.words == words)
        };
        let place = match self.places.find(hash, is_it) {
            Some(place) => *place,
            None => self.take_seat(hash, words, packet),
        };
        if let Some(seat) = self
            .seats
            .get_mut(place as usize)
            .filter(|seat| !seat.dirty)
        {
            seat.dirty = true;
            self.dirty.push(place);
        }
        place
    }

    /// The seat at a place.
    #[inline]
    pub fn at(&mut self, place: u32) -> Option<&mut Seat> {
        self.seats.get_mut(place as usize)
    }

    /// A seat for a peer that this thread meets for the first time.
    #[cold]
    fn take_seat(&mut self, hash: u64, words: Words, packet: &Packet) -> u32 {
        let (peer, session) = self.table.find(Key::from(packet));
        let place = self.seats.len() as u32;
        self.seats.push(Seat::new(words, peer, session));
        let (seats, hasher) = (&self.seats, &self.hasher);
        self.places.insert_unique(hash, place, |place| {
            let seat = seats.get(*place as usize);
            seat.map_or(0, |seat| hasher.hash_one(seat.words))
        });
        place
    }

    /// Looks at what judging and counting will need of all seats that were touched, once they are many enough to be out of
    /// the cache. Memory answers many such questions at once; packet by packet it would be asked for one at a time.
    pub fn look(&self) {
        if self.dirty.len() >= MANY {
            let seats = self
                .dirty
                .iter()
                .filter_map(|p| self.seats.get(*p as usize));
            black_box(seats.map(Seat::look).fold(0, u64::wrapping_add));
        }
    }

    /// Adds what was counted to the shared ledgers. Hits of rules are as many numbers as there are peers and rules, so they
    /// are published only now and then.
    pub fn publish(&mut self) {
        for place in self.dirty.drain(..) {
            if let Some(seat) = self.seats.get_mut(place as usize) {
                seat.dirty = false;
                seat.publish_counts();
                if !seat.hit && !seat.rules_hit.is_empty() {
                    seat.hit = true;
                    self.hit.push(place);
                }
            }
        }
        self.batches += 1;
        if self.batches >= HITS_EVERY {
            self.publish_hits();
        }
    }

    /// Adds the hits of rules to those of the sessions: for when there is nothing more to do.
    pub fn publish_hits(&mut self) {
        self.batches = 0;
        for place in self.hit.drain(..) {
            if let Some(seat) = self.seats.get_mut(place as usize) {
                seat.publish_hits();
            }
        }
    }

    /// The table behind the seats.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn clear(&mut self) {
        self.publish();
        self.publish_hits();
        self.places.clear();
        self.seats.clear();
    }
}
