//! The numbers of a pipeline in the shape that control shows.

use std::sync::Arc;
use std::time::Duration;

use crate::control;
use crate::packet::Peer;
use crate::pipeline::{Pipeline, Report};
use crate::session::MAX_PEERS;
use crate::time;

/// How many VNIs of a session are named.
const VNIS: usize = 8;
