//! The places where credentials are looked for, one after the other.

use crate::ship::aws::credentials::Found;
use crate::ship::aws::profile::{self, Profiles};
use crate::ship::aws::{Failure, Kind, Settings, container, instance, role};

/// What a place had.
pub(super) enum Look {
    Found(Box<Found>),
    /// Nothing, and why; the next place is looked at.
    Nothing(String),
}

impl From<Found> for Look {
    fn from(found: Found) -> Self {
        Self::Found(Box::new(found))
    }
}

pub(super) fn nothing(why: impl Into<String>) -> Result<Look, Failure> {
    Ok(Look::Nothing(why.into()))
}

/// The first that are found. A profile that the configuration names is the only place then.
pub(super) async fn find(settings: &Settings) -> Result<Found, Failure> {
    let mut looked = Vec::new();
    let mut place = 0;
    while let Some(look) = look(settings, place).await? {
        match look {
            Look::Found(found) => return Ok(*found),
            Look::Nothing(why) => looked.push(why),
        }
        place += 1;
    }
    let reason = format!("found no credentials: {}", looked.join("; "));
    Err(Failure::new(Kind::Credentials, reason))
}

async fn look(settings: &Settings, place: u8) -> Result<Option<Look>, Failure> {
    let look = match (place, &settings.profile) {
        (0, Some(name)) => profile::look(settings, name).await,
        (_, Some(_)) => return Ok(None),
        (0, None) => environment(settings),
        (1, None) => asked_or_default(settings).await,
        (2, None) => role::web_identity_of_environment(settings).await,
        (3, None) => container::look(settings).await,
        (4, None) => instance::look(settings).await,
        _ => return Ok(None),
    };
    look.map(Some)
}

/// The keys in the environment.
pub(super) fn environment(settings: &Settings) -> Result<Look, Failure> {
    let get = |name| settings.environment.get(name);
    let from = "the environment (AWS_ACCESS_KEY_ID)";
    match (get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY")) {
        (Some(key), Some(secret)) => {
            Found::new(key, secret, get("AWS_SESSION_TOKEN"), from).map(Look::from)
        }
        (None, None) => nothing("AWS_ACCESS_KEY_ID is not set"),
        (Some(_), None) => half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        (None, Some(_)) => half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    }
}

fn half(there: &str, missing: &str) -> Result<Look, Failure> {
    let reason = format!("{there} is set and {missing} is not; set both, or neither");
    Err(Failure::new(Kind::Credentials, reason))
}

/// A profile that the environment names must be there; the default one need not.
async fn asked_or_default(settings: &Settings) -> Result<Look, Failure> {
    if let Some(name) = settings.profile_name() {
        return profile::look(settings, name).await;
    }
    let profiles = Profiles::read(settings)?;
    if profiles.get(profile::DEFAULT).is_none() {
        return nothing(format!("no profile \"default\" in {}", profiles.places()));
    }
    profile::look(settings, profile::DEFAULT).await
}
