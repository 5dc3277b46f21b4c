//! Destinations as the configuration names them.
//!
//! Takes: the tables `[flow_log.s3]`, `[flow_log.cloudwatch]` and what `[ship]` says of its bucket. Gives: [`S3`] and [`CloudWatch`]. Holds: one that passes `check` can be
//! tried; no secret is in it: credentials come from the environment, a profile, or the machine's role.

use serde::{Deserialize, Serialize};

/// How S3 encrypts what it stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Sse {
    /// As the bucket is set.
    #[default]
    #[serde(rename = "bucket")]
    Bucket,
    /// SSE-S3.
    #[serde(rename = "AES256")]
    Aes256,
    /// SSE-KMS, with `kms_key` or the account's own key.
    #[serde(rename = "aws:kms")]
    Kms,
}

/// Who owns what was put into a bucket of somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acl {
    /// Nothing is said.
    #[default]
    None,
    /// The owner of the bucket, which many bucket policies ask for.
    BucketOwnerFullControl,
}

/// A place in a bucket.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with; a `/` is put behind it where it has none.
    pub prefix: String,
    /// The bucket's region; from the environment, the profile or the machine where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another address than AWS's: a VPC endpoint, another S3 server. With `http://` nothing is encrypted on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// A profile of `~/.aws/config` and `~/.aws/credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Encryption in the bucket.
    pub sse: Sse,
    /// The ARN of the key of `sse = "aws:kms"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// Who owns the objects.
    pub acl: Acl,
    /// The storage class, as S3 names it (`STANDARD_IA`); the bucket's where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// Which log stream an event goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// One for each interface, as AWS does: `eni-…-accept`.
    #[default]
    Interface,
    /// One for the whole flow log, named by its id: fewer and larger requests.
    Sensor,
}

/// A log group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloudWatch {
    /// The log group.
    pub log_group: String,
    /// Which stream an event goes to.
    pub streams: Streams,
    /// Whether a group that is not there is made.
    pub create_group: bool,
    /// The region, as for S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another address than AWS's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// A profile of `~/.aws/config` and `~/.aws/credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// What can't be tried, and what could.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The bucket.
    #[error(
        "bucket is \"{0}\"; a bucket's name has 3 to 63 of a-z, 0-9, \"-\" and \".\", and no \"s3://\" before it"
    )]
    Bucket(String),
    /// The prefix.
    #[error("prefix is \"{0}\"; {1}")]
    Prefix(String, &'static str),
    /// The endpoint.
    #[error("endpoint is \"{0}\"; an endpoint begins with https:// (or http://) and has no path")]
    Endpoint(String),
    /// The key.
    #[error("kms_key needs sse = \"aws:kms\"")]
    KeyWithoutKms,
    /// The key's form.
    #[error("kms_key is \"{0}\"; give the ARN of the key, \"arn:aws:kms:…\"")]
    Key(String),
    /// The group.
    #[error("log_group is \"{0}\"; a log group's name has 1 to 512 of a-z, A-Z, 0-9, _ - / . #")]
    Group(String),
}

impl ConfigError {
    /// The key at fault.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Bucket(_) => "bucket",
            Self::Prefix(..) => "prefix",
            Self::Endpoint(_) => "endpoint",
            Self::KeyWithoutKms | Self::Key(_) => "kms_key",
            Self::Group(_) => "log_group",
        }
    }
}

impl S3 {
    /// All that is wrong.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        if !is_bucket(&self.bucket) {
            wrong.push(ConfigError::Bucket(self.bucket.clone()));
        }
        if let Some(why) = prefix_problem(&self.prefix) {
            wrong.push(ConfigError::Prefix(self.prefix.clone(), why));
        }
        wrong.extend(endpoint_problem(self.endpoint.as_deref()));
        match (&self.kms_key, self.sse) {
            (Some(_), Sse::Bucket | Sse::Aes256) => wrong.push(ConfigError::KeyWithoutKms),
            (Some(key), Sse::Kms) if !key.starts_with("arn:") => {
                wrong.push(ConfigError::Key(key.clone()));
            }
            _ => {}
        }
        wrong
    }

    /// The key of what is called `name` below the prefix.
    pub fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{}/{name}", prefix.trim_end_matches('/')),
        }
    }
}

impl CloudWatch {
    /// All that is wrong.
    pub fn check(&self) -> Vec<ConfigError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_-/.#".contains(&b);
        let name = &self.log_group;
        let mut wrong = Vec::new();
        if name.is_empty() || name.len() > 512 || !name.bytes().all(good) {
            wrong.push(ConfigError::Group(name.clone()));
        }
        wrong.extend(endpoint_problem(self.endpoint.as_deref()));
        wrong
    }
}

fn is_bucket(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (3..=63).contains(&name.len())
        && name.bytes().all(good)
        && edge(name.bytes().next())
        && edge(name.bytes().last())
}

pub(super) fn prefix_problem(prefix: &str) -> Option<&'static str> {
    let steps = || prefix.split('/').filter(|step| !step.is_empty());
    if prefix.starts_with('/') || prefix.contains("//") {
        return Some("it begins with no / and has no two together");
    }
    if steps().any(|step| step == "." || step == "..") {
        return Some("\".\" and \"..\" are no folders in a bucket");
    }
    if steps().any(|step| step == "AWSLogs") {
        return Some("AWSLogs is where AWS itself writes; take another, like \"mirror-flow-logs\"");
    }
    (prefix.len() > 512 || prefix.contains(|c: char| c.is_control()))
        .then_some("it has at most 512 characters, none of them a control character")
}

fn endpoint_problem(endpoint: Option<&str>) -> Option<ConfigError> {
    let endpoint = endpoint?;
    let host = endpoint
        .strip_prefix("https://")
        .or_else(|| endpoint.strip_prefix("http://"));
    let good =
        host.is_some_and(|host| !host.is_empty() && !host.trim_end_matches('/').contains('/'));
    (!good).then(|| ConfigError::Endpoint(endpoint.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_bucket(bucket: &str) -> S3 {
        S3 {
            bucket: bucket.to_owned(),
            ..S3::default()
        }
    }

    #[test]
    fn a_key_is_the_prefix_a_slash_and_the_name() {
        for (prefix, key) in [("", "a/b"), ("x", "x/a/b"), ("x/", "x/a/b")] {
            let s3 = S3 {
                prefix: prefix.to_owned(),
                ..in_bucket("logs")
            };
            assert_eq!(s3.key("a/b"), key);
        }
    }

    #[test]
    fn aws_own_folder_is_refused_as_a_prefix() {
        let s3 = S3 {
            prefix: "x/AWSLogs".to_owned(),
            ..in_bucket("logs")
        };
        assert_eq!(s3.check().first().map(ConfigError::key), Some("prefix"));
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        for bucket in ["", "ab", "s3://logs", "Logs", "-logs", "logs-"] {
            assert_eq!(in_bucket(bucket).check().len(), 1, "{bucket}");
        }
        assert_eq!(in_bucket("logs.example-1").check(), []);
    }

    #[test]
    fn an_endpoint_is_an_address_without_a_path() {
        for (endpoint, wrong) in [
            ("https://s3.example", 0),
            ("http://127.0.0.1:9000/", 0),
            ("s3.example", 1),
            ("https://s3.example/bucket", 1),
        ] {
            let s3 = S3 {
                endpoint: Some(endpoint.to_owned()),
                ..in_bucket("logs")
            };
            assert_eq!(s3.check().len(), wrong, "{endpoint}");
        }
    }
}
