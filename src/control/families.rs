//! Every metric there is: its name, what it means, and where its number comes from.
//!
//! Takes: a [`View`]. Gives: [`FAMILIES`], from which `/metrics` is rendered and with which docs/metrics.md is
//! compared. Holds: names are `mirrortap_<room>_<noun>_<unit>` (and `_total` for counters); labels come from
//! closed lists, but for the session's name and the rule's number, which are bounded, and the source's mode, of which there is one.

use crate::control::kernel::Family as UdpFamily;
use crate::control::snapshot::Worker;
use crate::control::view::{Sample, Value, View, labelled, one};
use crate::flowlog::Summary;
use crate::packet::{DropReason, FilterReason};
use crate::ship::QueueStanding;

/// What a number may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Only grows; printed with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Always 1; its labels are the message. Printed with `_info`.
    Info,
}

/// One metric family.
#[derive(Debug)]
pub(crate) struct Family {
    /// Its name without `mirrortap_` and without the suffix of its kind.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) read: Read,
}

type Read = for<'a> fn(&'a View<'a>) -> Vec<Sample<'a>>;

const fn counter(name: &'static str, help: &'static str, read: Read) -> Family {
    let kind = Kind::Counter;
    Family {
        name,
        help,
        kind,
        read,
    }
}

const fn gauge(name: &'static str, help: &'static str, read: Read) -> Family {
    let kind = Kind::Gauge;
    Family {
        name,
        help,
        kind,
        read,
    }
}

const fn info(name: &'static str, help: &'static str, read: Read) -> Family {
    let kind = Kind::Info;
    Family {
        name,
        help,
        kind,
        read,
    }
}

/// Every metric there is, in the order of the data path. Each line is a name, a meaning and a number.
#[rustfmt::skip]
pub(crate) const FAMILIES: &[Family] = &[
    info("daemon_build", "Version of the program.", |v| {
        vec![labelled([("version", v.snapshot.version.into())], 1_u64)]
    }),
    gauge("daemon_uptime_seconds", "Seconds since the start.", |v| one(v.snapshot.uptime_seconds)),
    gauge("daemon_healthy", "1 while packets can be stored, else 0; what /healthz says.", |v| one(u64::from(v.healthy))),
    gauge("sandbox_enforced", "1 where a wall of the sandbox stands, else 0.", |v| {
        let parts = v.snapshot.sandbox.parts.iter();
        parts.map(|(part, stands)| labelled([("part", (*part).into())], u64::from(*stands))).collect()
    }),

    // source: before the program
    info("source_kind", "Where packets come from, how, by which clock they are stamped, and whether `auto` chose it.", source_kind),
    gauge("source_receive_buffer_bytes", "Receive buffer per socket that the kernel granted.", |v| {
        one(v.snapshot.source.receive_buffer_bytes)
    }),
    gauge("source_receive_buffer_requested_bytes", "Receive buffer per socket that was asked for.", |v| {
        one(v.snapshot.source.receive_buffer_requested_bytes)
    }),
    counter("source_kernel_dropped_datagrams", "Datagrams the kernel dropped before the program could read them.", |v| {
        let places = v.snapshot.kernel_dropped.iter();
        places.map(|(place, n)| labelled([("place", (*place).into())], *n)).collect()
    }),
    counter("source_stray_times_packets", "Packets whose time comes from the other clock than the source's.", |v| {
        one(v.snapshot.source.stray_times)
    }),
    counter("source_tagged_packets", "Packets whose outer VLAN tag the network card took off.", |v| one(v.snapshot.source.tagged)),
    counter("source_namespace_udp_errors", "UDP errors of all sockets of the network namespace together.", udp_errors),

    // receiver
    counter("receiver_received_datagrams", "Datagrams received, by receiver thread.", |v| {
        per_thread(&v.snapshot.receivers, "receiver", |r| (r.id, r.datagrams.into()))
    }),
    counter("receiver_batches", "Batches that held something, by receiver thread.", |v| {
        per_thread(&v.snapshot.receivers, "receiver", |r| (r.id, r.batches.into()))
    }),
    gauge("receiver_largest_batch_datagrams", "Datagrams in the fullest batch so far, by receiver thread.", |v| {
        per_thread(&v.snapshot.receivers, "receiver", |r| (r.id, r.largest_batch.into()))
    }),
    gauge("receiver_heartbeat_age_seconds", "Seconds since the thread last said it was alive.", |v| {
        per_thread(&v.snapshot.receivers, "receiver", |r| (r.id, r.heartbeat_age_seconds.into()))
    }),

    gauge("receiver_refused_sources", "Senders outside allowed_sources that the bounded table knows by name.", |v| {
        one(v.snapshot.refused_sources.known)
    }),

    // decap
    counter("decap_reserved_bits_packets", "VXLAN headers with reserved bits set; ignored.", |v| {
        one(v.snapshot.counters.reserved_bits)
    }),

    // worker
    counter("worker_packets", "Packets taken from batches, by worker thread.", |v| {
        per_thread(&v.snapshot.workers, "worker", |w| (w.id, w.packets.into()))
    }),
    counter("worker_batches", "Batches taken, by worker thread.", |v| {
        per_thread(&v.snapshot.workers, "worker", |w| (w.id, w.batches.into()))
    }),
    gauge("worker_queued_batches", "Batches that wait for the worker thread now.", |v| {
        per_thread(&v.snapshot.workers, "worker", |w| (w.id, w.queued_batches.into()))
    }),
    gauge("worker_queue_limit_batches", "Batches that may wait for the worker thread.", |v| {
        per_thread(&v.snapshot.workers, "worker", |w| (w.id, w.queue_limit_batches.into()))
    }),
    gauge("worker_heartbeat_age_seconds", "Seconds since the thread last said it was alive.", |v| {
        per_thread(&v.snapshot.workers, "worker", |w| (w.id, w.heartbeat_age_seconds.into()))
    }),
    gauge("worker_delay_seconds", "Time from arrival to the sink that a share of the batches did not exceed, by steps of two.", worker_delays),
    counter("headers_truncated_packets", "Mirrored packets that had been cut before they arrived.", |v| {
        one(v.snapshot.counters.truncated)
    }),

    // session and filter
    gauge("session_sessions", "Mirror sessions known.", |v| one(v.snapshot.sessions.len() as u64)),
    gauge("session_peers", "Mirror sources (outer source, VNI, endpoint) known.", |v| {
        one(v.snapshot.sessions.values().map(|s| s.peers).sum::<u64>())
    }),
    counter("session_overflowed_peers", "Mirror sources that found no room in the bounded table.", |v| {
        one(v.snapshot.counters.peers_overflowed)
    }),
    counter("session_received_datagrams", "Datagrams of the session.", |v| v.per_session(|s| s.received)),
    counter("session_received_bytes", "UDP payload bytes of the session.", |v| v.per_session(|s| s.received_bytes)),
    counter("session_written_packets", "Packets of the session in capture files.", |v| v.per_session(|s| s.written)),
    counter("session_written_bytes", "Captured bytes of the session in capture files.", |v| v.per_session(|s| s.written_bytes)),
    counter("session_filtered_packets", "Packets of the session left out on purpose.", |v| v.per_session(|s| s.filtered)),
    counter("session_dropped_packets", "Packets of the session lost or refused.", |v| v.per_session(|s| s.dropped)),
    counter("filter_rule_hits_packets", "Packets that the rule decided.", |v| v.per_rule()),

    // packet: the ledger
    counter("packet_received_datagrams", "Datagrams handed to the program.", |v| one(v.snapshot.ledger.received)),
    counter("packet_received_bytes", "UDP payload bytes handed to the program.", |v| one(v.snapshot.ledger.bytes_received)),
    counter("packet_written_packets", "Packets in capture files.", |v| one(v.snapshot.ledger.written)),
    counter("packet_written_bytes", "Captured bytes in capture files (the sum of caplen).", |v| one(v.snapshot.ledger.bytes_written)),
    counter("packet_filtered_packets", "Packets left out on purpose, by reason.", |v| {
        let reasons = FilterReason::ALL.iter().zip(v.snapshot.ledger.filtered);
        reasons.map(|(reason, n)| labelled([("reason", reason.name().into())], n)).collect()
    }),
    counter("packet_dropped_packets", "Datagrams lost or refused, by reason.", |v| {
        let reasons = DropReason::ALL.iter().zip(v.snapshot.ledger.dropped);
        reasons.map(|(reason, n)| labelled([("reason", reason.name().into())], n)).collect()
    }),
    gauge("packet_in_flight_packets", "Received and not yet written, filtered or dropped.", |v| one(v.snapshot.in_flight)),

    // sink and spool
    gauge("sink_buffer_bytes", "Memory in use by packets that wait for the disk.", |v| one(v.snapshot.buffer.bytes)),
    gauge("sink_buffer_limit_bytes", "Memory that packets may use while they wait for the disk.", |v| one(v.snapshot.buffer.limit_bytes)),
    gauge("sink_buffer_high_water_bytes", "The most memory that was ever in use so.", |v| one(v.snapshot.buffer.high_water_bytes)),
    gauge("sink_writer_heartbeat_age_seconds", "Seconds since the thread last said it was alive.", |v| {
        per_thread(&v.snapshot.writers, "writer", |w| (w.id, w.heartbeat_age_seconds.into()))
    }),
    counter("sink_late_packets", "Packets written out of order because they came after their watermark.", |v| {
        one(v.snapshot.files.late_packets)
    }),
    gauge("spool_open_files", "Capture files being written.", |v| one(v.snapshot.files.open)),
    counter("spool_closed_files", "Capture files published.", |v| one(v.snapshot.files.closed)),
    counter("spool_lost_files", "Capture files that could not be published, or that somebody removed.", |v| one(v.snapshot.files.lost)),
    counter("spool_recovered_files", "Capture files that an earlier run left, made whole and published.", |v| one(v.snapshot.files.recovered)),
    counter("spool_aside_files", "Files that an earlier run left and that hold no capture, set aside.", |v| one(v.snapshot.files.aside)),
    counter("spool_manifest_lines", "Lines written to the manifest.", |v| one(v.snapshot.files.manifest_lines)),
    gauge("spool_manifest_waiting_lines", "Lines that wait because the manifest cannot be written.", |v| one(v.snapshot.files.manifest_waiting)),
    counter("spool_unlisted_files", "Capture files published without a line in the manifest.", |v| one(v.snapshot.files.unlisted)),
    counter("spool_hook_failures", "Runs of the hook command that failed.", |v| one(v.snapshot.files.hook_failures)),
    gauge("spool_kept_files", "Published files that retention looks after.", |v| one(v.snapshot.retention.kept_files)),
    gauge("spool_kept_bytes", "Their bytes.", |v| one(v.snapshot.retention.kept_bytes)),
    gauge("spool_free_bytes", "What the file system of the output has left, where min_free is set.", |v| {
        one(v.snapshot.retention.free_bytes)
    }),
    counter("spool_deleted_files", "Files that retention deleted, by cause.", |v| by_cause(&v.snapshot.retention.deleted_files)),
    counter("spool_deleted_bytes", "Bytes that retention deleted, by cause.", |v| by_cause(&v.snapshot.retention.deleted_bytes)),

    // flowlog
    counter("flow_log_packets", "Packets of its interfaces that the flow log was shown.", |v| per_flow_log(v, |l| l.packets)),
    counter("flow_log_left_out_packets", "Of these, those that its filter or resolver_dns left out.", |v| per_flow_log(v, |l| l.left_out)),
    counter("flow_log_not_ip_packets", "Of these, those without IP.", |v| per_flow_log(v, |l| l.not_ip)),
    counter("flow_log_recorded_packets", "Packets in the flow log's records.", |v| per_flow_log(v, |l| l.recorded)),
    counter("flow_log_lost_packets", "Packets whose records were lost on their way to the thread that writes.", |v| per_flow_log(v, |l| l.packets_lost)),
    gauge("flow_log_open_flows", "Flows that are being counted.", |v| per_flow_log(v, |l| l.open)),
    counter("flow_log_records", "Records given to the thread that writes.", |v| per_flow_log(v, |l| l.records)),
    counter("flow_log_lost_records", "Records lost: no room on the way, a thread, or a file that could not be written.", |v| {
        per_flow_log(v, |l| l.records_lost)
    }),
    counter("flow_log_early_records", "Records closed before their interval was over, for want of room in the table.", |v| {
        per_flow_log(v, |l| l.early + l.early_of_interface)
    }),
    counter("flow_log_files", "Files of records published.", |v| per_flow_log(v, |l| l.files)),
    counter("flow_log_skipdata", "Intervals of interfaces told as SKIPDATA.", |v| per_flow_log(v, |l| l.skipdata)),
    counter("flow_log_nodata", "Intervals of interfaces told as NODATA.", |v| per_flow_log(v, |l| l.nodata)),
    gauge("flow_log_in_trouble", "1 while records can't be written, else 0.", |v| {
        per_flow_log(v, |l| u64::from(l.trouble.is_some()))
    }),

    // ship
    gauge("ship_pending_files", "Files that wait to be shipped, by queue.", |v| per_queue(v, |q| q.pending_files.into())),
    gauge("ship_pending_bytes", "Their bytes.", |v| per_queue(v, |q| q.pending_bytes.into())),
    gauge("ship_oldest_pending_seconds", "How long ago the oldest of them was written.", |v| {
        per_queue(v, |q| q.oldest_pending_seconds.into())
    }),
    counter("ship_shipped_files", "Files that have arrived.", |v| per_queue(v, |q| q.status.shipped_files.into())),
    counter("ship_shipped_bytes", "Their bytes.", |v| per_queue(v, |q| q.status.shipped_bytes.into())),
    counter("ship_retried_requests", "Requests that failed and were made again.", |v| per_queue(v, |q| q.status.retries.into())),
    counter("ship_given_up_files", "Files given up because too much waited, or the disk needed the room.", |v| {
        per_queue(v, |q| q.given_up_files.into())
    }),
    counter("ship_given_up_bytes", "Their bytes.", |v| per_queue(v, |q| q.given_up_bytes.into())),
    counter("ship_refused_files", "Files that the destination can never take, moved aside.", |v| {
        per_queue(v, |q| q.status.refused_files.into())
    }),
    counter("ship_sent_events", "Events that CloudWatch Logs has taken.", |v| per_queue(v, |q| q.status.events.into())),
    counter("ship_refused_events", "Events that CloudWatch Logs has refused, by reason.", refused_events),
    gauge("ship_in_trouble", "1 while nothing arrives because something stands in the way, else 0.", |v| {
        per_queue(v, |q| u64::from(q.deliver_logs_error_message.is_some()).into())
    }),

    // config
    gauge("config_generation", "1 at the start, one more for every reload that was taken.", |v| one(v.snapshot.config.generation)),
    gauge("config_loaded_timestamp_seconds", "When the configuration in force was loaded.", |v| one(v.snapshot.config.loaded_at_seconds)),
    counter("config_refused_reloads", "Reloads that were refused.", |v| one(v.snapshot.config.reloads_refused)),
    gauge("config_last_reload_refused", "1 when the latest reload was refused, else 0.", |v| {
        one(u64::from(v.snapshot.config.last_reload_error.is_some()))
    }),
];

fn source_kind<'a>(view: &'a View<'a>) -> Vec<Sample<'a>> {
    let source = &view.snapshot.source;
    let chosen = if source.chosen { "auto" } else { "configured" };
    let labels = [
        ("kind", source.kind.into()),
        ("mode", source.mode.as_str().into()),
        ("timestamps", source.timestamps.into()),
        ("chosen", chosen.into()),
    ];
    vec![labelled(labels, 1_u64)]
}

fn worker_delays<'a>(view: &'a View<'a>) -> Vec<Sample<'a>> {
    let of_worker = |w: &Worker| {
        let each = ["0.5", "0.99", "1"].into_iter().zip(w.delay_seconds);
        let id = w.id.to_string();
        let told = each.map(move |(share, delay)| {
            let labels = [("worker", id.clone().into()), ("quantile", share.into())];
            labelled(labels, delay)
        });
        told.collect::<Vec<_>>()
    };
    view.snapshot.workers.iter().flat_map(of_worker).collect()
}

fn per_thread<'a, T>(
    threads: &[T],
    label: &'static str,
    number: fn(&T) -> (u16, Value),
) -> Vec<Sample<'a>> {
    let numbers = threads.iter().map(number);
    numbers
        .map(|(id, value)| labelled([(label, id.to_string().into())], value))
        .collect()
}

/// One sample for each queue.
fn per_queue<'a>(view: &'a View<'a>, number: fn(&QueueStanding) -> Value) -> Vec<Sample<'a>> {
    let queues = view.snapshot.ship.queues.iter();
    queues
        .map(|(name, queue)| labelled([("queue", name.as_str().into())], number(queue)))
        .collect()
}

fn refused_events<'a>(view: &'a View<'a>) -> Vec<Sample<'a>> {
    let queues = view.snapshot.ship.queues.iter();
    let of_queue = |(name, queue): (&'a String, &'a QueueStanding)| {
        let reasons = queue.status.refused_events.iter();
        let sample = move |(reason, n): (&'a String, &'a u64)| {
            let labels = [
                ("queue", name.as_str().into()),
                ("reason", reason.as_str().into()),
            ];
            labelled(labels, *n)
        };
        reasons.map(sample)
    };
    queues.flat_map(of_queue).collect()
}

/// One sample for each flow log.
fn per_flow_log<'a>(view: &'a View<'a>, number: fn(&Summary) -> u64) -> Vec<Sample<'a>> {
    let logs = view.snapshot.flow_logs.iter();
    let sample = |(name, log): (&'a String, &Summary)| {
        labelled([("flow_log", name.as_str().into())], number(log))
    };
    logs.map(sample).collect()
}

/// One sample for each cause, deleted or not.
fn by_cause<'a>(numbers: &std::collections::BTreeMap<&'static str, u64>) -> Vec<Sample<'a>> {
    let causes = ["size", "age", "free", "shipped"].into_iter();
    let number = |cause| numbers.get(cause).copied().unwrap_or(0);
    causes
        .map(|cause| labelled([("cause", cause.into())], number(cause)))
        .collect()
}

fn udp_errors<'a>(view: &'a View<'a>) -> Vec<Sample<'a>> {
    let families = [("ipv4", view.udp.ipv4), ("ipv6", view.udp.ipv6)];
    let samples = families
        .into_iter()
        .flat_map(|(family, errors)| udp_family(family, errors));
    samples.collect()
}

fn udp_family(family: &'static str, errors: UdpFamily) -> [Sample<'static>; 3] {
    [
        ("in_errors", errors.in_errors),
        ("rcvbuf_errors", errors.rcvbuf_errors),
        ("in_csum_errors", errors.in_csum_errors),
    ]
    .map(|(error, n)| labelled([("family", family.into()), ("error", error.into())], n))
}
