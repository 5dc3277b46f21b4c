//! Objects of a bucket, for who reads them.
//!
//! Takes: a bucket, and where to look for credentials. Gives: lists, page by page, and contents as a [`Read`]. Holds: whatever the size of a bucket or an object, no
//! more than a page and a piece are in memory.

use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectMeta, ObjectStore, RetryConfig};
use tokio::runtime::{Builder, Runtime};

use crate::ship::aws::{self, Credentials, Failure, Kind, Place, Settings};
use crate::ship::listed::Line;

/// Bytes that are asked for at once.
const PIECE: u64 = 8 << 20;
/// Somebody waits for the answer, so it is not tried for long.
const RETRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// A bucket that is read. Calls wait for the answer.
#[derive(Clone, Debug)]
pub struct Objects {
    bucket: Rc<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    name: String,
    store: AmazonS3,
    line: Line,
    runtime: Runtime,
}

/// An object of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    key: Key,
    /// Bytes.
    pub size: u64,
    /// Which version of it was listed.
    tag: Option<String>,
}

impl Object {
    /// Its key.
    pub fn key(&self) -> &str {
        self.key.as_ref()
    }
}

impl From<ObjectMeta> for Object {
    fn from(told: ObjectMeta) -> Self {
        Self {
            key: told.location,
            size: told.size,
            tag: told.e_tag,
        }
    }
}

impl Objects {
    /// Of a bucket.
    ///
    /// # Errors
    /// There is no region, or no bucket can be called like this.
    pub fn open(
        bucket: &str,
        endpoint: Option<&str>,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let doing = format!("open s3://{bucket}");
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::local(&doing, &error))?;
        let place = runtime.block_on(Place::of(endpoint, settings))?;
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: PATIENCE,
            ..RetryConfig::default()
        };
        let line = Line::new(aws::reading(settings, &place)?);
        let store = place
            .builder(bucket)
            .with_retry(retry)
            .with_http_connector(line.clone())
            .with_credentials(Credentials::new(settings.clone()))
            .build()
            .map_err(|error| failure(&doing, &error))?;
        Ok(Self {
            bucket: Rc::new(Bucket {
                name: bucket.to_owned(),
                store,
                line,
                runtime,
            }),
        })
    }

    /// The objects whose keys begin with a prefix, in the order of their keys.
    pub fn list(&self, prefix: &str) -> Pages {
        Pages {
            objects: self.clone(),
            prefix: prefix.to_owned(),
            next: Next::First,
        }
    }

    /// The contents of an object, which are asked for as they are read.
    pub fn contents(&self, object: &Object) -> Contents {
        Contents {
            objects: self.clone(),
            object: object.clone(),
            at: 0,
            piece: Bytes::new(),
        }
    }

    fn page(&self, prefix: &str, token: Option<String>) -> Result<Page, Failure> {
        let options = PaginatedListOptions {
            page_token: token,
            ..PaginatedListOptions::default()
        };
        let Bucket {
            name,
            store,
            line,
            runtime,
        } = &*self.bucket;
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        let listed = runtime.block_on(store.list_paginated(prefix, options));
        let doing = || format!("list s3://{name}/{}", prefix.unwrap_or_default());
        let listed = listed.map_err(|error| failure(&doing(), &error))?;
        let objects = listed.result.objects.into_iter().map(Object::from);
        Ok(Page {
            objects: objects.collect(),
            odd: line.take_odd(),
            next: listed.page_token,
        })
    }

    fn piece(&self, object: &Object, at: u64) -> Result<Bytes, Failure> {
        let range = at..(at + PIECE).min(object.size);
        let options = GetOptions {
            range: Some(range.into()),
            if_match: object.tag.clone(),
            ..GetOptions::default()
        };
        let Bucket {
            name,
            store,
            runtime,
            ..
        } = &*self.bucket;
        let piece =
            runtime.block_on(async { store.get_opts(&object.key, options).await?.bytes().await });
        piece.map_err(|error| failure(&format!("get s3://{name}/{}", object.key), &error))
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// Its objects.
    pub objects: Vec<Object>,
    /// Keys of which nothing can be read: they begin with a slash, or have an empty step, `.`, `..` or a control character.
    pub odd: Vec<String>,
    next: Option<String>,
}

enum Next {
    First,
    Token(String),
    End,
}

/// A list, page by page. It ends with the first error.
#[must_use]
pub struct Pages {
    objects: Objects,
    prefix: String,
    next: Next,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Iterator for Pages {
    type Item = Result<Page, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let token = match std::mem::replace(&mut self.next, Next::End) {
            Next::First => None,
            Next::Token(token) => Some(token),
            Next::End => return None,
        };
        let page = self.objects.page(&self.prefix, token);
        Some(page.map(|mut page| {
            self.next = page.next.take().map_or(Next::End, Next::Token);
            page
        }))
    }
}

/// The contents of an object.
#[derive(Debug)]
pub struct Contents {
    objects: Objects,
    object: Object,
    at: u64,
    piece: Bytes,
}

impl Read for Contents {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.at < self.object.size && !buffer.is_empty() {
            let piece = self.objects.piece(&self.object, self.at);
            self.piece = piece.map_err(io::Error::other)?;
            if self.piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += self.piece.len() as u64;
        }
        let count = buffer.len().min(self.piece.len());
        if let Some(room) = buffer.get_mut(..count) {
            self.piece.copy_to_slice(room);
        }
        Ok(count)
    }
}

fn failure(doing: &str, error: &object_store::Error) -> Failure {
    use object_store::Error;

    if let Some(failure) = Failure::within(error) {
        return failure.clone();
    }
    let kind = match error {
        Error::NotFound { .. } => Kind::Missing,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Kind::Access,
        _ => Kind::Server,
    };
    let hint = match error {
        Error::Precondition { .. } => " (it was overwritten while it was read)",
        _ => "",
    };
    let told = aws::told(error);
    Failure::new(kind, format!("cannot {doing}: {told}{hint}"))
}
