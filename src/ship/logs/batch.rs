//! Batches, within the limits of one request.

use std::collections::BTreeMap;

use serde::Serialize;

/// The most bytes of a request: those of the messages, and so many more for each.
pub(super) const MOST_BYTES: usize = 1_048_576;
pub(super) const OVERHEAD: usize = 26;
pub(super) const MOST_EVENTS: usize = 10_000;
/// Between the first and the last event of a request, in milliseconds: less than a day.
pub(super) const SPAN: u64 = 24 * 3_600_000;
/// Bytes of all open batches together. With more interfaces than fit, batches go before they are full.
const MOST_OPEN: usize = 16 * MOST_BYTES;

/// An event as the request has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(super) struct Event {
    /// Milliseconds since 1970.
    pub(super) timestamp: u64,
    pub(super) message: String,
}

impl Event {
    /// As the limit counts it.
    pub(super) const fn size(&self) -> usize {
        self.message.len() + OVERHEAD
    }
}

/// Events for one stream, in the order of time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Batch {
    pub(super) stream: String,
    pub(super) events: Vec<Event>,
}

/// A batch that is not full yet.
#[derive(Debug)]
struct Open {
    events: Vec<Event>,
    bytes: usize,
    first: u64,
    last: u64,
}

impl Open {
    const fn new() -> Self {
        Self {
            events: Vec::new(),
            bytes: 0,
            first: u64::MAX,
            last: 0,
        }
    }

    fn takes(&self, event: &Event) -> bool {
        let first = self.first.min(event.timestamp);
        let last = self.last.max(event.timestamp);
        self.events.len() < MOST_EVENTS
            && self.bytes + event.size() <= MOST_BYTES
            && last - first < SPAN
    }

    fn add(&mut self, event: Event) {
        self.bytes += event.size();
        self.first = self.first.min(event.timestamp);
        self.last = self.last.max(event.timestamp);
        self.events.push(event);
    }

    /// Events of the same time stay in the order of the file.
    fn close(mut self, stream: String) -> Batch {
        self.events.sort_by_key(|event| event.timestamp);
        Batch {
            stream,
            events: self.events,
        }
    }
}

/// Deals events into batches. Depends on nothing but the events.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: BTreeMap<String, Open>,
    bytes: usize,
}

impl Batches {
    /// Adds an event, which fits into a request by itself. Gives the batch that had to go for it.
    pub(super) fn add(&mut self, stream: &str, event: Event) -> Option<Batch> {
        let full = match self.open.get(stream) {
            Some(open) if !open.takes(&event) => self.take(stream),
            _ if self.bytes + event.size() > MOST_OPEN => self.take_largest(),
            _ => None,
        };
        self.bytes += event.size();
        match self.open.get_mut(stream) {
            Some(open) => open.add(event),
            None => {
                let mut open = Open::new();
                open.add(event);
                self.open.insert(stream.to_owned(), open);
            }
        }
        full
    }

    /// One of those that are left, in the order of their streams.
    pub(super) fn next(&mut self) -> Option<Batch> {
        let stream = self.open.keys().next()?.clone();
        self.take(&stream)
    }

    fn take(&mut self, stream: &str) -> Option<Batch> {
        let (stream, open) = self.open.remove_entry(stream)?;
        self.bytes -= open.bytes;
        Some(open.close(stream))
    }

    fn take_largest(&mut self) -> Option<Batch> {
        let largest = self.open.iter().max_by_key(|(_, open)| open.bytes);
        let stream = largest?.0.clone();
        self.take(&stream)
    }
}
