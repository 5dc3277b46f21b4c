//! A bucket: small files as one request, large ones in parts.
//!
//! Takes: an [`S3`] and files. Gives: objects, and [`Failure`]s. Holds: what a request may say beside its bytes (encryption, storage class, owner) is signed like the rest; an
//! object is whole or not there; nothing is tried twice in here, for the queue knows when.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, ClientOptions, HeaderMap, HeaderValue, ObjectStore, PutOptions,
    PutPayload, RetryConfig,
};

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
    wire: Wire,
    s3: S3,
}

impl Bucket {
    /// The bucket of a queue.
    pub(super) async fn open(s3: &S3, pace: Pace) -> Result<Self, Failure> {
        let doing = format!("cannot prepare to put into s3://{}", s3.bucket);
        let client = client().map_err(|error| Failure::local(&doing, &error))?;
        let wire = Wire::new(client, pace);
        let builder = builder(s3, wire.clone());
        let build = |builder: AmazonS3Builder| {
            let built = builder.build();
            built.map_err(|error| Failure::local(&doing, &error))
        };
        let mut says = HeaderMap::new();
        if s3.acl == Acl::BucketOwnerFullControl {
            says.insert(ACL, HeaderValue::from_static("bucket-owner-full-control"));
        }
        let options = options(s3).with_default_headers(says);
        Ok(Self {
            maker: build(builder.clone().with_client_options(options))?,
            adder: build(builder)?,
            wire,
            s3: s3.clone(),
        })
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

fn client() -> reqwest::Result<reqwest::Client> {
    // somebody was faster: it is the same one
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("mirrortap/", env!("CARGO_PKG_VERSION")))
        // what is signed is signed for one place
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(std::time::Duration::from_secs(10))
        .build()
}

fn options(s3: &S3) -> ClientOptions {
    let plain = s3
        .endpoint
        .as_deref()
        .is_some_and(|e| e.starts_with("http://"));
    ClientOptions::new().with_allow_http(plain)
}

fn builder(s3: &S3, wire: Wire) -> AmazonS3Builder {
    let never = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let region = s3.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&s3.bucket)
        .with_region(region)
        .with_retry(never)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(options(s3))
        .with_http_connector(wire);
    match &s3.endpoint {
        Some(endpoint) => builder = builder.with_endpoint(endpoint.trim_end_matches('/')),
        // a certificate is for one step before the name: a bucket with dots in its name goes into the path
        None => {
            builder = builder.with_virtual_hosted_style_request(!s3.bucket.contains('.'));
        }
    }
    match s3.sse {
        Sse::Bucket => builder,
        Sse::Aes256 => encrypted(builder, "AES256"),
        Sse::Kms => match &s3.kms_key {
            Some(key) => builder.with_sse_kms_encryption(key),
            None => encrypted(builder, "aws:kms"),
        },
    }
}

/// The key itself has a type that nobody can name.
fn encrypted(builder: AmazonS3Builder, how: &str) -> AmazonS3Builder {
    match "aws_server_side_encryption".parse() {
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
