//! One line of the manifest, written and read.
//!
//! Takes: an [`Entry`] and its place in the chain; or bytes. Gives: a line; or what it says. Holds: a line is one JSON object
//! without a line break; `signature`, where there is one, stands last and is over the line without it.

use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::spool::manifest::{Digest, Entry, PublicKey, Signer};

/// The longest line that is looked into. The end of a run with tens of thousands of sessions takes a few MiB.
const LONGEST: usize = 64 << 20;

/// What stands before a signature.
const SIGNATURE: &[u8] = b",\"signature\":\"";

/// A place in the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Number of the line.
    pub(super) sequence: u64,
    /// Hash of the line before it.
    pub(super) previous: Digest,
}

#[derive(Serialize)]
struct Whole<'a> {
    sequence: u64,
    time: &'a str,
    run: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
    previous: Digest,
}

/// The line of an entry, without a line break.
pub(super) fn compose(
    entry: &Entry,
    place: Place,
    time: &str,
    run: &str,
    signer: Option<&Signer>,
) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Whole {
        sequence: place.sequence,
        time,
        run,
        entry,
        previous: place.previous,
    })?;
    if let Some(signer) = signer {
        let signature = signer.sign(&line);
        line.pop();
        line.extend_from_slice(SIGNATURE);
        line.extend_from_slice(signature.as_bytes());
        line.extend_from_slice(b"\"}");
    }
    Ok(line)
}

/// What is needed of a line to check it.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct Told {
    pub(super) sequence: u64,
    pub(super) time: String,
    pub(super) kind: String,
    pub(super) previous: Digest,
    #[serde(default)]
    pub(super) signature: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) bytes: Option<u64>,
    #[serde(default)]
    pub(super) sha256: Option<Digest>,
    #[serde(default)]
    pub(super) cause: Option<String>,
    #[serde(default)]
    pub(super) key: Option<Digest>,
    #[serde(default)]
    pub(super) unlisted: Option<u64>,
}

impl Told {
    /// # Errors
    /// What is wrong with the line.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|e| e.to_string())
    }

    /// Whether the line is about a capture file that is there from now on.
    pub(super) fn lists(&self) -> Option<&str> {
        let lists = matches!(self.kind.as_str(), "published" | "recovered" | "found");
        self.name.as_deref().filter(|_| lists)
    }
}

/// Whether the signature of a line is one of these keys'.
pub(super) fn is_signed(line: &[u8], keys: &[PublicKey]) -> bool {
    let Some(at) = memchr::memmem::rfind(line, SIGNATURE) else {
        return false;
    };
    let (before, rest) = line.split_at(at);
    let signature = rest
        .strip_prefix(SIGNATURE)
        .and_then(|r| r.strip_suffix(b"\"}"));
    let Some(signature) = signature.and_then(|s| std::str::from_utf8(s).ok()) else {
        return false;
    };
    let signed = [before, b"}"].concat();
    keys.iter().any(|key| key.signed(&signed, signature))
}

/// One line as it lies in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    /// Its bytes without the line break; empty when it is longer than a line may be.
    pub(super) bytes: Vec<u8>,
    /// How many there are.
    pub(super) len: u64,
    /// Hash of all of them.
    pub(super) digest: Digest,
    /// Whether a line break follows.
    pub(super) whole: bool,
}

/// Reads the next line, of whatever length, in bounded memory.
pub(super) fn next(from: &mut impl BufRead) -> io::Result<Option<Raw>> {
    let (mut raw, mut hash) = (Raw::default(), Sha256::new());
    loop {
        let piece = match from.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if piece.is_empty() {
            break;
        }
        let end = memchr::memchr(b'\n', piece);
        let part = piece.get(..end.unwrap_or(piece.len())).unwrap_or_default();
        hash.update(part);
        raw.len += part.len() as u64;
        if raw.len <= LONGEST as u64 {
            raw.bytes.extend_from_slice(part);
        } else {
            raw.bytes = Vec::new();
        }
        let used = part.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            raw.whole = true;
            break;
        }
    }
    raw.digest = Digest::from(hash);
    Ok((raw.whole || raw.len > 0).then_some(raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::manifest::{Deleted, NOTHING, digest_bytes};

    #[test]
    fn a_line_is_read_as_it_was_written_and_its_parts_stand_in_their_order() {
        let entry = Entry::Deleted(Deleted {
            name: "web/a\n\".pcap".into(),
            bytes: 7,
            cause: "age",
        });
        let place = Place {
            sequence: 3,
            previous: NOTHING,
        };
        let line = compose(&entry, place, "2026-01-01T00:00:00Z", "r", None).unwrap();
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(text.starts_with(
            "{\"sequence\":3,\"time\":\"2026-01-01T00:00:00Z\",\"run\":\"r\",\"kind\":\"deleted\","
        ));
        assert!(text.ends_with(&format!("\"previous\":\"{NOTHING}\"}}")) && !text.contains('\n'));
        let told = Told::read(&line).unwrap();
        assert_eq!(
            (told.sequence, told.bytes, told.name.as_deref()),
            (3, Some(7), Some("web/a\n\".pcap"))
        );
        assert!(Told::read(&line[1..]).is_err());
    }

    #[test]
    fn lines_are_taken_apart_at_line_breaks_and_the_last_may_lack_one() {
        let mut from = io::BufReader::with_capacity(3, &b"first\n\nlast"[..]);
        let mut all = Vec::new();
        while let Some(raw) = next(&mut from).unwrap() {
            assert_eq!(
                (raw.digest, raw.len),
                (digest_bytes(&raw.bytes), raw.bytes.len() as u64)
            );
            all.push((String::from_utf8(raw.bytes).unwrap(), raw.whole));
        }
        let expected = [("first", true), ("", true), ("last", false)];
        assert_eq!(all, expected.map(|(text, whole)| (text.to_owned(), whole)));
    }
}
