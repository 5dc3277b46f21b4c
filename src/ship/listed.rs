//! The line to a bucket that is read, which takes keys out of lists that the crate for S3 has no name for.
//!
//! Takes: requests. Gives: their answers, and the keys that were taken out. Holds: one odd key does not end a list: the crate refuses a
//! whole page for an empty step, `.`, `..` or a control character, and takes a key that begins with a slash for another.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path as Key;

const BEGIN: &str = "<Contents>";
const END: &str = "</Contents>";

/// The one client that this program makes: with its certificates, and its patience.
#[derive(Clone, Debug)]
pub(super) struct Line {
    client: reqwest::Client,
    odd: Arc<Mutex<Vec<String>>>,
}

impl Line {
    pub(super) fn new(client: reqwest::Client) -> Self {
        let odd = Arc::default();
        Self { client, odd }
    }

    /// The keys that were taken out since this was last asked.
    pub(super) fn take_odd(&self) -> Vec<String> {
        mem::take(&mut self.odd.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn list(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = self.client.call(request).await?.into_parts();
        let body = body.bytes().await?;
        let Ok(text) = std::str::from_utf8(&body) else {
            return Ok(HttpResponse::from_parts(head, body.into()));
        };
        let (text, odd) = without_odd(text);
        *self.odd.lock().unwrap_or_else(PoisonError::into_inner) = odd;
        Ok(HttpResponse::from_parts(head, HttpResponseBody::from(text)))
    }
}

type Called<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Line {
    fn call<'s, 'a>(&'s self, request: HttpRequest) -> Called<'a>
    where
        's: 'a,
        Self: 'a,
    {
        let query = request.uri().query().unwrap_or_default();
        match query.split('&').any(|pair| pair == "list-type=2") {
            true => Box::pin(self.list(request)),
            false => self.client.call(request),
        }
    }
}

impl HttpConnector for Line {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// A list without its odd keys, and these.
fn without_odd(list: &str) -> (String, Vec<String>) {
    let (mut kept, mut odd) = (String::with_capacity(list.len()), Vec::new());
    let mut rest = list;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let Some((content, behind)) = after.split_once(END) else {
            break;
        };
        kept.push_str(before);
        match key(content).filter(|key| is_odd(key)) {
            Some(key) => odd.push(key),
            None => kept.extend([BEGIN, content, END]),
        }
        rest = behind;
    }
    kept.push_str(rest);
    (kept, odd)
}

/// What a folder's own object is called, with a slash at its end, is none.
fn is_odd(key: &str) -> bool {
    let parsed = Key::parse(key);
    parsed.is_err() || key.starts_with('/')
}

fn key(content: &str) -> Option<String> {
    let (_, rest) = content.split_once("<Key>")?;
    let (key, _) = rest.split_once("</Key>")?;
    Some(unescaped(key))
}

/// XML's references as what they stand for; one that is not known stays.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let found = after.split_once(';');
        match found.and_then(|(name, behind)| Some((character(name)?, behind))) {
            Some((character, behind)) => {
                plain.push(character);
                rest = behind;
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn character(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_keys_are_taken_out_of_a_list_and_named() {
        let of = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let (head, tail) = (
            "<ListBucketResult><KeyCount>9</KeyCount>",
            "</ListBucketResult>",
        );
        let good = ["a/b.log", "a/", "a&amp;b.log", "a/b..c", "%2F"]
            .map(of)
            .concat();
        let odd = [
            "a//b.log",
            "/a.log",
            "a/../b&lt;",
            "./a",
            "x&#x1;",
            "y&#10;",
        ];
        let all = odd.map(of).concat();
        let (kept, named) = without_odd(&format!("{head}{good}{all}{good}{tail}"));
        assert_eq!(kept, format!("{head}{good}{good}{tail}"));
        assert_eq!(
            named,
            ["a//b.log", "/a.log", "a/../b<", "./a", "x\u{1}", "y\n"]
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_no_list_of_odd_keys_stays_as_it_is(text in "(<Contents>|</Contents>|<Key>|</Key>|&|;|a|é){0,30}") {
            let (kept, odd) = without_odd(&text);
            proptest::prop_assert!(odd.is_empty());
            proptest::prop_assert_eq!(kept, text);
        }
    }
}
