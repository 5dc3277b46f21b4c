//! Where credentials and the region come from: environment, profiles, web identity, container, instance.
#![cfg(feature = "aws")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

mod ship_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mirrortap::ship::aws::{Credentials, Environment, Failure, Kind, Settings, region};
use mirrortap::time;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use serde_json::json;
use ship_support::{Asked, Reply, Scripted, block_on};
use tempfile::TempDir;

const KEY: &str = "AKIAENVIRONMENT";

/// A home with these two files; an empty text is no file.
fn home(config: &str, credentials: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".aws");
    fs::create_dir(&folder).unwrap();
    for (name, text) in [("config", config), ("credentials", credentials)] {
        if !text.is_empty() {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    home
}

/// The environment has this home, no instance, and these variables.
fn settings(home: &Path, variables: &[(&str, &str)]) -> Settings {
    let always = [
        ("HOME", home.to_str().unwrap()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let all = always.iter().chain(variables).copied();
    Settings {
        environment: Environment::with(all),
        ..Settings::default()
    }
}

fn get(settings: &Settings) -> Result<(Arc<AwsCredential>, String), Failure> {
    block_on(Credentials::new(settings.clone()).get())
}

/// The id of the key that is found.
fn key(settings: &Settings) -> String {
    get(settings).unwrap().0.key_id.clone()
}

fn why(settings: &Settings) -> String {
    let failure = get(settings).unwrap_err();
    assert_eq!(failure.kind, Kind::Credentials, "{failure}");
    failure.reason
}

const IN_ENVIRONMENT: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", KEY),
    ("AWS_SECRET_ACCESS_KEY", "of/the+environment"),
];

const PROFILES: &str = "\
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = of/the+default#with=signs
aws_session_token = token==

[audit]
aws_access_key_id=AKIAAUDIT
aws_secret_access_key=secret
";

#[test]
fn the_environment_comes_before_the_profiles_of_files() {
    let home = home("", PROFILES);
    let (found, from) = get(&settings(home.path(), &IN_ENVIRONMENT)).unwrap();
    assert_eq!(
        (found.key_id.as_str(), found.secret_key.as_str()),
        (KEY, "of/the+environment")
    );
    assert_eq!(found.token, None);
    assert!(from.contains("the environment"), "{from}");
    let (found, _) = get(&settings(home.path(), &[])).unwrap();
    assert_eq!(found.key_id, "AKIADEFAULT");
    assert_eq!(found.secret_key, "of/the+default#with=signs");
    assert_eq!(found.token.as_deref(), Some("token=="));
}

#[test]
fn a_profile_of_the_configuration_comes_before_the_environment_and_is_alone() {
    let home = home("", PROFILES);
    let mut settings = settings(home.path(), &IN_ENVIRONMENT);
    settings.profile = Some("audit".into());
    assert_eq!(key(&settings), "AKIAAUDIT");
    settings.profile = Some("nobody".into());
    let why = why(&settings);
    assert!(why.contains("no profile \"nobody\""), "{why}");
    assert!(why.contains(".aws/credentials"), "{why}");
}

#[test]
fn a_profile_of_the_environment_is_found_in_both_files_by_their_rules() {
    let config = "\
# of tests
[default]
region = eu-west-1
[profile plain]
region = eu-north-1
s3 =
  max_concurrent_requests = 20
aws_access_key_id = AKIACONFIG
aws_secret_access_key = secret
[audit]
aws_access_key_id = AKIAWRONG
aws_secret_access_key = a section of the config file is called profile NAME
";
    let home = home(config, PROFILES);
    let with = |name| settings(home.path(), &[("AWS_PROFILE", name)]);
    assert_eq!(key(&with("plain")), "AKIACONFIG");
    assert_eq!(key(&with("audit")), "AKIAAUDIT");
    assert_eq!(block_on(region(&with("plain"))).unwrap(), "eu-north-1");
    assert_eq!(
        block_on(region(&settings(home.path(), &[]))).unwrap(),
        "eu-west-1"
    );
    let other = home.path().join("elsewhere");
    fs::write(&other, PROFILES.replace("AKIAAUDIT", "AKIAELSEWHERE")).unwrap();
    let moved = [
        ("AWS_PROFILE", "audit"),
        ("AWS_SHARED_CREDENTIALS_FILE", other.to_str().unwrap()),
    ];
    assert_eq!(key(&settings(home.path(), &moved)), "AKIAELSEWHERE");
}

#[test]
fn what_needs_a_program_or_a_person_is_refused_and_said() {
    let config = "\
[profile program]
credential_process = /usr/bin/get-keys
[profile person]
sso_session = corporate
[profile code]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = audit
mfa_serial = arn:aws:iam::123456789012:mfa/x
[profile circle]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = circle-too
[profile circle-too]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = circle
[profile nothing]
output = json
";
    let home = home(config, PROFILES);
    for (name, words) in [
        ("program", "it starts no other program"),
        ("person", "a person in a browser"),
        ("code", "mfa_serial"),
        ("circle", "in a circle"),
        ("nothing", "has no keys and no role"),
    ] {
        let mut settings = settings(home.path(), &[]);
        settings.profile = Some(name.into());
        let why = why(&settings);
        assert!(why.contains(words) && why.contains(name), "{why}");
    }
}

#[test]
fn where_nothing_is_found_each_place_is_named() {
    let home = home("", "");
    let reason = why(&settings(home.path(), &[]));
    for place in [
        "AWS_ACCESS_KEY_ID is not set",
        ".aws/credentials (not there)",
        "AWS_WEB_IDENTITY_TOKEN_FILE is not set",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_EC2_METADATA_DISABLED is set",
    ] {
        assert!(reason.contains(place), "{place}: {reason}");
    }
    let half = settings(home.path(), &[("AWS_ACCESS_KEY_ID", "AKIA")]);
    assert!(why(&half).contains("AWS_SECRET_ACCESS_KEY is not"));
    let nowhere = block_on(region(&settings(home.path(), &[]))).unwrap_err();
    assert!(nowhere.reason.contains("set region ="), "{nowhere}");
}

/// Credentials as IMDS and containers give them, whose id tells how many were given before.
fn given(number: u64, seconds: u64) -> String {
    let end = time::now().saturating_add(Duration::from_secs(seconds));
    json!({
        "Code": "Success",
        "AccessKeyId": format!("ASIA{number}"),
        "SecretAccessKey": "secret",
        "Token": "token/of+role==",
        "Expiration": end.to_string(),
    })
    .to_string()
}

/// An instance with a role. What comes without the token is refused, as IMDSv2 does.
fn instance(seconds: u64) -> Scripted {
    let count = AtomicU64::new(0);
    Scripted::start(move |asked| match (asked.method.as_str(), &*asked.path) {
        ("PUT", "/latest/api/token") => {
            let ttl = asked.header("x-aws-ec2-metadata-token-ttl-seconds");
            assert!(ttl.parse::<u32>().is_ok());
            Reply::ok("the-token")
        }
        _ if asked.header("x-aws-ec2-metadata-token") != "the-token" => Reply::status(401, ""),
        ("GET", "/latest/meta-data/iam/security-credentials/") => Reply::ok("sensor\n"),
        ("GET", "/latest/meta-data/iam/security-credentials/sensor") => {
            Reply::ok(given(count.fetch_add(1, Ordering::SeqCst), seconds))
        }
        ("GET", "/latest/meta-data/placement/region") => Reply::ok("eu-central-1"),
        _ => Reply::status(404, ""),
    })
}

fn with_instance(home: &Path, address: &str) -> Settings {
    let named = [
        ("HOME", home.to_str().unwrap()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", address),
    ];
    Settings {
        environment: Environment::with(named),
        ..Settings::default()
    }
}

#[test]
fn an_instance_gives_its_role_and_region_to_whoever_has_a_token() {
    let home = home("", "");
    let server = instance(3600);
    let settings = with_instance(home.path(), &server.address());
    let (found, from) = get(&settings).unwrap();
    assert_eq!(found.key_id, "ASIA0");
    assert_eq!(found.token.as_deref(), Some("token/of+role=="));
    assert!(from.contains("role sensor"), "{from}");
    assert_eq!(block_on(region(&settings)).unwrap(), "eu-central-1");
    assert_eq!(server.asked()[0].method, "PUT");
}

#[test]
fn an_instance_that_gives_no_token_is_not_asked_as_in_the_first_version() {
    let home = home("", "");
    let server = Scripted::start(|asked| match asked.method.as_str() {
        "PUT" => Reply::status(403, ""),
        _ => Reply::ok("sensor"),
    });
    let reason = why(&with_instance(home.path(), &server.address()));
    assert!(
        reason.contains("403") && reason.contains("hop limit"),
        "{reason}"
    );
    assert!(server.asked().iter().all(|asked| asked.method == "PUT"));
}

#[test]
fn an_instance_without_a_role_says_so() {
    let home = home("", "");
    let server = Scripted::start(|asked| match asked.method.as_str() {
        "PUT" => Reply::ok("t"),
        _ => Reply::status(404, "<html>"),
    });
    let reason = why(&with_instance(home.path(), &server.address()));
    assert!(reason.contains("the instance has no role"), "{reason}");
}

#[test]
fn credentials_are_kept_and_renewed_before_their_end() {
    let home = home("", "");
    let server = instance(4);
    let settings = with_instance(home.path(), &server.address());
    let credentials = Credentials::new(settings);
    block_on(async {
        let first = credentials.get_credential().await.unwrap();
        let again = credentials.get_credential().await.unwrap();
        assert_eq!(first.key_id, "ASIA0");
        assert!(
            again.key_id == "ASIA0" || server.asked().len() > 3,
            "not asked twice"
        );
        for _ in 0..600 {
            let now = credentials.get_credential().await.unwrap();
            if now.key_id != "ASIA0" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never renewed");
    });
    let asked = server.asked();
    credentials_are_forgotten(&credentials, &server, asked.len());
}

fn credentials_are_forgotten(credentials: &Credentials, server: &Scripted, before: usize) {
    block_on(async {
        credentials.forget().await;
        credentials.get().await.unwrap();
    });
    assert!(server.asked().len() > before);
}

#[test]
fn a_container_is_asked_with_its_token_which_is_read_each_time() {
    let home = home("", "");
    let token = home.path().join("token");
    fs::write(&token, "first\n").unwrap();
    let server = Scripted::start(|asked| match asked.header("authorization") {
        "" => Reply::status(401, ""),
        _ => Reply::ok(given(7, 3600)),
    });
    let address = format!("{}/v1/credentials", server.address());
    let settings = settings(
        home.path(),
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &address),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                token.to_str().unwrap(),
            ),
        ],
    );
    let credentials = Credentials::new(settings);
    block_on(async {
        assert_eq!(credentials.get().await.unwrap().0.key_id, "ASIA7");
        fs::write(&token, "second").unwrap();
        credentials.forget().await;
        credentials.get().await.unwrap();
    });
    let asked = server.asked();
    let tokens: Vec<_> = asked.iter().map(|a| a.header("authorization")).collect();
    assert_eq!(tokens, ["first", "second"]);
    assert_eq!(asked[0].path, "/v1/credentials");
}

#[test]
fn a_container_s_address_without_encryption_must_be_next_door() {
    let home = home("", "");
    for (address, refused) in [
        ("http://192.0.2.7/credentials", true),
        ("http://example.com/credentials", true),
        ("ftp://127.0.0.1/credentials", true),
        ("http://127.0.0.1:1/credentials", false),
        ("http://[::1]:1/credentials", false),
    ] {
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)];
        let failure = get(&settings(home.path(), &variables)).unwrap_err();
        let asked = failure.reason.contains("ask the container's role");
        assert_eq!(asked, !refused, "{failure}");
    }
}

/// STS as it answers, in XML.
fn sts(asked: &Asked) -> Reply {
    let end = time::now().saturating_add(Duration::from_secs(3600));
    let action = form(asked, "Action").unwrap();
    Reply::ok(format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s+/=</SecretAccessKey>\
         <SessionToken>t+/==</SessionToken><Expiration>{end}</Expiration>\
         </Credentials></{action}Result></{action}Response>"
    ))
}

/// A field of a form.
fn form(asked: &Asked, name: &str) -> Option<String> {
    let url = format!("http://form/?{}", asked.body).parse().unwrap();
    let url: reqwest::Url = url;
    let mut pairs = url.query_pairs();
    pairs
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

#[test]
fn a_web_identity_is_traded_for_a_role_without_a_signature() {
    let home = home("", "");
    let token = home.path().join("token");
    fs::write(&token, "eyJ.a+b/c==\n").unwrap();
    let server = Scripted::start(sts);
    let address = server.address();
    let settings = settings(
        home.path(),
        &[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/sensor"),
            ("AWS_ENDPOINT_URL_STS", &address),
            ("AWS_REGION", "eu-central-1"),
        ],
    );
    let (found, from) = get(&settings).unwrap();
    assert_eq!(found.key_id, "ASIAROLE");
    assert_eq!(found.token.as_deref(), Some("t+/=="));
    assert!(from.contains("role/sensor"), "{from}");
    let asked = &server.asked()[0];
    assert_eq!(
        form(asked, "WebIdentityToken").as_deref(),
        Some("eyJ.a+b/c==")
    );
    assert_eq!(form(asked, "RoleSessionName").as_deref(), Some("mirrortap"));
    assert_eq!(asked.header("authorization"), "");
}

#[test]
fn a_profile_takes_a_role_with_the_keys_of_another() {
    let config = "\
[profile sensor]
role_arn = arn:aws:iam::123456789012:role/sensor
source_profile = audit
external_id = x y
role_session_name = of-tests
duration_seconds = 900
region = eu-central-1
[profile environment]
role_arn = arn:aws:iam::123456789012:role/sensor
credential_source = Environment
";
    let home = home(config, PROFILES);
    let server = Scripted::start(sts);
    let address = server.address();
    let mut variables = vec![("AWS_ENDPOINT_URL", address.as_str())];
    variables.extend(IN_ENVIRONMENT);
    let mut settings = settings(home.path(), &variables);
    for (profile, signer) in [("sensor", "AKIAAUDIT"), ("environment", KEY)] {
        settings.profile = Some(profile.into());
        assert_eq!(key(&settings), "ASIAROLE");
        let asked = server.asked().pop().unwrap();
        let signed = asked.header("authorization").to_owned();
        assert!(
            signed.contains(&format!("Credential={signer}/")),
            "{signed}"
        );
        assert!(signed.contains("/sts/aws4_request"), "{signed}");
    }
    let asked = &server.asked()[0];
    assert!(asked.header("authorization").contains("/eu-central-1/sts/"));
    assert_eq!(form(asked, "Action").as_deref(), Some("AssumeRole"));
    assert_eq!(form(asked, "ExternalId").as_deref(), Some("x y"));
    assert_eq!(form(asked, "RoleSessionName").as_deref(), Some("of-tests"));
    assert_eq!(form(asked, "DurationSeconds").as_deref(), Some("900"));
}

#[test]
fn a_role_that_is_denied_is_told_with_the_reason() {
    let home = home("", "");
    let token = home.path().join("token");
    fs::write(&token, "t").unwrap();
    let server = Scripted::start(|_| {
        Reply::status(
            403,
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
             <Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>",
        )
    });
    let address = server.address();
    let settings = settings(
        home.path(),
        &[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/sensor"),
            ("AWS_ENDPOINT_URL_STS", &address),
        ],
    );
    let reason = why(&settings);
    assert!(
        reason.contains("AccessDenied (403): Not authorized"),
        "{reason}"
    );
}

#[test]
fn secrets_are_in_no_debug_output_and_files_are_named_for_walls() {
    let home = home("", PROFILES);
    let mut variables = IN_ENVIRONMENT.to_vec();
    variables.push(("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token"));
    let settings = settings(home.path(), &variables);
    let credentials = Credentials::new(settings.clone());
    let found = block_on(credentials.get()).unwrap();
    let shown = format!("{credentials:?} {settings:?} {found:?}");
    assert!(!shown.contains("of/the+environment"), "{shown}");
    let files = settings.files();
    assert!(files.contains(&home.path().join(".aws/credentials")));
    assert!(files.contains(&"/run/token".into()));
}
