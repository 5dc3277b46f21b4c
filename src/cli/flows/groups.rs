//! Sums of records, in all and by chosen fields.

use std::collections::HashMap;

use serde::Serialize;

use crate::cli::flows::cell::Cell;
use crate::record::{Field, Record, Status, Value};

/// Keys that are summed apart: some 300 MB of them.
const MOST: usize = 1_000_000;

/// Packets, bytes, and the time that they span in Unix seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct Sums {
    pub(super) records: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
}

impl Sums {
    fn add(&mut self, record: &Record<'_>) {
        let number = |field| record.get(field).number();
        self.records += 1;
        self.packets = self
            .packets
            .saturating_add(number(Field::Packets).unwrap_or(0));
        self.bytes = self.bytes.saturating_add(number(Field::Bytes).unwrap_or(0));
        let (start, end) = (number(Field::Start), number(Field::End));
        self.start = [self.start, start].into_iter().flatten().min();
        self.end = self.end.max(end);
    }
}

/// What was gathered.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) by: Vec<Field>,
    pub(super) groups: HashMap<Vec<Cell>, Sums, foldhash::fast::RandomState>,
    /// Records whose key found no room.
    pub(super) beyond: Sums,
    pub(super) all: Sums,
    pub(super) no_data: u64,
    pub(super) skip_data: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    /// Records that tell no packets or no bytes.
    pub(super) without_sums: u64,
}

impl Summary {
    pub(super) fn by(by: Vec<Field>) -> Self {
        Self {
            by,
            groups: HashMap::default(),
            beyond: Sums::default(),
            all: Sums::default(),
            no_data: 0,
            skip_data: 0,
            accepted: 0,
            rejected: 0,
            without_sums: 0,
        }
    }

    pub(super) fn add(&mut self, record: &Record<'_>) {
        match record.status() {
            Status::NoData => self.no_data += 1,
            Status::SkipData => self.skip_data += 1,
            Status::Ok => self.add_flow(record),
        }
    }

    fn add_flow(&mut self, record: &Record<'_>) {
        match record.get(Field::Action) {
            Value::Text("ACCEPT") => self.accepted += 1,
            Value::Text("REJECT") => self.rejected += 1,
            _ => {}
        }
        let has = |field| record.get(field).number().is_some();
        self.without_sums += u64::from(!has(Field::Packets) || !has(Field::Bytes));
        self.all.add(record);
        let key = key(&self.by, record);
        if let Some(sums) = self.groups.get_mut(&key) {
            sums.add(record);
        } else if self.groups.len() < MOST {
            self.groups.entry(key).or_default().add(record);
        } else {
            self.beyond.add(record);
        }
    }

    /// The keys with most bytes, largest first; equals in the order of the keys.
    pub(super) fn top(&self, most: usize) -> Vec<(&[Cell], Sums)> {
        let mut all: Vec<_> = self
            .groups
            .iter()
            .map(|(k, s)| (k.as_slice(), *s))
            .collect();
        let size = |s: &Sums| (s.bytes, s.packets);
        all.sort_unstable_by(|(a, x), (b, y)| size(y).cmp(&size(x)).then(a.cmp(b)));
        all.truncate(most);
        all
    }
}

/// The chosen fields of a record.
pub(super) fn key(by: &[Field], record: &Record<'_>) -> Vec<Cell> {
    by.iter().map(|field| record.get(*field).into()).collect()
}
