//! How shipping stands, as metrics and status show it.
//!
//! Takes: what the sensor counts of its folders, and the last status of the shipping process. Gives: [`Standing`]. Holds: plain values; the words of
//! `deliver_logs_status` are those of AWS's DescribeFlowLogs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ship::QueueStatus;

/// How all queues stand.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Standing {
    /// By name.
    pub queues: BTreeMap<String, QueueStanding>,
    /// Why the shipping process is no more, where it is not.
    pub ended: Option<String>,
}

/// How a queue stands. What is counted counts from the start of the sensor.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct QueueStanding {
    /// Where its files go: `s3://bucket/prefix`, or the name of a log group.
    pub destination: String,
    /// Files that wait.
    pub pending_files: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// How long ago the oldest of them was written.
    pub oldest_pending_seconds: f64,
    /// Files that were given up for the budget, or for room on the disk.
    pub given_up_files: u64,
    /// Their bytes.
    pub given_up_bytes: u64,
    /// `SUCCESS`, or `FAILED` while something stands in the way.
    pub deliver_logs_status: &'static str,
    /// `Rate limited`, `Access error` or `Unknown error`.
    pub deliver_logs_error_message: Option<&'static str>,
    /// What the shipping process tells of it.
    #[serde(flatten)]
    pub status: QueueStatus,
}

impl QueueStanding {
    /// Puts what stands in the way into AWS's words.
    pub(super) fn put_into_words(&mut self, has_ended: bool) {
        let kind = self.status.trouble.as_ref().map(|t| t.kind.as_str());
        self.deliver_logs_error_message = match kind {
            Some("throttled") => Some("Rate limited"),
            Some("access" | "credentials" | "missing") => Some("Access error"),
            Some(_) => Some("Unknown error"),
            None => has_ended.then_some("Unknown error"),
        };
        self.deliver_logs_status = match self.deliver_logs_error_message {
            Some(_) => "FAILED",
            None => "SUCCESS",
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::Trouble;

    #[test]
    fn troubles_are_told_in_the_words_of_aws() {
        let told = |kind: Option<&str>, has_ended| {
            let trouble = kind.map(|kind| Trouble {
                kind: kind.to_owned(),
                reason: String::new(),
                since: 0,
            });
            let status = QueueStatus {
                trouble,
                ..QueueStatus::default()
            };
            let mut standing = QueueStanding {
                status,
                ..QueueStanding::default()
            };
            standing.put_into_words(has_ended);
            (
                standing.deliver_logs_status,
                standing.deliver_logs_error_message,
            )
        };
        assert_eq!(told(None, false), ("SUCCESS", None));
        assert_eq!(told(None, true), ("FAILED", Some("Unknown error")));
        for (kind, words) in [
            ("throttled", "Rate limited"),
            ("access", "Access error"),
            ("credentials", "Access error"),
            ("missing", "Access error"),
            ("unreachable", "Unknown error"),
            ("server", "Unknown error"),
            ("local", "Unknown error"),
        ] {
            assert_eq!(told(Some(kind), false), ("FAILED", Some(words)), "{kind}");
        }
    }
}
