//! Flow logs in a bucket, read as if it were a folder.

use std::path::{Path, PathBuf};

use crate::cli::flows::files::{self, Input};
use crate::ship::aws::{Failure, Settings};
use crate::ship::objects::{Object, Objects, Page, Pages};

/// How a bucket is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) profile: Option<String>,
}

/// What is below an address in a bucket.
pub(super) struct Below {
    objects: Objects,
    bucket: String,
    prefix: String,
    pages: Pages,
}

impl Below {
    /// Nothing but the region is asked for before the first page.
    pub(super) fn open(bucket: &str, prefix: &str, access: &Access) -> Result<Self, Failure> {
        let settings = Settings::new(access.profile.as_deref(), access.region.as_deref());
        let objects = Objects::open(bucket, access.endpoint.as_deref(), &settings)?;
        Ok(Self {
            pages: objects.list(prefix),
            objects,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// The next flow logs, in the order of their keys.
    pub(super) fn next(&mut self) -> Option<Result<Page, Failure>> {
        let page = self.pages.next()?;
        Some(page.map(|mut page| {
            let wanted = |key: &str| is_wanted(&self.prefix, key);
            page.objects.retain(|object| wanted(object.key()));
            page.odd.retain(|key| wanted(key));
            page
        }))
    }

    /// Its address, as a person would write it.
    pub(super) fn name(&self, key: &str) -> PathBuf {
        PathBuf::from(format!("s3://{}/{key}", self.bucket))
    }

    pub(super) fn read(&self, object: &Object) -> std::io::Result<Input> {
        files::from_afar(self.objects.contents(object))
    }
}

/// The bucket and the prefix of `s3://bucket/prefix`.
pub(super) fn address(path: &Path) -> Option<(&str, &str)> {
    let rest = path.to_str()?.strip_prefix("s3://")?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// A key that is named is taken whatever it is called; of what is below, what is called like a flow log and not hidden.
fn is_wanted(prefix: &str, key: &str) -> bool {
    let Some(rest) = key.strip_prefix(prefix) else {
        return false;
    };
    let below = prefix.is_empty() || prefix.ends_with('/') || rest.starts_with('/');
    let is_hidden = |step: &str| step.starts_with('.') && step != "." && step != "..";
    let hidden = rest.split('/').any(is_hidden);
    rest.is_empty() || (below && !hidden && files::is_named_so(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_bucket_and_perhaps_a_prefix() {
        for (path, is) in [
            ("s3://b/x/y", Some(("b", "x/y"))),
            ("s3://b/", Some(("b", ""))),
            ("s3://b", Some(("b", ""))),
            ("s3:/b", None),
            ("flows/", None),
        ] {
            assert_eq!(address(Path::new(path)), is, "{path}");
        }
    }

    #[test]
    fn a_prefix_is_a_folder_or_a_key() {
        for (prefix, key, wanted) in [
            ("", "a/b.log.gz", true),
            ("a", "a/b.log.gz", true),
            ("a/", "a/b.log.parquet", true),
            ("a", "ab/c.log.gz", false),
            ("a", "a/README.md", false),
            ("a", "a/.b/c.log.gz", false),
            ("a", "a/../c.log.gz", true),
            ("a", "a//c.log.gz", true),
            ("a/strange", "a/strange", true),
            ("a/strange", "a/strange.log.gz", false),
        ] {
            assert_eq!(is_wanted(prefix, key), wanted, "{prefix} {key}");
        }
    }
}
