//! What the generator wraps, the sensor unwraps: byte for byte, in order, with its times.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{assert_wrapped_round_trip, captures};

fn folder(name: &str) {
    for capture in captures(name) {
        assert_wrapped_round_trip(&capture);
    }
}

#[test]
fn every_protocol_capture_survives_wrapping_and_replay() {
    folder("protocols");
}

#[test]
fn every_l2_to_l4_capture_survives_wrapping_and_replay() {
    folder("l2l4");
}

#[test]
fn a_capture_of_tunnels_survives_inside_another_tunnel() {
    folder("vxlan");
}
