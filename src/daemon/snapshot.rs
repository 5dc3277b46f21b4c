//! The numbers of a pipeline in the shape that control shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::control::{
    Buffer, Counters, Files, Receiver, RefusedSource, RefusedSources, Retention, Rule, Session,
    ShedSource, Snapshot, Source, Worker, Writer,
};
use crate::packet::{DropReason, Peer};
use crate::pipeline::{Pipeline, Report};
use crate::time;

/// How many VNIs of a session are named.
const VNIS: usize = 8;

/// How many sources are named that were refused, and that lost packets to an overload.
const NAMED: usize = 32;

/// What an overload is counted as.
const SHEDDING: [DropReason; 4] = [
    DropReason::OverShare,
    DropReason::BufferFull,
    DropReason::QueueFull,
    DropReason::PoolEmpty,
];

/// Reads everything once. The configuration and the uptime are the sensor's to add.
pub(super) fn of(pipeline: &Pipeline) -> Snapshot {
    let report = Report::of(pipeline);
    let now = time::monotonic().nanos();
    Snapshot {
        version: env!("CARGO_PKG_VERSION"),
        source: source(pipeline),
        in_flight: report.total.in_flight(),
        kernel_dropped: report.kernel_dropped,
        ledger: report.total,
        flow_logs: report.flow_logs,
        sessions: sessions(pipeline),
        rules: rules(pipeline),
        receivers: receivers(pipeline, now),
        workers: workers(pipeline, now),
        writers: writers(pipeline, now),
        buffer: buffer(pipeline),
        files: files(pipeline, report.files_total),
        retention: retention(pipeline),
        counters: counters(pipeline),
        refused_sources: refused_sources(pipeline),
        shed_sources: shed_sources(pipeline),
        ..Snapshot::default()
    }
}

fn source(pipeline: &Pipeline) -> Source {
    let Some(first) = pipeline.sources.first() else {
        return Source {
            kind: "replay",
            timestamps: "capture",
            ..Source::default()
        };
    };
    let facts = || pipeline.sources.iter();
    let mut listen: Vec<_> = facts().flat_map(|s| s.listen.clone()).collect();
    listen.sort_unstable();
    listen.dedup();
    let mut interfaces: Vec<_> = facts().filter_map(|s| s.interface.clone()).collect();
    interfaces.dedup();
    // interfaces differ in what their network cards can do
    let timestamps = match facts().all(|s| s.clock == first.clock) {
        true => first.clock.name(),
        false => "mixed",
    };
    let refused = pipeline.choice.refused.iter();
    Source {
        kind: first.kind.name(),
        mode: first.mode.clone(),
        chosen: pipeline.choice.is_auto,
        refused: refused
            .map(|(kind, why)| format!("{}: {why}", kind.name()))
            .collect(),
        interfaces,
        listen,
        receive_buffer_bytes: first.buffer_granted,
        receive_buffer_requested_bytes: first.buffer_asked,
        timestamps,
        stray_times: facts().map(|s| s.stray_times.value()).sum(),
        tagged: facts().map(|s| s.tagged.value()).sum(),
    }
}

fn sessions(pipeline: &Pipeline) -> BTreeMap<String, Session> {
    let mut all: BTreeMap<String, Session> = pipeline
        .table
        .ledgers()
        .into_iter()
        .map(|(name, order, ledger)| {
            (
                name.to_string(),
                Session {
                    order,
                    ledger,
                    ..Session::default()
                },
            )
        })
        .collect();
    for peer in pipeline.table.peers() {
        let Some(session) = all.get_mut(&*peer.session) else {
            continue;
        };
        session.peers += 1;
        let vni = peer.vni.value();
        if session.vnis.len() < VNIS && !session.vnis.contains(&vni) {
            session.vnis.push(vni);
        }
    }
    all
}

fn rules(pipeline: &Pipeline) -> Vec<Rule> {
    let snapshot = pipeline.table.snapshot();
    let of_session = |session: &Arc<crate::session::Session>| {
        let name = session.name.to_string();
        let rules = session.filter.rules().iter().zip(&session.rule_hits);
        let told = rules.map(|(rule, hits)| Rule {
            session: name.clone(),
            rule: rule.number,
            direction: rule.direction.name(),
            action: rule.action.name(),
            hits: hits.value(),
        });
        told.collect::<Vec<_>>()
    };
    snapshot.sessions().flat_map(of_session).collect()
}

fn seconds(age: Duration) -> f64 {
    age.as_secs_f64()
}

fn receivers(pipeline: &Pipeline, now: u64) -> Vec<Receiver> {
    let each = (0_u16..).zip(&pipeline.receivers);
    let told = each.map(|(id, stage)| Receiver {
        id,
        datagrams: stage.counters.received.value(),
        batches: stage.counters.batches.value(),
        largest_batch: stage.counters.largest_batch.value(),
        heartbeat_age_seconds: seconds(stage.counters.heartbeat.age(now)),
    });
    told.collect()
}

fn workers(pipeline: &Pipeline, now: u64) -> Vec<Worker> {
    let each = (0_u16..).zip(&pipeline.workers);
    let told = each.map(|(id, stage)| {
        // none where the receiver does the work itself
        let queue = pipeline.queues.get(usize::from(id));
        Worker {
            id,
            packets: stage.counters.packets.value(),
            batches: stage.counters.batches.value(),
            queued_batches: queue.map_or(0, |q| q.len() as u64),
            queue_limit_batches: queue.map_or(0, |q| q.capacity().unwrap_or(0) as u64),
            delay_seconds: [0.5, 0.99, 1.0]
                .map(|q| stage.counters.delays.quantile(q).as_secs_f64()),
            heartbeat_age_seconds: seconds(stage.counters.heartbeat.age(now)),
        }
    });
    told.collect()
}

fn writers(pipeline: &Pipeline, now: u64) -> Vec<Writer> {
    let each = (0_u16..).zip(&pipeline.capture.heartbeats);
    let told = each.map(|(id, heartbeat)| Writer {
        id,
        heartbeat_age_seconds: seconds(heartbeat.age(now)),
    });
    told.collect()
}

fn buffer(pipeline: &Pipeline) -> Buffer {
    let stats = &pipeline.capture;
    Buffer {
        bytes: stats.buffered(),
        limit_bytes: stats.buffer_limit(),
        high_water_bytes: stats.buffered_high(),
    }
}

fn files(pipeline: &Pipeline, closed: u64) -> Files {
    let stats = &pipeline.capture;
    Files {
        open: stats.open_files.value(),
        closed,
        lost: stats.files_lost.value(),
        recovered: stats.files_recovered.value(),
        aside: stats.files_aside.value(),
        manifest_lines: stats.manifest.lines.value(),
        manifest_waiting: stats.manifest.waiting.value(),
        unlisted: stats.manifest.unlisted.value(),
        late_packets: stats.late.value(),
        hook_failures: stats.hooks_failed.value() + stats.hooks_skipped.value(),
    }
}

fn retention(pipeline: &Pipeline) -> Retention {
    let stats = &pipeline.capture;
    let deleted = stats.deleted.read();
    Retention {
        kept_files: stats.kept_files.value(),
        kept_bytes: stats.kept_bytes.value(),
        free_bytes: stats.free_bytes.value(),
        deleted_files: deleted
            .map(|(cause, files, _)| (cause.name(), files))
            .into(),
        deleted_bytes: deleted
            .map(|(cause, _, bytes)| (cause.name(), bytes))
            .into(),
    }
}

fn refused_sources(pipeline: &Pipeline) -> RefusedSources {
    let mut all = pipeline.strangers(usize::MAX);
    let known = all.sources.len() as u64;
    let rest = all.sources.split_off(NAMED.min(all.sources.len()));
    let others = all.others + rest.iter().map(|(_, n)| n).sum::<u64>();
    let one = |(source, datagrams)| RefusedSource { source, datagrams };
    RefusedSources {
        known,
        busiest: all.sources.into_iter().map(one).collect(),
        others,
    }
}

fn shed_sources(pipeline: &Pipeline) -> Vec<ShedSource> {
    let mut all = Vec::new();
    for peer in pipeline.table.peers() {
        let tally = peer.ledger.read();
        let lost = SHEDDING.map(|reason| (reason.name(), tally.dropped[reason.index()]));
        let total: u64 = lost.iter().map(|(_, n)| n).sum();
        if total > 0 {
            all.push((total, tally.received, lost, peer));
        }
    }
    all.sort_by_key(|(total, ..)| std::cmp::Reverse(*total));
    all.truncate(NAMED);
    let one = |(_, received, lost, peer): (u64, u64, [(&'static str, u64); 4], Arc<Peer>)| {
        let lost = lost.into_iter().filter(|(_, n)| *n > 0);
        ShedSource {
            source: peer.source,
            vni: peer.vni.value(),
            session: peer.session.to_string(),
            received,
            dropped: lost.collect(),
        }
    };
    all.into_iter().map(one).collect()
}

fn counters(pipeline: &Pipeline) -> Counters {
    let receivers = || pipeline.receivers.iter().map(|r| &r.counters);
    Counters {
        reserved_bits: receivers().map(|c| c.decap.reserved_bits.value()).sum(),
        truncated: pipeline
            .workers
            .iter()
            .map(|w| w.counters.truncated.value())
            .sum(),
        peers_overflowed: pipeline.table.overflowed.value(),
    }
}
