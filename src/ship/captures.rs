//! Shipping of capture files as the configuration has it.
//!
//! Takes: the tables `[ship]` and `[session.ship]`. Gives: [`Captures`] and [`OfSession`]. Holds: one that passes `problems` can be tried; without a
//! bucket nothing is shipped.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ship::config::prefix_problem;
use crate::ship::{Acl, After, Destination, Queue, S3, Sse};
use crate::units::Size;

/// The queue of capture files in logs and metrics.
pub const CAPTURES: &str = "captures";

/// S3 takes no smaller part of an object but the last.
const SMALLEST_PART: Size = Size::mebibytes(5);

/// S3 takes no larger one.
const LARGEST_PART: Size = Size::mebibytes(256);

/// The `[ship]` table: where capture files go, and what waiting for it may cost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Captures {
    /// The bucket; empty: nothing is shipped.
    pub bucket: String,
    /// What every key begins with; the session's folder and the file's name follow.
    pub prefix: String,
    /// As in [`S3`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// As in [`S3`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// As in [`S3`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// As in [`S3`].
    pub sse: Sse,
    /// As in [`S3`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// As in [`S3`].
    pub acl: Acl,
    /// As in [`S3`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Most bytes that wait; beyond, the oldest are given up. Zero is no bound.
    pub budget: Size,
    /// Most bytes a second. Zero is no bound.
    pub bandwidth: Size,
    /// Larger files go in parts of this size.
    pub part_size: Size,
    /// Whether a file is deleted here once it has arrived.
    pub delete_after_ship: bool,
}

impl Default for Captures {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            prefix: String::new(),
            region: None,
            endpoint: None,
            profile: None,
            sse: Sse::default(),
            kms_key: None,
            acl: Acl::default(),
            storage_class: None,
            budget: Size::mebibytes(10 << 10),
            bandwidth: Size(0),
            part_size: Size::mebibytes(16),
            delete_after_ship: false,
        }
    }
}

impl Captures {
    /// Whether anything is shipped.
    pub fn is_on(&self) -> bool {
        !self.bucket.is_empty()
    }

    /// The place in the bucket.
    pub fn s3(&self) -> S3 {
        S3 {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            profile: self.profile.clone(),
            sse: self.sse,
            kms_key: self.kms_key.clone(),
            acl: self.acl,
            storage_class: self.storage_class.clone(),
        }
    }

    /// What the shipping process is told of it; the pending files are in `folder`.
    pub fn queue(&self, folder: std::path::PathBuf) -> Queue {
        Queue {
            name: CAPTURES.to_owned(),
            folder,
            destination: Destination::S3(self.s3()),
            after: After::Tell,
            bandwidth: Some(self.bandwidth.bytes()).filter(|n| *n > 0),
            part_size: self.part_size.bytes(),
        }
    }

    /// Every problem, with its key; `max_size` is what all capture files may take, where that is bounded.
    pub fn problems(&self, max_size: Option<u64>) -> Vec<(&'static str, String)> {
        if !self.is_on() {
            let said = *self != Self::default();
            let missing = "[ship] has no bucket; name one, or leave the table out";
            return said
                .then(|| ("bucket", missing.to_owned()))
                .into_iter()
                .collect();
        }
        let mut list: Vec<_> = self
            .s3()
            .check()
            .iter()
            .map(|e| (e.key(), e.to_string()))
            .collect();
        if !cfg!(feature = "aws") {
            let message = "this build ships nothing: it was made without the feature \"aws\"";
            list.push(("bucket", message.to_owned()));
        }
        if !(SMALLEST_PART..=LARGEST_PART).contains(&self.part_size) {
            let message = format!(
                "part_size = \"{}\" is none that can be sent: S3 takes no smaller parts, and each is held in memory; it goes from \"{SMALLEST_PART}\" to \"{LARGEST_PART}\"",
                self.part_size
            );
            list.push(("part_size", message));
        }
        list.extend(
            self.budget_problem(max_size)
                .map(|message| ("budget", message)),
        );
        list
    }

    /// A file that waits is not deleted: more may not wait than may be there.
    fn budget_problem(&self, max_size: Option<u64>) -> Option<String> {
        let most = max_size?;
        let too_much = self.budget.bytes() == 0 || self.budget.bytes() > most;
        too_much.then(|| {
            format!(
                "budget = \"{}\" is more than all capture files may take (retention.max_size = \"{}\"), and a file that waits is not deleted; \
                 lower budget or raise max_size",
                self.budget,
                Size(most)
            )
        })
    }
}

/// The `[session.ship]` table: what a session says otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfSession {
    /// Whether its files are shipped; they are, where `[ship]` names a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What its keys have between the prefix of all and the session's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

impl OfSession {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        let prefix = self.prefix.as_deref()?;
        prefix_problem(prefix).map(|why| format!("ship.prefix is \"{prefix}\"; {why}"))
    }
}

/// What all sessions say, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sessions(HashMap<String, OfSession>);

impl Sessions {
    /// Of sessions by name.
    pub fn new<'a>(sessions: impl Iterator<Item = (&'a str, &'a OfSession)>) -> Self {
        let said = sessions.filter(|(_, own)| !own.is_empty());
        Self(
            said.map(|(name, own)| (name.to_owned(), own.clone()))
                .collect(),
        )
    }

    /// What the key of a session's file has behind the prefix of all; `None` where the session is not shipped.
    pub fn name(&self, session: &str, file: &str) -> Option<String> {
        let own = self.0.get(session);
        if own.and_then(|own| own.enabled) == Some(false) {
            return None;
        }
        let prefix = own
            .and_then(|own| own.prefix.as_deref())
            .unwrap_or_default();
        Some(match prefix.trim_end_matches('/') {
            "" => format!("{session}/{file}"),
            prefix => format!("{prefix}/{session}/{file}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, max_size: Option<u64>) -> Vec<&'static str> {
        let config: Captures = toml::from_str(text).unwrap();
        config
            .problems(max_size)
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    }

    #[test]
    fn without_a_bucket_nothing_is_shipped_and_a_table_without_one_is_refused() {
        assert!(!Captures::default().is_on() && Captures::default().problems(Some(1)).is_empty());
        assert_eq!(keys("prefix = 'a'", None), ["bucket"]);
        let text = toml::to_string(&Captures::default()).unwrap();
        assert_eq!(
            toml::from_str::<Captures>(&text).unwrap(),
            Captures::default()
        );
    }

    #[test]
    #[cfg(feature = "aws")]
    fn each_bad_value_is_named() {
        assert_eq!(keys("bucket = 'logs'", None), [""; 0]);
        assert_eq!(
            keys("bucket = 'logs'\npart_size = '1MiB'", None),
            ["part_size"]
        );
        assert_eq!(
            keys("bucket = 'logs'\npart_size = '257MiB'", None),
            ["part_size"]
        );
        assert_eq!(
            keys("bucket = 'LOGS'\nkms_key = 'x'", None),
            ["bucket", "kms_key"]
        );
        assert_eq!(
            keys("bucket = 'logs'\nbudget = '2GiB'", Some(1 << 30)),
            ["budget"]
        );
        assert_eq!(
            keys("bucket = 'logs'\nbudget = 0", Some(1 << 30)),
            ["budget"]
        );
        assert_eq!(
            keys("bucket = 'logs'\nbudget = '1GiB'", Some(1 << 30)),
            [""; 0]
        );
    }

    #[test]
    fn a_session_has_its_own_part_of_the_key_or_is_left_out() {
        let own = |text| toml::from_str::<OfSession>(text).unwrap();
        let (web, dns) = (own("prefix = 'team/a/'"), own("enabled = false"));
        let sessions = Sessions::new([("web", &web), ("dns", &dns)].into_iter());
        assert_eq!(
            sessions.name("web", "f.pcap").as_deref(),
            Some("team/a/web/f.pcap")
        );
        assert_eq!(
            sessions.name("vni-7", "f.pcap").as_deref(),
            Some("vni-7/f.pcap")
        );
        assert_eq!(sessions.name("dns", "f.pcap"), None);
        assert!(own("prefix = '../x'").problem().is_some() && web.problem().is_none());
    }
}
