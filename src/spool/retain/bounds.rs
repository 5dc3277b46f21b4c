//! The bounds, as they are written in the configuration and as they are used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{Interval, Share, Size};

/// The `[retention]` table. Zero is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most bytes of all capture files of the output.
    pub max_size: Size,
    /// Files that were last written longer ago are deleted.
    pub max_age: Interval,
    /// What the file system of the output has left at least: a size, or a percentage of it.
    pub min_free: Share,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_size: Size::default(),
            max_age: Interval::default(),
            min_free: Share::Percent(0),
        }
    }
}

/// The `[session.retention]` table: beside the bounds of the output, not instead of them. Zero, and what is
/// left out, is no bound.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// Most bytes of the session's capture files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// Files of the session that were last written longer ago are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Interval>,
}

impl SessionConfig {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.limits().is_empty()
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        limits(self.max_size, self.max_age)
    }
}

/// Limits of some files together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Most bytes.
    pub max_size: Option<u64>,
    /// Longest time since the last write.
    pub max_age: Option<Duration>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn limits(size: Option<Size>, age: Option<Interval>) -> Limits {
    Limits {
        max_size: size.map(Size::bytes).filter(|n| *n > 0),
        max_age: age.map(Interval::duration).filter(|d| !d.is_zero()),
    }
}

/// All bounds of an output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// Of all its files.
    pub output: Limits,
    /// Of its file system.
    pub min_free: Option<Share>,
    /// Of the files of a session, by the session's name.
    pub sessions: BTreeMap<Arc<str>, Limits>,
}

impl Bounds {
    /// The bounds of an output, and of its sessions by name.
    pub fn new<'a>(
        config: &Config,
        sessions: impl Iterator<Item = (&'a str, &'a SessionConfig)>,
    ) -> Self {
        let sessions = sessions.map(|(name, own)| (Arc::from(name), own.limits()));
        Self {
            output: limits(Some(config.max_size), Some(config.max_age)),
            min_free: Some(config.min_free).filter(|share| !share.is_zero()),
            sessions: sessions.filter(|(_, own)| !own.is_empty()).collect(),
        }
    }

    /// Whether nothing is bounded, so that nothing need be looked after.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The longest that files of a session may lie there.
    pub fn max_age(&self, session: &str) -> Option<Duration> {
        let own = self.sessions.get(session).and_then(|own| own.max_age);
        own.into_iter().chain(self.output.max_age).min()
    }

    /// Whether anything is bounded by its age.
    pub fn has_age(&self) -> bool {
        self.output.max_age.is_some() || self.sessions.values().any(|own| own.max_age.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_bound_and_the_shorter_age_counts() {
        let config: Config =
            toml::from_str("max_size = 0\nmax_age = '2h'\nmin_free = '0%'").unwrap();
        let own: SessionConfig = toml::from_str("max_age = '1h'\nmax_size = '1MiB'").unwrap();
        let none: SessionConfig = toml::from_str("max_age = '0s'").unwrap();
        let bounds = Bounds::new(&config, [("web", &own), ("dns", &none)].into_iter());
        assert_eq!((bounds.output.max_size, bounds.min_free), (None, None));
        assert_eq!(bounds.sessions.len(), 1);
        assert_eq!(bounds.max_age("web"), Some(Duration::from_secs(3600)));
        assert_eq!(bounds.max_age("dns"), Some(Duration::from_secs(7200)));
        assert!(Bounds::new(&Config::default(), std::iter::empty()).is_empty());
        assert!(toml::from_str::<SessionConfig>("min_free = '1%'").is_err());
    }
}
