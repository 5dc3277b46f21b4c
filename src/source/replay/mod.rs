//! Captures of outer packets as a source.
//!
//! Takes: capture files, one after the other. Gives: the UDP payloads that went to a tunnel port, in the order of the
//! file, with its times. Holds: records = datagrams + refused + fragments merged into a datagram; a damaged file is
//! given to its last whole record, told, and the next one goes on.
//!
//! The order of a datagram is its record's number, not its time: times in captures step back, and the order of the
//! file is evidence too. So files come out as they went in, however many workers there are.

mod fragments;
mod outer;
mod progress;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

pub use progress::Progress;

use crate::capfile::{Error, Reader, Record};
use crate::packet::{Batch, Datagram, DropReason, Ports};
use crate::source::replay::fragments::{Fragments, Piece};
use crate::source::replay::outer::{Outer, Udp};
use crate::source::{Received, Source};

/// Datagrams of a batch, and the bytes that they share. A batch holds the largest record many times over.
const CAPACITY: usize = 256;
const ARENA: usize = 4 << 20;

/// A payload that found no room in the last batch.
#[derive(Debug)]
struct Held {
    payload: Vec<u8>,
    datagram: Datagram,
}

/// Capture files, replayed.
#[derive(Debug)]
pub struct Replay {
    waiting: VecDeque<PathBuf>,
    current: Option<Reader>,
    ports: Ports,
    fragments: Fragments,
    held: Option<Held>,
    /// Number of the last record, over all files.
    order: u64,
    stopped: bool,
    progress: Arc<Progress>,
}

impl Replay {
    /// Files to be replayed one after the other; `-` is standard input. Each is looked into, so that one that is no
    /// capture is told before anything runs.
    ///
    /// # Errors
    /// A file that can't be opened, or is no capture.
    pub fn open(files: Vec<PathBuf>, ports: Ports) -> Result<Self, Error> {
        let mut total = 0;
        for file in files.iter().filter(|f| f.as_os_str() != "-") {
            Reader::open(file)?;
            total += std::fs::metadata(file).map_or(0, |m| m.len());
        }
        Ok(Self {
            waiting: files.into(),
            current: None,
            ports,
            fragments: Fragments::default(),
            held: None,
            order: 0,
            stopped: false,
            progress: Arc::new(Progress::new(total)),
        })
    }

    /// How far it is; readable while a receiver owns the source.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Fills the batch from the current file. False when there is no further record in any file.
    fn fill(&mut self, batch: &mut Batch) -> bool {
        while batch.has_room() && self.held.is_none() {
            let Some(reader) = &mut self.current else {
                if self.next_file() {
                    continue;
                }
                return false;
            };
            match reader.next() {
                Ok(Some(record)) => {
                    self.order += 1;
                    let mut taker = Taker {
                        batch: &mut *batch,
                        held: &mut self.held,
                        fragments: &mut self.fragments,
                        progress: &self.progress,
                        ports: self.ports,
                        order: self.order,
                    };
                    taker.record(&record);
                }
                Ok(None) => self.end_file(None),
                Err(error) => self.end_file(Some(error)),
            }
            // refusals take no room in the batch, but the receiver wants to be heard of now and then
            if batch.refused.received >= CAPACITY as u64 {
                break;
            }
        }
        true
    }

    fn next_file(&mut self) -> bool {
        while let Some(file) = self.waiting.pop_front() {
            match Reader::open(&file) {
                Ok(reader) => {
                    self.current = Some(reader);
                    return true;
                }
                Err(error) => self
                    .progress
                    .damaged(format!("{}: {error}", file.display())),
            }
        }
        false
    }

    fn end_file(&mut self, error: Option<Error>) {
        let Some(reader) = self.current.take() else {
            return;
        };
        self.progress.file_read(reader.bytes_read());
        if let Some(damage) = reader.damage() {
            self.progress
                .damaged(format!("{}: {damage}", reader.name()));
        }
        if let Some(error) = error {
            self.progress.damaged(error.to_string());
        }
    }

    /// The end: fragments that still wait have waited in vain.
    fn conclude(&mut self, batch: &mut Batch) -> Received {
        if self.fragments.give_up_all(batch) {
            Received::Some
        } else {
            Received::End
        }
    }
}

impl Source for Replay {
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        if let Some(Held {
            payload,
            mut datagram,
        }) = self.held.take()
        {
            match batch.append(&payload) {
                Some(start) => {
                    datagram.start = start;
                    batch.datagrams.push(datagram);
                }
                // only an arena smaller than the largest record could come to this
                None => batch.refuse(DropReason::OuterMalformed, payload.len()),
            }
        }
        let more = !self.stopped && self.fill(batch);
        batch.order = self.order + 1;
        let read = self.current.as_ref().map_or(0, Reader::bytes_read);
        self.progress.reading(self.order, read);
        if more || !batch.datagrams.is_empty() || batch.refused.received > 0 {
            return Ok(Received::Some);
        }
        Ok(self.conclude(batch))
    }

    fn under_pressure(&mut self) -> bool {
        false
    }

    fn runs_away(&self) -> bool {
        false
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn new_batch(&self, receiver: u16) -> Batch {
        Batch::new(receiver, CAPACITY, ARENA)
    }
}

/// What one record becomes.
struct Taker<'a> {
    batch: &'a mut Batch,
    held: &'a mut Option<Held>,
    fragments: &'a mut Fragments,
    progress: &'a Progress,
    ports: Ports,
    order: u64,
}

impl Taker<'_> {
    fn record(&mut self, record: &Record<'_>) {
        match outer::parse(record) {
            Outer::Udp(udp) => self.datagram(&udp, record),
            Outer::Piece(piece) => self.piece(&piece, record),
            Outer::Refused(reason) => self.batch.refuse(reason, record.data.len()),
        }
    }

    fn datagram(&mut self, udp: &Udp<'_>, record: &Record<'_>) {
        if udp.port != self.ports.vxlan && udp.port != self.ports.geneve {
            return self.batch.refuse(DropReason::WrongPort, record.data.len());
        }
        let mut datagram = Datagram {
            start: 0,
            len: udp.payload.len() as u32,
            cut: udp.cut as u32,
            source: udp.source,
            port: udp.port,
            time: record.time,
            order: self.order,
        };
        match self.batch.append(udp.payload) {
            Some(start) => {
                datagram.start = start;
                self.batch.datagrams.push(datagram);
            }
            None => {
                *self.held = Some(Held {
                    payload: udp.payload.to_vec(),
                    datagram,
                })
            }
        }
    }

    fn piece(&mut self, piece: &Piece<'_>, record: &Record<'_>) {
        let added = self.fragments.add(piece, record, self.batch);
        let Some(whole) = added else { return };
        self.progress.merged(whole.records - 1);
        match outer::udp(piece.key.source, &whole.bytes, 0) {
            Ok(udp) => self.datagram(&udp, record),
            Err(reason) => self.batch.refuse(reason, whole.bytes.len()),
        }
    }
}
