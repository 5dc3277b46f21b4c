//! The control endpoints as their clients meet them: load balancers, Prometheus, `mirrortap reload`, and
//! clients that mean no good.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what went wrong by failing"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mirrortap::control::{Config, Error, Handles, Server, Session, Snapshot, Socket, client};
use mirrortap::packet::{DropReason, Tally};
use mirrortap::time::monotonic;

/// A program of which everything can be pretended.
#[derive(Default)]
struct Program {
    ill: AtomicBool,
    refuses: AtomicBool,
    slow: AtomicBool,
    reloads: AtomicU64,
}

struct Fixture {
    program: Arc<Program>,
    server: Server,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Arc::new(Program::default());
        let config = Config {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            socket: Socket::At(folder.path().join("control.sock")),
            ..Config::default()
        };
        let server = Server::start(&config, folder.path(), handles(&program)).unwrap();
        Self {
            program,
            server,
            folder,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.address().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn ask(&self, request: &str) -> String {
        exchange(TcpStream::connect(self.address()).unwrap(), request)
    }

    fn ask_privately(&self, request: &str) -> String {
        exchange(UnixStream::connect(self.socket()).unwrap(), request)
    }
}

fn handles(program: &Arc<Program>) -> Handles {
    let (health, snapshot, reload) = (program.clone(), program.clone(), program.clone());
    Handles {
        health: Box::new(move || match health.ill.load(Ordering::SeqCst) {
            true => Err("the output folder is full".into()),
            false => Ok(()),
        }),
        snapshot: Box::new(move || {
            if snapshot.slow.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1_500));
            }
            numbers()
        }),
        reload: Box::new(move || {
            if reload.refuses.load(Ordering::SeqCst) {
                return Err("line 3: unknown key `vnii`, did you mean `vni`?".into());
            }
            let n = reload.reloads.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(format!("reload {n}: 2 sessions"))
        }),
    }
}

fn numbers() -> Snapshot {
    let mut ledger = Tally::default();
    ledger.receive(100);
    ledger.drop(DropReason::QueueFull);
    let session = Session {
        vnis: vec![7],
        ledger: ledger.clone(),
        ..Session::default()
    };
    Snapshot {
        version: "1.2.3",
        ledger,
        sessions: [("web \"a\"".to_owned(), session)].into(),
        ..Snapshot::default()
    }
}

/// Sends one request with `Connection: close` and returns everything that comes back.
fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn healthz_is_200_only_while_packets_can_be_stored_and_says_why_not() {
    let it = Fixture::start();
    let well = it.ask("GET /healthz");
    assert!(well.starts_with("HTTP/1.1 200 "), "{well}");
    assert_eq!(body(&well), "ok\n");
    it.program.ill.store(true, Ordering::SeqCst);
    let ill = it.ask("GET /healthz");
    assert!(ill.starts_with("HTTP/1.1 503 "), "{ill}");
    assert_eq!(body(&ill), "the output folder is full\n");
}

#[test]
fn a_head_request_gets_the_same_without_the_body() {
    let it = Fixture::start();
    let answer = it.ask("HEAD /healthz");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-length: 3\r\n"), "{answer}");
    assert_eq!(body(&answer), "");
    it.program.ill.store(true, Ordering::SeqCst);
    assert!(it.ask("HEAD /healthz").starts_with("HTTP/1.1 503 "));
}

#[test]
fn curl_and_jq_read_the_status() {
    let it = Fixture::start();
    let url = format!("http://{}/status", it.address());
    let curl = Command::new("curl").args(["-sf", &url]).output().unwrap();
    assert!(curl.status.success(), "{curl:?}");
    let status: serde_json::Value = serde_json::from_slice(&curl.stdout).unwrap();
    assert_eq!(status["healthy"], true);
    assert_eq!(status["version"], "1.2.3");
    assert_eq!(status["ledger"]["dropped"]["queue_full"], 1);
    assert_eq!(status["sessions"]["web \"a\""]["vnis"][0], 7);
    assert!(status["namespace_udp_errors"]["ipv4"]["rcvbuf_errors"].is_u64());
}

#[test]
fn metrics_come_in_the_text_that_was_asked_for() {
    let it = Fixture::start();
    let plain = it.ask("GET /metrics");
    assert!(
        plain.contains("content-type: text/plain; version=0.0.4"),
        "{plain}"
    );
    assert!(plain.contains("\nmirrortap_packet_dropped_packets_total{reason=\"queue_full\"} 1\n"));
    assert!(
        plain.contains(
            "\nmirrortap_session_received_datagrams_total{session=\"web \\\"a\\\"\"} 1\n"
        )
    );
    assert!(!plain.contains("# EOF"));
    let open =
        it.ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0\r\nX:");
    assert!(
        open.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{open}"
    );
    assert!(open.ends_with("# EOF\n"));
}

#[test]
fn reload_is_taken_through_the_socket_and_refused_over_tcp() {
    let it = Fixture::start();
    let refused = it.ask("POST /reload");
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    assert_eq!(it.program.reloads.load(Ordering::SeqCst), 0);
    assert_eq!(
        client::reload(&it.socket()).unwrap(),
        "reload 1: 2 sessions"
    );
    let by_get = it.ask_privately("GET /reload");
    assert!(by_get.starts_with("HTTP/1.1 405 "), "{by_get}");
    assert_eq!(it.program.reloads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_refused_reload_tells_the_client_what_is_wrong_with_the_file() {
    let it = Fixture::start();
    it.program.refuses.store(true, Ordering::SeqCst);
    let error = client::reload(&it.socket()).unwrap_err();
    assert!(matches!(error, client::Error::Refused(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "line 3: unknown key `vnii`, did you mean `vni`?"
    );
}

#[test]
fn the_socket_serves_what_tcp_serves() {
    let it = Fixture::start();
    for path in ["/healthz", "/metrics", "/status"] {
        let answer = it.ask_privately(&format!("GET {path}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
}

#[test]
fn what_is_not_there_is_404_and_what_is_not_allowed_is_405() {
    let it = Fixture::start();
    for (request, status) in [
        ("GET /", "404"),
        ("GET /healthz/", "404"),
        ("GET /../etc/passwd", "404"),
        ("POST /healthz", "405"),
        ("DELETE /metrics", "405"),
        ("PUT /status", "405"),
    ] {
        let answer = it.ask(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
    }
}

#[test]
fn a_connection_may_be_kept_for_the_next_request() {
    let it = Fixture::start();
    let mut stream = TcpStream::connect(it.address()).unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
            .unwrap();
        let mut answer = [0; 2048];
        let n = stream.read(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(
            text.starts_with("HTTP/1.1 200 ") && text.ends_with("ok\n"),
            "{text}"
        );
    }
}

#[test]
fn five_hundred_silent_clients_do_not_keep_a_health_check_waiting() {
    let it = Fixture::start();
    let connect = || TcpStream::connect(it.address()).unwrap();
    let mut silent: Vec<TcpStream> = (0..500).map(|_| connect()).collect();
    for (n, client) in silent.iter_mut().enumerate() {
        if n % 2 == 0 {
            let _ = client.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ");
        }
    }
    let start = monotonic();
    assert!(it.ask("GET /healthz").starts_with("HTTP/1.1 200 "));
    assert!(monotonic().since(start) < Duration::from_secs(2));
}

#[test]
fn a_client_that_never_finishes_its_request_is_sent_away() {
    let it = Fixture::start();
    let mut silent = TcpStream::connect(it.address()).unwrap();
    silent.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    silent
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let start = monotonic();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
    let waited = monotonic().since(start);
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn a_slow_snapshot_does_not_keep_a_health_check_waiting() {
    let it = Fixture::start();
    it.program.slow.store(true, Ordering::SeqCst);
    let mut scrapes: Vec<TcpStream> = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(it.address()).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n")
            .unwrap();
        scrapes.push(stream);
    }
    let start = monotonic();
    assert!(it.ask("GET /healthz").starts_with("HTTP/1.1 200 "));
    assert!(monotonic().since(start) < Duration::from_secs(1));
}

#[test]
fn an_endless_head_is_refused() {
    let it = Fixture::start();
    let mut stream = TcpStream::connect(it.address()).unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n",
        "a".repeat(64 * 1024)
    );
    let _ = stream.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(!text.starts_with("HTTP/1.1 200 "), "{text}");
}

#[test]
fn bytes_that_are_not_http_do_no_harm() {
    let it = Fixture::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(it.address()).unwrap();
        let _ = stream.write_all(bytes);
    }
    assert!(it.ask("GET /healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn when_the_server_is_dropped_its_port_and_its_socket_are_free() {
    let it = Fixture::start();
    let (address, socket) = (it.address(), it.socket());
    let config = Config {
        listen: Some(address),
        socket: Socket::At(socket.clone()),
        ..Config::default()
    };
    let taken = Server::start(&config, it.folder.path(), handles(&it.program));
    assert!(matches!(taken, Err(Error::Tcp { .. })), "{taken:?}");
    drop(it.server);
    assert!(!socket.exists());
    let again = Server::start(&config, it.folder.path(), handles(&it.program)).unwrap();
    assert_eq!(again.address(), Some(address));
}

#[test]
fn with_both_doors_off_nothing_listens() {
    let config = Config {
        listen: None,
        socket: Socket::Off,
        ..Config::default()
    };
    let server = Server::start(&config, "captures".as_ref(), handles(&Arc::default())).unwrap();
    assert_eq!((server.address(), server.socket()), (None, None));
}

#[test]
fn a_place_that_nobody_chose_is_no_reason_not_to_start_and_a_chosen_one_is() {
    let output = std::path::Path::new("/proc/nowhere");
    let mut config = Config {
        listen: None,
        socket: Socket::Auto,
        ..Config::default()
    };
    let server = Server::start(&config, output, handles(&Arc::default())).unwrap();
    assert_eq!(server.socket(), None);
    config.socket = Socket::At(output.join("control.sock"));
    let refused = Server::start(&config, output, handles(&Arc::default()));
    assert!(matches!(refused, Err(Error::Unix { .. })), "{refused:?}");
}

#[test]
fn without_a_chosen_place_the_socket_is_hidden_beside_the_captures() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        listen: None,
        socket: Socket::Auto,
        ..Config::default()
    };
    let server = Server::start(&config, folder.path(), handles(&Arc::default())).unwrap();
    let path = folder.path().join(".control.sock");
    assert_eq!(server.socket(), Some(path.as_path()));
    assert_eq!(client::reload(&path).unwrap(), "reload 1: 2 sessions");
}

#[test]
fn nothing_that_comes_over_tcp_changes_anything_whatever_the_method_and_path() {
    let it = Fixture::start();
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "RELOAD",
    ];
    let paths = [
        "/",
        "/healthz",
        "/metrics",
        "/status",
        "/reload",
        "/reload/",
        "//reload",
        "/%72eload",
        "/reload?force=1",
        "/RELOAD",
        "*",
    ];
    for method in methods {
        for path in paths {
            let answer = it.ask(&format!("{method} {path}"));
            let status = answer.split(' ').nth(1).unwrap_or("none");
            let reads = matches!(method, "GET" | "HEAD");
            let known = ["/healthz", "/metrics", "/status"].contains(&path);
            assert_eq!(status == "200", reads && known, "{method} {path}: {answer}");
        }
    }
    assert_eq!(it.program.reloads.load(Ordering::SeqCst), 0);
    assert!(
        it.ask_privately("POST /reload")
            .starts_with("HTTP/1.1 200 ")
    );
    assert_eq!(it.program.reloads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_page_that_comes_by_a_name_of_its_own_reads_nothing() {
    let it = Fixture::start();
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(it.address()).unwrap();
        write!(stream, "{head}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for head in [
        "GET /status HTTP/1.1\r\nHost: rebound.example",
        "GET /status HTTP/1.1\r\nHost: rebound.example:9477",
        "GET http://rebound.example/status HTTP/1.1\r\nHost: 127.0.0.1",
        "GET /status HTTP/1.1\r\nHost: 127.0.0.1.rebound.example",
    ] {
        let answer = ask(head);
        assert!(answer.starts_with("HTTP/1.1 421 "), "{head}: {answer}");
        assert!(!answer.contains("ledger"), "{answer}");
    }
    for head in [
        "GET /status HTTP/1.1\r\nHost: 127.0.0.1:9477",
        "GET /status HTTP/1.1\r\nHost: [::1]",
        "GET /status HTTP/1.1\r\nHost: localhost",
        "GET /status HTTP/1.0",
    ] {
        let answer = ask(head);
        assert!(answer.contains(" 200 "), "{head}: {answer}");
    }
}
