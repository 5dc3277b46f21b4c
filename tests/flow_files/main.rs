//! Files of flow logs as others see them: read and written by DuckDB, cut by a kill, offered, and deleted when they are old.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

#[path = "../aws_support/mod.rs"]
mod aws_support;
#[path = "../common/mod.rs"]
mod common;
mod kept;
mod killed;
mod readers;

use std::fs;
use std::path::{Path, PathBuf};

use mirrortap::filter::Direction;
use mirrortap::flow::{Closed, Key, Why};
use mirrortap::flowlog::{Config, Interface};
use mirrortap::headers::FlowKey;
use mirrortap::record::Field;
use mirrortap::time::Timestamp;

/// A flow that is told by its number: of one packet, in the five minutes that begin at 600.
fn flow(number: u64) -> Closed {
    let mut flow = FlowKey {
        version: 4,
        proto: 6,
        sport: (number % 60_000) as u16,
        dport: 443,
        ..FlowKey::default()
    };
    flow.src[..4].copy_from_slice(&[10, 0, (number / 250 % 250) as u8, (number % 250) as u8]);
    flow.dst[..4].copy_from_slice(&[10, 0, 0, 62]);
    Closed {
        key: Key {
            flow,
            eni: 0,
            direction: Direction::Ingress,
        },
        packets: 1,
        bytes: number,
        first: Timestamp::from_parts(600 + number % 200, 5),
        last: Timestamp::from_parts(600 + number % 200 + 60, 6),
        flags: 2,
        why: Why::Interval,
    }
}

fn interface() -> Interface {
    let mut interface = Interface::at([10, 0, 0, 62].into());
    interface.know(Field::AccountId, "012345678901");
    interface.know(Field::InterfaceId, "eni-1235b8ca123456789");
    interface
}

fn config(text: &str) -> Config {
    let config: Config = toml::from_str(text).unwrap();
    assert_eq!(config.check(), []);
    config
}

/// Files with their final names, by path.
fn published(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.join("AWSLogs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What `mirrortap flows --records` prints of files.
fn records(paths: &[&Path]) -> Vec<String> {
    let mut command = std::process::Command::new(common::PROGRAM);
    command.args(["flows", "--records"]).args(paths);
    let out = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}
