//! A bucket: small files as one request, large ones in parts.
//!
//! Takes: an [`S3`] and files. Gives: objects, and [`Failure`]s. Holds: what a request may say beside its bytes (encryption, storage class, owner) is signed like the rest; an
//! object is whole or not there; nothing is tried twice in here, for the queue knows when.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, HeaderMap, HeaderValue, ObjectStore, PutOptions, PutPayload,
};

use crate::ship::aws::{self, Credentials, Place, Settings};
use crate::ship::courier::failure::{Failure, told};
use crate::ship::courier::pace::Pace;
use crate::ship::courier::wire::{Answer, Wire};
use crate::ship::{Acl, S3, Sse};

/// Says who owns an object; goes with what makes one, and with nothing else.
const ACL: &str = "x-amz-acl";

/// A bucket, ready to be written to.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Makes objects: says all that there is to say of them.
    pub(super) maker: AmazonS3,
    /// Adds to what was begun: says nothing but bytes.
    pub(super) adder: AmazonS3,
    credentials: Arc<Credentials>,
    wire: Wire,
    s3: S3,
}

impl Bucket {
    /// The bucket of a queue.
    pub(super) async fn open(s3: &S3, pace: Pace) -> Result<Self, Failure> {
        let doing = format!("cannot prepare to put into s3://{}", s3.bucket);
        let settings = Settings::new(s3.profile.as_deref(), s3.region.as_deref());
        let credentials = Credentials::new(settings.clone());
        let place = Place::of(s3.endpoint.as_deref(), &settings).await?;
        let wire = Wire::new(aws::patient(&settings, &place)?, pace);
        let builder = says(place.builder(&s3.bucket), s3)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_credentials(credentials.clone())
            .with_http_connector(wire.clone());
        let build = |builder: AmazonS3Builder| {
            let built = builder.build();
            built.map_err(|error| Failure::local(&doing, &error))
        };
        let mut headers = HeaderMap::new();
        if s3.acl == Acl::BucketOwnerFullControl {
            headers.insert(ACL, HeaderValue::from_static("bucket-owner-full-control"));
        }
        let options = place.options().with_default_headers(headers);
        Ok(Self {
            maker: build(builder.clone().with_client_options(options))?,
            adder: build(builder)?,
            credentials,
            wire,
            s3: s3.clone(),
        })
    }

    /// Sees that there are credentials, and says whose.
    pub(super) async fn credentials(&self) -> Result<String, Failure> {
        let (_, from) = self.credentials.get().await?;
        Ok(from)
    }

    /// The whole key of a file.
    pub(super) fn key(&self, name: &str) -> Result<Key, Failure> {
        let key = self.s3.key(name);
        Key::parse(&key).map_err(|error| Failure::Refused(format!("\"{key}\" is no key: {error}")))
    }

    /// Puts a file that fits into one request.
    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Failure> {
        let key = self.key(name)?;
        let options = PutOptions {
            attributes: self.attributes(),
            ..PutOptions::default()
        };
        let put = self
            .maker
            .put_opts(&key, PutPayload::from_bytes(bytes), options);
        put.await
            .map_err(|error| self.failure(&self.doing("put", &key), &error))?;
        Ok(())
    }

    /// What is said of an object beside its bytes.
    pub(super) fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        if let Some(class) = &self.s3.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
    }

    /// For messages: what could not be done.
    pub(super) fn doing(&self, verb: &str, key: &Key) -> String {
        format!("cannot {verb} s3://{}/{key}", self.s3.bucket)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.s3.bucket
    }

    /// What was answered to a request that failed.
    pub(super) fn failure(&self, doing: &str, error: &object_store::Error) -> Failure {
        self.failure_and_code(doing, error).0
    }

    /// The same, with the code by which S3 calls it.
    pub(super) fn failure_and_code(
        &self,
        doing: &str,
        error: &object_store::Error,
    ) -> (Failure, String) {
        let answer = self.wire.answer().unwrap_or_else(|| Answer {
            // an answer that is a success, and makes no sense
            status: 500,
            message: told(error),
            ..Answer::default()
        });
        (Failure::of(doing, &answer), answer.code)
    }
}

/// Says how objects are encrypted.
fn says(builder: AmazonS3Builder, s3: &S3) -> AmazonS3Builder {
    match (s3.sse, &s3.kms_key) {
        (Sse::Bucket, _) => builder,
        (Sse::Aes256, _) => encrypted(builder, "AES256"),
        (Sse::Kms, Some(key)) => builder.with_sse_kms_encryption(key),
        (Sse::Kms, None) => encrypted(builder, "aws:kms"),
    }
}

/// As the crate calls it: its type can't be named from here.
const ENCRYPTION: &str = "aws_server_side_encryption";

fn encrypted(builder: AmazonS3Builder, how: &str) -> AmazonS3Builder {
    match ENCRYPTION.parse() {
        Ok(key) => builder.with_config(key, how),
        Err(_) => builder,
    }
}

/// Bytes of a file from a place on.
pub(super) fn read(file: &File, from: u64, count: u64) -> io::Result<Bytes> {
    let count = usize::try_from(count).map_err(io::Error::other)?;
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3ConfigKey;

    use super::*;

    #[test]
    fn encryption_is_known_by_its_name() {
        let key: AmazonS3ConfigKey = ENCRYPTION.parse().unwrap();
        let builder = encrypted(AmazonS3Builder::new(), "aws:kms");
        assert_eq!(builder.get_config_value(&key).as_deref(), Some("aws:kms"));
    }

    #[test]
    fn names_that_files_have_are_keys() {
        for name in [
            "AWSLogs/1/vpcflowlogs/eu-west-1/2026/11/28/1_vpcflowlogs_x.log.gz",
            "aws-account-id=1/hour=07/x.parquet",
            "session a/20261128T230000.123456Z.pcap.zst",
            "50%/ü+?&#.pcap",
        ] {
            assert_eq!(
                Key::parse(name).map(|k| k.to_string()).ok().as_deref(),
                Some(name)
            );
        }
    }
}
