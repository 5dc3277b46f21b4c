//! Roles: `AssumeRole` and `AssumeRoleWithWebIdentity` of STS.

use std::fs;
use std::io::ErrorKind;

use object_store::aws::AwsCredential;
use reqwest::Url;

use crate::ship::aws::answer::between;
use crate::ship::aws::chain::{Look, nothing};
use crate::ship::aws::client::{self, Content};
use crate::ship::aws::credentials::Found;
use crate::ship::aws::{Failure, Kind, Settings, answer, expiry, http, region, suffix};

const VERSION: &str = "2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// How a session is called where nobody gave it a name.
const SESSION: &str = "mirrortap";
/// Where nothing names a region, the one address that has none is asked.
const GLOBAL: &str = "us-east-1";

/// A role that is taken, and how.
#[derive(Clone, Copy, Default)]
pub(super) struct Role<'r> {
    pub(super) arn: &'r str,
    pub(super) session: Option<&'r str>,
    pub(super) external_id: Option<&'r str>,
    pub(super) seconds: Option<&'r str>,
}

impl<'r> Role<'r> {
    fn form(&self, action: &'r str) -> Vec<(&'r str, &'r str)> {
        let mut form = vec![
            ("Action", action),
            ("Version", VERSION),
            ("RoleArn", self.arn),
            ("RoleSessionName", self.session.unwrap_or(SESSION)),
        ];
        form.extend(self.external_id.map(|id| ("ExternalId", id)));
        form.extend(self.seconds.map(|seconds| ("DurationSeconds", seconds)));
        form
    }
}

/// With the credentials of somebody who may take it.
pub(super) async fn assume(
    settings: &Settings,
    base: &AwsCredential,
    role: &Role<'_>,
) -> Result<Found, Failure> {
    let (region, url) = sts(settings)?;
    let body = encoded(&url, &role.form("AssumeRole"));
    let content = Content {
        body: body.into(),
        headers: &[("content-type", FORM)],
    };
    let request = client::signed(
        &http::outside(settings, &url)?,
        base,
        ("sts", &region),
        url,
        content,
    )?;
    let doing = format!("take the role {}", role.arn);
    let text = answer::of(request, &doing).await.map_err(of_credentials)?;
    read(&text, role.arn)
}

/// With a token that somebody put into a file, as EKS does. Nothing is signed: the token is the proof.
pub(super) async fn web_identity(
    settings: &Settings,
    file: &str,
    role: &Role<'_>,
) -> Result<Found, Failure> {
    let token = fs::read_to_string(file).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => {
                "; its rights, or the sandbox, forbid it: add its folder to sandbox.read"
            }
            _ => "",
        };
        let reason = format!("cannot read the web identity token {file}: {error}{hint}");
        Failure::new(Kind::Credentials, reason)
    })?;
    let (_, url) = sts(settings)?;
    let mut form = role.form("AssumeRoleWithWebIdentity");
    form.push(("WebIdentityToken", token.trim()));
    let body = encoded(&url, &form);
    let request = http::outside(settings, &url)?.post(url);
    let request = request.header("content-type", FORM).body(body);
    let doing = format!("take the role {} with the token of {file}", role.arn);
    let text = answer::of(request, &doing).await.map_err(of_credentials)?;
    read(&text, role.arn)
}

pub(super) async fn web_identity_of_environment(settings: &Settings) -> Result<Look, Failure> {
    let get = |name| settings.environment.get(name);
    let Some(file) = get("AWS_WEB_IDENTITY_TOKEN_FILE") else {
        return nothing("AWS_WEB_IDENTITY_TOKEN_FILE is not set");
    };
    let Some(arn) = get("AWS_ROLE_ARN") else {
        let reason = "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not; set both";
        return Err(Failure::new(Kind::Credentials, reason));
    };
    let role = Role {
        arn,
        session: get("AWS_ROLE_SESSION_NAME"),
        ..Role::default()
    };
    web_identity(settings, file, &role).await.map(Look::from)
}

/// The region that signs, and the address.
fn sts(settings: &Settings) -> Result<(String, Url), Failure> {
    let known = region::known(settings)?;
    let address = match (settings.environment.endpoint("STS"), &known) {
        (Some(endpoint), _) => endpoint.to_owned(),
        (None, Some(region)) => format!("https://sts.{region}.{}", suffix(region)),
        (None, None) => "https://sts.amazonaws.com".to_owned(),
    };
    let region = known.unwrap_or_else(|| GLOBAL.to_owned());
    client::url(&address).map(|url| (region, url))
}

/// Pairs as a form. A URL knows how they are written.
fn encoded(url: &Url, form: &[(&str, &str)]) -> String {
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

/// Whatever failed, what is missing are credentials.
pub(super) fn of_credentials(mut failure: Failure) -> Failure {
    failure.kind = Kind::Credentials;
    failure
}

fn read(text: &str, arn: &str) -> Result<Found, Failure> {
    let part = |name| between(text, name).unwrap_or_default();
    let found = Found::new(
        part("AccessKeyId"),
        part("SecretAccessKey"),
        Some(part("SessionToken")),
        format!("the role {arn}"),
    )?;
    Ok(found.until(expiry::parse(part("Expiration"))))
}
