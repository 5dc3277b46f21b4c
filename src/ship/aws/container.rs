//! The role of a container: ECS tasks and EKS pods.

use std::fs;

use reqwest::Url;
use serde::Deserialize;

use crate::ship::aws::chain::{Look, nothing};
use crate::ship::aws::credentials::Found;
use crate::ship::aws::role::of_credentials;
use crate::ship::aws::{Failure, Kind, Settings, answer, client, expiry, http};

const ECS: &str = "http://169.254.170.2";
/// ECS, EKS, EKS with IPv6: those that may be asked without encryption, beside this machine.
const NEXT_DOOR: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

/// Credentials as containers and instances tell them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Told {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

impl Told {
    pub(super) fn read(text: &str, from: &str) -> Result<Found, Failure> {
        let told: Self = serde_json::from_str(text).map_err(|error| {
            let reason = format!("{from} gave an answer that holds no credentials: {error}");
            Failure::new(Kind::Credentials, reason)
        })?;
        let token = told.token.as_deref().filter(|token| !token.is_empty());
        let found = Found::new(&told.access_key_id, &told.secret_access_key, token, from)?;
        Ok(found.until(told.expiration.as_deref().and_then(expiry::parse)))
    }
}

pub(super) async fn look(settings: &Settings) -> Result<Look, Failure> {
    let Some(url) = address(settings)? else {
        return nothing(format!("neither {RELATIVE} nor {FULL} is set"));
    };
    let from = format!("the container's role ({url})");
    let mut request = http::next_door()?.get(url);
    if let Some(token) = authorization(settings)? {
        request = request.header("authorization", token);
    }
    let text = answer::of(request, &format!("ask {from}"))
        .await
        .map_err(of_credentials)?;
    Told::read(&text, &from).map(Look::from)
}

fn address(settings: &Settings) -> Result<Option<Url>, Failure> {
    let get = |name| settings.environment.get(name);
    if let Some(path) = get(RELATIVE) {
        return client::url(&format!("{ECS}{path}")).map(Some);
    }
    let Some(full) = get(FULL) else {
        return Ok(None);
    };
    let url = client::url(full)?;
    if url.scheme() == "https" || is_next_door(&url) {
        return Ok(Some(url));
    }
    let reason = format!(
        "{FULL} is \"{full}\"; without https only this machine and the addresses of ECS and EKS are asked"
    );
    Err(Failure::new(Kind::Credentials, reason))
}

fn is_next_door(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    http::is_here(url) || NEXT_DOOR.contains(&host.trim_matches(['[', ']']))
}

/// The file is read anew each time: it changes.
fn authorization(settings: &Settings) -> Result<Option<String>, Failure> {
    let get = |name| settings.environment.get(name);
    let Some(file) = get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") else {
        return Ok(get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned));
    };
    match fs::read_to_string(file) {
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(error) => {
            let reason = format!("cannot read the container's token {file}: {error}");
            Err(Failure::new(Kind::Credentials, reason))
        }
    }
}
