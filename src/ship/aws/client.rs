//! Signed requests to a service that speaks JSON.

use std::sync::Arc;

use bytes::Bytes;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};

use crate::ship::aws::{Credentials, Failure, Kind, Settings, answer, http, region, suffix};

const JSON: &str = "application/x-amz-json-1.1";

/// A service in a region.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    credentials: Arc<Credentials>,
    service: &'static str,
    region: String,
    url: Url,
}

impl Client {
    /// Of a service, called as in its addresses and signatures: `logs`. An endpoint takes the place of AWS's own address.
    ///
    /// # Errors
    /// No region is known; the endpoint is no address.
    pub async fn new(
        settings: &Settings,
        service: &'static str,
        endpoint: Option<&str>,
    ) -> Result<Self, Failure> {
        let region = region(settings).await?;
        let address = match endpoint {
            Some(endpoint) => endpoint.to_owned(),
            None => format!("https://{service}.{region}.{}", suffix(&region)),
        };
        let url = url(&address)?;
        Ok(Self {
            http: http::outside(settings, &url)?,
            credentials: Credentials::new(settings.clone()),
            service,
            region,
            url,
        })
    }

    /// Calls what `X-Amz-Target` names, with JSON, and gives the answer's. `doing` completes "cannot …".
    ///
    /// # Errors
    /// What came instead.
    pub async fn call(&self, target: &str, json: Bytes, doing: &str) -> Result<String, Failure> {
        let (credential, from) = self.credentials.get().await?;
        let content = Content {
            body: json,
            headers: &[("content-type", JSON), ("x-amz-target", target)],
        };
        let scope = (self.service, self.region.as_str());
        let request = signed(&self.http, &credential, scope, self.url.clone(), content)?;
        let answer = answer::of(request, doing).await;
        if let Err(failure) = &answer
            && matches!(failure.kind, Kind::Access | Kind::Credentials)
        {
            self.credentials.forget().await;
        }
        answer.map_err(|failure| told_whose(failure, &from))
    }
}

/// Whoever reads that access is denied wants to know who was denied.
fn told_whose(mut failure: Failure, from: &str) -> Failure {
    if matches!(failure.kind, Kind::Access | Kind::Credentials) {
        failure.reason = format!("{} (credentials of {from})", failure.reason);
    }
    failure
}

/// What a request brings.
pub(super) struct Content<'c> {
    pub(super) body: Bytes,
    pub(super) headers: &'c [(&'static str, &'c str)],
}

/// A signed POST. The scope is the service and the region.
pub(super) fn signed(
    http: &reqwest::Client,
    credential: &AwsCredential,
    (service, region): (&str, &str),
    url: Url,
    content: Content<'_>,
) -> Result<RequestBuilder, Failure> {
    let wrong = |what: String| {
        let reason = format!("cannot sign a request to {url}: {what}");
        Failure::new(Kind::Refused, reason)
    };
    let mut request = HttpRequest::new(HttpRequestBody::from(content.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.as_str().parse().map_err(|e| wrong(format!("{e}")))?;
    for (name, value) in content.headers {
        let value = HeaderValue::from_str(value).map_err(|e| wrong(e.to_string()))?;
        let name = HeaderName::from_static(name);
        request.headers_mut().insert(name, value);
    }
    AwsAuthorizer::new(credential, service, region)
        .try_authorize(&mut request, None)
        .map_err(|e| wrong(e.to_string()))?;
    let (parts, _) = request.into_parts();
    let request = http.request(parts.method, url).headers(parts.headers);
    Ok(request.body(content.body))
}

/// An address that may be asked.
pub(super) fn url(address: &str) -> Result<Url, Failure> {
    let url = Url::parse(address).ok();
    let good = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    url.filter(good).ok_or_else(|| {
        let reason = format!("\"{address}\" is no address; it begins with https:// or http://");
        Failure::new(Kind::Refused, reason)
    })
}
