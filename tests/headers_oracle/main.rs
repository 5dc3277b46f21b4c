//! On every packet of the corpus the walk says what tshark says; `table.rs` explains each difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod oracle;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mirrortap::capfile::{LinkType, Reader};
use mirrortap::headers::{Headers, Link, walk_link};

use oracle::Facts;

/// What a walk says, in the form of the oracle.
fn facts(headers: &Headers, frame: &[u8]) -> Facts {
    let mut facts = Facts::new();
    let mut put = |name, value: Option<String>| value.map(|value| facts.insert(name, value));
    let key = &headers.key;
    put("eth_type", headers.eth_type.map(|t| format!("{t:#06x}")));
    put("vlans", list(headers.vlans.ids().iter()));
    put("labels", list(headers.labels.of(frame)));
    put("src", key.source().map(|a| a.to_string()));
    put("dst", key.destination().map(|a| a.to_string()));
    put("sport", headers.ports().map(|p| p.0.to_string()));
    put("dport", headers.ports().map(|p| p.1.to_string()));
    put("tcp_flags", headers.tcp_flags.map(|f| format!("{f:#06x}")));
    put("icmp_type", headers.icmp.map(|i| i.kind.to_string()));
    put("icmp_code", headers.icmp.map(|i| i.code.to_string()));
    put("arp", headers.arp.map(|op| op.to_string()));
    if key.version != 0 {
        put("proto", Some(key.proto.to_string()));
        put("wire_len", Some(headers.wire_len.to_string()));
        put("network", headers.network.map(|at| at.to_string()));
    }
    if key.version == 4 || headers.fragment.is_some() {
        let fragment = headers.fragment.unwrap_or_default();
        put("frag_offset", Some(fragment.offset.to_string()));
        put("more_fragments", Some(u8::from(fragment.more).to_string()));
    }
    facts
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> Option<String> {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    (!items.is_empty()).then(|| items.join(","))
}

/// Names of the facts that differ.
fn compare(ours: &Facts, theirs: &Facts) -> BTreeSet<&'static str> {
    let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).copied().collect();
    names
        .into_iter()
        .filter(|name| theirs.get(name).is_none_or(|t| t != "?"))
        .filter(|name| ours.get(name) != theirs.get(name))
        .collect()
}

/// Packets by the set of facts in which they differ.
type Differences = BTreeMap<String, Vec<usize>>;

fn differences(capture: &Path, oracle: &Path) -> (usize, Differences) {
    let mut rows = oracle::read(oracle);
    let mut reader = Reader::open(capture).unwrap();
    let mut found = Differences::new();
    let mut frames = 0;
    while let Some(record) = reader.next().unwrap() {
        frames += 1;
        let Some(row) = rows.get_mut(frames - 1) else {
            continue;
        };
        row.cooked = if record.link == LinkType::LINUX_SLL2 {
            20
        } else {
            16
        };
        let theirs = row.facts();
        let ours = match Link::from_number(record.link.0) {
            Some(link) => facts(&walk_link(link, record.data), record.data),
            None => Facts::new(),
        };
        let names: Vec<_> = compare(&ours, &theirs).into_iter().collect();
        if !names.is_empty() {
            found.entry(names.join(" ")).or_default().push(frames);
        }
    }
    if frames != rows.len() {
        found.insert(format!("frames {frames} of {}", rows.len()), Vec::new());
    }
    (frames, found)
}

#[test]
fn the_walk_agrees_with_tshark_but_for_what_the_table_explains() {
    if common::corpus().is_none() {
        return;
    }
    let mut frames = 0;
    let mut wrong = Vec::new();
    let mut unseen: BTreeSet<_> = table::files().collect();
    for folder in ["l2l4", "protocols", "vxlan", "hostile"] {
        for capture in common::captures(folder) {
            let stem = common::stem(&capture);
            let oracle = capture.with_file_name(format!("{stem}.l4.tsv.gz"));
            if !oracle.exists() {
                continue;
            }
            let (seen, found) = differences(&capture, &oracle);
            frames += seen;
            unseen.remove(format!("{folder}/{stem}").as_str());
            let expected = table::of(folder, &stem);
            if found != expected {
                wrong.push(format!(
                    "{folder}/{stem}: found {found:?}, table {expected:?}"
                ));
            }
        }
    }
    println!("{frames} frames");
    assert!(
        unseen.is_empty(),
        "rows for files that are not there: {unseen:?}"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
