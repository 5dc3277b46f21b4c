//! SHA-256 of lines and files.
//!
//! Takes: bytes, or a path. Gives: [`Digest`], which prints as `sha256sum` prints it. Holds: a file is read in
//! small pieces, and never through a symbolic link.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::sys::disk;

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest([u8; 32]);

impl Digest {
    /// All zeros.
    pub const ZERO: Self = Self([0; 32]);

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<Sha256> for Digest {
    fn from(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a SHA-256 is 64 hexadecimal digits, in small letters")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(NoDigest),
        };
        let pairs = text.as_bytes().as_chunks::<2>();
        if pairs.0.len() != 32 || !pairs.1.is_empty() {
            return Err(NoDigest);
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs.0) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The digest of some bytes.
pub fn digest_bytes(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The digest of a file, and how many bytes it has.
///
/// # Errors
/// What the system says; a symbolic link is refused.
pub fn digest_file(path: &Path) -> io::Result<(Digest, u64)> {
    digest_while(path, || true)
}

/// As [`digest_file`], for as long as `go_on` says so.
///
/// # Errors
/// As for [`digest_file`]; [`io::ErrorKind::TimedOut`] when it was told to stop.
pub fn digest_while(path: &Path, go_on: impl Fn() -> bool) -> io::Result<(Digest, u64)> {
    let mut file = open(path)?;
    let (mut hash, mut len) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        if !go_on() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let read = match file.read(&mut piece) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if read == 0 {
            return Ok((Digest::from(hash), len));
        }
        len += read as u64;
        hash.update(piece.get(..read).unwrap_or_default());
    }
}

/// Not through a link, and without waiting where the name is a pipe's.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(disk::O_NOFOLLOW | disk::O_NONBLOCK)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no plain file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_prints_as_sha256sum_prints_it_and_reads_back() {
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_bytes(b"abc").to_string(), text);
        assert_eq!(text.parse(), Ok(digest_bytes(b"abc")));
        for bad in [
            "",
            "ba",
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}0"),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(NoDigest), "{bad}");
        }
    }

    #[test]
    fn a_link_and_a_folder_are_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("f"), folder.path().join("l"));
        std::fs::write(&file, b"abc").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(digest_file(&file).unwrap(), (digest_bytes(b"abc"), 3));
        assert!(digest_file(&link).is_err());
        assert!(digest_file(folder.path()).is_err());
        assert_eq!(
            digest_while(&file, || false).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }
}
