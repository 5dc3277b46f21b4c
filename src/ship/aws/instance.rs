//! The role of an instance, by its metadata service (IMDSv2; the first version is never asked).

use reqwest::Client;
use serde::Deserialize;

use crate::ship::aws::chain::{Look, nothing};
use crate::ship::aws::container::Told;
use crate::ship::aws::{Failure, Kind, Settings, answer, client, http};

const IPV4: &str = "http://169.254.169.254";
const IPV6: &str = "http://[fd00:ec2::254]";
const ROLES: &str = "latest/meta-data/iam/security-credentials/";
const REGION: &str = "latest/meta-data/placement/region";
/// A token is used for one round of questions.
const SECONDS: &str = "60";

/// Whether it was good, where it was not.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Outcome {
    code: String,
    message: String,
}

/// A metadata service that has given a token.
struct Service {
    http: Client,
    address: String,
    token: String,
}

impl Service {
    async fn open(address: String) -> Result<Self, Failure> {
        let http = http::next_door()?;
        let url = client::url(&format!("{address}/latest/api/token"))?;
        let request = http.put(url);
        let request = request.header("x-aws-ec2-metadata-token-ttl-seconds", SECONDS);
        let doing = format!("ask the instance's metadata at {address} for a token");
        let token = answer::of(request.header("content-length", "0"), &doing).await?;
        Ok(Self {
            http,
            address,
            token: token.trim().to_owned(),
        })
    }

    async fn get(&self, path: &str) -> Result<String, Failure> {
        let url = client::url(&format!("{}/{path}", self.address))?;
        let request = self.http.get(url);
        let request = request.header("x-aws-ec2-metadata-token", &self.token);
        let doing = format!("ask the instance's metadata at {} for {path}", self.address);
        let text = answer::of(request, &doing).await?;
        Ok(text.trim().to_owned())
    }
}

/// Its address, or why it is not asked.
fn address(settings: &Settings) -> Result<String, String> {
    let environment = &settings.environment;
    if environment.is_true("AWS_EC2_METADATA_DISABLED") {
        return Err(
            "the instance's metadata is not asked (AWS_EC2_METADATA_DISABLED is set)".to_owned(),
        );
    }
    let mode = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    let usual = match mode {
        Some(mode) if mode.eq_ignore_ascii_case("ipv6") => IPV6,
        _ => IPV4,
    };
    let named = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    Ok(named.unwrap_or(usual).trim_end_matches('/').to_owned())
}

pub(super) async fn look(settings: &Settings) -> Result<Look, Failure> {
    let address = match address(settings) {
        Ok(address) => address,
        Err(why) => return nothing(why),
    };
    let service = match Service::open(address.clone()).await {
        Ok(service) => service,
        Err(failure) => {
            return nothing(format!(
                "{failure} (no instance, its metadata is off, or this is a container and the hop limit is 1)"
            ));
        }
    };
    let role = match service.get(ROLES).await {
        Ok(role) => role.lines().next().unwrap_or_default().trim().to_owned(),
        Err(failure) if failure.kind == Kind::Missing => String::new(),
        Err(failure) => return nothing(failure.reason),
    };
    if role.is_empty() {
        return nothing(format!(
            "the instance has no role (asked its metadata at {address}); give it an instance profile"
        ));
    }
    credentials(&service, &role).await
}

async fn credentials(service: &Service, role: &str) -> Result<Look, Failure> {
    let text = match service.get(&format!("{ROLES}{role}")).await {
        Ok(text) => text,
        Err(failure) => return nothing(failure.reason),
    };
    let outcome: Outcome = serde_json::from_str(&text).unwrap_or_default();
    if !outcome.code.is_empty() && outcome.code != "Success" {
        let Outcome { code, message } = outcome;
        return nothing(format!(
            "the instance's role {role} gives no credentials: {code} {message}"
        ));
    }
    let from = format!("the instance's role {role}");
    Told::read(&text, &from).map(Look::from)
}

/// The region that the instance is in.
pub(super) async fn region(settings: &Settings) -> Result<String, String> {
    let address = address(settings)?;
    let service = Service::open(address).await.map_err(|f| f.reason)?;
    service.get(REGION).await.map_err(|failure| failure.reason)
}
