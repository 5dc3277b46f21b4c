//! Ed25519 keys, as openssl writes them.
//!
//! Takes: PEM files. Gives: [`Signer`] and [`PublicKey`]. Holds: a signature is over the line as it is without the
//! signature; the private key is never printed, and is wiped from memory when it is no longer needed.

use std::fmt;
use std::path::Path;

use base64ct::{Base64, Encoding};
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::spool::manifest::config::read_small;
use crate::spool::manifest::{Digest, KeyError, digest_bytes};

/// A private key.
pub struct Signer {
    key: SigningKey,
    public: PublicKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public.fingerprint)
    }
}

impl Signer {
    /// From the text of a PKCS#8 file.
    pub(super) fn from_pem(path: &Path, text: &str) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8_pem(text);
        let key = key.map_err(|e| no_key(path, "private", &e))?;
        let public = PublicKey::new(path, key.verifying_key())?;
        Ok(Self { key, public })
    }

    /// The fingerprint of the public key.
    pub fn fingerprint(&self) -> Digest {
        self.public.fingerprint
    }

    /// The signature of some bytes, in base64.
    pub(super) fn sign(&self, bytes: &[u8]) -> String {
        Base64::encode_string(&self.key.sign(bytes).to_bytes())
    }
}

/// A public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    key: VerifyingKey,
    fingerprint: Digest,
}

impl PublicKey {
    fn new(path: &Path, key: VerifyingKey) -> Result<Self, KeyError> {
        let der = key.to_public_key_der();
        let der = der.map_err(|e| no_key(path, "public", &e))?;
        let fingerprint = digest_bytes(der.as_bytes());
        Ok(Self { key, fingerprint })
    }

    /// Reads what `openssl pkey -pubout` wrote.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_public_key_pem(&read_small(path)?);
        Self::new(path, key.map_err(|e| no_key(path, "public", &e))?)
    }

    /// SHA-256 of its DER form.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Whether `signature`, in base64, is this key's for `bytes`.
    pub(super) fn signed(&self, bytes: &[u8], signature: &str) -> bool {
        let mut raw = [0; Signature::BYTE_SIZE];
        let whole =
            Base64::decode(signature, &mut raw).is_ok_and(|s| s.len() == Signature::BYTE_SIZE);
        whole
            && self
                .key
                .verify_strict(bytes, &Signature::from_bytes(&raw))
                .is_ok()
    }
}

fn no_key(path: &Path, wanted: &'static str, problem: &dyn fmt::Display) -> KeyError {
    KeyError::NoKey {
        path: path.to_owned(),
        wanted,
        problem: problem.to_string(),
    }
}
