//! What went wrong, and whether it is worth another try.

use std::error::Error;
use std::time::Duration;

use crate::ship::Trouble;
use crate::time::Timestamp;

/// Of what kind a failure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Whoever asked may not do that.
    Access,
    /// A bucket or a log group is not there.
    Missing,
    /// Too many requests.
    Throttled,
    /// No connection, or no answer in time.
    Unreachable,
    /// There are no credentials, or they have expired.
    Credentials,
    /// The server has a problem of its own.
    Server,
    /// A file of this machine can't be read or written.
    Local,
    /// The request itself is wrong, and would be so again.
    Refused,
}

impl Kind {
    /// Its name in a status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Missing => "missing",
            Self::Throttled => "throttled",
            Self::Unreachable => "unreachable",
            Self::Credentials => "credentials",
            Self::Server => "server",
            Self::Local => "local",
            Self::Refused => "refused",
        }
    }
}

/// A failure: what was being done, to what, and what was answered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// Its kind.
    pub kind: Kind,
    /// AWS's own name of the error, where AWS answered.
    pub code: Option<String>,
    /// The whole sentence.
    pub reason: String,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// Of a kind, with a sentence.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            reason: reason.into(),
            retry_after: None,
        }
    }

    /// A file of this machine, and what the system says of it.
    pub fn local(doing: &str, error: &std::io::Error) -> Self {
        Self::new(Kind::Local, format!("cannot {doing}: {error}"))
    }

    /// Whether AWS gave it this name.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// The failure that another error was made from, as when [`Credentials`](crate::ship::aws::Credentials) failed within a request of `object_store`.
    pub fn within<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return Some(failure);
            }
            next = error.source();
        }
        None
    }

    /// As a status tells it.
    pub fn trouble(&self, since: Timestamp) -> Trouble {
        Trouble {
            kind: self.kind.name().to_owned(),
            reason: self.reason.clone(),
            since: since.secs(),
        }
    }
}
