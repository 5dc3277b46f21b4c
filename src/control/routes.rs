//! What is answered to whom.
//!
//! Takes: a request and the door it came through. Gives: the response. Holds: `/healthz` is answered on the
//! spot; everything that may take time runs on a helper thread; only `POST /reload` through the Unix
//! socket changes anything.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::control::hosts::Hosts;
use crate::control::server::HELPERS;
use crate::control::{Handles, Snapshot, Style, UdpErrors, metrics};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const NOT_FOUND: &str = "not found; there are /healthz, /metrics and /status\n";
const RELOAD_ON_TCP: &str = "reload is taken through the control socket only: run `mirrortap reload` on \
    this machine, or send SIGHUP\n";
const RELOAD_BY_OTHERS: &str = "reload is for the sensor's own user and root\n";
const OTHER_HOST: &str = "this sensor does not go by that name: ask for its address, or add the name to `control.hosts`\n";
const FAILED: &str = "the numbers could not be read; see the log\n";

/// Which door a request came through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// Anybody who can reach the port.
    Tcp,
    /// Somebody whom the socket's mode lets in, and whether the kernel says that it is the sensor's own user or root.
    Unix {
        /// Whether it is.
        trusted: bool,
    },
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Room {
    handles: Handles,
    hosts: Hosts,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Turns at the helper threads: who waits for one and goes away leaves no work behind.
    turns: Arc<Semaphore>,
}

impl Room {
    pub(crate) fn new(handles: Handles, hosts: Hosts) -> Self {
        Self {
            handles,
            hosts,
            reloading: tokio::sync::Mutex::new(()),
            turns: Arc::new(Semaphore::new(HELPERS)),
        }
    }
}

type Answer = Response<Full<Bytes>>;

/// Answers one request; its body, if any, is not looked at.
pub(crate) async fn answer<B>(
    room: Arc<Room>,
    door: Door,
    request: Request<B>,
) -> Result<Answer, Infallible> {
    if door == Door::Tcp && !asks_for_us(&room.hosts, &request) {
        return Ok(plain(StatusCode::MISDIRECTED_REQUEST, OTHER_HOST));
    }
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match request.uri().path() {
        "/healthz" if reading => health(&room),
        "/metrics" if reading => scrape(room, style_of(&request)).await,
        "/status" if reading => status(room).await,
        "/healthz" | "/metrics" | "/status" => not_allowed("GET, HEAD"),
        "/reload" if door == Door::Tcp => plain(StatusCode::FORBIDDEN, RELOAD_ON_TCP),
        "/reload" if door == (Door::Unix { trusted: false }) => {
            plain(StatusCode::FORBIDDEN, RELOAD_BY_OTHERS)
        }
        "/reload" if request.method() == Method::POST => reload(room).await,
        "/reload" => not_allowed("POST"),
        _ => plain(StatusCode::NOT_FOUND, NOT_FOUND),
    })
}

/// Whether every name that the request gives is ours. A program that gives none (HTTP/1.0) is no browser.
fn asks_for_us<B>(hosts: &Hosts, request: &Request<B>) -> bool {
    let mut headers = request.headers().get_all(HOST).into_iter();
    let named = headers.all(|value| value.to_str().is_ok_and(|host| hosts.has(host)));
    named && request.uri().host().is_none_or(|host| hosts.has(host))
}

fn health(room: &Room) -> Answer {
    match (room.handles.health)() {
        Ok(()) => plain(StatusCode::OK, "ok\n"),
        Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn style_of<B>(request: &Request<B>) -> Style {
    let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok());
    Style::of_accept(accept.unwrap_or_default())
}

async fn scrape(room: Arc<Room>, style: Style) -> Answer {
    let turns = Arc::clone(&room.turns);
    let text = helper(&turns, move || {
        let snapshot = (room.handles.snapshot)();
        let healthy = (room.handles.health)().is_ok();
        metrics(snapshot, healthy, UdpErrors::read(), style)
    });
    match text.await {
        Some(Ok(text)) => respond(StatusCode::OK, style.content_type(), text),
        _ => plain(StatusCode::INTERNAL_SERVER_ERROR, FAILED),
    }
}

/// `/status`: the snapshot, and what only this room knows.
#[derive(Serialize)]
struct Status {
    healthy: bool,
    unhealthy_reason: Option<String>,
    #[serde(flatten)]
    snapshot: Snapshot,
    namespace_udp_errors: UdpErrors,
}

async fn status(room: Arc<Room>) -> Answer {
    let turns = Arc::clone(&room.turns);
    let text = helper(&turns, move || {
        let unhealthy_reason = (room.handles.health)().err();
        let status = Status {
            healthy: unhealthy_reason.is_none(),
            unhealthy_reason,
            snapshot: (room.handles.snapshot)(),
            namespace_udp_errors: UdpErrors::read(),
        };
        serde_json::to_string_pretty(&status).map(|json| json + "\n")
    });
    match text.await {
        Some(Ok(json)) => respond(StatusCode::OK, JSON, json),
        _ => plain(StatusCode::INTERNAL_SERVER_ERROR, FAILED),
    }
}

async fn reload(room: Arc<Room>) -> Answer {
    let _one = room.reloading.lock().await;
    let inner = Arc::clone(&room);
    match helper(&room.turns, move || (inner.handles.reload)()).await {
        Some(Ok(text)) => plain(StatusCode::OK, format!("{text}\n")),
        Some(Err(reason)) => plain(StatusCode::CONFLICT, format!("{reason}\n")),
        None => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the reload failed; see the log\n",
        ),
    }
}

/// Runs `work` on a helper thread; `None` when it panicked.
async fn helper<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let turn = Arc::clone(turns).acquire_owned().await.ok()?;
    let body = move || {
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(body).await.ok()
}

fn not_allowed(allowed: &'static str) -> Answer {
    let text = format!("only {allowed} here\n");
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    respond(status, TEXT, text)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
