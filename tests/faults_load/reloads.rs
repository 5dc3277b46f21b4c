//! The configuration is read again while packets come.

use std::fs;

use crate::scene::{OTHER, Scene, frame, vxlan};

/// A configuration that can't be read is refused, and nothing has changed.
fn refused(spoil: impl FnOnce(&Scene)) {
    let mut scene = Scene::new("");
    scene.flood(OTHER, (0..200).map(|n| vxlan(66, &frame(n, 100))));
    spoil(&scene);
    let (taken, said) = scene.reload();
    assert!(!taken && !said.is_empty(), "{said}");
    let status = scene.sensor.status();
    assert_eq!(
        (
            &status["config"]["generation"],
            &status["config"]["reloads_refused"]
        ),
        (&1.into(), &1.into())
    );
    assert!(status["config"]["last_reload_error"].is_string());
    scene.flood(OTHER, (0..200).map(|n| vxlan(66, &frame(n, 100))));
    // and the next good one is taken
    let _ = fs::remove_dir(scene.file());
    scene.restore_config();
    assert!(scene.reload().0);
    scene.flood(OTHER, (0..200).map(|n| vxlan(66, &frame(n, 100))));
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.packets("vni-66"), 600);
}

#[test]
fn a_configuration_of_binary_junk_is_refused() {
    let junk: Vec<u8> = (0..5_000_u32).map(|n| ((n * n) >> 3) as u8).collect();
    refused(|scene| fs::write(scene.file(), junk).unwrap());
}

#[test]
fn half_a_configuration_is_refused() {
    refused(|scene| {
        let text = fs::read_to_string(scene.file()).unwrap();
        fs::write(scene.file(), &text[..text.len() - 9]).unwrap();
    });
}

#[test]
fn a_configuration_that_was_removed_is_refused() {
    refused(|scene| fs::remove_file(scene.file()).unwrap());
}

#[test]
fn a_folder_in_the_place_of_the_configuration_is_refused() {
    refused(|scene| {
        fs::remove_file(scene.file()).unwrap();
        fs::create_dir(scene.file()).unwrap();
    });
}

#[test]
fn a_list_of_allowed_sources_that_makes_no_sense_is_refused_and_lets_nobody_in_or_out() {
    refused(|scene| scene.write_config("[source]\nallowed_sources = ['127.0.0.0/33']\n"));
}

#[test]
fn a_reload_changes_who_may_send_at_once() {
    let mut scene = Scene::new("");
    scene.flood(OTHER, (0..300).map(|n| vxlan(66, &frame(n, 100))));
    scene.settle();
    let (sensor, sent) = (&scene.sensor, scene.sent);
    crate::scene::wait("all is received", || {
        sensor.status()["ledger"]["received"] == sent
    });
    scene.write_config("[source]\nallowed_sources = ['127.0.0.0/24']\n");
    assert!(scene.reload().0);
    scene.flood(OTHER, (0..200).map(|n| vxlan(66, &frame(n, 100))));
    scene.settle();
    let (sensor, sent) = (&scene.sensor, scene.sent);
    crate::scene::wait("all is received", || {
        sensor.status()["ledger"]["received"] == sent
    });
    scene.restore_config();
    assert!(scene.reload().0);
    scene.flood(OTHER, (0..100).map(|n| vxlan(66, &frame(n, 100))));
    let outcome = scene.end();
    outcome.assert_dropped(&[("source_not_allowed", 200)]);
    assert_eq!(outcome.packets("vni-66"), 400);
}

#[test]
fn a_storm_of_reloads_loses_nothing() {
    let mut scene = Scene::new("");
    let socket = scene.sender(OTHER);
    let plain = scene.read_config();
    let named = format!("{plain}[[session]]\nname = 'named'\nvni = 66\n");
    for n in 0..3_000 {
        scene.send(&socket, &vxlan(66, &frame(n, 100)));
        if n % 50 == 0 {
            scene.put_config(if n % 100 == 0 { &named } else { &plain });
            scene.sensor.signal("HUP");
        }
    }
    let outcome = scene.end();
    outcome.assert_dropped(&[]);
    assert_eq!(outcome.packets("vni-66") + outcome.packets("named"), 3_000);
}
