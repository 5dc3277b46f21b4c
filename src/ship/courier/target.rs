//! Where the files of a queue go, opened when it is needed.
//!
//! Takes: a [`Queue`]'s destination. Gives: files that have arrived there, one after the other. Holds: what is known of the destination (credentials, a region) is asked for
//! again after it was refused; the file that was sent is the one that waits, and not another that has got its name meanwhile.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use crate::ship::courier::board::Board;
use crate::ship::courier::bucket::{self, Bucket};
use crate::ship::courier::failure::Failure;
use crate::ship::courier::group::Group;
use crate::ship::courier::pace::Pace;
use crate::ship::courier::upload::Uploads;
use crate::ship::{Destination, Entry, Pending, Queue, S3};

/// A destination.
pub(super) enum Target {
    /// A bucket.
    Bucket(Box<Store>),
    /// A log group.
    Group(Box<Group>),
}

impl Target {
    /// Of a queue.
    pub(super) fn new(queue: &Queue, pending: &Pending, board: &Rc<Board>) -> Self {
        match &queue.destination {
            Destination::S3(s3) => Self::Bucket(Box::new(Store {
                s3: s3.clone(),
                uploads: Uploads::new(&pending.state()),
                pace: Pace::new(queue.bandwidth),
                part_size: queue.part_size.max(1),
                bucket: None,
                queue: queue.name.clone(),
                board: Rc::clone(board),
            })),
            Destination::CloudWatch { group, stream } => {
                Self::Group(Box::new(Group::new(group, stream, queue, board)))
            }
        }
    }

    /// Sends a file.
    pub(super) async fn send(&mut self, pending: &Pending, entry: &Entry) -> Result<(), Failure> {
        match self {
            Self::Bucket(store) => store.send(pending, entry).await,
            Self::Group(group) => group.send(pending, entry).await,
        }
    }

    /// Tidies what is left at the destination of files that are not waiting any more.
    pub(super) async fn sweep(&mut self, pending: &Pending, waiting: &[Entry]) {
        match self {
            Self::Bucket(store) => store.sweep(waiting).await,
            Self::Group(group) => group.sweep(pending, waiting),
        }
    }

    /// What is known of it may be old.
    pub(super) fn reopen(&mut self) {
        match self {
            Self::Bucket(store) => store.bucket = None,
            Self::Group(group) => group.reopen(),
        }
    }
}

/// A bucket, and what was begun in it.
pub(super) struct Store {
    s3: S3,
    uploads: Uploads,
    pace: Pace,
    part_size: u64,
    bucket: Option<Rc<Bucket>>,
    queue: String,
    board: Rc<Board>,
}

impl Store {
    async fn open(&mut self) -> Result<Rc<Bucket>, Failure> {
        if let Some(bucket) = &self.bucket {
            return Ok(Rc::clone(bucket));
        }
        let bucket = Rc::new(Bucket::open(&self.s3, self.pace.clone()).await?);
        self.bucket = Some(Rc::clone(&bucket));
        Ok(bucket)
    }

    async fn send(&mut self, pending: &Pending, entry: &Entry) -> Result<(), Failure> {
        let doing = format!("cannot read {}", entry.name);
        let wrong = |error: io::Error| Failure::read(&doing, &error);
        let path = pending.path(&entry.name).map_err(wrong)?;
        let file = File::open(&path).map_err(wrong)?;
        if !is_it(file.metadata(), entry) {
            return Err(Failure::Gone);
        }
        let bucket = self.open().await?;
        let from = bucket.credentials().await?;
        let sent = match entry.bytes > self.part_size {
            true => {
                let wanted = || is_it(path.metadata(), entry) && !self.board.is_closing();
                // something arrives, if not the whole of it yet
                let taken = || self.board.clear(&self.queue);
                let (uploads, size) = (&self.uploads, self.part_size);
                let sent = uploads.send(&bucket, entry, &file, size, wanted, taken);
                sent.await
            }
            false => {
                let bytes = bucket::read(&file, 0, entry.bytes).map_err(wrong)?;
                bucket.put(&entry.name, bytes).await
            }
        };
        sent.map_err(|failure| failure.with(&from))?;
        match is_it(path.metadata(), entry) {
            true => Ok(()),
            false => Err(Failure::Gone),
        }
    }

    async fn sweep(&mut self, waiting: &[Entry]) {
        if self.uploads.has_unwanted(waiting)
            && let Ok(bucket) = self.open().await
        {
            self.uploads.sweep(&bucket, waiting).await;
        }
    }
}

/// Whether it is the file that was listed, and not another that has got its name.
pub(super) fn is_it(facts: io::Result<Metadata>, entry: &Entry) -> bool {
    facts.is_ok_and(|f| (f.dev(), f.ino()) == entry.identity && f.len() == entry.bytes)
}
