//! The commands of docs/manifest.md, as they stand there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::tool;
use crate::support::Place;

/// The shell blocks of the page.
fn blocks() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.md");
    let text = fs::read_to_string(page).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .map(|b| b.split("```").next().unwrap().to_owned())
        .collect()
}

fn shell(place: &Place, block: &str) -> String {
    let out = Command::new("sh")
        .arg("-c")
        .arg(block)
        .current_dir(place.out())
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].concat();
    String::from_utf8(said).unwrap()
}

#[test]
fn the_checks_of_the_page_say_what_verify_says() {
    for needed in ["jq", "sha256sum", "openssl", "base64"] {
        let _ = tool(needed);
    }
    let place = Place::new();
    let (key, public) = place.key("k.pem");
    let config = format!("[manifest]\nkey = '{key}'\n[capture]\nrotate_packets = 40");
    place.replay(&config);
    place.replay(&config);
    fs::copy(&public, place.out().join("manifest.pub")).unwrap();
    let blocks = blocks();
    let [chain, files, signatures, sums] = &blocks[..] else {
        panic!("{} blocks", blocks.len());
    };
    assert_eq!(shell(&place, chain), format!("head {}\n", place.head()));
    assert_eq!(shell(&place, files), "files good\n");
    assert_eq!(shell(&place, signatures), "signatures checked\n");
    let said = shell(&place, sums);
    assert!(
        said.lines().count() == 2 && said.lines().all(|l| l.ends_with(" adds up")),
        "{said}"
    );

    let text = place.text();
    fs::write(
        place.manifest(),
        text.replacen("\"packets\":40", "\"packets\":41", 1),
    )
    .unwrap();
    assert!(shell(&place, chain).contains("broken before: {\"sequence\":3"));
    assert!(shell(&place, signatures).contains("not signed: {\"sequence\":2"));
    fs::write(
        place.manifest(),
        text.replacen("\"written\":40", "\"written\":39", 1),
    )
    .unwrap();
    assert!(shell(&place, sums).contains("does not"));
    fs::write(place.manifest(), text).unwrap();
    fs::write(place.out().join(&place.names()[0]), b"changed").unwrap();
    assert!(shell(&place, files).contains("FAILED"));
}
