//! Traffic as AWS VPC Traffic Mirroring would send it: the other end of the wire.
//!
//! Takes: a capture file or a recipe for synthetic flows, a target, and VNIs ([`Options`]). Gives: outer
//! packets on the network or in a pcap file ([`Generator`]), and a [`Report`] of what was sent. Holds: the
//! same options make the same packets, whatever the rate; a packet counts as sent when the kernel
//! took it, and every packet that it did not take is counted by reason.
//!
//! [`Wrapper`] is the wrapping alone, [`wrap_capture`] wraps one file into another, [`sequence`] finds in
//! an inner frame the number that synthetic traffic carries.

mod error;
mod flows;
mod frames;
mod link;
mod mix;
mod options;
mod outer;
mod output;
mod pace;
mod payloads;
pub mod port;
mod report;
mod run;
pub mod sequence;
mod template;
mod traffic;
mod vni;
mod window;
mod wrap;

pub use error::Error;
pub use options::{Destination, Input, Options, Pace, Size};
pub use outer::Outer;
pub use payloads::{Payloads, payloads};
pub use report::{Counters, Failure, Report};
pub use run::{Generator, wrap_capture};
pub use vni::{BadVni, VniSet};
pub use wrap::{Gwlb, Shape, Wrapper};
