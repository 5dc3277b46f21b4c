//! The source that reads captures of outer packets.
//!
//! Takes: capture files (pcap, pcapng, packed or not, standard input), one after the other, and the two
//! tunnel ports. Gives: their UDP datagrams to these ports, in file order, whatever the capture times
//! say. Holds: records = datagrams + refused + fragments merged once the end is reached; a damaged file is
//! delivered as far as it goes, and the damage is told in [`Progress`].
//!
//! No byte is copied on the way from the file to the batch: its datagrams are where they were read to, in the reader's memory,
//! which the batch gets for its own once all that was read has been looked at. Only a datagram put together from
//! fragments is copied.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::capfile::{Damage, Error, Reader, Record};
use crate::metrics::{Counter, Gauge};
use crate::packet::{Batch, Datagram, DropReason, Ports};
use crate::source::fragments::{Fragments, Outcome, Whole};
use crate::source::outer::{self, Fragment, Outer, Udp};
use crate::source::{Received, Source};
use crate::time::Timestamp;

/// Records looked at before a batch is handed over, and so the most datagrams that it holds. A batch is what was read of
/// the file at once, which is seldom so many.
const BATCH: usize = 4096;
/// Bytes of put-together datagrams after which a batch is handed over.
const MOST_ASIDE: usize = 1024 * 1024;

/// How far a replay has got; may be read from any thread while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records read.
    pub records: Counter,
    /// Records whose bytes went into a datagram that another record completed.
    pub fragments_merged: Counter,
    /// Bytes of the files that were read (compressed ones, where they are compressed).
    pub bytes_read: Gauge,
    /// Bytes of all files together; 0 for what has no size (a pipe).
    pub bytes_total: Gauge,
    damage: Mutex<Vec<FileDamage>>,
}

/// A file that could not be read to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileDamage {
    /// The file.
    pub path: PathBuf,
    /// Where it stops making sense, and why.
    pub damage: Damage,
}

impl std::fmt::Display for FileDamage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.damage)
    }
}

impl Progress {
    /// The files that could not be read to their end, so far.
    pub fn damage(&self) -> Vec<FileDamage> {
        let damage = self.damage.lock();
        damage.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add_damage(&self, path: &Path, damage: Damage) {
        let all = self.damage.lock();
        all.unwrap_or_else(PoisonError::into_inner)
            .push(FileDamage {
                path: path.to_owned(),
                damage,
            });
    }
}

/// Capture files as a source.
#[derive(Debug)]
pub struct Replay {
    waiting: VecDeque<PathBuf>,
    current: Option<(PathBuf, Reader)>,
    /// Bytes of the files that are done with.
    bytes_done: u64,
    sorter: Sorter,
    progress: Arc<Progress>,
    ended: bool,
}

impl Replay {
    /// Prepares to replay `paths` in this order; `-` is standard input. Ordinary files are looked into
    /// now, so that a wrong name is told at once; pipes are opened when it is their turn.
    ///
    /// # Errors
    /// When one of the files can't be opened or is no capture.
    pub fn open(paths: Vec<PathBuf>, ports: Ports) -> Result<Self, Error> {
        let progress = Progress::default();
        for path in &paths {
            if path.as_os_str() == "-" {
                continue;
            }
            let found = std::fs::metadata(path);
            if found.as_ref().map_or(true, |f| !is_pipe(f)) {
                Reader::open(path)?;
            }
            progress.bytes_total.add(found.map_or(0, |f| f.len()));
        }
        Ok(Self {
            waiting: paths.into(),
            current: None,
            bytes_done: 0,
            sorter: Sorter::new(ports),
            progress: Arc::new(progress),
            ended: false,
        })
    }

    /// Counters and damage, for whoever shows them.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The files that could not be read to their end, so far.
    pub fn damage(&self) -> Vec<FileDamage> {
        self.progress.damage()
    }

    /// Takes one record, for which the reader may have to read, and so must not owe any; false when there are no more in
    /// any file.
    fn step(&mut self, batch: &mut Batch) -> bool {
        loop {
            let Some((_, reader)) = &mut self.current else {
                if !self.open_next() {
                    return false;
                }
                continue;
            };
            match reader.next() {
                Ok(Some(record)) => {
                    self.sorter.take(&record, batch);
                    return true;
                }
                Ok(None) => self.close_current(None),
                Err(e) => self.close_current(Some(e)),
            }
        }
    }

    /// Opens the next file that can be opened; false when none is left.
    fn open_next(&mut self) -> bool {
        while let Some(path) = self.waiting.pop_front() {
            match Reader::open(&path) {
                Ok(reader) => {
                    self.current = Some((path, reader));
                    return true;
                }
                Err(e) => self.progress.add_damage(&path, whole_file(&e)),
            }
        }
        false
    }

    fn close_current(&mut self, error: Option<Error>) {
        let Some((path, reader)) = self.current.take() else {
            return;
        };
        self.bytes_done += reader.bytes_read();
        let failure = error.map(|e| Damage {
            is_cut: false,
            offset: reader.position(),
            what: e.to_string(),
        });
        if let Some(damage) = failure.or_else(|| reader.damage().cloned()) {
            self.progress.add_damage(&path, damage);
        }
    }

    /// Fills the batch with what is read of the file at once; true when the end was reached.
    fn fill(&mut self, batch: &mut Batch) -> bool {
        for looked in 1..=BATCH {
            if !self.step(batch) {
                return true;
            }
            if let Some(first) = self.sorter.lent {
                self.fill_at_hand(batch, BATCH - looked, first);
                break;
            }
            if batch.aside() >= MOST_ASIDE {
                break;
            }
        }
        false
    }

    /// Takes up to `most` records that have been read already, and gives the batch the memory in which they and the datagram
    /// at `first` lie.
    fn fill_at_hand(&mut self, batch: &mut Batch, most: usize, first: usize) {
        self.sorter.lent = None;
        let Some((_, reader)) = &mut self.current else {
            return;
        };
        let (sorter, mut left) = (&mut self.sorter, most);
        if left > 0 {
            reader.each_at_hand(|record| {
                sorter.take(record, batch);
                left -= 1;
                left > 0 && batch.aside() < MOST_ASIDE
            });
        }
        reader.hand_over(first, batch.memory());
        self.sorter.lent = None;
    }

    fn publish(&mut self) {
        let reading = self.current.as_ref().map_or(0, |(_, r)| r.bytes_read());
        self.progress.bytes_read.set(self.bytes_done + reading);
        let told = self.progress.records.value();
        self.progress.records.add(self.sorter.records - told);
        let merged = std::mem::take(&mut self.sorter.merged);
        self.progress.fragments_merged.add(merged);
    }
}

/// Whether what is read from it is gone.
fn is_pipe(found: &std::fs::Metadata) -> bool {
    !found.is_file() && !found.is_dir()
}

fn whole_file(error: &Error) -> Damage {
    Damage {
        is_cut: false,
        offset: 0,
        what: error.to_string(),
    }
}

impl Source for Replay {
    fn receive(&mut self, batch: &mut Batch) -> std::io::Result<Received> {
        if !self.ended && self.fill(batch) {
            self.ended = true;
            self.sorter.close(batch);
        }
        self.publish();
        batch.order = self.sorter.records + 1;
        let empty = batch.datagrams.is_empty() && batch.refused.received == 0;
        Ok(match (empty, self.ended) {
            (false, _) => Received::Some,
            (true, false) => Received::Nothing,
            (true, true) => Received::End,
        })
    }

    fn under_pressure(&mut self) -> bool {
        false
    }

    fn runs_away(&self) -> bool {
        false
    }

    /// The records that were not read stay unread; fragments that wait have waited in vain.
    fn stop(&mut self) {
        self.waiting.clear();
        self.close_current(None);
    }

    fn new_batch(&self, receiver: u16) -> Batch {
        Batch::new(receiver, BATCH, Reader::MEMORY)
    }
}

/// Sorts records into datagrams, fragments that wait, and refusals.
#[derive(Debug)]
struct Sorter {
    ports: Ports,
    fragments: Fragments,
    /// Records seen: the number of the current one, counted from 1 through all files.
    records: u64,
    merged: u64,
    /// Where the earliest datagram of the batch lies in the reader's memory, while there is one that the batch does not have
    /// yet.
    lent: Option<usize>,
}

impl Sorter {
    fn new(ports: Ports) -> Self {
        Self {
            ports,
            fragments: Fragments::default(),
            records: 0,
            merged: 0,
            lent: None,
        }
    }

    #[inline(always)]
    fn take(&mut self, record: &Record<'_>, batch: &mut Batch) {
        self.records += 1;
        match outer::plain(record.link, record.data, record.origlen) {
            Some(udp) => self.sort(&udp, record, batch),
            None => self.take_other(record, batch),
        }
    }

    #[inline(never)]
    fn take_other(&mut self, record: &Record<'_>, batch: &mut Batch) {
        match outer::find(record.link, record.data, record.origlen) {
            Ok(Outer::Datagram(udp)) => self.sort(&udp, record, batch),
            Ok(Outer::Fragment(fragment)) => self.gather(&fragment, record, batch),
            Err(reason) => batch.refuse(reason, record.data.len()),
        }
    }

    /// A datagram that lies in a record.
    #[inline(always)]
    fn sort(&mut self, udp: &Udp<'_>, record: &Record<'_>, batch: &mut Batch) {
        if !self.is_ours(udp) {
            return batch.refuse(DropReason::WrongPort, record.data.len());
        }
        let start = record.place + (udp.payload.as_ptr().addr() - record.data.as_ptr().addr());
        self.lent.get_or_insert(start);
        self.deliver(udp, start as u32, record.time, batch);
    }

    #[cold]
    fn gather(&mut self, fragment: &Fragment<'_>, record: &Record<'_>, batch: &mut Batch) {
        let bytes = record.data.len();
        match self.fragments.add(fragment, record.time, bytes) {
            Outcome::Held => {}
            Outcome::Refused(reason) => batch.refuse(reason, bytes),
            Outcome::Whole(whole) => {
                self.merged += whole.records - 1;
                if let Err(reason) = self.deliver_whole(&whole, record.time, batch) {
                    batch.refuse(reason, whole.bytes.len());
                }
                self.fragments.recycle(whole.bytes);
            }
        }
        self.refuse_lost(batch);
    }

    /// Copies a datagram that was put together into the batch.
    fn deliver_whole(
        &self,
        whole: &Whole,
        time: Timestamp,
        batch: &mut Batch,
    ) -> Result<(), DropReason> {
        let udp = outer::reassembled(whole.key, &whole.bytes)?;
        if !self.is_ours(&udp) {
            return Err(DropReason::WrongPort);
        }
        // A batch is handed over long before it has set so much aside.
        let start = batch
            .set_aside(udp.payload)
            .ok_or(DropReason::OuterMalformed)?;
        self.deliver(&udp, start, time, batch);
        Ok(())
    }

    #[inline]
    fn is_ours(&self, udp: &Udp<'_>) -> bool {
        udp.port == self.ports.vxlan || udp.port == self.ports.geneve
    }

    #[inline(always)]
    fn deliver(&self, udp: &Udp<'_>, start: u32, time: Timestamp, batch: &mut Batch) {
        batch.datagrams.push(Datagram {
            start,
            len: udp.payload.len() as u32,
            cut: udp.cut,
            source: udp.source,
            port: udp.port,
            time,
            order: self.records,
        });
    }

    /// Counts each record of the packets that were given up.
    fn refuse_lost(&mut self, batch: &mut Batch) {
        let lost = self.fragments.take_lost();
        batch.refused.received += lost.records;
        batch.refused.bytes_received += lost.bytes;
        batch.refused.dropped[DropReason::FragmentIncomplete.index()] += lost.records;
    }

    /// No more records: what still waits for siblings waits in vain.
    fn close(&mut self, batch: &mut Batch) {
        self.fragments.close();
        self.refuse_lost(batch);
    }
}
