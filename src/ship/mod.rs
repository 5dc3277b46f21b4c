//! Shipping: whole files from a local folder to S3 and CloudWatch Logs.
//!
//! Takes: files that were finished under their final name, offered by the sensor as links in a folder of pending ones ([`Pending`]). Gives: objects
//! and log events, made by a process of its own that follows a [`Plan`] and tells its [`Status`]. Holds: the folder is the only memory, so
//! that what is pending survives every outage and restart; a file leaves it when it has arrived, or when the budget gives it up, which is counted; an object is
//! whole or not there, and a file that is sent twice overwrites itself; nothing in the sensor waits for any of this.
//!
//! The sensor itself is in a cage that lets it connect to nobody. So it links files and reads statuses, and the other process does the talking.

#[cfg(feature = "aws")]
pub mod aws;
mod captures;
mod config;
#[cfg(feature = "aws")]
mod courier;
mod lane;
#[cfg(feature = "aws")]
mod listed;
#[cfg(feature = "aws")]
pub mod logs;
#[cfg(feature = "aws")]
pub mod objects;
mod overseer;
mod pending;
mod plan;
mod process;
mod standing;
#[cfg(feature = "aws")]
mod supervisor;

pub use captures::{CAPTURES, Captures, OfSession, Sessions};
pub use config::{Acl, CloudWatch, ConfigError, S3, Sse, Streams};
#[cfg(feature = "aws")]
pub use courier::{End, work};
pub use lane::{Arrived, Before, Care, Lane, There};
pub use overseer::{Heard, Listen, Overseer};
pub(crate) use pending::DESCRIPTION;
pub use pending::{Entry, Pending};
pub use plan::{After, Destination, Plan, Queue, QueueStatus, Status, Trouble};
pub use process::{Orders, Shipper, VERB};
pub use standing::{QueueStanding, Standing};
#[cfg(feature = "aws")]
pub use supervisor::{RENEW, supervise};
