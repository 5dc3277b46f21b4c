//! What docs/filters.md shows works as it stands, and files of the AWS CLI are read with every member, present or not.
#![cfg(feature = "pcap-filter")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;

use common::{corpus, mirrortap, replay, tool};
use mirrortap::filter::{Config, Direction, Error, Filter};
use mirrortap::headers::{FlowKey, Headers};

/// The code blocks of the page in one language.
fn blocks(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/filters.md");
    let page = std::fs::read_to_string(page).unwrap();
    let start = format!("```{language}\n");
    let block = |rest: &str| rest.split("```").next().unwrap().to_owned();
    page.split(&start).skip(1).map(block).collect()
}

/// The filters of a configuration's sessions.
fn filters(text: &str) -> Vec<Config> {
    let value: toml::Table = toml::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let sessions = value["session"].as_array().unwrap().iter();
    sessions
        .map(|s| s["filter"].clone().try_into().unwrap())
        .collect()
}

#[test]
fn every_example_of_the_page_is_a_good_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let json = blocks("json");
    std::fs::write(folder.path().join("filters.json"), &json[0]).unwrap();
    let examples = blocks("toml");
    assert_eq!((json.len(), examples.len()), (1, 4));
    for text in &examples {
        for filter in filters(text) {
            let compiled = Filter::compile(&filter, folder.path());
            assert!(compiled.is_ok_and(|f| !f.keeps_everything()), "{text}");
        }
        let file = folder.path().join("m.toml");
        std::fs::write(&file, text).unwrap();
        let out = mirrortap(&["check", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{text}\n{said}");
    }
}

#[test]
fn the_mistake_that_the_page_shows_is_shown_so() {
    let config = Config {
        expression: Some("tcp prot 80".to_owned()),
        ..Config::default()
    };
    let error = &Filter::compile(&config, Path::new(".")).unwrap_err()[0];
    assert_eq!(blocks("text"), [format!("{error}\n")]);
}

fn import(json: &str, id: Option<&str>) -> Result<Filter, Vec<Error>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("f.json"), json).unwrap();
    let config = Config {
        file: Some("f.json".into()),
        id: id.map(str::to_owned),
        ..Config::default()
    };
    Filter::compile(&config, folder.path())
}

/// A filter with these members beside its id.
fn filter_with(members: &str) -> String {
    format!(r#"{{"TrafficMirrorFilters":[{{"TrafficMirrorFilterId":"tmf-1",{members}}}]}}"#)
}

/// A filter with one ingress rule of these members.
fn rule_with(members: &str) -> String {
    filter_with(&format!(
        r#""IngressFilterRules":[{{"RuleNumber":7,"RuleAction":"accept"{members}}}]"#
    ))
}

#[test]
fn each_field_of_a_rule_is_imported() {
    for (members, description) in [
        ("", "all from any to any"),
        (r#","Protocol":6"#, "tcp from any to any"),
        (r#","Protocol":-1"#, "all from any to any"),
        (r#","Protocol":0"#, "protocol 0 from any to any"),
        (
            r#","SourceCidrBlock":"10.0.0.0/8","DestinationCidrBlock":"0.0.0.0/0""#,
            "all from 10.0.0.0/8 to 0.0.0.0/0",
        ),
        (
            r#","SourceCidrBlock":"::/0","DestinationCidrBlock":"2001:db8::/32""#,
            "all from ::/0 to 2001:db8::/32",
        ),
        (
            r#","Protocol":17,"SourcePortRange":{"FromPort":53,"ToPort":53}"#,
            "udp from any port 53 to any",
        ),
        (
            r#","Protocol":6,"DestinationPortRange":{"FromPort":0,"ToPort":1023}"#,
            "tcp from any to any ports 0-1023",
        ),
        (r#","Description":"web""#, "all from any to any (web)"),
        (
            r#","Tags":[],"TrafficDirection":"ingress","SomethingNew":{"A":1}"#,
            "all from any to any",
        ),
        (
            r#","Protocol":null,"SourcePortRange":null"#,
            "all from any to any",
        ),
    ] {
        let filter =
            import(&rule_with(members), None).unwrap_or_else(|e| panic!("{members}: {e:?}"));
        let [rule] = filter.rules() else {
            panic!("{members}")
        };
        assert_eq!((rule.number, rule.direction), (7, Direction::Ingress));
        assert_eq!(rule.description, description, "{members}");
    }
}

#[test]
fn what_a_file_says_wrong_is_told_with_its_place() {
    let several = r#"{"TrafficMirrorFilters":[{"TrafficMirrorFilterId":"tmf-1"},{"TrafficMirrorFilterId":"tmf-2"}]}"#;
    for (json, says) in [
        (
            rule_with(r#","Protocol":300"#),
            "rule 7 (ingress) of tmf-1 in f.json",
        ),
        (
            rule_with(r#","SourceCidrBlock":"10.0.0.0/40""#),
            "no CIDR block",
        ),
        (
            rule_with(r#","Protocol":6,"SourcePortRange":{"FromPort":5}"#),
            "ToPort",
        ),
        (
            rule_with(r#","Protocol":6,"SourcePortRange":{"FromPort":-1,"ToPort":-1}"#),
            "line 1",
        ),
        (
            filter_with(r#""IngressFilterRules":[{"RuleNumber":1,"RuleAction":"allow"}]"#),
            "accept",
        ),
        (
            filter_with(r#""EgressFilterRules":[{"RuleAction":"accept"}]"#),
            "no RuleNumber",
        ),
        (filter_with(r#""NetworkServices":[]"#), "would keep nothing"),
        (several.to_owned(), "choose with `id` one of: tmf-1, tmf-2"),
        (
            r#"{"TrafficMirrorFilterRules":[]}"#.to_owned(),
            "describe-traffic-mirror-filters",
        ),
        (
            "TrafficMirrorFilters:\n- Description: web\n".to_owned(),
            "--output json",
        ),
        (String::new(), "--output json"),
    ] {
        let error = import(&json, None).unwrap_err()[0].to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert!(error.contains("f.json"), "{error}");
    }
}

#[test]
fn numbers_may_be_the_same_in_both_directions_only() {
    let both = r#""IngressFilterRules":[{"RuleNumber":1,"RuleAction":"accept"}],"EgressFilterRules":[{"RuleNumber":1,"RuleAction":"reject"}]"#;
    assert_eq!(import(&filter_with(both), None).unwrap().rules().len(), 2);
    let twice = r#""IngressFilterRules":[{"RuleNumber":1,"RuleAction":"accept"},{"RuleNumber":1,"RuleAction":"reject"}]"#;
    let error = import(&filter_with(twice), None).unwrap_err()[0].to_string();
    assert!(error.contains("its number is that of"), "{error}");
}

#[test]
fn amazon_dns_goes_before_the_rules_in_both_directions() {
    let members = r#""NetworkServices":["amazon-dns"],"IngressFilterRules":[{"RuleNumber":1,"RuleAction":"reject"}]"#;
    let filter = import(&filter_with(members), None).unwrap();
    let packet = |server: [u8; 4], port: u16| {
        let mut key = FlowKey {
            version: 4,
            proto: 17,
            sport: 40_000,
            dport: port,
            ..FlowKey::default()
        };
        key.dst[..4].copy_from_slice(&server);
        Headers {
            key,
            has_ports: true,
            ..Headers::default()
        }
    };
    for direction in [Direction::Ingress, Direction::Egress, Direction::Unknown] {
        let kept = |packet: &Headers| filter.judge(&[], packet, 0, direction).reject.is_none();
        assert!(kept(&packet([169, 254, 169, 253], 53)));
        assert!(kept(&packet([10, 0, 0, 2], 53)));
        assert!(!kept(&packet([8, 8, 8, 8], 53)));
        assert!(!kept(&packet([10, 0, 0, 2], 80)));
        // later fragments of DNS that is too long for one packet
        let later = |server| Headers {
            has_ports: false,
            ..packet(server, 0)
        };
        assert!(kept(&later([10, 0, 0, 2])));
        assert!(!kept(&later([8, 8, 8, 8])));
    }
}

#[test]
fn of_a_real_mirror_session_amazon_dns_keeps_the_resolvers_dns() {
    let Some(corpus) = corpus() else { return };
    let capture = corpus.join("vxlan/suricata-vxlan-decoder-03.pcap");
    let folder = tempfile::tempdir().unwrap();
    let json = filter_with(r#""NetworkServices":["amazon-dns"]"#);
    std::fs::write(folder.path().join("dns.json"), json).unwrap();
    let config = folder.path().join("m.toml");
    let text = "[[session]]\nname = 'dns'\nvni = 5569041\nfilter = { file = 'dns.json' }\n";
    std::fs::write(&config, text).unwrap();
    let out = folder.path().join("out");
    let ledger = replay(&[&capture], &out, &["--config", config.to_str().unwrap()]);
    let tshark = tool("tshark")
        .arg("-nr")
        .arg(&capture)
        .args(["-Y", "vxlan and dns", "-T", "fields", "-e", "frame.number"])
        .output()
        .unwrap();
    let expected = String::from_utf8_lossy(&tshark.stdout).lines().count() as u64;
    assert!(expected > 10);
    assert_eq!(ledger.number("written"), expected, "{}", ledger.0);
    assert_eq!(ledger.filtered("no_rule"), 100 - expected);
}
