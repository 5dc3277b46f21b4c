//! Credentials that are there when they are asked for, and fresh.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

use crate::ship::aws::{Failure, Kind, Settings, chain};
use crate::time::{self, Monotonic, Timestamp};

/// So long before their end, at most, new ones are asked for; shorter ones after three quarters of their life.
const EARLY: Duration = Duration::from_secs(300);
/// Files and answers that name no end are looked at again after this time: somebody may have changed them.
const AGAIN: Duration = Duration::from_secs(300);
/// While old ones are still good, new ones are asked for no more often than this.
const PAUSE: Duration = Duration::from_secs(10);

/// What was found, and where.
pub(super) struct Found {
    pub(super) credential: AwsCredential,
    /// Their end, if they have one.
    pub(super) expires: Option<Timestamp>,
    /// Where they came from, as a person would say it.
    pub(super) from: String,
}

impl Found {
    /// Keys that have no end. They go into headers, so they are looked at before.
    pub(super) fn new(
        key_id: &str,
        secret_key: &str,
        token: Option<&str>,
        from: impl Into<String>,
    ) -> Result<Self, Failure> {
        let from = from.into();
        let parts = [Some(key_id), Some(secret_key), token];
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic());
        if !parts.into_iter().flatten().all(plain) {
            let reason = format!(
                "the credentials of {from} are empty, or have blanks or other characters in them that keys never have"
            );
            return Err(Failure::new(Kind::Credentials, reason));
        }
        Ok(Self {
            credential: AwsCredential {
                key_id: key_id.to_owned(),
                secret_key: secret_key.to_owned(),
                token: token.map(str::to_owned),
            },
            expires: None,
            from,
        })
    }

    pub(super) const fn until(mut self, expires: Option<Timestamp>) -> Self {
        self.expires = expires;
        self
    }
}

/// Credentials that are kept until shortly before their end. What fails to be renewed is used for as long as it is good.
pub struct Credentials {
    settings: Settings,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    credential: Arc<AwsCredential>,
    expires: Option<Timestamp>,
    from: String,
    renew: Timestamp,
    /// Not asked for again before this.
    pause: Option<Monotonic>,
}

impl Kept {
    fn new(found: Found, now: Timestamp) -> Self {
        let renew = match found.expires {
            Some(end) => end.saturating_sub(EARLY.min(end.since(now) / 4)),
            None => now.saturating_add(AGAIN),
        };
        Self {
            credential: Arc::new(found.credential),
            expires: found.expires,
            from: found.from,
            renew,
            pause: None,
        }
    }

    fn good(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|end| now < end)
    }

    fn fresh(&self, now: Timestamp) -> bool {
        let paused = || self.pause.is_some_and(|until| time::monotonic() < until);
        self.good(now) && (now < self.renew || paused())
    }
}

impl Credentials {
    /// Nothing is looked for before somebody asks.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            kept: Mutex::new(None),
        })
    }

    /// The credentials, and where they come from.
    ///
    /// # Errors
    /// There are none: all places that were looked at, and what was found there.
    pub async fn get(&self) -> Result<(Arc<AwsCredential>, String), Failure> {
        let mut kept = self.kept.lock().await;
        let now = time::now();
        if !kept.as_ref().is_some_and(|kept| kept.fresh(now)) {
            let found = chain::find(&self.settings).await;
            renew(&mut kept, found, now)?;
        }
        let answer = kept
            .as_ref()
            .map(|kept| (kept.credential.clone(), kept.from.clone()));
        answer.ok_or_else(|| Failure::new(Kind::Credentials, "there are no credentials"))
    }

    /// Forgets what is kept, when AWS would not have it.
    pub async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

fn renew(
    kept: &mut Option<Kept>,
    found: Result<Found, Failure>,
    now: Timestamp,
) -> Result<(), Failure> {
    match (found, kept.as_mut().filter(|kept| kept.good(now))) {
        (Ok(found), _) => *kept = Some(Kept::new(found, now)),
        (Err(_), Some(old)) => old.pause = Some(time::monotonic().plus(PAUSE)),
        (Err(failure), None) => return Err(failure),
    }
    Ok(())
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

type Answer<'a> =
    Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'a>>;

impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    fn get_credential<'life, 'answer>(&'life self) -> Answer<'answer>
    where
        'life: 'answer,
        Self: 'answer,
    {
        Box::pin(async {
            let (credential, _) = self.get().await.map_err(|failure| {
                let source = Box::new(failure);
                object_store::Error::Generic {
                    store: "S3",
                    source,
                }
            })?;
            Ok(credential)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(expires: Option<u64>) -> Found {
        let found = Found::new("AKIA", "secret", None, "a test").unwrap();
        found.until(expires.map(|secs| Timestamp::from_parts(secs, 0)))
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_parts(secs, 0)
    }

    #[test]
    fn they_are_renewed_five_minutes_before_their_end_and_short_ones_later() {
        let hour = Kept::new(found(Some(4600)), at(1000));
        assert!(hour.fresh(at(4299)) && !hour.fresh(at(4300)) && hour.good(at(4599)));
        let minute = Kept::new(found(Some(1060)), at(1000));
        assert!(minute.fresh(at(1044)) && !minute.fresh(at(1045)) && !minute.good(at(1060)));
        let endless = Kept::new(found(None), at(1000));
        assert!(!endless.fresh(at(1300)) && endless.good(at(1_000_000)));
    }

    #[test]
    fn what_can_t_be_renewed_is_used_until_its_end() {
        let mut kept = Some(Kept::new(found(Some(1100)), at(1000)));
        let failed = || Err(Failure::new(Kind::Credentials, "no answer"));
        renew(&mut kept, failed(), at(1099)).unwrap();
        assert!(kept.as_ref().unwrap().fresh(at(1099)), "for a pause");
        assert!(renew(&mut kept, failed(), at(1100)).is_err());
        renew(&mut kept, Ok(found(Some(2000))), at(1100)).unwrap();
        assert!(kept.as_ref().unwrap().fresh(at(1101)));
    }

    #[test]
    fn keys_that_would_break_a_header_are_refused() {
        for (key, secret, token) in [
            ("", "s", None),
            ("k", "", None),
            ("k\n", "s", None),
            ("k", "s", Some("t\u{7f}")),
        ] {
            assert!(Found::new(key, secret, token, "a test").is_err());
        }
    }
}
