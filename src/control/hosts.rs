//! The name that a request asks for.
//!
//! Takes: the names of the configuration. Gives: whether a `Host` is ours. Holds: a web page that has its own name resolve to this machine
//! (DNS rebinding) can't read what the sensor says, for the browser asks for the page's name. Such a name has a dot: addresses, and names
//! without one (`localhost`, those of a cluster), are always good.

use std::net::IpAddr;

/// The names that are ours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    /// Those of the configuration, and the machine's own.
    pub(crate) fn new(names: &[String]) -> Self {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let all = names.iter().map(String::as_str).chain([own.trim()]);
        let named = all.filter(|name| !name.is_empty());
        Self(named.map(str::to_ascii_lowercase).collect())
    }

    /// Whether a host, with or without a port, is ours.
    pub(crate) fn has(&self, host: &str) -> bool {
        let name = without_port(host);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_plain =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        is_plain
            || bare.parse::<IpAddr>().is_ok()
            || self
                .0
                .contains(&name.trim_end_matches('.').to_ascii_lowercase())
    }
}

/// `name:port`, `[address]:port`, or either without the port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (name.ends_with(']') || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_ours_and_no_other() {
        let hosts = Hosts::new(&["Sensor.example".to_owned()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:9477",
            "[::1]:9477",
            "[::1]",
            "::1",
            "localhost",
            "LOCALHOST:80",
            "mirrortap:9477",
            "sensor.example:9477",
            "sensor.example.",
        ] {
            assert!(hosts.has(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9477",
            "sensor.example.evil",
            "127.0.0.1.evil.example",
            ":80",
            "localhost:80:90",
        ] {
            assert!(!hosts.has(host), "{host}");
        }
    }
}
