//! The manifest: what became of every capture file, in a chain that shows when somebody changed it.
//!
//! Takes: [`Entry`]s, through a [`Teller`]. Gives: lines of `manifest.jsonl` in the output folder, and the check of them
//! ([`audit()`]). Holds: one thread alone writes lines, in the order in which they were told; each line holds the hash of the one
//! before it, also over restarts; what is told as written is on the disk; no line is ever changed.
//! `docs/manifest.md` tells the format.

mod audit;
mod config;
mod digest;
mod entry;
mod files;
mod key;
mod line;
mod lines;
mod offline;
mod past;
mod scribe;
mod spans;
mod teller;
mod writer;

pub use audit::{Finding, Options, Summary, audit};
pub use config::{Config, KeyError, Prepared};
pub use digest::{Digest, NoDigest, digest_bytes, digest_file, digest_while};
pub use entry::{Aside, Deleted, Entry, Listed, Mend, Run, Shipped, Stopped};
pub use files::compression_of;
pub use key::{PublicKey, Signer};
pub use lines::lines_of;
pub use offline::{Offline, OfflineError, name};
pub use scribe::{Scribe, Setup};
pub use teller::{Counters, FileId, Letter, Outcome, Receipt, Teller};
pub use writer::{Error, Opened, Torn, Writer};

/// The manifest's name in the output folder.
pub const FILE: &str = "manifest.jsonl";

/// What stands in the first line of a chain for the hash of the line before it.
pub const NOTHING: Digest = Digest::ZERO;
