//! `mirrortap`: a mirror target for AWS VPC Traffic Mirroring.
//!
//! Mirrored packets arrive wrapped in VXLAN (or GENEVE around VXLAN, from a Gateway Load Balancer).
//! They are received in batches, unwrapped, spread over workers by a symmetric hash of the inner
//! flow, parsed, matched to their mirror session, filtered, and written to rotating capture files.
//! Every datagram ends in exactly one counter: received = written + filtered + dropped.
//!
//! The rooms below are ranked; each may use only rooms of a lower rank (`docs/architecture.md` has
//! the table, `tests/architecture.rs` holds it). Rooms own their `Config` and their counters.

// rank 0: the kernel, the clock, the numbers
pub mod logging;
pub mod metrics;
#[expect(
    unsafe_code,
    reason = "the one door to the kernel; every block says why it is sound"
)]
pub mod sys;
pub mod time;
pub mod units;

// rank 1: what a packet is
pub mod capfile;
pub mod headers;
pub mod packet;
pub mod record;
pub mod sandbox;

// rank 2: one concern each
pub mod decap;
pub mod filter;
pub mod flow;
pub mod ship;
pub mod source;
pub mod spool;

// rank 3: joining two concerns
pub mod dispatch;
pub mod flowlog;
pub mod session;
pub mod sink;

// rank 4: the two loops
pub mod receiver;
pub mod worker;

// rank 5 and up: assembling and running the whole
pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod generator;
pub mod pipeline;
