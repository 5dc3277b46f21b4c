//! What docs/flow-logs.md says in SQL and TOML.

use std::fs;
use std::path::Path;

use std::process::Command;

use mirrortap::record::{Field, Kind};

use crate::common::PROGRAM;

/// A block of code with the heading that it stands under.
pub(crate) struct Block {
    pub(crate) heading: String,
    pub(crate) language: String,
    pub(crate) text: String,
}

/// All blocks of the page, in order.
pub(crate) fn blocks() -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/flow-logs.md");
    let page = fs::read_to_string(path).unwrap();
    let (mut heading, mut blocks, mut open) = (String::new(), Vec::new(), None::<Block>);
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    heading: heading.clone(),
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) if line.starts_with('#') => heading = line.replace('#', "").trim().into(),
            (None, None) => {}
        }
    }
    blocks
}

/// The SQL under a heading.
pub(crate) fn sql(heading: &str) -> Vec<String> {
    let blocks = blocks().into_iter();
    let under = blocks.filter(|b| b.heading == heading && b.language == "sql");
    let found: Vec<_> = under.map(|b| b.text).collect();
    assert!(!found.is_empty(), "no SQL under {heading}");
    found
}

/// The example of a configuration.
pub(crate) fn configuration() -> toml::Table {
    let mut blocks = blocks().into_iter();
    let block = blocks.find(|b| b.language == "toml" && b.heading == "Configuration");
    block.unwrap().text.parse().unwrap()
}

/// The format that the tables are for: that of its first flow log.
pub(crate) fn log_format() -> String {
    let format = &configuration()["flow_log"][0]["log_format"];
    format.as_str().unwrap().to_owned()
}

/// Names and types of a table's columns.
pub(crate) fn columns(table: &str) -> Vec<(String, String)> {
    let (_, rest) = table.split_once("(\n").unwrap();
    let (columns, _) = rest.split_once("\n)").unwrap();
    let column = |text: &str| {
        let (name, kind) = text.trim().split_once(' ').unwrap();
        (name.trim_matches('`').to_owned(), kind.to_owned())
    };
    columns.split(',').map(column).collect()
}

/// Where a table looks for the files of a day, from `AWSLogs` on.
pub(crate) fn location(heading: &str) -> String {
    let table = sql(heading).remove(0);
    let (_, rest) = table.split_once("'storage.location.template' = '").unwrap();
    let (template, _) = rest.split_once('\'').unwrap();
    template[template.find("AWSLogs").unwrap()..].to_owned()
}

fn type_of(field: Field) -> &'static str {
    match field.kind() {
        Kind::Integer => "int",
        Kind::Long => "bigint",
        Kind::Address | Kind::Text => "string",
    }
}

#[test]
fn tables_have_the_columns_and_types_of_the_format() {
    let format = log_format();
    let fields: Vec<(String, String)> = format
        .split(' ')
        .map(|item| item.trim_start_matches("${").trim_end_matches('}'))
        .map(|name| name.parse::<Field>().unwrap())
        .map(|field| (field.column_name(), type_of(field).to_owned()))
        .collect();
    assert!(fields.len() > 14, "{format}");
    for heading in ["Athena, text", "Athena, Parquet"] {
        for table in sql(heading) {
            assert_eq!(columns(&table), fields, "{heading}");
        }
    }
}

#[test]
fn the_page_says_once_of_every_field_what_fills_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/flow-logs.md");
    let page = fs::read_to_string(path).unwrap();
    let (_, rest) = page.split_once("\n### What fills them\n").unwrap();
    let (table, _) = rest.split_once("\n#").unwrap();
    for field in Field::ALL {
        // the region of the configuration has the same name
        let most = if field.name() == "region" { 2 } else { 1 };
        let found = table.matches(&format!("`{field}`")).count();
        assert!((1..=most).contains(&found), "{field}: {found}");
    }
}

#[test]
fn the_configuration_of_the_page_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("interfaces.json", "{\"NetworkInterfaces\": []}");
    write(
        "ip-ranges.json",
        "{\"prefixes\": [], \"ipv6_prefixes\": []}",
    );
    write("mirrortap.toml", &configuration().to_string());
    let output = Command::new(PROGRAM)
        .arg("check")
        .arg(folder.path().join("mirrortap.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
