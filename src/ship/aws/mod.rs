//! Requests to AWS: who asks, where, and what the answer means.
//!
//! The credentials come from where AWS's own tools take them, in their order: the environment, a profile, a web identity, the container's role, the
//! instance's role. S3's requests are made by `object_store`, which asks [`Credentials`] for them; others are made by [`Client`], signed by the same crate. No request is
//! repeated here: whoever ships knows when to try again, and [`Failure`] says of what kind the trouble is.

mod answer;
mod chain;
mod client;
mod container;
mod credentials;
mod environment;
mod expiry;
mod failure;
mod http;
mod instance;
mod place;
mod profile;
mod region;
mod role;

pub use client::Client;
pub use credentials::Credentials;
pub use environment::{Environment, Settings};
pub use failure::{Failure, Kind};
pub use http::install_tls;
pub(in crate::ship) use http::{chain as told, patient, reading};
pub(in crate::ship) use place::Place;
pub use region::{region, suffix};
