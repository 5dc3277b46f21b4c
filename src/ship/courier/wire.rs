//! Requests on their way: paced, watched, and their answers looked at.
//!
//! Takes: requests that are signed already. Gives: answers; and of one that is no success what it was ([`Answer`]), for who has to decide what to do next. Holds: a
//! request of which nothing moves for a minute is given up, a slow one is not; a body is sent in small pieces at the queue's pace; an answer is read whole within
//! bounds, so nobody waits for its end later.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::Sleep;

use crate::ship::courier::failure::told;
use crate::ship::courier::pace::Pace;
use crate::time::{self, Monotonic};

/// Nothing moved for as long: the request is given up.
const STALLED: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// No answer to what is sent here is longer.
const LONGEST_ANSWER: usize = 4 << 20;
/// Of a text that was answered.
const SHOWN: usize = 300;
/// No code of AWS's is longer.
const LONGEST_CODE: usize = 100;

/// What was answered to a request that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Answer {
    /// The status; 0 where there was no answer.
    pub(super) status: u16,
    /// The code in its body, which says more: `NoSuchBucket`.
    pub(super) code: String,
    /// The message in its body, or what the connection said.
    pub(super) message: String,
    /// How long to wait.
    pub(super) after: Option<Duration>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.code.as_str()) {
            (0, _) => write!(f, "{}", self.message),
            (status, "") => write!(f, "{status} {}", self.message),
            (status, code) => write!(f, "{status} {code}: {}", self.message),
        }
    }
}

/// The way to a destination; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    client: reqwest::Client,
    pace: Pace,
    last: Arc<Mutex<Option<Answer>>>,
}

impl Wire {
    /// Over a client, at a pace.
    pub(super) fn new(client: reqwest::Client, pace: Pace) -> Self {
        Self {
            client,
            pace,
            last: Arc::default(),
        }
    }

    /// What was answered to the last request, if that was no success.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.last().take()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Answer>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let moved = Moved::new();
        let sent = self.send(request, moved.clone());
        let mut sent = pin!(sent);
        loop {
            tokio::select! {
                answer = &mut sent => return answer,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if moved.since() >= STALLED {
                let stalled =
                    std::io::Error::new(std::io::ErrorKind::TimedOut, "nothing moved for a minute");
                return Err(HttpError::new(HttpErrorKind::Timeout, stalled));
            }
        }
    }

    async fn send(&self, request: HttpRequest, moved: Moved) -> Result<HttpResponse, HttpError> {
        let failed = |error: reqwest::Error| HttpError::new(HttpErrorKind::Unknown, error);
        let (head, body) = request.into_parts();
        let wrong = |error| HttpError::new_boxed(HttpErrorKind::Unknown, error);
        let url = head.uri.to_string().parse();
        let url = url.map_err(|error| wrong(Box::from(format!("{}: {error}", head.uri))))?;
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = head.headers;
        let body = Paced::new(body, self.pace.clone(), moved.clone());
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        let answer = self.client.execute(request).await.map_err(failed)?;
        moved.now();
        let (head, body) = hyper::http::Response::from(answer).into_parts();
        let body = Limited::new(watched(body, moved), LONGEST_ANSWER);
        let body = body.collect().await;
        let body = body.map_err(wrong)?.to_bytes();
        Ok(HttpResponse::from_parts(head, HttpResponseBody::from(body)))
    }

    /// Remembers what was answered where it is no success.
    async fn look(&self, answer: HttpResponse) -> Result<HttpResponse, HttpError> {
        let (head, body) = answer.into_parts();
        let body = body.bytes().await?;
        let text = String::from_utf8_lossy(&body);
        // S3 may begin an answer with success and end it with an error
        let code = element(&text, "Code").filter(|_| text.contains("<Error>"));
        if !head.status.is_success() || code.is_some() {
            let after = head.headers.get(hyper::header::RETRY_AFTER);
            let after = after.and_then(|value| value.to_str().ok()?.parse().ok());
            let short = |text: &str, most| text.chars().take(most).collect();
            *self.last() = Some(Answer {
                status: head.status.as_u16(),
                code: short(code.unwrap_or_default(), LONGEST_CODE),
                message: short(element(&text, "Message").unwrap_or(&text), SHOWN),
                after: after.map(Duration::from_secs),
            });
        }
        Ok(HttpResponse::from_parts(head, HttpResponseBody::from(body)))
    }
}

/// An answer that comes bit by bit is one that moves: S3 sends blanks until a large object is put together.
fn watched<B: Body>(body: B, moved: Moved) -> impl Body<Data = B::Data, Error = B::Error> {
    body.map_frame(move |frame| {
        moved.now();
        frame
    })
}

/// What stands between the tags of a name, the first time.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0)
}

type Called<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Wire {
    fn call<'s, 'a>(&'s self, request: HttpRequest) -> Called<'a>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            *self.last() = None;
            match self.exchange(request).await {
                Ok(answer) => self.look(answer).await,
                Err(error) => {
                    *self.last() = Some(Answer {
                        message: told(&error),
                        ..Answer::default()
                    });
                    Err(error)
                }
            }
        })
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// When something last moved.
#[derive(Clone, Debug)]
struct Moved(Arc<AtomicU64>);

impl Moved {
    fn new() -> Self {
        let moved = Self(Arc::default());
        moved.now();
        moved
    }

    fn now(&self) {
        self.0.store(time::monotonic().nanos(), Ordering::Relaxed);
    }

    fn since(&self) -> Duration {
        let last = Monotonic::from_nanos(self.0.load(Ordering::Relaxed));
        time::monotonic().since(last)
    }
}

/// A body in pieces at a pace.
struct Paced {
    inner: HttpRequestBody,
    rest: Bytes,
    next: Option<(Bytes, Pin<Box<Sleep>>)>,
    left: u64,
    pace: Pace,
    moved: Moved,
}

impl Paced {
    fn new(inner: HttpRequestBody, pace: Pace, moved: Moved) -> Self {
        Self {
            left: inner.content_length() as u64,
            inner,
            rest: Bytes::new(),
            next: None,
            pace,
            moved,
        }
    }

    fn give(&mut self, piece: Bytes) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.left = self.left.saturating_sub(piece.len() as u64);
        self.moved.now();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        loop {
            if let Some((_, wait)) = &mut self.next {
                ready!(wait.as_mut().poll(context));
            }
            if let Some((piece, _)) = self.next.take() {
                return self.give(piece);
            }
            if self.rest.is_empty() {
                match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                    Some(frame) => self.rest = frame?.into_data().unwrap_or_default(),
                    None => return Poll::Ready(None),
                }
                continue;
            }
            let most = self.pace.piece().min(self.rest.len());
            let piece = self.rest.split_to(most);
            let wait = self.pace.take(most);
            if wait.is_zero() {
                return self.give(piece);
            }
            self.next = Some((piece, Box::pin(tokio::time::sleep(wait))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_in_pieces_and_its_length_is_known_before() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        for limit in [None, Some(64 << 20)] {
            let body = HttpRequestBody::from(bytes.clone());
            let paced = Paced::new(body, Pace::new(limit), Moved::new());
            assert_eq!(paced.size_hint().exact(), Some(200_000));
            let whole = runtime.block_on(paced.collect()).unwrap().to_bytes();
            assert_eq!(whole, bytes);
        }
    }

    #[test]
    fn each_piece_of_an_answer_is_a_sign_that_something_moves() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let moved = Moved(Arc::new(AtomicU64::new(u64::MAX)));
        let mut body = Box::pin(watched(HttpRequestBody::from(vec![b' ']), moved.clone()));
        assert_eq!(moved.0.load(Ordering::Relaxed), u64::MAX);
        assert!(runtime.block_on(body.frame()).unwrap().is_ok());
        assert_ne!(moved.0.load(Ordering::Relaxed), u64::MAX);
    }

    #[test]
    fn code_and_message_are_found_in_an_answer() {
        let text = "<Error><Code>NoSuchBucket</Code><Message>no &amp; none</Message></Error>";
        assert_eq!(element(text, "Code"), Some("NoSuchBucket"));
        assert_eq!(element(text, "Message"), Some("no &amp; none"));
        assert_eq!(element("<Code>", "Code"), None);
    }
}
