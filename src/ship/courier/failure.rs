//! Why a file did not arrive, and whether it may still.
//!
//! Takes: what a destination answered. Gives: [`Failure`]. Holds: everything that somebody can mend, at the destination or in the configuration, is tried for
//! ever; only what no attempt can change is refused.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::ship::aws::{self, Kind};
use crate::ship::courier::wire::Answer;

/// A file that did not arrive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// It may later.
    Trouble {
        /// What stands in the way.
        kind: Kind,
        /// What was being done, to what, and what was answered.
        reason: String,
        /// How long the destination wants to be left alone.
        after: Option<Duration>,
        /// Whether it may be this file's alone, with others going on.
        own: bool,
    },
    /// The disk does not give it back, at this attempt.
    Unread(String),
    /// It never will, and why.
    Refused(String),
    /// It is not there any more: given up, or replaced meanwhile.
    Gone,
}

impl Failure {
    /// Something on this machine.
    pub(super) fn local(doing: &str, error: &dyn Error) -> Self {
        Self::Trouble {
            kind: Kind::Local,
            reason: format!("{doing}: {}", told(error)),
            after: None,
            own: false,
        }
    }

    /// The same, and whose credentials were not taken, where that is what stands in the way.
    pub(super) fn with(self, from: &str) -> Self {
        match self {
            Self::Trouble {
                kind: kind @ (Kind::Access | Kind::Credentials),
                reason,
                after,
                own,
            } => Self::Trouble {
                kind,
                reason: format!("{reason} (credentials of {from})"),
                after,
                own,
            },
            other => other,
        }
    }

    /// A file that can't be read: what the disk has lost it will not give another time, or only after a while.
    pub(super) fn read(doing: &str, error: &io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => Self::Gone,
            (io::ErrorKind::UnexpectedEof, _) => Self::Refused(format!("{doing}: {error}")),
            (_, Some(libc::EIO | libc::EUCLEAN)) => Self::Unread(format!("{doing}: {error}")),
            _ => Self::local(doing, error),
        }
    }

    /// Whether it is of this machine, and so of one file.
    pub(super) fn is_local(&self) -> bool {
        let local = Kind::Local;
        matches!(self, Self::Trouble { kind, .. } if *kind == local)
    }

    /// Whether it may be of the one file that was sent.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Trouble { own: true, .. })
    }

    /// What an answer means for the file that was being sent.
    pub(super) fn of(doing: &str, answer: &Answer) -> Self {
        if FILE_AT_FAULT.contains(&answer.code.as_str()) {
            return Self::Refused(format!("{doing}: {answer}"));
        }
        let kind = kind(answer);
        // an answer to this request, of which nothing says that it concerns the whole bucket
        let answered = (400..500).contains(&answer.status)
            && matches!(kind, Kind::Server | Kind::Access)
            && !ACCESS.contains(&answer.code.as_str());
        Self::Trouble {
            kind,
            reason: format!("{doing}: {answer}"),
            after: answer.after,
            own: answered || answer.code == "NoSuchUpload",
        }
    }
}

impl From<aws::Failure> for Failure {
    fn from(failure: aws::Failure) -> Self {
        Self::Trouble {
            kind: match failure.kind {
                // what asks for credentials is not the file's fault
                Kind::Refused => Kind::Server,
                kind => kind,
            },
            reason: failure.reason,
            after: failure.retry_after,
            own: false,
        }
    }
}

/// The key is too long, the file too large: no attempt changes that.
const FILE_AT_FAULT: [&str; 3] = ["KeyTooLongError", "EntityTooLarge", "InvalidURI"];
const CREDENTIALS: [&str; 10] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "RequestTimeTooSkewed",
    "RequestExpired",
];
const THROTTLED: [&str; 5] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
];
const MISSING: [&str; 2] = ["NoSuchBucket", "ResourceNotFoundException"];
/// Told with other numbers than 403: the region, and keys of KMS.
const ACCESS: [&str; 4] = [
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
];

fn kind(answer: &Answer) -> Kind {
    let code = answer.code.as_str();
    let is_of = |known: &[&str]| known.contains(&code);
    match answer.status {
        _ if is_of(&CREDENTIALS) => Kind::Credentials,
        _ if is_of(&THROTTLED) => Kind::Throttled,
        _ if is_of(&MISSING) => Kind::Missing,
        _ if is_of(&ACCESS) || code.starts_with("KMS.") => Kind::Access,
        0 => Kind::Unreachable,
        429 | 503 => Kind::Throttled,
        401 | 403 | 300..=399 => Kind::Access,
        404 => Kind::Missing,
        _ => Kind::Server,
    }
}

/// An error with what is behind it, each once.
pub(super) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(cause) = behind {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        behind = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Answer {
        Answer {
            status,
            code: code.to_owned(),
            ..Answer::default()
        }
    }

    #[test]
    fn what_somebody_can_mend_is_tried_again_and_has_a_kind() {
        for (status, code, kind) in [
            (0, "", Kind::Unreachable),
            (403, "AccessDenied", Kind::Access),
            (403, "InvalidAccessKeyId", Kind::Credentials),
            (400, "ExpiredToken", Kind::Credentials),
            (403, "RequestTimeTooSkewed", Kind::Credentials),
            (404, "NoSuchBucket", Kind::Missing),
            (503, "SlowDown", Kind::Throttled),
            (429, "", Kind::Throttled),
            (400, "ThrottlingException", Kind::Throttled),
            (500, "InternalError", Kind::Server),
            (400, "InvalidStorageClass", Kind::Server),
            (400, "KMS.DisabledException", Kind::Access),
            (301, "PermanentRedirect", Kind::Access),
        ] {
            let failure = Failure::of("putting", &answer(status, code));
            let Failure::Trouble { kind: told, .. } = failure else {
                panic!("{code} is refused");
            };
            assert_eq!(told, kind, "{status} {code}");
        }
    }

    #[test]
    fn an_answer_that_may_concern_one_file_alone_is_told_from_one_that_concerns_the_bucket() {
        for (status, code, own) in [
            (400, "BadDigest", true),
            (403, "AccessDenied", true),
            (412, "PreconditionFailed", true),
            (404, "NoSuchUpload", true),
            (404, "NoSuchBucket", false),
            (403, "InvalidAccessKeyId", false),
            (400, "IllegalLocationConstraintException", false),
            (429, "", false),
            (503, "SlowDown", false),
            (500, "InternalError", false),
            (0, "", false),
        ] {
            let failure = Failure::of("putting", &answer(status, code));
            assert_eq!(failure.is_own(), own, "{status} {code}");
        }
    }

    #[test]
    fn a_disk_may_give_back_later_what_it_does_not_now() {
        let of = |number| Failure::read("reading", &io::Error::from_raw_os_error(number));
        assert!(matches!(of(libc::EIO), Failure::Unread(_)));
        assert!(of(libc::EACCES).is_local());
        assert_eq!(of(libc::ENOENT), Failure::Gone);
    }

    #[test]
    fn what_no_attempt_can_change_is_refused() {
        let failure = Failure::of("putting", &answer(400, "KeyTooLongError"));
        assert!(matches!(failure, Failure::Refused(_)));
    }
}
