//! The region, and what follows from it.

use crate::ship::aws::profile::{DEFAULT, Profiles};
use crate::ship::aws::{Failure, Kind, Settings, instance};

/// The region: of the configuration, the environment, the profile, or the instance.
///
/// # Errors
/// None of them says one, or what is said is no region.
pub async fn region(settings: &Settings) -> Result<String, Failure> {
    if let Some(known) = known(settings)? {
        return Ok(known);
    }
    match instance::region(settings).await {
        Ok(region) => checked(region, "the instance's metadata"),
        Err(why) => {
            let name = settings.profile_name().unwrap_or(DEFAULT);
            let reason = format!(
                "found no region: the configuration names none, AWS_REGION is not set, the profile \"{name}\" has none, and {why}; set region = \"…\""
            );
            Err(Failure::new(Kind::Credentials, reason))
        }
    }
}

/// The region, where no instance has to be asked.
pub(super) fn known(settings: &Settings) -> Result<Option<String>, Failure> {
    let environment = &settings.environment;
    let said = [
        (settings.region.as_deref(), "the configuration"),
        (environment.get("AWS_REGION"), "AWS_REGION"),
        (environment.get("AWS_DEFAULT_REGION"), "AWS_DEFAULT_REGION"),
    ];
    for (region, whose) in said {
        if let Some(region) = region {
            return checked(region.to_owned(), whose).map(Some);
        }
    }
    let profiles = Profiles::read(settings)?;
    let name = settings.profile_name().unwrap_or(DEFAULT);
    let profile = profiles.get(name);
    let region = profile.and_then(|profile| profile.value("region"));
    region
        .map(|region| checked(region.to_owned(), &format!("the profile \"{name}\"")))
        .transpose()
}

/// It becomes a part of an address, so it is looked at.
fn checked(region: String, whose: &str) -> Result<String, Failure> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !region.is_empty() && region.len() <= 40 && region.bytes().all(good) {
        return Ok(region);
    }
    let reason = format!("the region of {whose} is \"{region}\"; a region looks like eu-central-1");
    Err(Failure::new(Kind::Credentials, reason))
}

/// What addresses in that region end with.
pub fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    }
}
