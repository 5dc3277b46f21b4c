//! How far a replay is, and what was wrong with its files.

use std::sync::{Mutex, PoisonError};

use crate::metrics::{Counter, Gauge};

/// Numbers of a replay; read while it runs.
#[derive(Debug)]
pub struct Progress {
    total: u64,
    records: Gauge,
    fragments_merged: Counter,
    /// Bytes of the files that are through, and of the current one.
    done: Counter,
    current: Gauge,
    damage: Mutex<Vec<String>>,
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            records: Gauge::new(),
            fragments_merged: Counter::new(),
            done: Counter::new(),
            current: Gauge::new(),
            damage: Mutex::default(),
        }
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.records.value()
    }

    /// Records that were fragments merged into another one's datagram: records = received + these.
    pub fn fragments_merged(&self) -> u64 {
        self.fragments_merged.value()
    }

    /// Bytes of the files read so far, as they are on disk.
    pub fn bytes_read(&self) -> u64 {
        self.done.value() + self.current.value()
    }

    /// Bytes of all files; 0 when that can't be known (standard input).
    pub fn bytes_total(&self) -> u64 {
        self.total
    }

    /// What was wrong with the files, each with its name.
    pub fn damage(&self) -> Vec<String> {
        self.damage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn damaged(&self, what: String) {
        tracing::warn!("{what}");
        self.damage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    pub(super) fn reading(&self, records: u64, bytes: u64) {
        self.records.set(records);
        self.current.set(bytes);
    }

    pub(super) fn file_read(&self, bytes: u64) {
        self.done.add(bytes);
        self.current.set(0);
    }

    pub(super) fn merged(&self, records: u64) {
        self.fragments_merged.add(records);
    }
}
