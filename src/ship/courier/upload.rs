//! Large files: in parts, and resumed after a restart.
//!
//! Takes: a file that is larger than a part. Gives: an object. Holds: what the bucket has taken is written down, synced, before the next part is sent, so a restart sends
//! one part again at most; an upload that the bucket has forgotten is begun anew; that of a file which is not waiting any more is broken off, for parts are paid for.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use object_store::PutMultipartOptions;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ship::Entry;
use crate::ship::aws::Kind;
use crate::ship::courier::bucket::{self, Bucket};
use crate::ship::courier::failure::Failure;
use crate::time::{self, Monotonic};

/// S3 takes no more parts.
const MOST_PARTS: u64 = 10_000;
/// So many uploads wait to be broken off; more are left to the bucket's own rule.
const MOST_LEFT: usize = 1000;
/// The pause after one could not be.
const REST: Duration = Duration::from_secs(60);
/// What a crash leaves of one that was being written down.
const ASIDE: &str = "new.partial";

/// An upload that was begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Upload {
    /// The file's name below the pending ones.
    name: String,
    /// The whole key: a prefix may be changed between two starts.
    key: String,
    bucket: String,
    /// Which file it is, so that another of the same name is not added to it.
    identity: (u64, u64),
    bytes: u64,
    written: i128,
    part_size: u64,
    id: String,
    /// What the bucket answered to each part, in their order.
    parts: Vec<String>,
}

/// The uploads of a queue, in a folder.
#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    /// When one could last not be broken off.
    failed: Cell<Option<Monotonic>>,
}

impl Uploads {
    /// Kept below the state of a queue.
    pub(super) fn new(state: &Path) -> Self {
        let folder = state.join("uploads");
        // mostly it is not there
        let _ = fs::remove_file(folder.join(ASIDE));
        Self {
            folder,
            failed: Cell::default(),
        }
    }

    /// Sends a file in parts, from where it was left, as long as it is wanted; tells of each part that was taken.
    pub(super) async fn send(
        &self,
        bucket: &Bucket,
        entry: &Entry,
        file: &File,
        part_size: u64,
        is_wanted: impl Fn() -> bool,
        taken: impl Fn(),
    ) -> Result<(), Failure> {
        let key = bucket.key(&entry.name)?;
        let mut upload = match self.begun(bucket, entry, &key) {
            Some(upload) => upload,
            None => self.begin(bucket, entry, &key, part_size).await?,
        };
        while let Some((from, count)) = upload.next() {
            if !is_wanted() {
                return Err(Failure::Gone);
            }
            let doing = format!("cannot read {}", entry.name);
            let bytes = bucket::read(file, from, count).map_err(|e| Failure::read(&doing, &e))?;
            let (id, number) = (&upload.id, upload.parts.len());
            let sent = bucket.adder.put_part(&key, id, number, bytes.into()).await;
            let part = self.settled(bucket, &upload, &key, sent)?;
            upload.parts.push(part.content_id);
            self.keep(&upload)?;
            taken();
        }
        let parts = upload.parts.iter().cloned();
        let parts = parts.map(|content_id| PartId { content_id }).collect();
        let done = bucket.adder.complete_multipart(&key, &upload.id, parts);
        let done = done.await;
        self.settled(bucket, &upload, &key, done)?;
        self.forget(&upload.name);
        Ok(())
    }

    /// Forgets an upload that the bucket has forgotten; the next attempt begins anew.
    fn settled<T>(
        &self,
        bucket: &Bucket,
        upload: &Upload,
        key: &Key,
        answer: object_store::Result<T>,
    ) -> Result<T, Failure> {
        answer.map_err(|error| {
            let doing = bucket.doing("put a part of", key);
            let (failure, code) = bucket.failure_and_code(&doing, &error);
            if LOST.contains(&code.as_str()) {
                self.forget(&upload.name);
            }
            failure
        })
    }

    async fn begin(
        &self,
        bucket: &Bucket,
        entry: &Entry,
        key: &Key,
        part_size: u64,
    ) -> Result<Upload, Failure> {
        let options = PutMultipartOptions {
            attributes: bucket.attributes(),
            ..PutMultipartOptions::default()
        };
        let id = bucket.maker.create_multipart_opts(key, options).await;
        let doing = bucket.doing("begin", key);
        let id = id.map_err(|error| bucket.failure(&doing, &error))?;
        let upload = Upload {
            name: entry.name.clone(),
            key: key.to_string(),
            bucket: bucket.name().to_owned(),
            identity: entry.identity,
            bytes: entry.bytes,
            written: entry.written,
            part_size: part_size.max(entry.bytes.div_ceil(MOST_PARTS)),
            id,
            parts: Vec::new(),
        };
        if let Err(failure) = self.keep(&upload) {
            // nobody would know of it, and the next attempt begins another
            let _ = bucket.adder.abort_multipart(key, &upload.id).await;
            return Err(failure);
        }
        Ok(upload)
    }

    /// An upload of just this file to just this place.
    fn begun(&self, bucket: &Bucket, entry: &Entry, key: &Key) -> Option<Upload> {
        let path = self.path(&entry.name);
        let upload = load(&path)?;
        if upload.is_of(entry) && upload.key == key.as_ref() && upload.bucket == bucket.name() {
            return Some(upload);
        }
        self.set_aside(&upload);
        None
    }

    /// Another upload takes its place; it is broken off by and by.
    fn set_aside(&self, upload: &Upload) {
        // one that stays is written over, and its parts are left to the bucket's own rule
        let _ = fs::rename(self.path(&upload.name), self.path(&upload.id));
    }

    /// Breaks off the uploads whose files are not waiting any more, as far as the bucket lets it.
    pub(super) async fn sweep(&self, bucket: &Bucket, waiting: &[Entry]) {
        for (n, (path, upload)) in self.unwanted(waiting).into_iter().enumerate() {
            if n < MOST_LEFT && !is_broken_off(bucket, &upload).await {
                return self.failed.set(Some(time::monotonic()));
            }
            // parts that stay behind go by the bucket's own rule, where it has one
            let _ = fs::remove_file(path);
        }
    }

    /// Whether there is anything to break off, and it is time to.
    pub(super) fn has_unwanted(&self, waiting: &[Entry]) -> bool {
        let rests = |failed| time::monotonic().since(failed) < REST;
        !self.failed.get().is_some_and(rests) && !self.unwanted(waiting).is_empty()
    }

    /// Of files that do not wait, and those that another has taken the place of.
    fn unwanted(&self, waiting: &[Entry]) -> Vec<(PathBuf, Upload)> {
        let mut all = self.all();
        if !all.is_empty() {
            let wanted: BTreeSet<_> = waiting.iter().map(|entry| entry.name.as_str()).collect();
            all.retain(|(path, upload)| {
                !wanted.contains(upload.name.as_str()) || *path != self.path(&upload.name)
            });
        }
        all
    }

    fn all(&self) -> Vec<(PathBuf, Upload)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .filter_map(|path| load(&path).map(|upload| (path, upload)))
            .collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        let digest = Sha256::digest(name.as_bytes());
        let hex = digest.iter().take(16).map(|b| format!("{b:02x}"));
        self.folder
            .join(format!("{}.json", hex.collect::<String>()))
    }

    fn keep(&self, upload: &Upload) -> Result<(), Failure> {
        let path = self.path(&upload.name);
        let doing = format!("cannot write {}", path.display());
        self.write(&path, upload)
            .map_err(|error| Failure::local(&doing, &error))
    }

    fn write(&self, path: &Path, upload: &Upload) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let aside = self.folder.join(ASIDE);
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(upload)?)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn forget(&self, name: &str) {
        // one that stays is found to be of another file, or unknown to the bucket
        let _ = fs::remove_file(self.path(name));
    }
}

/// The bucket does not know the upload, or not its parts.
const LOST: [&str; 3] = ["NoSuchUpload", "InvalidPart", "InvalidPartOrder"];

impl Upload {
    fn is_of(&self, entry: &Entry) -> bool {
        (self.identity, self.bytes, self.written) == (entry.identity, entry.bytes, entry.written)
    }

    /// Where the next part begins, and how long it is; `None` after the last.
    fn next(&self) -> Option<(u64, u64)> {
        let from = self.part_size * self.parts.len() as u64;
        let count = self.bytes.saturating_sub(from).min(self.part_size);
        (count > 0).then_some((from, count))
    }
}

/// Breaks an upload off, as far as this bucket has it and lets it; whether there is nothing left to be done.
async fn is_broken_off(bucket: &Bucket, upload: &Upload) -> bool {
    let (true, Ok(key)) = (upload.bucket == bucket.name(), Key::parse(&upload.key)) else {
        return true;
    };
    let Err(error) = bucket.adder.abort_multipart(&key, &upload.id).await else {
        return true;
    };
    let doing = bucket.doing("break off", &key);
    match bucket.failure_and_code(&doing, &error) {
        (_, code) if LOST.contains(&code.as_str()) => true,
        (Failure::Trouble { kind, .. }, _) => matches!(kind, Kind::Access | Kind::Missing),
        _ => true,
    }
}

fn load(path: &Path) -> Option<Upload> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(name: &str) -> Upload {
        Upload {
            name: name.to_owned(),
            key: format!("x/{name}"),
            bucket: "logs".to_owned(),
            identity: (1, 2),
            bytes: 25,
            written: 7,
            part_size: 10,
            id: "id".to_owned(),
            parts: Vec::new(),
        }
    }

    #[test]
    fn the_parts_of_a_file_follow_each_other_and_the_last_is_what_is_left() {
        let mut upload = upload("a");
        let mut places = Vec::new();
        while let Some(place) = upload.next() {
            places.push(place);
            upload.parts.push(String::new());
        }
        assert_eq!(places, [(0, 10), (10, 10), (20, 5)]);
    }

    #[test]
    fn an_upload_is_found_again_after_a_restart_and_only_for_the_file_it_was_begun_for() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(folder.path());
        assert!(uploads.all().is_empty());
        uploads.keep(&upload("day/a")).unwrap();
        uploads.keep(&upload("day/b")).unwrap();
        let again = Uploads::new(folder.path());
        assert_eq!(load(&again.path("day/a")), Some(upload("day/a")));
        assert_eq!(again.all().len(), 2);
        let entry = Entry {
            name: "day/a".to_owned(),
            bytes: 25,
            written: 7,
            identity: (1, 2),
        };
        assert!(upload("day/a").is_of(&entry));
        let other = Entry {
            identity: (1, 3),
            ..entry.clone()
        };
        assert!(!upload("day/a").is_of(&other));
        let unwanted = || again.unwanted(std::slice::from_ref(&entry));
        let names = || unwanted().into_iter().map(|(_, upload)| upload.name);
        assert!(names().eq(["day/b"]));
        // another has come in its place
        again.set_aside(&upload("day/a"));
        again.keep(&upload("day/a")).unwrap();
        let mut ids: Vec<_> = names().collect();
        ids.sort();
        assert_eq!(ids, ["day/a", "day/b"]);
        assert_eq!(load(&again.path("day/a")), Some(upload("day/a")));
        fs::remove_file(again.path("id")).unwrap();
        // what a crash has left is no upload
        fs::copy(again.path("day/b"), again.folder.join(ASIDE)).unwrap();
        assert_eq!(again.all().len(), 2);
        assert!(!Uploads::new(folder.path()).folder.join(ASIDE).exists());
        again.forget("day/a");
        again.forget("day/b");
        assert!(!again.has_unwanted(&[]));
    }
}
