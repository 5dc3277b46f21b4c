//! The two HTTP clients: one for AWS, one for what is on this machine or on the link.

use std::error::Error;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url, redirect};

use crate::ship::aws::{Failure, Kind, Place, Settings};

const CONNECT: Duration = Duration::from_secs(10);
/// A batch of events is 1 MB: half a minute is enough for a slow line.
const WHOLE: Duration = Duration::from_secs(60);
/// The instance's and the container's role are next door, or not there at all.
const NEXT_DOOR: Duration = Duration::from_secs(5);

/// Names the one maker of TLS that this program uses. Must be called before the first request is made; more often does no harm.
pub fn install_tls() {
    // somebody was faster: it is the same one
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// For AWS, or who stands in for it at an address: certificates of the system or of `AWS_CA_BUNDLE`, proxies as the environment says. No
/// proxy leads to this machine.
pub(super) fn outside(settings: &Settings, url: &Url) -> Result<Client, Failure> {
    let builder = direct(plain().connect_timeout(CONNECT), Some(url));
    trusting(builder.timeout(WHOLE), settings)
}

fn direct(builder: ClientBuilder, url: Option<&Url>) -> ClientBuilder {
    match url.is_some_and(is_here) {
        true => builder.no_proxy(),
        false => builder,
    }
}

/// Whether an address is of this machine.
pub(super) fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// The same for large files on slow lines: whoever sends sees to it that something moves.
pub(in crate::ship) fn patient(settings: &Settings, place: &Place) -> Result<Client, Failure> {
    let builder = direct(plain().connect_timeout(CONNECT), place.url().as_ref());
    trusting(builder, settings)
}

/// The same for who reads: a slow answer is taken, one of which nothing comes is not.
pub(in crate::ship) fn reading(settings: &Settings, place: &Place) -> Result<Client, Failure> {
    let builder = direct(plain().connect_timeout(CONNECT), place.url().as_ref());
    trusting(builder.read_timeout(WHOLE), settings)
}

fn trusting(builder: ClientBuilder, settings: &Settings) -> Result<Client, Failure> {
    match settings.environment.get("AWS_CA_BUNDLE") {
        Some(path) => made(with_bundle(builder, path)?),
        None => made(builder),
    }
}

/// For the instance's and the container's role: never through a proxy.
pub(super) fn next_door() -> Result<Client, Failure> {
    let builder = plain().no_proxy().connect_timeout(NEXT_DOOR);
    made(builder.timeout(NEXT_DOOR))
}

/// Redirections are not followed: what is signed is signed for one place.
fn plain() -> ClientBuilder {
    install_tls();
    Client::builder()
        .user_agent(concat!("mirrortap/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
}

fn made(builder: ClientBuilder) -> Result<Client, Failure> {
    builder.build().map_err(|error| {
        let why = chain(&error);
        let reason = format!(
            "cannot prepare HTTPS: {why}; are certificates installed (ca-certificates), or AWS_CA_BUNDLE set?"
        );
        Failure::new(Kind::Local, reason)
    })
}

fn with_bundle(builder: ClientBuilder, path: &str) -> Result<ClientBuilder, Failure> {
    let pem = fs::read(path)
        .map_err(|error| Failure::local(&format!("read AWS_CA_BUNDLE ({path})"), &error))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| {
        let reason = format!(
            "AWS_CA_BUNDLE ({path}) holds no certificates: {}",
            chain(&error)
        );
        Failure::new(Kind::Local, reason)
    })?;
    Ok(builder.tls_certs_only(certificates))
}

/// An error with all that it was made from. The first sentence alone says only that a request failed.
pub(in crate::ship) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}
