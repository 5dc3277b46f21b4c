//! The group itself: what is asked of it, and what its answers mean.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::aws_support;
use crate::ship_support::{Asked, Reply, block_on};
use mirrortap::ship::Streams;
use mirrortap::ship::aws::{Credentials, Environment, Kind, Settings};
use mirrortap::ship::logs::Logs;
use mirrortap::time;
use serde_json::{Value, json};

use crate::waiting::{
    HEADER, STREAM, Waiting, counted, group, line, long_file, now, packed, put, service, settings,
};
/// Messages of a stream, as moto has them.
fn events(client: &aws_support::Client, stream: &str) -> Vec<(u64, String)> {
    let with =
        json!({"logGroupName": "/mirror/flows", "logStreamName": stream, "startFromHead": true});
    let found = client.call("logs", "get_log_events", with).unwrap();
    let pair = |event: &Value| {
        let message = event["message"].as_str().unwrap().to_owned();
        (event["timestamp"].as_u64().unwrap(), message)
    };
    found["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(pair)
        .collect()
}

#[test]
fn lines_become_events_of_their_interface_s_stream_in_a_group_that_is_made_if_it_may_be() {
    let Some(moto) = aws_support::Moto::start() else {
        return;
    };
    let start = now() - 600;
    let (one, two) = ("eni-11111111111111111", "eni-22222222222222222");
    let of_one: Vec<_> = [40, 10, 30, 20].map(|i| line(one, start + i, "")).into();
    let skip = format!(
        "2 123456789012 {two} - - - - - - - {start} {} - SKIPDATA",
        start + 60
    );
    let of_two = [line(two, start + 5, ""), skip];
    let of_none = line("-", start, "");
    let mut lines = vec![HEADER.to_owned(), of_none.clone()];
    lines.extend(of_one.iter().chain(&of_two).cloned());
    let waiting = Waiting::with("a/b.log.gz", &(lines.join("\n") + "\n"));
    let mut group = group(moto.endpoint());
    let (taken, done) = waiting.ship(&group);
    let failure = done.unwrap_err();
    assert_eq!((failure.kind, taken.events), (Kind::Missing, 0));
    assert!(failure.reason.contains("set create_group"), "{failure}");
    group.create_group = true;
    let (taken, done) = waiting.ship(&group);
    done.unwrap();
    assert_eq!((taken.events, taken.refused.len()), (7, 0));
    let bytes: usize = lines[1..].iter().map(String::len).sum();
    assert_eq!(taken.bytes, bytes as u64);
    assert!(waiting.progress().is_empty(), "nothing is kept of it");
    let client = moto.client();
    let sorted = |lines: &[String], order: &[usize]| -> Vec<String> {
        order.iter().map(|i| lines[*i].clone()).collect()
    };
    let told = |stream: &str| -> Vec<String> {
        let events = events(&client, stream);
        for (at, message) in &events {
            let start: u64 = message.split(' ').nth(10).unwrap().parse().unwrap();
            assert_eq!(*at, start * 1000);
        }
        events.into_iter().map(|(_, message)| message).collect()
    };
    assert_eq!(
        told(&format!("{one}-accept")),
        sorted(&of_one, &[1, 3, 2, 0])
    );
    assert_eq!(told(&format!("{two}-accept")), sorted(&of_two, &[1, 0]));
    assert_eq!(told("unknown-accept"), [of_none]);
    group.streams = Streams::Sensor;
    waiting.ship(&group).1.unwrap();
    assert_eq!(told(STREAM).len(), 7, "one stream for all");
    roles_are_taken(&moto.endpoint());
}

/// STS is moto's as well: the answers are not of this program's making.
fn roles_are_taken(endpoint: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("token"), "a.token").unwrap();
    let role = "arn:aws:iam::123456789012:role/sensor";
    let source = "source_profile = keys\n[profile keys]\naws_access_key_id = AKIA\naws_secret_access_key = s";
    let web = format!("web_identity_token_file = {}", path("token"));
    for way in [source, &web] {
        let config = format!("[profile sensor]\nrole_arn = {role}\n{way}\n");
        fs::write(path("config"), config).unwrap();
        let settings = Settings {
            profile: Some("sensor".into()),
            region: Some(aws_support::REGION.into()),
            environment: Environment::with([
                ("AWS_CONFIG_FILE", path("config").as_str()),
                ("AWS_ENDPOINT_URL", endpoint),
            ]),
        };
        let (found, from) = block_on(Credentials::new(settings).get()).unwrap();
        assert!(found.key_id.starts_with("ASIA") && found.token.is_some());
        assert!(from.contains(role), "{from}");
    }
}

#[test]
fn a_restart_goes_on_behind_the_batches_that_were_taken() {
    let (text, lines) = long_file();
    let waiting = Waiting::with("long.log.gz", &text);
    // the third is taken, and its answer lost
    let server = service(|number, _| match number {
        2 => Reply::hang_up(),
        _ => Reply::ok("{}"),
    });
    let group = group(server.address());
    let (before, done) = waiting.ship(&group);
    assert_eq!(done.unwrap_err().kind, Kind::Unreachable);
    assert_eq!(waiting.progress().len(), 1);
    let (after, done) = waiting.ship(&group);
    done.unwrap();
    assert_eq!(before.events + after.events, lines.len() as u64);
    assert!(waiting.progress().is_empty());
    let puts = server.asked().len();
    assert_eq!(puts, 7, "six batches, one of them twice");
    let counted = counted(&server, &[0, 1, 3, 4, 5, 6]);
    assert!(counted.values().all(|times| *times == 1));
    assert!(
        counted
            .keys()
            .eq(lines.iter().collect::<std::collections::BTreeSet<_>>())
    );
    let same = |i: usize| server.asked()[i].body.clone();
    assert_eq!(same(2), same(3), "the very same batch");
}

#[test]
fn a_disk_that_takes_no_progress_has_no_batch_sent_twice() {
    let (text, lines) = long_file();
    let waiting = Waiting::with("f.log.gz", &text);
    let server = service(|number, _| match number {
        1 => Reply::hang_up(),
        _ => Reply::ok("{}"),
    });
    let group = group(server.address());
    waiting.ship(&group).1.unwrap_err();
    // what is written first can't be
    let aside = waiting.progress()[0].with_extension("partial");
    fs::create_dir(aside).unwrap();
    block_on(async {
        let logs = Logs::open(&group, STREAM, &settings()).await.unwrap();
        let entry = waiting.entry();
        for batch in 0..5 {
            let sent = logs.ship(&waiting.pending, &entry, async |_| {}, |_| {});
            let failure = sent.await.unwrap_err();
            assert_eq!(failure.kind, Kind::Local, "{batch}: {failure}");
        }
        let sent = logs.ship(&waiting.pending, &entry, async |_| {}, |_| {});
        sent.await.unwrap();
    });
    assert_eq!(server.asked().len(), 7);
    let counted = counted(&server, &[0, 2, 3, 4, 5, 6]);
    assert!(counted.values().all(|times| *times == 1));
    assert_eq!(counted.len(), lines.len());
}

#[test]
fn another_file_under_its_name_begins_at_its_beginning() {
    let waiting = Waiting::with("f.log.gz", &long_file().0);
    let server = service(|number, _| match number {
        1 => Reply::status(500, ""),
        _ => Reply::ok("{}"),
    });
    let group = group(server.address());
    let (taken, done) = waiting.ship(&group);
    assert_eq!(done.unwrap_err().kind, Kind::Server);
    assert!(taken.events > 0 && waiting.progress().len() == 1);
    let other = format!("{HEADER}\n{}\n", line("eni-3", now(), ""));
    waiting.offer("f.log.gz", &packed(&other));
    let (taken, done) = waiting.ship(&group);
    done.unwrap();
    assert_eq!(taken.events, 1);
}

#[test]
fn how_far_a_file_has_come_is_forgotten_when_it_does_not_wait_any_more() {
    let waiting = Waiting::with("f.log.gz", &long_file().0);
    let server = service(|number, _| match number {
        0 => Reply::ok("{}"),
        _ => Reply::hang_up(),
    });
    waiting.ship(&group(server.address())).1.unwrap_err();
    Logs::sweep(&waiting.pending, &[waiting.entry()]);
    assert_eq!(waiting.progress().len(), 1, "it still waits");
    Logs::sweep(&waiting.pending, &[]);
    assert!(waiting.progress().is_empty(), "it was given up");
}

#[test]
fn what_is_refused_is_counted_by_its_reason() {
    let now = now();
    let fortnight = 14 * 86_400;
    let starts = [
        0,
        now - fortnight - 60,
        now - 3000,
        now - 2000,
        now - 1000,
        now + 9000,
        now + 9001,
    ];
    let mut lines: Vec<String> = starts.iter().map(|at| line("eni-1", *at, "")).collect();
    lines.push(line("eni-1", now, &"x".repeat(1 << 20)));
    let waiting = Waiting::with("f.log.gz", &format!("{HEADER}\n{}", lines.join("\n")));
    let info = json!({"rejectedLogEventsInfo":
        {"expiredLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3}});
    let server = service(move |_, events| {
        // a span of a day goes in one request; two weeks do not
        assert_eq!(events.len(), 5);
        Reply::ok(info.to_string())
    });
    let (taken, done) = waiting.ship(&group(server.address()));
    done.unwrap();
    assert_eq!(taken.events, 2);
    let refused: Vec<_> = taken.refused.into_iter().collect();
    let counts = [
        ("expired", 1),
        ("too_large", 1),
        ("too_new", 2),
        ("too_old", 2),
    ];
    assert_eq!(refused, counts);
}

#[test]
fn each_trouble_has_its_kind() {
    let waiting = Waiting::with(
        "f.log.gz",
        &format!("{HEADER}\n{}", line("eni-1", now(), "")),
    );
    let denied = "AccessDeniedException";
    for (reply, kind, words) in [
        (
            Reply::error("ThrottlingException").with("retry-after", "7"),
            Kind::Throttled,
            "Throttling",
        ),
        (Reply::status(503, "busy"), Kind::Server, "503"),
        (
            Reply::error(denied),
            Kind::Access,
            "credentials of the environment",
        ),
        (
            Reply::error("UnrecognizedClientException"),
            Kind::Credentials,
            "environment",
        ),
        (
            Reply::error("com.amazonaws#InvalidParameterException"),
            Kind::Refused,
            "eni-1-accept",
        ),
        (Reply::hang_up(), Kind::Unreachable, "cannot put events"),
    ] {
        let told = reply.clone();
        let server = service(move |_, _| told.clone());
        let failure = waiting.ship(&group(server.address())).1.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.reason.contains(words), "{failure}");
        let seconds = failure.retry_after.map(|wait| wait.as_secs());
        assert_eq!(seconds, reply.headers.first().map(|_| 7));
    }
    let closed = "http://127.0.0.1:1".to_owned();
    let failure = waiting.ship(&group(closed)).1.unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable, "{failure}");
    assert_eq!(failure.trouble(time::now()).kind, "unreachable");
}

#[test]
fn a_file_that_is_damaged_or_no_file_of_records_is_refused() {
    let good = packed(&format!("{HEADER}\n{}\n", line("eni-1", now(), "")));
    let server = service(|_, _| Reply::ok("{}"));
    for (bytes, words) in [
        (good[..good.len() - 9].to_vec(), "cannot read"),
        (b"plain text".to_vec(), "cannot read"),
        (packed("no header line\n"), "no header line"),
        (packed(""), "no header line"),
    ] {
        let waiting = Waiting::with("f.log.gz", "");
        waiting.offer("f.log.gz", &bytes);
        let failure = waiting.ship(&group(server.address())).1.unwrap_err();
        assert_eq!(failure.kind, Kind::Refused, "{failure}");
        assert!(failure.reason.contains(words), "{failure}");
    }
    assert!(server.asked().iter().all(|asked| put(asked).len() == 1));
}

#[test]
fn records_without_a_start_or_an_interface_go_all_the_same() {
    let header = "srcaddr dstaddr bytes";
    let waiting = Waiting::with("f.log.gz", &format!("{header}\n10.0.0.1 10.0.0.2 7\n"));
    let server = service(|_, _| Reply::ok("{}"));
    waiting.ship(&group(server.address())).1.unwrap();
    let asked = server.asked();
    let body: Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(body["logStreamName"], "unknown-accept");
    let written = waiting.entry().written / 1_000_000;
    let at = i128::from(body["logEvents"][0]["timestamp"].as_u64().unwrap());
    assert_eq!(at, written, "when the file was written");
}

#[test]
fn bytes_wait_for_their_turn() {
    let (text, lines) = long_file();
    let waiting = Waiting::with("f.log.gz", &text);
    let server = service(|_, _| Reply::ok("{}"));
    let asked_for = std::cell::RefCell::new(Vec::new());
    block_on(async {
        let group = group(server.address());
        let logs = Logs::open(&group, STREAM, &settings()).await.unwrap();
        let pace = async |bytes| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            asked_for.borrow_mut().push(bytes);
        };
        let entry = waiting.entry();
        logs.ship(&waiting.pending, &entry, pace, |_| {})
            .await
            .unwrap();
    });
    let asked_for = asked_for.into_inner();
    let size: usize = lines.iter().map(|line| line.len() + 26).sum();
    assert_eq!((asked_for.len(), asked_for.iter().sum()), (6, size));
}

/// Whether AWS's own library would sign it in the same way.
fn check_signature(tools: &Path, asked: &Asked, address: &str) -> String {
    let told = json!({
        "method": asked.method, "url": format!("{address}{}", asked.path), "headers": asked.headers,
        "body": asked.body, "access": aws_support::ACCESS_KEY, "secret": aws_support::SECRET_KEY,
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/check_signature.py");
    let mut command = aws_support::python(tools);
    command
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(told.to_string().as_bytes()).unwrap();
    drop(input);
    let said = child.wait_with_output().unwrap().stdout;
    String::from_utf8(said).unwrap().trim().to_owned()
}

#[test]
fn a_request_is_signed_as_aws_s_own_library_signs_it() {
    let Some(tools) = aws_support::test_tools() else {
        return;
    };
    let text = format!("{HEADER}\n{}\n", line("eni-ü", now(), ""));
    let waiting = Waiting::with("f.log.gz", &text);
    let server = service(|_, _| Reply::ok("{}"));
    waiting.ship(&group(server.address())).1.unwrap();
    let mut asked = server.asked().remove(0);
    assert_eq!(asked.header("x-amz-security-token"), "token/of+tests==");
    assert_eq!(check_signature(&tools, &asked, &server.address()), "same");
    asked
        .headers
        .insert("x-amz-target".into(), "Logs_20140328.DeleteLogGroup".into());
    let said = check_signature(&tools, &asked, &server.address());
    assert!(said.ends_with("is right"), "{said}");
}
