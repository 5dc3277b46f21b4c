//! The UDP destination ports that tell how a packet is wrapped.

use serde::{Deserialize, Serialize};

/// The ports of the two tunnels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ports {
    /// VXLAN; AWS documents 4789 as fixed.
    pub vxlan: u16,
    /// GENEVE; a Gateway Load Balancer always uses 6081.
    pub geneve: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            vxlan: 4789,
            geneve: 6081,
        }
    }
}
