//! One thread's view of the sessions it meets: look-up without a lock, counting without sharing.
//!
//! A seat holds a peer, its session, and what this thread has counted for them since it last published. Counts
//! are published once per batch, to the session's and the peer's ledger.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::packet::{Packet, Peer, Tally};
use crate::session::table::{Key, MAX_PEERS};
use crate::session::{Session, Table};

/// A peer, its session, and this thread's counts.
#[derive(Debug)]
pub struct Seat {
    /// Who mirrors.
    pub peer: Arc<Peer>,
    /// What is wanted of it.
    pub session: Arc<Session>,
    /// Counted since the last publication.
    pub tally: Tally,
    /// Hits of each rule since the last publication.
    pub rule_hits: Vec<u64>,
    dirty: bool,
}

impl Seat {
    fn publish(&mut self) {
        self.session.ledger.add(&self.tally);
        self.peer.ledger.add(&self.tally);
        self.tally = Tally::default();
        for (shared, own) in self.session.rule_hits.iter().zip(&mut self.rule_hits) {
            shared.add(std::mem::take(own));
        }
        self.dirty = false;
    }
}

/// The seats of one thread.
#[derive(Debug)]
pub struct Seats {
    table: Arc<Table>,
    generation: u64,
    places: HashMap<Key, usize, foldhash::fast::RandomState>,
    seats: Vec<Seat>,
    dirty: Vec<usize>,
    /// The last look-up: mirrored packets come in trains.
    last: Option<(Key, usize)>,
}

impl Seats {
    /// No seats yet.
    pub fn new(table: Arc<Table>) -> Self {
        let generation = table.generation();
        Self {
            table,
            generation,
            places: HashMap::default(),
            seats: Vec::new(),
            dirty: Vec::new(),
            last: None,
        }
    }

    /// Follows a reload: to be called between batches.
    pub fn refresh(&mut self) {
        let generation = self.table.generation();
        if generation != self.generation {
            self.clear();
            self.generation = generation;
        }
    }

    /// The seat of a packet's peer, taken as touched.
    pub fn seat(&mut self, packet: &Packet) -> Option<&mut Seat> {
        let key = Key::from(packet);
        let place = match self.last {
            Some((last, place)) if last == key => place,
            _ => self.place(key),
        };
        self.last = Some((key, place));
        let seat = self.seats.get_mut(place)?;
        if !seat.dirty {
            seat.dirty = true;
            self.dirty.push(place);
        }
        Some(seat)
    }

    fn place(&mut self, key: Key) -> usize {
        if self.places.len() >= 2 * MAX_PEERS {
            self.clear();
        }
        match self.places.entry(key) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let (peer, session) = self.table.find(key);
                let rule_hits = vec![0; session.rule_hits.len()];
                self.seats.push(Seat {
                    peer,
                    session,
                    tally: Tally::default(),
                    rule_hits,
                    dirty: false,
                });
                *entry.insert(self.seats.len() - 1)
            }
        }
    }

    /// Adds what was counted to the shared ledgers.
    pub fn publish(&mut self) {
        for place in self.dirty.drain(..) {
            if let Some(seat) = self.seats.get_mut(place) {
                seat.publish();
            }
        }
    }

    /// The table behind the seats.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn clear(&mut self) {
        self.publish();
        self.places.clear();
        self.seats.clear();
        self.last = None;
    }
}
