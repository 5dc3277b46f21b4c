//! HTTP for operators and load balancers: health, metrics, status, and reload over a private socket.
//!
//! Takes: three closures ([`Handles`]) and where to listen ([`Config`]). Gives: `GET /healthz`,
//! `GET /metrics`, `GET /status` on TCP and on a Unix socket, and `POST /reload` on the Unix socket alone.
//! Holds: nothing that arrives over TCP changes state; `/healthz` does no I/O and takes no lock of ours,
//! so that a load balancer may ask as often as it likes; a slow client holds up neither the others nor
//! the packet path, of which this room knows nothing but numbers.

pub mod client;
mod config;
mod families;
mod hosts;
mod kernel;
mod listen;
mod render;
mod routes;
mod server;
mod snapshot;
mod view;

pub use config::{Config, Listen, Socket};
pub use kernel::UdpErrors;
pub use listen::Error;
pub use render::{Style, metrics};
pub use server::{Doors, Server};
pub use snapshot::{
    Buffer, Configuration, Counters, Files, Receiver, RefusedSource, RefusedSources, Retention,
    Rule, Sandbox, Session, ShedSource, Snapshot, Source, Worker, Writer,
};
pub use view::{MAX_RULE_SERIES, MAX_SESSION_SERIES};

/// What the room asks of the program: three closures, so that it needs to know no other room. They are
/// called from the control thread or its helpers, also at the same time.
pub struct Handles {
    /// Whether packets can be stored now, or why not. Must be cheap: no I/O, no lock that the packet
    /// path holds; it runs on the thread that answers everybody.
    pub health: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The numbers now. May take some milliseconds; runs on a helper thread.
    pub snapshot: Box<dyn Fn() -> Snapshot + Send + Sync>,
    /// Loads the configuration again: what changed, or why it was refused. May block; runs on a helper
    /// thread, one at a time.
    pub reload: Box<dyn Fn() -> Result<String, String> + Send + Sync>,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}
