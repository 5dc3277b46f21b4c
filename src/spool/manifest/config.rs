//! The part of the configuration that belongs to the manifest.
//!
//! Takes: the `[manifest]` table. Gives: [`Config`], and [`Prepared`]: all that has to be read before the program gives
//! up its rights. Holds: a key that cannot be used is told at the start, never passed over.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::spool::manifest::{Digest, Signer};
use crate::time;

/// Where systemd puts what `LoadCredential=` names.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A key is some 120 bytes.
const LARGEST_KEY: u64 = 65_536;

/// The manifest, as it is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether there is one.
    pub enabled: bool,
    /// The Ed25519 key that lines are signed with: a path, or, without a slash, the name of a systemd credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            key: None,
        }
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A name without a folder to look in.
    #[error(
        "[manifest] key = \"{}\" is the name of a systemd credential, but systemd gave none: write \
         LoadCredential={}:/path into the unit, or give a path with a slash", .0.display(), .0.display()
    )]
    NoCredentials(PathBuf),
    /// The file cannot be read.
    #[error("cannot read the key {}: {source}; the user that mirrortap runs as has to be able to", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{} holds no Ed25519 {wanted} key in PEM: {problem}; make one with `openssl genpkey -algorithm ed25519`, and its public key \
         with `openssl pkey -pubout`", path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
        /// Private or public.
        wanted: &'static str,
        /// What the reader said.
        problem: String,
    },
}

/// What the scribe needs from outside the output folder.
#[derive(Debug)]
pub struct Prepared {
    /// Tells this run from all others.
    pub(super) run: String,
    pub(super) signer: Option<Box<Signer>>,
}

impl Prepared {
    /// A run without a key.
    pub fn unsigned() -> Self {
        Self {
            run: run_id(),
            signer: None,
        }
    }

    /// The fingerprint of the public key.
    pub(super) fn fingerprint(&self) -> Option<Digest> {
        self.signer.as_deref().map(Signer::fingerprint)
    }
}

impl Config {
    /// Reads the key and names the run; `None` where no manifest is wanted. Relative paths start at `base`.
    ///
    /// # Errors
    /// [`KeyError`], as long as a manifest is wanted.
    pub fn prepare(&self, base: &Path) -> Result<Option<Prepared>, KeyError> {
        if !self.enabled {
            return Ok(None);
        }
        let signer = self.key.as_deref().map(|key| signer(key, base));
        Ok(Some(Prepared {
            signer: signer.transpose()?.map(Box::new),
            ..Prepared::unsigned()
        }))
    }

    /// Every problem that can be seen without reading the key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let empty = self.key.as_ref().is_some_and(|k| k.as_os_str().is_empty());
        let problem = "an empty path; leave it out for a manifest without signatures".to_owned();
        empty.then_some(("key", problem)).into_iter().collect()
    }
}

fn signer(key: &Path, base: &Path) -> Result<Signer, KeyError> {
    let path = if key.components().count() == 1 && !key.is_absolute() {
        let folder = std::env::var_os(CREDENTIALS);
        let folder = folder.ok_or_else(|| KeyError::NoCredentials(key.to_owned()))?;
        PathBuf::from(folder).join(key)
    } else {
        let path = base.join(key);
        warn_if_open(&path);
        path
    };
    Signer::from_pem(&path, &read_small(&path)?)
}

/// The text of a key file.
pub(super) fn read_small(path: &Path) -> Result<String, KeyError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_KEY).read_to_string(&mut text));
    let failed = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    read.map(|_| text).map_err(failed)
}

/// A credential has the rights that systemd gives it; a file has those that somebody chose.
fn warn_if_open(path: &Path) {
    let mode = path.metadata().map_or(0, |facts| facts.mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = format!("{:o}", mode & 0o7777),
            "the key of the manifest can be read by others than its owner; chmod 600"
        );
    }
}

/// 128 bits that no other run has. Not a secret.
fn run_id() -> String {
    let mut bytes = [0_u8; 16];
    let read = File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    if read.is_err() {
        let (first, second) = bytes.split_at_mut(8);
        for half in [first, second] {
            let half_id = RandomState::new().hash_one(time::now().nanos());
            half.copy_from_slice(&half_id.to_be_bytes());
        }
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_on_without_being_asked_for_and_no_two_runs_have_one_name() {
        let config: Config = toml::from_str("").unwrap();
        let [one, two] = [(); 2].map(|()| config.prepare(Path::new(".")).unwrap().unwrap().run);
        assert!(one != two && one.len() == 32);
        let off: Config = toml::from_str("enabled = false\nkey = \"/no/such\"").unwrap();
        assert!(off.prepare(Path::new(".")).unwrap().is_none());
    }

    #[test]
    fn a_key_that_cannot_be_used_is_told_with_what_to_do() {
        let prepare = |key: &str| {
            let config = Config {
                key: Some(key.into()),
                ..Config::default()
            };
            config.prepare(Path::new("/")).unwrap_err().to_string()
        };
        assert!(prepare("no-such-credential").contains("LoadCredential="));
        assert!(prepare("/no/such/key").contains("cannot read the key /no/such/key"));
        assert!(prepare("/proc/self/status").contains("openssl genpkey"));
    }
}
