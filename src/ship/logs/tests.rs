//! Batches within their limits, whatever the events; and the arithmetic of what was rejected.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::batch::{Batch, Batches, Event, MOST_BYTES, MOST_EVENTS, OVERHEAD, SPAN};
use super::group::{Indices, Rejected};
use super::ship::by_age;
use crate::time::Timestamp;

fn dealt(events: &[(String, Event)]) -> Vec<Batch> {
    let mut batches = Batches::default();
    let mut all: Vec<Batch> = events
        .iter()
        .filter_map(|(stream, event)| batches.add(stream, event.clone()))
        .collect();
    all.extend(std::iter::from_fn(|| batches.next()));
    all
}

fn check(batch: &Batch) {
    let times: Vec<u64> = batch.events.iter().map(|e| e.timestamp).collect();
    assert!(times.is_sorted() && !times.is_empty());
    assert!(times.last().unwrap() - times[0] < SPAN);
    assert!(batch.events.len() <= MOST_EVENTS);
    let bytes: usize = batch.events.iter().map(Event::size).sum();
    assert!(bytes <= MOST_BYTES, "{bytes}");
}

/// Every event of each stream, sorted.
fn by_stream<'e>(
    events: impl Iterator<Item = (&'e String, &'e Event)>,
) -> BTreeMap<String, Vec<Event>> {
    let mut all = BTreeMap::<String, Vec<Event>>::new();
    for (stream, event) in events {
        all.entry(stream.clone()).or_default().push(event.clone());
    }
    all.values_mut().for_each(|events| events.sort());
    all
}

fn conserved(events: &[(String, Event)]) {
    let batches = dealt(events);
    batches.iter().for_each(check);
    let kept = batches
        .iter()
        .flat_map(|batch| batch.events.iter().map(move |event| (&batch.stream, event)));
    assert_eq!(
        by_stream(events.iter().map(|(stream, event)| (stream, event))),
        by_stream(kept)
    );
    assert_eq!(batches, dealt(events), "always the same");
}

fn event(timestamp: u64, length: usize) -> Event {
    Event {
        timestamp,
        message: "x".repeat(length),
    }
}

fn one(timestamp: u64, length: usize) -> (String, Event) {
    ("s".to_owned(), event(timestamp, length))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_event_is_in_one_batch_and_every_batch_within_its_limits(
        events in prop::collection::vec((0_u8..4, 0_u64..4 * SPAN, 1_usize..400_000), 0..60)
    ) {
        let events: Vec<_> = events
            .into_iter()
            .map(|(stream, at, length)| (format!("s{stream}"), event(at, length)))
            .collect();
        conserved(&events);
    }
}

#[test]
fn limits_are_used_to_their_end_and_no_further() {
    let half = MOST_BYTES / 2 - OVERHEAD;
    assert_eq!(dealt(&[one(1, half), one(1, half)]).len(), 1);
    assert_eq!(dealt(&[one(1, half), one(1, half + 1)]).len(), 2);
    assert_eq!(dealt(&[one(0, 1), one(SPAN - 1, 1)]).len(), 1);
    assert_eq!(dealt(&[one(0, 1), one(SPAN, 1)]).len(), 2);
    let many = vec![one(1, 1); MOST_EVENTS + 1];
    assert_eq!(dealt(&many[..MOST_EVENTS]).len(), 1);
    assert_eq!(dealt(&many).len(), 2);
    conserved(&many);
}

#[test]
fn many_streams_hold_no_more_than_bounded_memory() {
    let events: Vec<_> = (0..400)
        .map(|i| (format!("s{:03}", i % 100), event(i, 200_000)))
        .collect();
    let mut batches = Batches::default();
    let early = events
        .iter()
        .filter_map(|(stream, event)| batches.add(stream, event.clone()));
    assert!(early.count() > 100, "most go before they are full");
    conserved(&events);
}

fn rejected(info: serde_json::Value, events: usize) -> (u64, u64, u64) {
    let indices: Indices = serde_json::from_value(info).unwrap();
    let Rejected {
        too_new,
        too_old,
        expired,
    } = indices.count(events);
    (too_new, too_old, expired)
}

#[test]
fn rejected_events_are_counted_from_the_right_end() {
    assert_eq!(rejected(json!({}), 10), (0, 0, 0));
    assert_eq!(
        rejected(json!({"tooNewLogEventStartIndex": 7}), 10),
        (3, 0, 0)
    );
    assert_eq!(
        rejected(json!({"tooNewLogEventStartIndex": 0}), 10),
        (10, 0, 0)
    );
    assert_eq!(
        rejected(json!({"tooOldLogEventEndIndex": 4}), 10),
        (0, 4, 0)
    );
    assert_eq!(
        rejected(json!({"expiredLogEventEndIndex": 4}), 10),
        (0, 0, 4)
    );
    let both = json!({"tooOldLogEventEndIndex": 2, "expiredLogEventEndIndex": 5, "tooNewLogEventStartIndex": 9});
    assert_eq!(rejected(both, 10), (1, 2, 3));
    let wild = json!({"tooOldLogEventEndIndex": 99, "tooNewLogEventStartIndex": 3});
    assert_eq!(rejected(wild, 10), (0, 10, 0), "never more than there are");
}

#[test]
fn what_is_older_than_14_days_is_not_sent() {
    let now = Timestamp::from_parts(2_000_000, 0);
    let day = 86_400_000;
    let oldest = 2_000_000_000 - 14 * day;
    let events = [event(oldest - 1, 1), event(oldest, 1), event(oldest + 1, 1)];
    let (old, young) = by_age(&events, now);
    assert_eq!((old, young.len()), (1, 2));
    assert_eq!(by_age(&events[..1], now).1.len(), 0);
    assert_eq!(by_age(&[], now).0, 0);
}
