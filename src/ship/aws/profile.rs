//! Profiles: `~/.aws/config` and `~/.aws/credentials`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use ini::{Ini, ParseOption, Properties};
use object_store::aws::AwsCredential;

use crate::ship::aws::chain::{self, Look, nothing};
use crate::ship::aws::credentials::Found;
use crate::ship::aws::role::{self, Role};
use crate::ship::aws::{Failure, Kind, Settings, container, instance};

pub(super) const DEFAULT: &str = "default";
/// Profiles that take a role from each other; more are a mistake.
const MOST_ROLES: usize = 8;

/// All profiles of both files. Keys of the credentials file win.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    all: BTreeMap<String, BTreeMap<String, String>>,
    places: Vec<String>,
}

/// What a profile says.
#[derive(Clone, Copy)]
pub(super) struct Profile<'p> {
    name: &'p str,
    values: &'p BTreeMap<String, String>,
}

impl Profiles {
    /// Files that are not there hold nothing; one that can't be read is an error.
    pub(super) fn read(settings: &Settings) -> Result<Self, Failure> {
        let mut profiles = Self::default();
        profiles.add(settings.config_file(), in_config)?;
        profiles.add(settings.credentials_file(), in_credentials)?;
        if profiles.places.is_empty() {
            profiles.places.push(
                "any file (HOME is not set, and neither is AWS_SHARED_CREDENTIALS_FILE)".to_owned(),
            );
        }
        Ok(profiles)
    }

    fn add(
        &mut self,
        path: Option<PathBuf>,
        name: fn(&str) -> Option<&str>,
    ) -> Result<(), Failure> {
        let Some(path) = path else {
            return Ok(());
        };
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.places.push(format!("{shown} (not there)"));
                return Ok(());
            }
            Err(error) => return Err(damaged(&format!("cannot read {shown}: {error}"))),
        };
        self.places.push(shown.to_string());
        let ini = Ini::load_from_str_opt(&text, options())
            .map_err(|error| damaged(&format!("cannot read {shown}: {error}")))?;
        for (section, values) in &ini {
            if let Some(name) = section.map(str::trim).and_then(name) {
                self.merge(name, values);
            }
        }
        Ok(())
    }

    fn merge(&mut self, name: &str, values: &Properties) {
        let profile = self.all.entry(name.to_owned()).or_default();
        for (key, value) in values.iter() {
            profile.insert(key.to_ascii_lowercase(), value.trim().to_owned());
        }
    }

    /// The files, for a person.
    pub(super) fn places(&self) -> String {
        self.places.join(" and ")
    }

    pub(super) fn get<'p>(&'p self, name: &'p str) -> Option<Profile<'p>> {
        let values = self.all.get(name)?;
        Some(Profile { name, values })
    }

    fn need<'p>(&'p self, name: &'p str) -> Result<Profile<'p>, Failure> {
        self.get(name).ok_or_else(|| {
            damaged(&format!(
                "there is no profile \"{name}\" in {}",
                self.places()
            ))
        })
    }
}

/// `[profile name]`, and `[default]`.
fn in_config(section: &str) -> Option<&str> {
    let name = section.strip_prefix("profile").unwrap_or_default();
    let apart = name.starts_with(char::is_whitespace).then(|| name.trim());
    apart.or_else(|| (section == DEFAULT).then_some(section))
}

/// `[name]`.
const fn in_credentials(section: &str) -> Option<&str> {
    Some(section)
}

/// As AWS reads them: a value goes as it is to the end of its line.
fn options() -> ParseOption {
    ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        enabled_indented_mutiline_value: true,
        ..ParseOption::default()
    }
}

fn damaged(reason: &str) -> Failure {
    Failure::new(Kind::Credentials, reason)
}

impl<'p> Profile<'p> {
    pub(super) fn value(&self, key: &str) -> Option<&'p str> {
        let value = self.values.get(key).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    fn keys(&self) -> Result<Look, Failure> {
        let from = format!("the profile \"{}\"", self.name);
        let token = self.value("aws_session_token");
        let (key, secret) = ("aws_access_key_id", "aws_secret_access_key");
        match (self.value(key), self.value(secret)) {
            (Some(key), Some(secret)) => Found::new(key, secret, token, from).map(Look::from),
            (None, None) => self.other(),
            _ => Err(damaged(&format!(
                "{from} has only one of {key} and {secret}"
            ))),
        }
    }

    /// Ways that are not gone here, and what to do instead.
    fn other(&self) -> Result<Look, Failure> {
        let name = self.name;
        let refused = |what: &str, why: &str| {
            Err(damaged(&format!(
                "the profile \"{name}\" gets its credentials by {what}, which this program does not do: {why}; give it a role, or keys"
            )))
        };
        if self.value("credential_process").is_some() {
            return refused("credential_process", "it starts no other program");
        }
        let sign_on = ["sso_session", "sso_start_url", "login_session"];
        if sign_on.iter().any(|key| self.value(key).is_some()) {
            return refused("a sign-on", "it asks for a person in a browser");
        }
        nothing(format!("the profile \"{name}\" has no keys and no role"))
    }

    /// The role that it takes, if it takes one.
    fn role(&self) -> Result<Option<Role<'p>>, Failure> {
        let Some(arn) = self.value("role_arn") else {
            return Ok(None);
        };
        if self.value("mfa_serial").is_some() {
            return Err(damaged(&format!(
                "the profile \"{}\" wants a code of a second factor (mfa_serial), which nobody is here to type",
                self.name
            )));
        }
        Ok(Some(Role {
            arn,
            session: self.value("role_session_name"),
            external_id: self.value("external_id"),
            seconds: self.value("duration_seconds"),
        }))
    }
}

/// What begins a line of profiles that take roles from each other.
enum Origin<'p> {
    Keys(Profile<'p>),
    WebIdentity(&'p str),
    Source(&'p str),
}

/// The credentials of a profile.
pub(super) async fn look(settings: &Settings, name: &str) -> Result<Look, Failure> {
    let profiles = Profiles::read(settings)?;
    let (mut roles, origin) = line(&profiles, name)?;
    let first = match origin {
        Origin::Keys(profile) => profile.keys()?,
        Origin::WebIdentity(file) => {
            let role = roles.pop().unwrap_or_default();
            role::web_identity(settings, file, &role).await?.into()
        }
        Origin::Source(source) => named(settings, source, name).await?,
    };
    let mut found = match first {
        Look::Found(found) => found,
        none => return Ok(none),
    };
    while let Some(role) = roles.pop() {
        let base: &AwsCredential = &found.credential;
        found = Box::new(role::assume(settings, base, &role).await?);
    }
    Ok(Look::Found(found))
}

/// The token with which the roles of the profile that is asked for begin, where that is what they begin with.
pub(super) fn token_file(settings: &Settings) -> Option<PathBuf> {
    // what is wrong with them is told when they are needed
    let profiles = Profiles::read(settings).ok()?;
    let (_, origin) = line(&profiles, settings.profile_name().unwrap_or(DEFAULT)).ok()?;
    match origin {
        Origin::WebIdentity(file) => Some(file.into()),
        Origin::Keys(_) | Origin::Source(_) => None,
    }
}

/// The roles that are taken, the last one first, and where the first keys come from.
fn line<'p>(profiles: &'p Profiles, name: &'p str) -> Result<(Vec<Role<'p>>, Origin<'p>), Failure> {
    let mut profile = profiles.need(name)?;
    let mut roles = Vec::new();
    while let Some(role) = profile.role()? {
        roles.push(role);
        if roles.len() > MOST_ROLES {
            let reason = format!("the profile \"{name}\" takes roles in a circle (source_profile)");
            return Err(damaged(&reason));
        }
        match (
            profile.value("source_profile"),
            profile.value("credential_source"),
            profile.value("web_identity_token_file"),
        ) {
            (Some(source), ..) if source == profile.name => break,
            (Some(source), ..) => profile = profiles.need(source)?,
            (_, Some(source), _) => return Ok((roles, Origin::Source(source))),
            (.., Some(file)) => return Ok((roles, Origin::WebIdentity(file))),
            (None, None, None) => {
                return Err(damaged(&format!(
                    "the profile \"{}\" has a role_arn and no source_profile, credential_source or web_identity_token_file",
                    profile.name
                )));
            }
        }
    }
    Ok((roles, Origin::Keys(profile)))
}

/// `credential_source`: another place than a profile.
async fn named(settings: &Settings, source: &str, profile: &str) -> Result<Look, Failure> {
    let look = match source {
        "Environment" => chain::environment(settings)?,
        "EcsContainer" => container::look(settings).await?,
        "Ec2InstanceMetadata" => instance::look(settings).await?,
        _ => Look::Nothing("it is none of Environment, EcsContainer, Ec2InstanceMetadata".into()),
    };
    match look {
        Look::Nothing(why) => Err(damaged(&format!(
            "the profile \"{profile}\" has credential_source = {source}: {why}"
        ))),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::aws::Environment;

    #[test]
    fn the_token_that_a_profile_begins_with_is_named_for_walls() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config");
        let text = "[profile a]\nrole_arn = x\nsource_profile = b\n\
                    [profile b]\nrole_arn = y\nweb_identity_token_file = /run/elsewhere/token\n";
        fs::write(&config, text).unwrap();
        let of = |profile| Settings {
            profile: Some(String::from(profile)),
            region: None,
            environment: Environment::with([("AWS_CONFIG_FILE", config.to_str().unwrap())]),
        };
        let expected = PathBuf::from("/run/elsewhere/token");
        assert_eq!(of("a").token_files(), [expected]);
        assert!(of("c").token_files().is_empty());
    }
}
