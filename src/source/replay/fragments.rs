//! Outer IP fragments put together again, in a bounded table.
//!
//! A path with a smaller MTU may fragment what AWS sends (it leaves DF clear). A socket never sees that, a capture
//! does. Bounds: datagrams in progress, their bytes, and how long they wait by the capture's own clock. What is given
//! up is counted record by record.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber};

use crate::capfile::Record;
use crate::packet::{Batch, DropReason};
use crate::time::Timestamp;

/// Datagrams in progress.
const MOST: usize = 1024;
/// Bytes of all fragments that wait.
const MOST_BYTES: usize = 16 << 20;
/// How long a datagram waits for its last fragment: as Linux does (`net.ipv4.ipfrag_time`).
const PATIENCE: Duration = Duration::from_secs(30);

/// What the fragments of a datagram share (RFC 791, section 3.2; the protocol is UDP for all).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) id: u32,
}

/// One fragment.
pub(super) struct Piece<'a> {
    pub(super) key: Key,
    /// Where it belongs, in bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
    pub(super) bytes: &'a [u8],
    /// Bytes missing at its end: it can't be used then.
    pub(super) cut: usize,
}

/// A datagram put together.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    /// How many records it came in.
    pub(super) records: u64,
}

#[derive(Debug)]
struct Pieces {
    buffer: IpDefragBuf,
    since: Timestamp,
    /// Sizes of the records, to be counted if it is given up.
    records: Vec<usize>,
    bytes: usize,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: HashMap<Key, Pieces>,
    /// Keys by age; may name some that are gone.
    oldest: VecDeque<Key>,
    bytes: usize,
}

impl Fragments {
    /// Takes a fragment; gives the datagram that it completes. What can't be used, and what has to go to make
    /// room, is refused in `batch`.
    pub(super) fn add(
        &mut self,
        piece: &Piece<'_>,
        record: &Record<'_>,
        batch: &mut Batch,
    ) -> Option<Whole> {
        self.expire(record.time, batch);
        if piece.cut > 0 || piece.bytes.is_empty() {
            batch.refuse(DropReason::FragmentIncomplete, record.data.len());
            return None;
        }
        let offset = IpFragOffset::try_new(piece.offset / 8).ok();
        let pieces = self.open.entry(piece.key).or_insert_with(|| {
            self.oldest.push_back(piece.key);
            Pieces {
                buffer: IpDefragBuf::new(IpNumber::UDP, Vec::new(), Vec::new()),
                since: record.time,
                records: Vec::new(),
                bytes: 0,
            }
        });
        let added = offset.map(|o| pieces.buffer.add(o, piece.more, piece.bytes));
        if !matches!(added, Some(Ok(()))) {
            // it contradicts the others (or RFC 791): it goes, they may still be completed
            batch.refuse(DropReason::OuterMalformed, record.data.len());
            return None;
        }
        pieces.records.push(record.data.len());
        pieces.bytes += piece.bytes.len();
        self.bytes += piece.bytes.len();
        if pieces.buffer.is_complete() {
            return self.complete(piece.key);
        }
        self.make_room(batch);
        None
    }

    fn complete(&mut self, key: Key) -> Option<Whole> {
        let pieces = self.open.remove(&key)?;
        self.bytes = self.bytes.saturating_sub(pieces.bytes);
        let records = pieces.records.len() as u64;
        Some(Whole {
            bytes: pieces.buffer.take_bufs().0,
            records,
        })
    }

    fn expire(&mut self, now: Timestamp, batch: &mut Batch) {
        while let Some(key) = self.oldest.front().copied() {
            let waits = self
                .open
                .get(&key)
                .is_some_and(|p| now.since(p.since) < PATIENCE);
            if waits {
                break;
            }
            self.oldest.pop_front();
            self.give_up(key, batch);
        }
    }

    fn make_room(&mut self, batch: &mut Batch) {
        while self.open.len() > MOST || self.bytes > MOST_BYTES {
            let Some(key) = self.oldest.pop_front() else {
                break;
            };
            self.give_up(key, batch);
        }
    }

    fn give_up(&mut self, key: Key, batch: &mut Batch) {
        let Some(pieces) = self.open.remove(&key) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(pieces.bytes);
        for bytes in pieces.records {
            batch.refuse(DropReason::FragmentIncomplete, bytes);
        }
    }

    /// Refuses everything that still waits; false when nothing did.
    pub(super) fn give_up_all(&mut self, batch: &mut Batch) -> bool {
        let any = !self.open.is_empty();
        for key in std::mem::take(&mut self.oldest) {
            self.give_up(key, batch);
        }
        any
    }
}
