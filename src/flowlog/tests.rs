//! Keys, values and files, beside gzip and the documented examples.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::filter::Direction;
use crate::flow::{Closed, Key, Why};
use crate::headers::FlowKey;
use crate::record::{Columns, Field, Status};
use crate::time::Timestamp;

pub(super) fn config() -> Config {
    Config {
        account: "123456789012".into(),
        region: "us-east-1".into(),
        ..Config::default()
    }
}

pub(super) fn closed(first: u64, last: u64, packets: u64) -> Closed {
    let mut flow = FlowKey {
        version: 4,
        proto: 6,
        sport: 43_416,
        dport: 5001,
        ..FlowKey::default()
    };
    flow.src[..4].copy_from_slice(&[52, 213, 180, 42]);
    flow.dst[..4].copy_from_slice(&[10, 0, 0, 62]);
    Closed {
        key: Key {
            flow,
            eni: 0,
            direction: Direction::Ingress,
        },
        packets,
        bytes: packets * 71,
        first: Timestamp::from_parts(first, 5),
        last: Timestamp::from_parts(last, 999),
        flags: 2,
        why: Why::Interval,
    }
}

pub(super) fn interface() -> Interface {
    let mut interface = Interface::at(Ipv4Addr::new(10, 0, 0, 62));
    for (field, value) in [
        (Field::AccountId, "123456789010"),
        (Field::InterfaceId, "eni-1235b8ca123456789"),
        (Field::VpcId, "vpc-abcdefab012345678"),
        (Field::SubnetId, "subnet-aaaaaaaa012345678"),
        (Field::InstanceId, "i-01234567890123456"),
    ] {
        interface.know(field, value);
    }
    interface
}

/// Published files by path below the folder, unpacked.
pub(super) fn published(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            let mut text = String::new();
            let packed = fs::File::open(&path).unwrap();
            flate2::read::MultiGzDecoder::new(packed)
                .read_to_string(&mut text)
                .unwrap();
            found.push((name, text));
        }
    }
    found.sort();
    found
}

#[test]
fn keys_are_those_of_the_guide() {
    let mut layout = Layout::of(&Config {
        id: Some("fl-1234abcd".into()),
        ..config()
    });
    // 2018-06-20 16:20 UTC
    let bucket = 1_529_511_600;
    assert_eq!(
        layout.file(bucket, "fe123456"),
        "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20180620T1620Z_fe123456.log.gz"
    );
    let plain = "AWSLogs/123456789012/vpcflowlogs/us-east-1/2018/06/20";
    let hive = "AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=us-east-1/year=2018/month=06/day=20";
    for (is_hive, hourly, folder) in [
        (false, false, plain.to_owned()),
        (false, true, format!("{plain}/16")),
        (true, false, hive.to_owned()),
        (true, true, format!("{hive}/hour=16")),
    ] {
        (layout.hive, layout.hourly) = (is_hive, hourly);
        assert_eq!(layout.folder(bucket), folder);
    }
}

#[test]
fn an_edited_format_is_another_flow_log() {
    let one = Layout::of(&config());
    let other = Layout::of(&Config {
        log_format: "${version} ${srcaddr}".parse().unwrap(),
        ..config()
    });
    assert_ne!(one.id, other.id);
    assert_eq!(one.id, Layout::of(&config()).id, "and the same is the same");
    assert_eq!(one.id.len(), "fl-".len() + 17);
}

#[test]
fn a_flow_is_told_as_in_the_documented_line() {
    let format = "${version} ${vpc-id} ${subnet-id} ${instance-id} ${interface-id} ${account-id} ${type} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${pkt-srcaddr} ${pkt-dstaddr} ${protocol} ${bytes} ${packets} ${start} ${end} ${action} ${tcp-flags} ${log-status}";
    let config = Config {
        log_format: format.parse().unwrap(),
        ..config()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(&config, folder.path(), Timestamp::from_nanos(1));
    log.record(&interface(), &closed(1_566_848_875, 1_566_848_933, 8))
        .unwrap();
    log.finish().unwrap();
    let (name, text) = published(folder.path()).remove(0);
    assert!(
        name.contains("/2019/08/26/") && name.contains("_20190826T1945Z_"),
        "{name}"
    );
    let line = "3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 52.213.180.42 10.0.0.62 43416 5001 52.213.180.42 10.0.0.62 6 568 8 1566848875 1566848933 ACCEPT 2 OK";
    assert_eq!(text, format!("{}\n{line}\n", config.log_format.header()));
}

#[test]
fn lines_without_a_flow_are_written_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(&config(), folder.path(), Timestamp::from_nanos(1));
    let at = |secs| Timestamp::from_parts(secs, 0);
    let span = (at(1_431_280_876), at(1_431_280_934));
    log.without_flow(&interface(), Status::SkipData, span.0, span.1)
        .unwrap();
    log.finish().unwrap();
    let (_, text) = published(folder.path()).remove(0);
    let line =
        "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - SKIPDATA\n";
    assert!(text.ends_with(line), "{text}");
}

#[test]
fn a_file_is_hidden_until_its_five_minutes_and_the_interval_are_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(&config(), folder.path(), Timestamp::from_nanos(1));
    log.record(&interface(), &closed(600, 899, 1)).unwrap();
    log.record(&interface(), &closed(880, 900, 1)).unwrap();
    let ends = |secs| Timestamp::from_parts(secs, 0);
    log.advance(ends(964)).unwrap();
    assert!(log.take_published().is_empty());
    log.advance(ends(965)).unwrap();
    let files: Vec<PathBuf> = log.take_published();
    assert_eq!(files.len(), 1);
    assert!(files[0].display().to_string().contains("_19700101T0010Z_"));
    log.finish().unwrap();
    let names: Vec<_> = published(folder.path())
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    assert!(names[1].contains("_19700101T0015Z_"), "{names:?}");
    assert!(names.iter().all(|n| !n.contains("partial")), "{names:?}");
}

#[test]
fn files_of_two_runs_are_not_mixed_up() {
    let folder = tempfile::tempdir().unwrap();
    for run in 1..=2 {
        let mut log = Log::new(&config(), folder.path(), Timestamp::from_nanos(run));
        log.record(&interface(), &closed(600, 700, run)).unwrap();
        log.finish().unwrap();
    }
    assert_eq!(published(folder.path()).len(), 2);
}

#[test]
fn what_cannot_be_begun_is_counted_and_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".growing"), "a file in the way").unwrap();
    let mut log = Log::new(&config(), folder.path(), Timestamp::from_nanos(1));
    let error = log.record(&interface(), &closed(600, 700, 1)).unwrap_err();
    assert!(
        error.to_string().contains("cannot begin the flow log"),
        "{error}"
    );
    let counts = log.counts();
    assert_eq!((counts.records, counts.lost, counts.published), (1, 1, 0));
}

#[test]
fn what_cannot_be_published_is_counted_and_the_next_start_recovers_it() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("AWSLogs");
    fs::write(&in_the_way, "a file").unwrap();
    let mut log = Log::new(&config(), folder.path(), Timestamp::from_nanos(1));
    log.record(&interface(), &closed(600, 700, 1)).unwrap();
    let error = log.finish().unwrap_err();
    assert!(
        error.to_string().contains("cannot publish the flow log"),
        "{error}"
    );
    assert_eq!((log.counts().lost, log.counts().published), (1, 0));
    drop(log);
    fs::remove_file(in_the_way).unwrap();
    let mut next = Log::new(&config(), folder.path(), Timestamp::from_nanos(2));
    let recovered = next.recover();
    assert!(recovered.errors.is_empty(), "{recovered:?}");
    assert_eq!((recovered.files, recovered.records), (1, 1));
    assert_eq!(published(folder.path()).len(), 1);
}

#[test]
fn a_name_that_is_taken_is_not_overwritten_and_another_one_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let start = Timestamp::from_nanos(1);
    let write = |folder: &Path| {
        let mut log = Log::new(&config(), folder, start);
        log.record(&interface(), &closed(600, 700, 1)).unwrap();
        log.finish().unwrap();
        log.take_published().remove(0)
    };
    // the names depend on the run alone, so the second one meets that of the first
    let first = write(folder.path());
    fs::write(&first, "somebody's").unwrap();
    let second = write(folder.path());
    assert_ne!(first, second);
    assert_eq!(fs::read_to_string(&first).unwrap(), "somebody's");
    assert!(fs::read(&second).unwrap().starts_with(&[0x1f, 0x8b]));
}

#[test]
fn traffic_within_the_vpc_is_path_1_and_nothing_else_is_guessed() {
    let mut interface = interface();
    interface.vpc_ranges = vec!["10.0.0.0/16".parse().unwrap()];
    let path = |direction, dst: [u8; 4]| {
        let mut closed = closed(1, 2, 1);
        closed.key.direction = direction;
        closed.key.flow.dst[..4].copy_from_slice(&dst);
        let addresses = closed.addresses(interface.primary);
        interface
            .value(&closed, addresses, Field::TrafficPath)
            .number()
    };
    assert_eq!(path(Direction::Egress, [10, 0, 9, 9]), Some(1));
    assert_eq!(path(Direction::Egress, [8, 8, 8, 8]), None);
    assert_eq!(path(Direction::Ingress, [10, 0, 0, 62]), None);
}

#[test]
fn a_configuration_that_cannot_be_run_says_all_that_is_wrong() {
    assert_eq!(Config::default().check(), []);
    let wrong = Config {
        account: "../../etc".into(),
        region: "a/b".into(),
        id: Some("fl-xyz".into()),
        interval: crate::units::Interval::seconds(0),
        max_flows: 0,
        ..Config::default()
    };
    assert_eq!(wrong.check().len(), 5);
    for (text, key, said) in [
        ("name = '../x'", "name", "begins with a letter"),
        ("directory = ''", "directory", "name a folder"),
        (
            "extra = ['x-vni', 'x-vni']",
            "extra",
            "x-vni is there twice",
        ),
        ("interface = ['eni-1']", "interface", "needs interfaces"),
        (
            "vpc = ['10.0.0.0/8']\ninterfaces = 'x'",
            "vpc",
            "vpc-0123456789abcdef0",
        ),
        (
            "interface_tags = ['a', 'b', 'c']",
            "interface_tags",
            "room for 2",
        ),
        ("spool_budget = '1kB'", "spool_budget", "1MiB or more"),
        ("[s3]\nbucket = 'X'", "s3", "a bucket's name"),
        (
            "file_format = 'parquet'\n[cloudwatch]\nlog_group = 'g'",
            "file_format",
            "takes text",
        ),
        (
            "[s3]\nbucket = 'logs'\n[cloudwatch]\nlog_group = 'g'",
            "cloudwatch",
            "one destination",
        ),
    ] {
        let config: Config = toml::from_str(text).unwrap();
        let wrong = config.check();
        let told = wrong.iter().find(|error| error.key().first() == Some(&key));
        let told = told.unwrap_or_else(|| panic!("{text}: {wrong:?}"));
        assert!(told.to_string().contains(said), "{text}: {told}");
    }
    let unknown = toml::from_str::<Config>("extra = ['x-vnl']").unwrap_err();
    assert!(
        unknown.to_string().contains("did you mean \"x-vni\"?"),
        "{unknown}"
    );
}

#[test]
fn interfaces_belong_to_a_flow_log_by_id_subnet_vpc_session_and_source() {
    let interface = interface();
    let source = "10.0.0.62".parse().unwrap();
    for (text, takes) in [
        ("", true),
        ("interface = ['eni-1', 'eni-1235b8ca123456789']", true),
        ("interface = ['eni-1']", false),
        (
            "subnet = ['subnet-aaaaaaaa012345678']\nvpc = ['vpc-abcdefab012345678']",
            true,
        ),
        (
            "subnet = ['subnet-aaaaaaaa012345678']\nvpc = ['vpc-1']",
            false,
        ),
        ("session = ['web', 'dns']", true),
        ("session = ['dns']", false),
        ("source = ['10.0.0.0/24']", true),
        ("source = ['10.0.1.0/24', '10.0.0.61']", false),
    ] {
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.takes(&interface, source, "web"), takes, "{text}");
    }
    let config: Config = toml::from_str("interface = ['eni-1']").unwrap();
    assert!(
        !config.takes(&Interface::at([10, 0, 0, 1].into()), source, "web"),
        "unknown"
    );
}

#[test]
fn a_table_of_the_configuration_reads_and_prints_back() {
    let text =
        "name = 'web'\nlog_format = '${version} ${tcp-flags}'\ninterval = '10m'\nhive = true\n";
    let config: Config = toml::from_str(text).unwrap();
    assert_eq!(config.log_format.version(), 3);
    let printed = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<Config>(&printed).unwrap(), config);
    let error = toml::from_str::<Config>("log_format = '${scraddr}'").unwrap_err();
    assert!(
        error.to_string().contains("did you mean \"srcaddr\"?"),
        "{error}"
    );
}

#[test]
fn only_names_of_the_flow_log_have_a_key() {
    let layout = Layout::of(&Config {
        id: Some("fl-1234abcd".into()),
        ..config()
    });
    let name = layout.file(1_529_511_600, "fe123456");
    let key = layout.key(&name).unwrap();
    assert_eq!(key, format!("{}/{name}", layout.folder(1_529_511_600)));
    assert!(layout.key(&name.replace(".gz", ".parquet")).is_some());
    for other in [
        name.replace("fl-1234abcd", "fl-1234abce"),
        name.replace("fe123456", "fe12345"),
        name.replace("fe123456", "../../x6"),
        name.replace("20180620T", "201806200T"),
        name.replace(".log.gz", ".log.gz.growing"),
        format!("x{name}"),
        String::new(),
    ] {
        assert_eq!(layout.key(&other), None, "{other}");
    }
}

#[test]
fn columns_of_our_own_stand_behind_those_of_aws() {
    let folder = tempfile::tempdir().unwrap();
    let text = "log_format = '${dstport} ${log-status}'\nextra = ['x-session', 'x-vni', 'x-community-id', 'x-end-reason', 'x-start-ns', 'x-end-ns', 'x-mean-bytes']";
    let config: Config = toml::from_str(text).unwrap();
    let mut log = Log::new(&config, folder.path(), Timestamp::from_nanos(1));
    let mut interface = interface();
    let vni = crate::packet::Vni::new;
    interface.met(&"web".into(), vni(7));
    let at = |secs| Timestamp::from_parts(secs, 0);
    log.record(&interface, &closed(600, 700, 3)).unwrap();
    interface.met(&"web".into(), vni(8));
    log.without_flow(&interface, Status::SkipData, at(600), at(700))
        .unwrap();
    log.finish().unwrap();
    let (_, text) = published(folder.path()).remove(0);
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    assert_eq!(
        header,
        "dstport log-status x-session x-vni x-community-id x-end-reason x-start-ns x-end-ns x-mean-bytes"
    );
    let columns = Columns::of_header(header).unwrap();
    let record = columns.read(lines.next().unwrap()).unwrap().to_string();
    let id = record.split(' ').nth(4).unwrap();
    assert!(id.starts_with("1:") && id.len() == 30, "{id}");
    assert_eq!(
        record.replace(id, "ID"),
        "5001 OK web 7 ID interval 600000000005 700000000999 71"
    );
    assert_eq!(lines.next().unwrap(), "- SKIPDATA web - - - - - -");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_record_is_in_one_published_file_and_in_that_of_its_end(
        flows in proptest::collection::vec((0..6_000_u64, 0..60_u64, 1..9_u64), 1..24),
        clock in proptest::collection::vec(0..6_000_u64, 0..10),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(&config(), folder.path(), Timestamp::from_nanos(1));
        let mut clock = clock.into_iter();
        for (start, span, packets) in &flows {
            log.record(&interface(), &closed(*start, start + span, *packets)).unwrap();
            if let Some(now) = clock.next() {
                log.advance(Timestamp::from_parts(now, 0)).unwrap();
            }
        }
        log.finish().unwrap();
        let counts = log.counts();
        prop_assert_eq!((counts.records, counts.published, counts.lost), (flows.len() as u64, flows.len() as u64, 0));
        let files = published(folder.path());
        prop_assert_eq!(files.len() as u64, counts.files);
        let mut sum = 0;
        for (name, text) in &files {
            let mut lines = text.lines();
            let columns = Columns::of_header(lines.next().unwrap()).unwrap();
            for line in lines {
                let record = columns.read(line).unwrap();
                sum += record.get(Field::Packets).number().unwrap();
                let end = record.get(Field::End).number().unwrap();
                let layout = Layout::of(&config());
                let stem = layout.file(end - end % BUCKET, "");
                prop_assert!(name.contains(stem.trim_end_matches(".log.gz")), "{} {}", name, stem);
            }
        }
        prop_assert_eq!(sum, flows.iter().map(|f| f.2).sum::<u64>());
    }
}
