//! Answers, and what those that are errors mean.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde::Deserialize;

use crate::ship::aws::http::chain;
use crate::ship::aws::{Failure, Kind};

/// More than any answer that is expected here.
const MOST: usize = 4 * 1024 * 1024;
/// As much of an answer as an error shows.
const SHOWN: usize = 300;
/// No code of AWS's is longer.
const LONGEST_CODE: usize = 100;

/// Sends a request and takes the answer. `doing` completes "cannot …".
pub(super) async fn of(request: RequestBuilder, doing: &str) -> Result<String, Failure> {
    let mut response = request
        .send()
        .await
        .map_err(|error| unreachable(&error, doing))?;
    let mut body = Vec::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| unreachable(&error, doing))?
    {
        body.extend_from_slice(&part);
        if body.len() > MOST {
            let reason = format!("cannot {doing}: the answer is longer than {MOST} bytes");
            return Err(Failure::new(Kind::Server, reason));
        }
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    if response.status().is_success() {
        Ok(text)
    } else {
        Err(error(&response, &text, doing))
    }
}

fn unreachable(error: &reqwest::Error, doing: &str) -> Failure {
    let why = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        chain(error)
    };
    Failure::new(Kind::Unreachable, format!("cannot {doing}: {why}"))
}

/// An error as JSON services tell it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Told {
    #[serde(rename = "__type", alias = "code", alias = "Code")]
    code: String,
    #[serde(alias = "Message")]
    message: String,
}

impl Told {
    /// STS answers XML, the others JSON; some servers only say it in a header.
    fn read(response: &Response, text: &str) -> Self {
        let mut told: Self = serde_json::from_str(text).unwrap_or_default();
        if told.code.is_empty() {
            told.code = between(text, "Code").unwrap_or_default().to_owned();
            told.message = between(text, "Message").unwrap_or_default().to_owned();
        }
        if told.code.is_empty() {
            let header = response.headers().get("x-amzn-errortype");
            let code = header.and_then(|value| value.to_str().ok());
            told.code = code.unwrap_or_default().to_owned();
        }
        // "com.amazonaws.logs#ThrottlingException:http://…"
        let code = told.code.rsplit('#').next().unwrap_or_default();
        let code = code.split(':').next().unwrap_or_default();
        told.code = code.chars().take(LONGEST_CODE).collect();
        told
    }
}

/// What stands in an element of XML that has no elements within.
pub(super) fn between<'t>(text: &'t str, element: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    rest.split_once(&format!("</{element}>"))
        .map(|(value, _)| value.trim())
}

fn error(response: &Response, text: &str, doing: &str) -> Failure {
    let status = response.status();
    let told = Told::read(response, text);
    let shown = match (told.code.as_str(), told.message.as_str()) {
        ("", _) if text.trim().is_empty() => status.to_string(),
        ("", _) => format!("{status}: {}", short(text)),
        (code, "") => format!("{code} ({})", status.as_u16()),
        (code, message) => format!("{code} ({}): {}", status.as_u16(), short(message)),
    };
    let header = response.headers().get("retry-after");
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
    Failure {
        kind: kind(status.as_u16(), &told.code),
        code: Some(told.code).filter(|code| !code.is_empty()),
        reason: format!("cannot {doing}: {shown}"),
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// One line, cut to a readable length.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN).collect()
}

/// AWS's name of the error tells most; where it has none, the status does.
fn kind(status: u16, code: &str) -> Kind {
    match code {
        "ResourceNotFoundException" | "NoSuchBucket" => Kind::Missing,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "InvalidIdentityToken" => Kind::Credentials,
        "AccessDenied"
        | "AccessDeniedException"
        | "NotAuthorized"
        | "OptInRequired"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "RequestExpired"
        | "RequestTimeTooSkewed" => Kind::Access,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "SlowDown" => Kind::Throttled,
        // what was sent is at fault, and would be again
        "InvalidParameterException" => Kind::Refused,
        "OperationAbortedException" | "ServiceUnavailableException" => Kind::Server,
        _ => match status {
            401 | 403 => Kind::Access,
            404 => Kind::Missing,
            408 => Kind::Unreachable,
            429 => Kind::Throttled,
            // also what should never be asked, which a change of the configuration may mend
            _ => Kind::Server,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_more_than_a_status() {
        assert_eq!(kind(400, "ThrottlingException"), Kind::Throttled);
        assert_eq!(kind(400, "ExpiredTokenException"), Kind::Credentials);
        assert_eq!(kind(400, "AccessDeniedException"), Kind::Access);
        assert_eq!(kind(400, "ResourceNotFoundException"), Kind::Missing);
        assert_eq!(kind(400, "InvalidParameterException"), Kind::Refused);
        assert_eq!(kind(403, ""), Kind::Access);
        assert_eq!(kind(429, ""), Kind::Throttled);
        assert_eq!(kind(503, "ServiceUnavailableException"), Kind::Server);
        assert_eq!(kind(500, "Whatever"), Kind::Server);
    }

    #[test]
    fn an_element_of_xml_is_found_by_its_name() {
        let text = "<Error>\n<Code>AccessDenied</Code><Message> no </Message></Error>";
        assert_eq!(between(text, "Code"), Some("AccessDenied"));
        assert_eq!(between(text, "Message"), Some("no"));
        assert_eq!(between(text, "Type"), None);
    }
}
