//! The numbers of one moment: what `/status` shows as JSON and `/metrics` is rendered from.
//!
//! Takes: whatever the pipeline fills in. Gives: plain structs, serialised field by field under the names
//! used here. Holds: no logic; a field that does not apply (a replay has no receive buffer) keeps its
//! default. Times are seconds; ages count from now.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::flowlog::Summary;
use crate::packet::Tally;
use crate::ship::Standing;

/// The numbers of one moment.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Version of the program.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// Where packets come from.
    pub source: Source,
    /// Where every datagram ended, all sessions together and what belongs to none.
    pub ledger: Tally,
    /// Received and not yet ended: in batches, runs and queues.
    pub in_flight: i64,
    /// Datagrams that the kernel threw away before the program could read them, by place.
    pub kernel_dropped: BTreeMap<&'static str, u64>,
    /// Each mirror session by name.
    pub sessions: BTreeMap<String, Session>,
    /// Filter rules and how often each decided.
    pub rules: Vec<Rule>,
    /// The receiver threads.
    pub receivers: Vec<Receiver>,
    /// The worker threads.
    pub workers: Vec<Worker>,
    /// The writer threads.
    pub writers: Vec<Writer>,
    /// Memory for packets that wait for the disk.
    pub buffer: Buffer,
    /// Capture files.
    pub files: Files,
    /// What retention does.
    pub retention: Retention,
    /// What is shipped.
    pub ship: Standing,
    /// Each flow log by name.
    pub flow_logs: BTreeMap<String, Summary>,
    /// Senders whose datagrams were refused, because `allowed_sources` does not name them.
    pub refused_sources: RefusedSources,
    /// The mirror sources that lost most because the buffer was short, or there was no room before the workers; a few of them.
    pub shed_sources: Vec<ShedSource>,
    /// The configuration in force.
    pub config: Configuration,
    /// The walls around the process.
    pub sandbox: Sandbox,
    /// Oddities that are counted without dropping anything.
    pub counters: Counters,
}

/// The walls around the process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sandbox {
    /// `on`, `required` or `off`.
    pub mode: &'static str,
    /// Each wall, and whether it stands.
    pub parts: BTreeMap<&'static str, bool>,
}

/// Where packets come from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Source {
    /// `udp`, `packet`, `xdp` or `replay`.
    pub kind: &'static str,
    /// How it works: `recvmmsg`, `TPACKET_V3, 256 blocks of 256 KiB`.
    pub mode: String,
    /// Whether the kind was left to choose (`auto`).
    pub chosen: bool,
    /// The faster kinds that could not be had, each with its reason.
    pub refused: Vec<String>,
    /// Interfaces that it reads; none for sockets.
    pub interfaces: Vec<String>,
    /// Addresses listened on.
    pub listen: Vec<SocketAddr>,
    /// Receive buffer per socket that the kernel granted, as it counts (about twice the payload); 0 when there is none.
    pub receive_buffer_bytes: u64,
    /// Receive buffer that was asked for.
    pub receive_buffer_requested_bytes: u64,
    /// Where packet times come from: `kernel`, `hardware`, `mixed` or `capture`.
    pub timestamps: &'static str,
    /// Packets that have a time of the other clock.
    pub stray_times: u64,
    /// Packets whose outer VLAN tag the network card took off.
    pub tagged: u64,
}

/// One mirror session.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Session {
    /// Its place in the order in which sessions became known. The first 1,000 have series of their own
    /// in the metrics, so this must not change while the process lives.
    pub order: u64,
    /// VNIs seen or configured, a few of them.
    pub vnis: Vec<u32>,
    /// How many mirror sources (outer source, VNI, endpoint) were seen.
    pub peers: u64,
    /// Where its packets ended.
    pub ledger: Tally,
}

/// One filter rule.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Rule {
    /// Name of the session that it belongs to.
    pub session: String,
    /// Its rule number.
    pub rule: u32,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// `accept` or `reject`.
    pub action: &'static str,
    /// How many packets it decided.
    pub hits: u64,
}

/// One receiver thread.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Receiver {
    /// Its number.
    pub id: u16,
    /// Datagrams received.
    pub datagrams: u64,
    /// Batches that held something.
    pub batches: u64,
    /// Datagrams in the fullest batch so far: near the batch size means the receiver is behind.
    pub largest_batch: u64,
    /// Seconds since it last said it was alive.
    pub heartbeat_age_seconds: f64,
}

/// One worker thread.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Worker {
    /// Its number.
    pub id: u16,
    /// Packets taken from batches.
    pub packets: u64,
    /// Batches taken.
    pub batches: u64,
    /// Batches that wait for it now.
    pub queued_batches: u64,
    /// Batches that may wait before they are dropped.
    pub queue_limit_batches: u64,
    /// From arrival to the sink, in seconds: what half of the batches, 99 in 100, and all of them did not exceed, by steps of two.
    pub delay_seconds: [f64; 3],
    /// Seconds since it last said it was alive.
    pub heartbeat_age_seconds: f64,
}

/// One writer thread.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Writer {
    /// Its number.
    pub id: u16,
    /// Seconds since it last said it was alive.
    pub heartbeat_age_seconds: f64,
}

/// Memory for packets that wait for the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Buffer {
    /// Bytes in use.
    pub bytes: u64,
    /// The budget: `buffer` in the configuration.
    pub limit_bytes: u64,
    /// The most that was ever in use.
    pub high_water_bytes: u64,
}

/// Senders whose datagrams were refused.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct RefusedSources {
    /// How many of them are known by name; bounded.
    pub known: u64,
    /// The busiest.
    pub busiest: Vec<RefusedSource>,
    /// Refused datagrams of all others.
    pub others: u64,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RefusedSource {
    /// Its address.
    pub source: IpAddr,
    /// Its datagrams that were refused, since it is known by name.
    pub datagrams: u64,
}

/// A mirror source that lost packets to an overload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShedSource {
    /// Outer source.
    pub source: IpAddr,
    /// VNI.
    pub vni: u32,
    /// The session that its packets belong to.
    pub session: String,
    /// What was received of it.
    pub received: u64,
    /// What of that was dropped, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// Capture files.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Files {
    /// Being written now.
    pub open: u64,
    /// Published: synced and renamed to their final name.
    pub closed: u64,
    /// Files that keep their hidden name because they could not be published, or that somebody removed.
    pub lost: u64,
    /// Files of earlier runs that were made whole and published.
    pub recovered: u64,
    /// Files of earlier runs that held no capture and were set aside.
    pub aside: u64,
    /// Lines written to the manifest.
    pub manifest_lines: u64,
    /// Lines that wait because the manifest cannot be written.
    pub manifest_waiting: u64,
    /// Files that were published without a line in the manifest.
    pub unlisted: u64,
    /// Packets that came to the writer after its watermark, written out of order.
    pub late_packets: u64,
    /// Runs of the hook command that failed.
    pub hook_failures: u64,
}

/// What retention does.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Retention {
    /// Published files that it looks after; 0 while nothing is bounded.
    pub kept_files: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// What the file system of the output has left, where `min_free` is set.
    pub free_bytes: u64,
    /// Files that it deleted, by cause.
    pub deleted_files: BTreeMap<&'static str, u64>,
    /// Bytes that it deleted, by cause.
    pub deleted_bytes: BTreeMap<&'static str, u64>,
}

/// The configuration in force.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Configuration {
    /// The file it came from; none when the defaults are used.
    pub path: Option<String>,
    /// 1 for the one the program started with, one more for every reload that was taken.
    pub generation: u64,
    /// When it was loaded, RFC 3339 in UTC.
    pub loaded_at: String,
    /// The same in seconds since the epoch.
    pub loaded_at_seconds: f64,
    /// Reloads that were refused.
    pub reloads_refused: u64,
    /// Why the latest reload was refused; none when it was taken.
    pub last_reload_error: Option<String>,
}

/// Oddities that are counted without dropping anything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counters {
    /// VXLAN headers with reserved bits set (ignored, as RFC 7348 says).
    pub reserved_bits: u64,
    /// Mirrored packets that AWS had cut: fewer bytes than the inner headers tell of.
    pub truncated: u64,
    /// Mirror sources that found no room in the bounded table and share one entry.
    pub peers_overflowed: u64,
}
