//! Each step of a file's way, with the test in the shipper's place: the real one finds nobody at its endpoint.

use std::fs;

use serde_json::Value;

use crate::common::mirrortap;
use crate::disk_support::{check, deliver};
use crate::scene::{Nobody, SMALL, Scene, number, ship, wait_until};

#[test]
fn a_published_file_waits_with_its_line_of_the_manifest_and_is_told_as_shipped_when_it_has_arrived()
{
    let (scene, nobody) = (Scene::new(), Nobody::new());
    let config = SMALL.to_owned() + &ship(&nobody.endpoint(), "");
    let sensor = scene.start(&config);
    deliver(&sensor, "1", 300);
    wait_until("files that wait", || scene.waiting().len() >= 3);
    let first = scene.waiting().into_iter().next().unwrap();
    let told = scene.pending().path(&format!("{first}.json")).unwrap();
    let told: Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    let lines = scene.lines("published");
    assert!(lines.contains(&told), "{told}");
    assert_eq!(told["name"], first.as_str());
    assert!(scene.lines("shipped").is_empty());

    let arrived = scene.take_all();
    wait_until("what has arrived to be seen", || {
        scene.pending().done().unwrap().is_empty()
    });
    assert_eq!(scene.names("shipped"), arrived);
    for line in scene.lines("shipped") {
        let object = format!("s3://evidence/sensor-1/{}", line["name"].as_str().unwrap());
        assert_eq!(line["object"], object);
    }
    let (_, metrics) = sensor.get("/metrics").unwrap();
    assert!(metrics.contains("mirrortap_ship_pending_files{queue=\"captures\"}"));
    check(&sensor.stop(), &std::path::Path::to_owned);
    assert_eq!(
        scene.published(),
        scene.names("published"),
        "nothing was deleted"
    );
    assert!(
        scene.published().len() > arrived.len(),
        "the last files were published at the end"
    );
    let waiting = scene.published().difference(&arrived).cloned().collect();
    assert_eq!(scene.waiting(), waiting, "and wait for the next start");
    scene.verify();
}

#[test]
fn a_file_that_has_arrived_is_deleted_where_that_is_wanted_and_told_before() {
    let (scene, nobody) = (Scene::new(), Nobody::new());
    let config = SMALL.to_owned() + &ship(&nobody.endpoint(), "delete_after_ship = true");
    let sensor = scene.start(&config);
    deliver(&sensor, "1", 300);
    wait_until("files that wait", || scene.waiting().len() >= 3);
    let arrived = scene.take_all();
    wait_until("what has arrived to be deleted", || {
        scene.published().is_disjoint(&arrived)
    });
    wait_until("that to be seen", || scene.done().is_empty());
    let deleted = scene.lines("deleted");
    assert!(deleted.iter().all(|line| line["cause"] == "shipped"));
    assert_eq!(scene.names("deleted"), arrived);
    assert_eq!(scene.names("shipped"), arrived);
    let told = &sensor.status()["retention"]["deleted_files"]["shipped"];
    assert_eq!(told.as_u64(), Some(arrived.len() as u64));
    sensor.stop();
    scene.verify();
}

#[test]
fn a_file_with_a_prefix_of_its_own_is_told_once_however_long_its_deletion_takes() {
    let (scene, nobody) = (Scene::new(), Nobody::new());
    let config = format!(
        "{SMALL}{}[[session]]\nname = 'web'\nvni = 1\n[session.ship]\nprefix = 'team/a'\n",
        ship(&nobody.endpoint(), "delete_after_ship = true")
    );
    let sensor = scene.start(&config);
    deliver(&sensor, "1", 300);
    wait_until("files that wait", || scene.waiting().len() >= 3);
    let arrived = scene.take_all();
    wait_until("what has arrived to be deleted and seen", || {
        scene.done().is_empty() && scene.lines("deleted").len() >= arrived.len()
    });
    assert_eq!(scene.lines("shipped").len(), arrived.len());
    sensor.stop();
    scene.verify();
}

#[test]
fn files_that_wait_when_shipping_is_turned_off_wait_no_longer_and_stay() {
    let (scene, nobody) = (Scene::new(), Nobody::new());
    let sensor = scene.start(&(SMALL.to_owned() + &ship(&nobody.endpoint(), "")));
    deliver(&sensor, "1", 300);
    wait_until("files that wait", || scene.waiting().len() >= 3);
    sensor.stop();
    let published = scene.published();
    let mut sensor = scene.start(SMALL);
    sensor.wait_logged("have no destination any more");
    assert!(scene.pending().waiting().unwrap().is_empty());
    assert_eq!(scene.published(), published);
    sensor.stop();
    scene.verify();
}

#[test]
fn what_a_crash_leaves_at_any_step_is_gone_on_with_by_the_next_start() {
    let (scene, nobody) = (Scene::new(), Nobody::new());
    let config = SMALL.to_owned() + &ship(&nobody.endpoint(), "");
    let mut sensor = scene.start(&config);
    deliver(&sensor, "1", 400);
    wait_until("files that wait", || scene.waiting().len() >= 4);
    sensor.child.kill().unwrap();
    sensor.child.wait().unwrap();
    let names: Vec<String> = scene.waiting().into_iter().collect();
    let pending = scene.pending();
    // between publication and offer, with and without its description
    pending.forget(&names[0]).unwrap();
    pending.forget(&format!("{}.json", names[0])).unwrap();
    pending.forget(&names[1]).unwrap();
    // between arrival and all that follows
    pending.finish(&names[2]).unwrap();
    // and one that nobody has told of: its line is missing
    let start = "20200101T000000.000000Z-000001.pcap";
    let found = format!("vni-1/vni-1-{start}");
    fs::copy(scene.out().join(&names[3]), scene.out().join(&found)).unwrap();

    let sensor = scene.start(&config);
    wait_until("all to wait again", || {
        let waiting = scene.waiting();
        [&names[0], &names[1], &names[3], &found]
            .iter()
            .all(|n| waiting.contains(*n))
    });
    wait_until("what had arrived to be told", || {
        scene.names("shipped").contains(&names[2])
    });
    assert!(!scene.waiting().contains(&names[2]));
    let description = pending.path(&format!("{found}.json")).unwrap();
    let told: Value = serde_json::from_slice(&fs::read(description).unwrap()).unwrap();
    assert_eq!(
        (&told["kind"], &told["name"]),
        (&"found".into(), &found.clone().into())
    );
    let description = pending.path(&format!("{}.json", names[0])).unwrap();
    let told: Value = serde_json::from_slice(&fs::read(description).unwrap()).unwrap();
    assert!(scene.lines("published").contains(&told));
    wait_until("what was recovered to wait", || {
        scene.waiting().is_superset(&scene.names("recovered"))
    });
    scene.take_all();
    wait_until("all to be told", || scene.done().is_empty());
    sensor.stop();

    // what was shipped is not shipped again
    let shipped = scene.lines("shipped").len();
    let all = scene.published();
    let sensor = scene.start(&config);
    deliver(&sensor, "7", 100);
    wait_until("a file of this run", || {
        scene.waiting().iter().any(|n| n.starts_with("vni-7/"))
    });
    let late: Vec<String> = scene.waiting().into_iter().collect();
    assert!(
        late.iter()
            .all(|name| !scene.names("shipped").contains(name)),
        "{late:?}"
    );
    assert_eq!(scene.names("shipped").len(), shipped, "each once");
    sensor.stop();
    assert!(scene.published().is_superset(&all));
    scene.verify();
}

#[test]
fn without_a_manifest_files_are_described_and_what_was_shipped_is_remembered_all_the_same() {
    let (scene, nobody) = (Scene::new(), Nobody::new());
    let config = format!(
        "{SMALL}[manifest]\nenabled = false\n{}",
        ship(&nobody.endpoint(), "delete_after_ship = false")
    );
    let sensor = scene.start(&config);
    deliver(&sensor, "1", 300);
    wait_until("files that wait", || scene.waiting().len() >= 3);
    let arrived = scene.take_all();
    wait_until("that to be seen", || {
        scene.pending().done().unwrap().is_empty()
    });
    let mut sensor = sensor;
    sensor.child.kill().unwrap();
    sensor.child.wait().unwrap();
    let late: Vec<String> = scene.published().difference(&arrived).cloned().collect();
    late.iter().for_each(|name| {
        scene.pending().forget(name).unwrap();
        scene.pending().forget(&format!("{name}.json")).unwrap();
    });
    let sensor = scene.start(&config);
    wait_until("the rest to wait", || {
        scene.waiting().is_superset(&late.iter().cloned().collect())
    });
    assert!(scene.waiting().is_disjoint(&arrived));
    for name in scene.waiting() {
        let told = scene.pending().path(&format!("{name}.json")).unwrap();
        let told: Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
        assert_eq!(told["session"], "vni-1");
        assert!(told["bytes"].as_u64() > Some(0));
    }
    sensor.stop();
}

#[test]
fn a_session_has_its_own_part_of_the_key_or_is_not_shipped_and_a_reload_changes_that() {
    let (scene, nobody) = (Scene::new(), Nobody::new());
    let sessions = |second: &str| {
        format!(
            "[[session]]\nname = 'web'\nvni = 1\n[session.ship]\nprefix = 'team/a'\n\
             [[session]]\nname = 'dns'\nvni = 2\n[session.ship]\nenabled = {second}\n"
        )
    };
    let head = SMALL.to_owned() + &ship(&nobody.endpoint(), "");
    let mut sensor = scene.start(&(head.clone() + &sessions("false")));
    deliver(&sensor, "1-2", 300);
    wait_until("files that wait", || scene.waiting().len() >= 2);
    wait_until("files of both", || {
        scene.published().iter().any(|n| n.starts_with("dns/"))
    });
    assert!(
        scene
            .waiting()
            .iter()
            .all(|n| n.starts_with("team/a/web/web-"))
    );
    let head = head.replace("[ship]", "[ship]\nbudget = '1GiB'");
    let text = head + &sessions("true");
    fs::write(scene.folder.path().join("mirrortap.toml"), text).unwrap();
    sensor.signal("HUP");
    wait_until("the reload", || {
        sensor.status()["config"]["generation"] == 2
    });
    sensor.wait_logged("Only a restart changes: ship.");
    deliver(&sensor, "2", 200);
    wait_until("the other session's files", || {
        scene.waiting().iter().any(|n| n.starts_with("dns/dns-"))
    });
    let arrived = scene.take_all();
    wait_until("all to be told", || scene.done().is_empty());
    let keys = scene.lines("shipped");
    let keys: Vec<_> = keys.iter().map(|l| l["object"].as_str().unwrap()).collect();
    assert!(
        arrived
            .iter()
            .all(|name| keys.contains(&format!("s3://evidence/sensor-1/{name}").as_str()))
    );
    sensor.stop();
    scene.verify();
}

#[test]
fn a_table_that_cannot_be_followed_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mirrortap.toml");
    for (text, place, words) in [
        ("[ship]\nprefix = 'x'\n", "", "[ship] has no bucket"),
        (
            "[ship]\nbucket = 'logs'\nbuget = '1GiB'\n",
            ":3:1:",
            "did you mean \"budget\"?",
        ),
        (
            "[ship]\nbucket = 'logs'\npart_size = '1MiB'\n",
            ":3:13:",
            "from \"5MiB\"",
        ),
        (
            "[ship]\nbucket = 'logs'\nbudget = '2GiB'\n[retention]\nmax_size = '1GiB'\n",
            ":3:10:",
            "lower budget or raise max_size",
        ),
        (
            "[[session]]\nname = 'a'\nvni = 1\n[session.ship]\nprefix = '/x'\n",
            ":4:1:",
            "ship.prefix",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let told = mirrortap(&["check", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(
            !told.status.success() && said.contains(words) && said.contains(place),
            "{said}"
        );
    }
}

#[test]
fn what_ships_is_started_only_where_something_is_shipped() {
    let scene = Scene::new();
    let sensor = scene.start("");
    assert!(crate::scene::shippers(&sensor).is_empty());
    assert_eq!(sensor.status()["ship"]["queues"], serde_json::json!({}));
    sensor.stop();
    assert!(!scene.out().join(".ship").exists());
    let nobody = Nobody::new();
    let sensor = scene.start(&ship(&nobody.endpoint(), ""));
    assert!(!crate::scene::shippers(&sensor).is_empty());
    assert_eq!(number(&sensor, "pending_files"), 0);
    sensor.stop();
}
