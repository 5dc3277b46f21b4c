//! Flow logs of an outer capture, by the program.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Source;
use crate::common::{self, Ledger};

/// What `replay` left, and what it said.
pub struct Run {
    pub ledger: Ledger,
    /// The folder with the flow log as text.
    pub text: PathBuf,
    /// The folder with the same as Parquet.
    pub parquet: PathBuf,
    pub said: String,
}

/// The answer of `aws ec2 describe-network-interfaces`, shortened.
fn described(sources: &[Source]) -> Value {
    let one = |s: &Source| {
        json!({
            "NetworkInterfaceId": s.interface(),
            "PrivateIpAddress": s.address,
            "OwnerId": "123456789012",
            "VpcId": "vpc-abcdefab012345678",
            "SubnetId": "subnet-aaaaaaaa012345678",
            "AvailabilityZone": "eu-central-1a",
            "AvailabilityZoneId": "euc1-az2",
            "InterfaceType": "interface",
            // of no packet: so the direction is not learnt, which would make two records of a flow
            "MacAddress": "0e:00:00:00:00:01",
        })
    };
    json!({"NetworkInterfaces": sources.iter().map(one).collect::<Vec<_>>()})
}

/// Replays an outer capture into two flow logs that differ in nothing but their files: plain text, and Parquet in
/// folders with names.
pub fn flow_logs(outer: &Path, sources: &[Source], format: &str) -> Run {
    let folder = outer.parent().unwrap();
    let interfaces = folder.join("interfaces.json");
    fs::write(&interfaces, described(sources).to_string()).unwrap();
    let (text, parquet) = (folder.join("text"), folder.join("parquet"));
    let flow_log = |name: &str, hive: bool, directory: &Path| {
        format!(
            "[[flow_log]]\nname = \"{name}\"\nhive = {hive}\ndirectory = {directory:?}\nlog_format = \"{format}\"\nfile_format = \"{name}\"\n\
             account = \"123456789012\"\nregion = \"eu-central-1\"\ninterfaces = {interfaces:?}\n"
        )
    };
    let config = folder.join("mirrortap.toml");
    let tables = [
        flow_log("text", false, &text),
        flow_log("parquet", true, &parquet),
    ];
    fs::write(&config, tables.concat()).unwrap();
    let config = config.to_str().unwrap();
    let mut command = std::process::Command::new(common::PROGRAM);
    command.args(["replay", "--json", "--config", config, "--output"]);
    let output = command
        .arg(folder.join("captures"))
        .arg(outer)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let ledger = common::ledger(&output);
    let run = Run {
        ledger,
        text,
        parquet,
        said,
    };
    run.assert_conserved(sources);
    run
}

impl Run {
    /// Every packet is in the ledger, and of each flow log in a record or known to be in none.
    fn assert_conserved(&self, sources: &[Source]) {
        let packets: u64 = sources.iter().map(|s| s.packets).sum();
        assert_eq!(self.ledger.number("received"), packets);
        for name in ["text", "parquet"] {
            let log = &self.ledger.0["flow_logs"][name];
            let number = |key: &str| log[key].as_u64().unwrap_or_else(|| panic!("{key}: {log}"));
            let ended = number("left_out") + number("not_ip") + number("recorded");
            assert_eq!(number("packets"), packets, "{log}");
            assert_eq!(ended + number("packets_lost"), packets, "{log}");
            assert_eq!(
                (number("packets_lost"), number("records_lost")),
                (0, 0),
                "{log}"
            );
        }
    }

    /// Packets in records.
    pub fn recorded(&self) -> u64 {
        self.ledger.0["flow_logs"]["text"]["recorded"]
            .as_u64()
            .unwrap()
    }
}
