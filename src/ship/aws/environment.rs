//! The environment, and what the configuration says beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::ship::aws::profile;

/// The variables that begin with `AWS_`, and `HOME`. Some hold secrets, so it prints only names.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// That of this process. Text that is not UTF-8 is none of AWS's.
    pub fn of_process() -> Self {
        let all = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let ours = name.starts_with("AWS_") || name == "HOME";
            let value = ours.then(|| value.into_string().ok())?;
            value.map(|value| (name, value))
        });
        let mut variables: BTreeMap<_, _> = all.collect();
        // a service may have none, and a home all the same
        let home = std::env::home_dir().and_then(|home| home.into_os_string().into_string().ok());
        if let Some(home) = home {
            variables.entry("HOME".to_owned()).or_insert(home);
        }
        Self { variables }
    }

    /// With these variables and no others.
    pub fn with<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            variables: variables.into_iter().map(owned).collect(),
        }
    }

    /// A variable; one that is empty is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    pub(super) fn is_true(&self, name: &str) -> bool {
        let value = self.get(name);
        value.is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }

    /// An address that takes the place of AWS's for a service, as `AWS_ENDPOINT_URL_STS` or `AWS_ENDPOINT_URL` name it.
    pub(super) fn endpoint(&self, service: &str) -> Option<&str> {
        let own = format!("AWS_ENDPOINT_URL_{service}");
        self.get(&own).or_else(|| self.get("AWS_ENDPOINT_URL"))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// Where credentials and the region are looked for.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The profile that the configuration names.
    pub profile: Option<String>,
    /// The region that it names.
    pub region: Option<String>,
    /// The environment.
    pub environment: Environment,
}

impl Settings {
    /// What the configuration says, in the environment of this process.
    pub fn new(profile: Option<&str>, region: Option<&str>) -> Self {
        Self {
            profile: profile.map(str::to_owned),
            region: region.map(str::to_owned),
            environment: Environment::of_process(),
        }
    }

    /// Files that may have to be read, now and later: for walls that leave nothing else open. They need not be there.
    pub fn files(&self) -> Vec<PathBuf> {
        let environment = &self.environment;
        let named = [
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "AWS_CA_BUNDLE",
        ];
        let named = named.into_iter().filter_map(|name| environment.get(name));
        let profiles = [self.config_file(), self.credentials_file()];
        let profiles = profiles.into_iter().flatten();
        profiles.chain(named.map(PathBuf::from)).collect()
    }

    /// Those of them that hold tokens, and are replaced by and by; also that of a profile.
    pub fn token_files(&self) -> Vec<PathBuf> {
        let named = [
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ];
        let named = named
            .into_iter()
            .filter_map(|name| self.environment.get(name));
        let named = named.map(PathBuf::from);
        named.chain(profile::token_file(self)).collect()
    }

    /// An address that the environment puts in the place of AWS's for a service.
    pub fn endpoint(&self, service: &str) -> Option<&str> {
        self.environment.endpoint(service)
    }

    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.file("AWS_CONFIG_FILE", "config")
    }

    pub(super) fn credentials_file(&self) -> Option<PathBuf> {
        self.file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    }

    fn file(&self, variable: &str, name: &str) -> Option<PathBuf> {
        let home = || self.environment.get("HOME").map(PathBuf::from);
        let named = self.environment.get(variable);
        match named.and_then(|path| path.strip_prefix("~/")) {
            Some(rest) => home().map(|home| home.join(rest)),
            None => named
                .map(PathBuf::from)
                .or_else(|| home().map(|home| home.join(".aws").join(name))),
        }
    }

    /// The name of the profile that is asked for, if one is: by the configuration, or by the environment.
    pub(super) fn profile_name(&self) -> Option<&str> {
        let environment = || {
            let environment = &self.environment;
            environment
                .get("AWS_PROFILE")
                .or_else(|| environment.get("AWS_DEFAULT_PROFILE"))
        };
        self.profile.as_deref().or_else(environment)
    }
}
