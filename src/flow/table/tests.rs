//! The flow table against a naive one, and what it promises.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::filter::Direction;
use crate::headers::FlowKey;
use crate::time::Timestamp;

const SECOND: u64 = 1_000_000_000;

fn limits(flows: u32, per_eni: u32, secs: u64) -> Limits {
    Limits {
        flows,
        per_eni,
        interval: Duration::from_secs(secs),
    }
}

fn seen(eni: u32, flow: u16, nanos: u64, bytes: u32, flags: u8) -> Seen {
    let key = FlowKey {
        src: [1; 16],
        dst: [2; 16],
        version: 4,
        proto: 6,
        sport: flow,
        dport: 443,
    };
    Seen {
        key: Key {
            flow: key,
            eni,
            direction: if flow.is_multiple_of(2) {
                Direction::Egress
            } else {
                Direction::Ingress
            },
        },
        bytes,
        flags,
        time: Timestamp::from_nanos(nanos),
        piece: None,
    }
}

/// The same rules, without any care for cost.
struct Naive {
    limits: Limits,
    open: Vec<(Timestamp, Closed)>,
    now: Timestamp,
    out: Vec<Closed>,
}

impl Naive {
    fn close(&mut self, at: usize, why: Why) {
        let (_, closed) = self.open.remove(at);
        self.out.push(Closed { why, ..closed });
    }

    fn add(&mut self, seen: &Seen) {
        let found = self.open.iter().position(|(_, c)| c.key == seen.key);
        if let Some(at) = found {
            let closed = &mut self.open[at].1;
            let (first, last) = (closed.first.min(seen.time), closed.last.max(seen.time));
            if last.since(first) < self.limits.interval {
                (closed.first, closed.last) = (first, last);
                closed.packets += 1;
                closed.bytes += u64::from(seen.bytes);
                closed.flags |= seen.flags;
                return;
            }
            self.close(at, Why::Interval);
        } else {
            let own = |c: &Closed| c.key.eni == seen.key.eni;
            let of_eni = self.open.iter().filter(|(_, c)| own(c)).count();
            if of_eni >= self.limits.per_eni as usize {
                let at = self.open.iter().position(|(_, c)| own(c)).unwrap();
                self.close(at, Why::Full);
            } else if self.open.len() >= self.limits.flows as usize {
                self.close(0, Why::Full);
            }
        }
        let closed = Closed {
            key: seen.key,
            packets: 1,
            bytes: seen.bytes.into(),
            first: seen.time,
            last: seen.time,
            flags: seen.flags,
            why: Why::End,
        };
        self.open.push((self.now, closed));
    }

    fn expire(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        let over =
            |(opened, _): &(Timestamp, Closed)| self.now.since(*opened) >= self.limits.interval;
        while self.open.first().is_some_and(over) {
            let (_, closed) = self.open.remove(0);
            self.out.push(Closed {
                why: Why::Interval,
                ..closed
            });
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Packet(Seen),
    Clock(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let packet = (0..4_u32, 0..12_u16, 0..30 * SECOND, 20..1500_u32, 0..32_u8).prop_map(
        |(eni, flow, nanos, bytes, flags)| Step::Packet(seen(eni, flow, nanos, bytes, flags)),
    );
    let clock = (0..40 * SECOND).prop_map(Step::Clock);
    proptest::collection::vec(prop_oneof![9 => packet, 1 => clock], 0..300)
}

proptest! {
    #[test]
    fn the_table_closes_what_a_naive_one_closes_in_the_same_order(
        steps in steps(), flows in 1..16_u32, per_eni in 1..8_u32, secs in 1..12_u64,
    ) {
        let limits = limits(flows, per_eni, secs);
        let mut table = Table::new(limits);
        let mut naive = Naive { limits, open: Vec::new(), now: Timestamp::default(), out: Vec::new() };
        let mut out = Vec::new();
        let mut put = 0_u64;
        for step in &steps {
            let mut keep = |closed: &Closed| out.push(*closed);
            match step {
                Step::Packet(seen) => {
                    put += 1;
                    table.add(seen, &mut keep);
                    naive.add(seen);
                }
                Step::Clock(nanos) => {
                    table.expire(Timestamp::from_nanos(*nanos), &mut keep);
                    naive.expire(Timestamp::from_nanos(*nanos));
                }
            }
            prop_assert_eq!(table.len(), naive.open.len());
            prop_assert!(table.len() <= flows as usize);
        }
        table.close(&mut |closed| out.push(*closed));
        while !naive.open.is_empty() {
            naive.close(0, Why::End);
        }
        prop_assert_eq!(&out, &naive.out);
        prop_assert!(table.is_empty());
        prop_assert_eq!(out.iter().map(|c| c.packets).sum::<u64>(), put, "conservation");
        prop_assert_eq!(table.counts().packets, put);
        prop_assert_eq!(table.counts().records, out.len() as u64);
        prop_assert!(out.iter().all(|c| c.last.since(c.first) < limits.interval));
    }
}

fn collect(run: impl FnOnce(&mut dyn FnMut(&Closed))) -> Vec<Closed> {
    let mut out = Vec::new();
    run(&mut |closed| out.push(*closed));
    out
}

#[test]
fn a_flow_that_goes_on_gives_a_record_for_each_interval() {
    let mut table = Table::new(limits(10, 10, 60));
    let out = collect(|mut out| {
        for second in 0..150 {
            table.expire(Timestamp::from_nanos(second * SECOND), &mut out);
            table.add(&seen(0, 1, second * SECOND, 100, 0), &mut out);
        }
        table.close(&mut out);
    });
    let told: Vec<_> = out
        .iter()
        .map(|c| (c.first.secs(), c.last.secs(), c.packets, c.bytes, c.why))
        .collect();
    let expected = [
        (0, 59, 60, 6000, Why::Interval),
        (60, 119, 60, 6000, Why::Interval),
        (120, 149, 30, 3000, Why::End),
    ];
    assert_eq!(told, expected);
}

#[test]
fn directions_and_interfaces_are_apart() {
    let mut table = Table::new(limits(10, 10, 60));
    let out = collect(|mut out| {
        let there = seen(0, 2, 0, 10, 2);
        let mut back = there;
        back.key.direction = Direction::Ingress;
        let mut elsewhere = there;
        elsewhere.key.eni = 1;
        for packet in [there, back, elsewhere, there] {
            table.add(&packet, &mut out);
        }
        table.close(&mut out);
    });
    let told: HashMap<_, _> = out
        .iter()
        .map(|c| ((c.key.eni, c.key.direction.name()), c.packets))
        .collect();
    let expected = [((0, "egress"), 2), ((0, "ingress"), 1), ((1, "egress"), 1)];
    assert_eq!(told, HashMap::from(expected));
}

#[test]
fn one_interface_cannot_push_out_the_flows_of_others() {
    let mut table = Table::new(limits(100, 10, 60));
    let out = collect(|mut out| {
        table.add(&seen(7, 1, 0, 10, 0), &mut out);
        for flow in 0..1000 {
            table.add(&seen(1, flow, 0, 10, 0), &mut out);
        }
    });
    assert_eq!(out.len(), 990);
    assert!(out.iter().all(|c| c.key.eni == 1 && c.why == Why::Full));
    assert_eq!(table.counts().early_of_eni, 990);
    assert_eq!(table.len(), 11);
}

#[test]
fn flows_are_due_an_interval_after_the_clock_was_set_back_at_the_latest() {
    let mut table = Table::new(limits(10, 10, 10));
    let at = |secs| Timestamp::from_parts(secs, 0);
    table.tick(at(5_000));
    table.add(&seen(0, 1, 5_000 * SECOND, 1, 0), &mut |_| {});
    table.follow_back(at(4_995));
    table.tick(at(4_995));
    table.add(&seen(0, 2, 5_000 * SECOND, 1, 0), &mut |_| {});
    table.follow_back(at(1_000));
    table.add(&seen(0, 3, 1_000 * SECOND, 1, 0), &mut |_| {});
    let mut closed = 0;
    table.expire(at(1_009), &mut |_| closed += 1);
    assert_eq!((closed, table.len()), (0, 3));
}

#[test]
fn a_clock_that_goes_back_is_not_followed() {
    let mut table = Table::new(limits(10, 10, 10));
    let mut out = Vec::new();
    let mut keep = |closed: &Closed| out.push(*closed);
    table.expire(Timestamp::from_parts(100, 0), &mut keep);
    table.add(&seen(0, 1, 100 * SECOND, 1, 0), &mut keep);
    table.expire(Timestamp::from_parts(5, 0), &mut keep);
    table.expire(Timestamp::from_parts(109, 0), &mut keep);
    assert_eq!(table.len(), 1);
    table.expire(Timestamp::from_parts(110, 0), &mut keep);
    assert_eq!(out.len(), 1);
}
