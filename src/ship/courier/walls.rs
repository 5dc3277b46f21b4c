//! What the worker still needs once its cage is closed.
//!
//! Takes: the orders, and the environment. Gives: [`Needs`]. Holds: only the queues are written to; what is read is what names hosts, what certificates are checked with,
//! and where credentials lie; a file that others replace by a rename is read with its folder where that holds little else.

use std::path::{Path, PathBuf};

use crate::sandbox::{Calls, Enforced, Mode, Needs, Part};
use crate::ship::aws::Settings;
use crate::ship::process::Orders;
use crate::ship::{Destination, Queue};

/// How hosts are found, and whom to trust.
const SYSTEM: [&str; 12] = [
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/localtime",
    "/run/systemd/resolve",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/lib/ssl",
    "/usr/share/pki",
];
/// Files and folders that the environment names, beside those of AWS.
const NAMED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What the worker needs.
pub(super) fn needs(orders: &Orders) -> Needs {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut read: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    read.extend(NAMED.iter().filter_map(|name| named(name)));
    read.extend(std::env::home_dir().map(|home| home.join(".aws")));
    let queues = orders.plan.queues.iter();
    for settings in queues.clone().map(settings) {
        read.extend(settings.files());
        // tokens are replaced while they are used, links and all: their folder is read
        let tokens = settings.token_files();
        let folders = tokens.iter().filter_map(|file| file.parent());
        // a wall that is open at the root is none
        let folders = folders.filter(|folder| folder.parent().is_some());
        read.extend(folders.map(Path::to_owned));
        read.extend(tokens);
    }
    read.sort_unstable();
    read.dedup();
    Needs {
        write: queues.map(|queue| queue.folder.clone()).collect(),
        remove: Vec::new(),
        read,
        source: Calls::Connect,
    }
}

/// How a queue finds its credentials.
fn settings(queue: &Queue) -> Settings {
    let (profile, region) = match &queue.destination {
        Destination::S3(s3) => (&s3.profile, &s3.region),
        Destination::CloudWatch { group, .. } => (&group.profile, &group.region),
    };
    Settings::new(profile.as_deref(), region.as_deref())
}

/// Says which walls are missing; that they stand is told by the sensor, of itself.
pub(super) fn tell(enforced: &Enforced) {
    for (part, why) in enforced.missing() {
        tracing::warn!(
            part = part.name(),
            why,
            "A part of the sandbox of the process that ships cannot be had."
        );
    }
    let standing = Part::ALL.into_iter().filter(|part| enforced.has(*part));
    let parts: Vec<_> = standing.map(Part::name).collect();
    if enforced.mode() != Mode::Off {
        tracing::debug!(
            parts = parts.join(","),
            "The sandbox of the process that ships is closed."
        );
    }
}
