//! Replays: the sums of records are the packets that came, whatever the number of workers and the size of the tables.

use crate::common::{captures, replay};
use crate::support::{
    ENI, Mirrored, PEER, START, arp, assert_conserved, by_flow, capture, lines, log_of, number, of,
    records, replayed, sum, traffic, udp,
};

#[test]
fn every_packet_of_a_capture_is_in_a_record_or_has_no_ip() {
    for capture in captures("vxlan") {
        let folder = tempfile::tempdir().unwrap();
        let flows = folder.path().join("flows");
        let more = ["--flow-logs", flows.to_str().unwrap()];
        let ledger = replay(&[&capture], &folder.path().join("out"), &more);
        let log = log_of(&ledger, "default");
        let reached = ledger.number("written") + ledger.sum("filtered");
        assert_eq!(of(&log, "packets"), reached, "{}", capture.display());
        assert_conserved(&ledger, "default", &flows);
    }
}

#[test]
fn records_span_no_more_than_the_interval_and_begin_with_their_first_packet() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[flow_log]]\nname = 'a'\ndirectory = '{}/a'\ninterval = '10s'\n";
    let ledger = replayed(folder.path(), config, traffic(ENI, 7, 3, 600, 60));
    let records = assert_conserved(&ledger, "a", &folder.path().join("a"));
    assert_eq!(
        (sum(&records, "packets"), ledger.number("written")),
        (600, 600)
    );
    assert!(records.len() >= 6 * 6, "{}", records.len());
    for record in &records {
        let span = number(record, "end") - number(record, "start");
        assert!(span <= 10 && number(record, "start") >= START, "{record:?}");
    }
}

#[test]
fn the_sums_are_the_same_for_one_worker_and_for_several() {
    let sums = [1, 3].map(|workers| {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[threads]\nworkers = {workers}\npin = false\n[[flow_log]]\nname = 'a'\ndirectory = '{{}}/a'\n"
        );
        let packets = traffic(ENI, 7, 500, 4_000, 30);
        let ledger = replayed(folder.path(), &config, packets);
        by_flow(&assert_conserved(&ledger, "a", &folder.path().join("a")))
    });
    assert_eq!(sums[0].len(), 1_000);
    assert_eq!(sums[0], sums[1]);
}

#[test]
fn a_table_too_small_closes_flows_early_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[threads]\nworkers = 2\npin = false\n\
                  [[flow_log]]\nname = 'tiny'\ndirectory = '{}/a'\nmax_flows = 8\n\
                  [[flow_log]]\nname = 'narrow'\ndirectory = '{}/b'\nmax_flows_per_interface = 6\n";
    let mut packets = traffic(ENI, 7, 100, 2_000, 20);
    packets.extend(traffic(PEER, 8, 2, 200, 20));
    let ledger = replayed(folder.path(), config, packets);
    for (name, cause, at) in [
        ("tiny", "early", "a"),
        ("narrow", "early_of_interface", "b"),
    ] {
        let log = log_of(&ledger, name);
        assert!(of(&log, cause) > 0, "{log}");
        let records = assert_conserved(&ledger, name, &folder.path().join(at));
        assert_eq!(sum(&records, "packets"), 2_200);
    }
}

#[test]
fn cut_packets_count_with_the_length_that_their_header_states() {
    let folder = tempfile::tempdir().unwrap();
    let whole = udp(ENI, PEER, (1, 2), 1_400);
    let cut = Mirrored {
        source: ENI,
        vni: 7,
        nanos: START * 1_000_000_000,
        frame: whole[..60].to_vec(),
    };
    let config = "[[flow_log]]\nname = 'a'\ndirectory = '{}/a'\n\
                  [[session]]\nname = 's'\npacket_length = 20\n";
    let ledger = replayed(folder.path(), config, vec![cut; 3]);
    let records = assert_conserved(&ledger, "a", &folder.path().join("a"));
    assert_eq!(sum(&records, "bytes"), 3 * 1_428);
}

#[test]
fn what_has_no_ip_is_counted_and_in_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut packets = traffic(ENI, 7, 1, 10, 1);
    packets.push(Mirrored {
        frame: arp(),
        ..packets[0].clone()
    });
    let config = "[[flow_log]]\nname = 'a'\ndirectory = '{}/a'\n";
    let ledger = replayed(folder.path(), config, packets);
    let records = assert_conserved(&ledger, "a", &folder.path().join("a"));
    assert_eq!(sum(&records, "packets"), 10);
    assert_eq!(of(&log_of(&ledger, "a"), "not_ip"), 1);
}

#[test]
fn silence_between_packets_is_told_and_none_before_or_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[flow_log]]\nname = 'a'\ndirectory = '{}/a'\nnodata = true\n";
    let mut packets = traffic(ENI, 7, 1, 10, 10);
    let later = |packet: &Mirrored| Mirrored {
        nanos: packet.nanos + 300_000_000_000,
        ..packet.clone()
    };
    let again: Vec<_> = packets.iter().map(later).collect();
    packets.extend(again);
    let ledger = replayed(folder.path(), config, packets);
    assert_conserved(&ledger, "a", &folder.path().join("a"));
    let all = lines(&folder.path().join("a"));
    let silent = all.iter().filter(|r| r["log-status"] == "NODATA");
    let mut told: Vec<u64> = silent.map(|r| number(r, "start") - START).collect();
    told.sort_unstable();
    assert_eq!(told, [60, 120, 180, 240]);
}

#[test]
fn the_command_line_adds_a_flow_log_to_those_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mirrortap.toml");
    let (own, added) = (folder.path().join("own"), folder.path().join("added"));
    let config = format!(
        "[[flow_log]]\ndirectory = '{}'\ninterval = '1s'\n",
        own.display()
    );
    std::fs::write(&file, config).unwrap();
    let outer = capture(folder.path(), traffic(ENI, 7, 2, 40, 4));
    let more = [
        "--config",
        file.to_str().unwrap(),
        "--flow-logs",
        added.to_str().unwrap(),
    ];
    let ledger = replay(&[&outer], &folder.path().join("out"), &more);
    let own = assert_conserved(&ledger, "default", &own);
    let added = assert_conserved(&ledger, "default-2", &added);
    assert!(own.len() > added.len() && by_flow(&own) == by_flow(&added));
    assert_eq!(added.len(), 4);
    let version_2 = "account-id action bytes dstaddr dstport end interface-id log-status packets protocol srcaddr srcport start version";
    let fields: Vec<&str> = added[0].keys().map(String::as_str).collect();
    assert_eq!(fields.join(" "), version_2);
}

#[test]
fn srcaddr_is_the_eni_for_what_leaves_it_and_the_peer_for_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[flow_log]]\nname = 'a'\ndirectory = '{}/a'\n\
                  log_format = '${srcaddr} ${dstaddr} ${flow-direction} ${packets} ${log-status}'\n";
    replayed(folder.path(), config, traffic(ENI, 7, 1, 10, 1));
    let mut told: Vec<_> = records(&folder.path().join("a"))
        .iter()
        .map(|r| format!("{} {} {}", r["srcaddr"], r["dstaddr"], r["flow-direction"]))
        .collect();
    told.sort();
    assert_eq!(
        told,
        ["10.0.0.5 192.0.2.9 egress", "192.0.2.9 10.0.0.5 ingress"]
    );
}
