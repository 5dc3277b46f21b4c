//! Which packets and interfaces count in which flow log.

use std::net::Ipv4Addr;

use crate::support::{
    ENI, Mirrored, PEER, START, assert_conserved, by_flow, log_of, of, replayed, sum, traffic, udp,
};

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);

#[test]
fn all_counts_what_the_session_filters_out_and_kept_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = "unknown = 'drop'\n\
                  [[session]]\nname = 's'\nvni = 7\n\
                  [[session.filter.rules]]\nnumber = 1\ndirection = 'egress'\naction = 'accept'\n\
                  [[flow_log]]\nname = 'all'\ndirectory = '{}/all'\n\
                  [[flow_log]]\nname = 'kept'\ndirectory = '{}/kept'\npackets = 'kept'\n";
    let mut packets = traffic(ENI, 7, 5, 100, 5);
    packets.extend(traffic(OTHER, 8, 5, 30, 5));
    let ledger = replayed(folder.path(), config, packets);
    let all = assert_conserved(&ledger, "all", &folder.path().join("all"));
    let kept = assert_conserved(&ledger, "kept", &folder.path().join("kept"));
    assert_eq!((sum(&all, "packets"), sum(&kept, "packets")), (130, 50));
    assert_eq!(ledger.number("written"), 50);
    assert_eq!(ledger.filtered("unknown_session"), 30);
    assert!(kept.iter().all(|r| r["srcaddr"] == ENI.to_string()));
}

#[test]
fn flow_logs_have_each_its_own_interval_filter_and_interfaces() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[session]]\nname = 'web'\nvni = 7\n\
                  [[flow_log]]\nname = 'fine'\ndirectory = '{}/fine'\ninterval = '5s'\n\
                  [[flow_log]]\nname = 'coarse'\ndirectory = '{}/coarse'\ninterval = '10m'\n\
                  [[flow_log]]\nname = 'web'\ndirectory = '{}/web'\nsession = ['web']\n\
                  [[flow_log]]\nname = 'other'\ndirectory = '{}/other'\nsource = ['10.0.0.6/32']\n\
                  [[flow_log]]\nname = 'out'\ndirectory = '{}/out-only'\n\
                  filter = { rules = [ { number = 1, direction = 'egress', action = 'accept' } ] }\n";
    let mut packets = traffic(ENI, 7, 4, 400, 40);
    packets.extend(traffic(OTHER, 8, 4, 80, 40));
    let ledger = replayed(folder.path(), config, packets);
    let of_log = |name: &str, at: &str| assert_conserved(&ledger, name, &folder.path().join(at));
    let (fine, coarse) = (of_log("fine", "fine"), of_log("coarse", "coarse"));
    assert_eq!(by_flow(&fine), by_flow(&coarse));
    assert!(
        fine.len() >= 6 * coarse.len(),
        "{} {}",
        fine.len(),
        coarse.len()
    );
    assert_eq!(sum(&of_log("web", "web"), "packets"), 400);
    assert_eq!(sum(&of_log("other", "other"), "packets"), 80);
    assert_eq!(sum(&of_log("out", "out-only"), "packets"), 240);
    assert_eq!(of(&log_of(&ledger, "out"), "left_out"), 240);
    assert_eq!(ledger.number("written"), 480);
}

#[test]
fn sessions_of_one_interface_make_one_record_of_a_flow() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[threads]\nworkers = 1\n\
                  [[session]]\nname = 'a'\nvni = 7\n[[session]]\nname = 'b'\nvni = 8\n\
                  [[flow_log]]\nname = 'log'\ndirectory = '{}/log'\nextra = ['x-vni', 'x-session']\n";
    let mut packets = traffic(ENI, 7, 1, 20, 2);
    packets.extend(traffic(ENI, 8, 1, 10, 2));
    packets.extend(traffic(OTHER, 8, 1, 10, 2));
    let ledger = replayed(folder.path(), config, packets);
    let records = assert_conserved(&ledger, "log", &folder.path().join("log"));
    let mut told: Vec<_> = records
        .iter()
        .filter(|r| r["dstaddr"] == PEER.to_string())
        .map(|r| {
            format!(
                "{} {} {} {}",
                r["srcaddr"], r["packets"], r["x-vni"], r["x-session"]
            )
        })
        .collect();
    told.sort();
    assert_eq!(told, ["10.0.0.5 15 - -", "10.0.0.6 5 8 b"]);
}

#[test]
fn dns_with_the_resolver_counts_unless_it_is_not_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[flow_log]]\nname = 'with'\ndirectory = '{}/with'\n\
                  [[flow_log]]\nname = 'without'\ndirectory = '{}/without'\nresolver_dns = false\nvpc_ranges = ['10.0.0.0/16']\n";
    let own: Ipv4Addr = [10, 0, 0, 2].into();
    let public: Ipv4Addr = [169, 254, 169, 253].into();
    let packet = |frame| Mirrored {
        source: ENI,
        vni: 7,
        nanos: START * 1_000_000_000,
        frame,
    };
    let packets = [
        udp(ENI, own, (40_000, 53), 30),
        udp(own, ENI, (53, 40_000), 90),
        udp(ENI, public, (40_001, 53), 30),
        udp(ENI, PEER, (40_002, 53), 30),
        udp(ENI, own, (40_000, 54), 30),
    ];
    let ledger = replayed(folder.path(), config, packets.map(packet).to_vec());
    let with = assert_conserved(&ledger, "with", &folder.path().join("with"));
    let without = assert_conserved(&ledger, "without", &folder.path().join("without"));
    assert_eq!((sum(&with, "packets"), sum(&without, "packets")), (5, 2));
    assert_eq!(of(&log_of(&ledger, "without"), "left_out"), 3);
}

#[test]
fn interfaces_are_chosen_and_named_by_what_aws_tells_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let known = r#"{"NetworkInterfaces": [
        {"NetworkInterfaceId": "eni-0123456789abcdef0", "PrivateIpAddress": "10.0.0.5", "OwnerId": "123456789012",
         "VpcId": "vpc-0a", "SubnetId": "subnet-0a", "MacAddress": "02:00:0a:00:00:05"},
        {"NetworkInterfaceId": "eni-0123456789abcdef1", "PrivateIpAddress": "10.0.0.6", "OwnerId": "123456789012",
         "VpcId": "vpc-0a", "SubnetId": "subnet-0b"}]}"#;
    std::fs::write(folder.path().join("interfaces.json"), known).unwrap();
    let config = "[[flow_log]]\nname = 'a'\ndirectory = '{}/a'\ninterfaces = 'interfaces.json'\nsubnet = ['subnet-0a']\n\
                  [[flow_log]]\nname = 'vpc'\ndirectory = '{}/vpc'\ninterfaces = 'interfaces.json'\nvpc = ['vpc-0a']\n";
    let mut packets = traffic(ENI, 7, 1, 10, 1);
    packets.extend(traffic(OTHER, 7, 1, 20, 1));
    packets.extend(traffic([10, 0, 0, 7].into(), 7, 1, 40, 1));
    let ledger = replayed(folder.path(), config, packets);
    let records = assert_conserved(&ledger, "a", &folder.path().join("a"));
    assert_eq!(sum(&records, "packets"), 10);
    assert!(
        records
            .iter()
            .all(|r| r["interface-id"] == "eni-0123456789abcdef0")
    );
    assert!(records.iter().all(|r| r["account-id"] == "123456789012"));
    let vpc = assert_conserved(&ledger, "vpc", &folder.path().join("vpc"));
    assert_eq!(sum(&vpc, "packets"), 30);
}
