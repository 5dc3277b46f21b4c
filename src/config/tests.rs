//! Claims about what a bad configuration is told.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("m.toml"), text).map_err(|p| p.to_string())
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let text = "[[session]]\nname = 'web'\nvni = [5, '7-9']\nsource = ['10.0.0.0/8']\npacket_length = 200\n";
    let config = parse(text).unwrap();
    let shown = config.show().unwrap();
    let again = parse(&shown).unwrap();
    assert_eq!(again.show().unwrap(), shown);
    assert_eq!(again.session, config.session);
}

#[test]
fn a_problem_has_file_line_column_and_the_nearest_key() {
    let error = parse("output = 'x'\n\n[capture]\n  rotate_sise = '1GiB'\n").unwrap_err();
    assert!(
        error.starts_with("m.toml:4:3: unknown key \"rotate_sise\"; did you mean \"rotate_size\"?"),
        "{error}"
    );
    assert!(
        error.contains("\n  4 |   rotate_sise = '1GiB'\n    |   ^^^^^^^^^^^"),
        "{error}"
    );
}

#[test]
fn every_problem_is_told_at_once_and_in_order() {
    let text = "
outptu = 'x'
shutdown_timeout = 5

[source]
listen = ['nowhere']
vxlan_port = 70000

[threads]
workers = 'many'

[sauce]
a = 1

[[session]]
name = 'a b'
vni = 1

[[session]]
name = 'c'
vni = [1, 'x']

[[session]]
name = 'd'
[session.capture]
format = 'pcapgn'
";
    let error = parse(text).unwrap_err();
    let lines: Vec<&str> = error.lines().filter(|l| l.starts_with("m.toml:")).collect();
    let at: Vec<&str> = lines.iter().map(|l| l.split(':').nth(1).unwrap()).collect();
    assert_eq!(
        at,
        ["2", "3", "6", "7", "10", "12", "16", "21", "26"],
        "{error}"
    );
}

#[test]
fn sessions_that_claim_the_same_packets_are_refused() {
    let text = "[[session]]\nname = 'a'\nvni = '1-10'\n[[session]]\nname = 'b'\nvni = 5\n";
    let error = parse(text).unwrap_err();
    assert!(
        error.starts_with("m.toml:6:7:") && error.contains("overlaps session \"a\""),
        "{error}"
    );
    let narrowed = text.replace("vni = 5", "vni = 5\nsource = ['10.0.0.1/32']");
    parse(&narrowed).unwrap();
}

#[test]
fn a_syntax_error_has_its_place() {
    let error = parse("output = 'x'\n[source\n").unwrap_err();
    assert!(error.starts_with("m.toml:2:"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_told_by_name() {
    let error = Config::load(Path::new("/nowhere/m.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nowhere/m.toml: cannot read the configuration"),
        "{error}"
    );
}

#[test]
fn addresses_that_take_the_same_datagrams_are_told() {
    for (listen, both) in [
        ("'[::]:4789', '0.0.0.0:4789'", true),
        ("'0.0.0.0:4789', '10.0.0.1:4789'", true),
        ("'10.0.0.1:4789', '10.0.0.1:4789'", true),
        ("'[::]:4789', '[fd00::1]:4789'", true),
        ("'[::]:4789', '[::]:6081'", false),
        ("'0.0.0.0:4789', '[fd00::1]:4789'", false),
        ("'10.0.0.1:4789', '10.0.0.2:4789'", false),
        ("'127.0.0.1:0', '127.0.0.1:0'", false),
    ] {
        let parsed = parse(&format!("[source]\nlisten = [{listen}]\n"));
        let told = parsed.is_err_and(|e| e.contains("m.toml:2:10: ") && e.contains("leave one"));
        assert_eq!(told, both, "{listen}");
    }
}

#[test]
fn a_latency_for_which_receivers_would_seem_dead_is_refused() {
    for (latency, fits) in [("0s", true), ("10us", true), ("1s", true), ("1h", false)] {
        let parsed = parse(&format!("[source]\nlatency = '{latency}'\n"));
        assert_eq!(parsed.is_ok(), fits, "{latency}: {parsed:?}");
    }
}

#[test]
fn what_is_wrong_with_a_flow_log_is_told_with_its_place() {
    for (text, place, message) in [
        (
            "[[flow_log]]\nintervall = '1s'",
            "2:1",
            "did you mean \"interval\"?",
        ),
        ("[[flow_log]]\ninterval = '2h'", "2:12", "1s to 1h"),
        (
            "[[session]]\nname = 'web'\nvni = 7\n[[flow_log]]\nsession = ['vni-8', 'wbe']",
            "5:11",
            "the nearest is \"web\"",
        ),
        (
            "[[flow_log]]\n[[flow_log]]\nname = 'default'",
            "3:8",
            "give each its own",
        ),
        (
            "[[flow_log]]\ninterfaces = 'none.json'",
            "2:14",
            "none.json",
        ),
        (
            "[[flow_log]]\n[flow_log.filter]\nexpression = 'tpc'",
            "2:1",
            "tpc",
        ),
        (
            "[[flow_log]]\n[flow_log.s3]\nbucket = 'Logs'",
            "3:10",
            "3 to 63",
        ),
        ("[[flow_log]]\nlog_format = '${srcadr}'", "2:14", "srcaddr"),
    ] {
        let error = Config::parse(Path::new("m.toml"), text)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("m.toml:{place}: ")),
            "{text}: {error}"
        );
        assert!(error.contains(message), "{text}: {error}");
    }
}
