//! An outage without end: budgets hold, retention goes on, capture is not touched.

use crate::disk_support::{World, check, deliver};
use crate::scene::{Nobody, SMALL, Scene, number, ship, wait_until};

fn bytes(scene: &Scene) -> u64 {
    let files = scene
        .published()
        .into_iter()
        .map(|name| scene.out().join(name));
    files.map(|f| f.metadata().map_or(0, |m| m.len())).sum()
}

#[test]
fn retention_waits_for_what_waits_until_the_budget_gives_it_up_and_the_disk_does_not_fill() {
    let (scene, nobody) = (Scene::new(), Nobody::new());
    let config = format!(
        "{SMALL}[retention]\nmax_size = '1MiB'\n{}",
        ship(&nobody.endpoint(), "budget = '256KiB'")
    );
    let mut sensor = scene.start(&config);
    for _ in 0..8 {
        deliver(&sensor, "1", 300);
        wait_until("the bound", || bytes(&scene) <= 1 << 20);
    }
    wait_until("the budget", || {
        number(&sensor, "given_up_files") > 0 && number(&sensor, "pending_bytes") <= 256 << 10
    });
    // what waits was never deleted; what is given up at this moment may be
    wait_until("what waits to be there", || {
        let waiting = scene.waiting();
        waiting.is_subset(&scene.published())
    });
    assert_eq!(sensor.get("/healthz").unwrap().0, 200);
    assert!(number(&sensor, "given_up_bytes") > 256 << 10);
    sensor.wait_logged("files that waited to be shipped are given up");
    check(&sensor.stop(), &std::path::Path::to_owned);
    scene.verify();
}

#[test]
fn a_disk_that_needs_room_has_files_given_up_whatever_the_budget_says() {
    let Some(world) = World::small("12m") else {
        println!("this needs root: nothing was checked");
        return;
    };
    let nobody = Nobody::new();
    let config = format!(
        "{SMALL}[retention]\nmin_free = '6MiB'\n{}",
        ship(&nobody.endpoint(), "budget = 0")
    );
    let sensor = world.sensor(&config);
    for _ in 0..4 {
        deliver(&sensor, "1", 3000);
        wait_until("room", || {
            sensor.status()["retention"]["free_bytes"].as_u64() >= Some(6 << 20)
        });
    }
    assert!(number(&sensor, "given_up_files") > 0);
    wait_until("health", || sensor.get("/healthz").unwrap().0 == 200);
    world.check(&sensor.stop());
}

#[test]
fn a_list_that_cannot_be_read_keeps_retention_from_nothing_once_it_needs_room() {
    let (scene, nobody) = (Scene::new(), Nobody::new());
    // a folder in its place: the search fails at each look
    std::fs::create_dir_all(scene.out().join(".ship/captures/shipped")).unwrap();
    let config = format!(
        "{SMALL}[retention]\nmax_size = '1MiB'\n{}",
        ship(&nobody.endpoint(), "budget = '256KiB'")
    );
    let mut sensor = scene.start(&config);
    for _ in 0..5 {
        deliver(&sensor, "1", 300);
    }
    wait_until("the bound", || {
        bytes(&scene) <= 1 << 20 && !scene.lines("deleted").is_empty()
    });
    sensor.wait_logged("cannot look for capture files that were not shipped yet");
    check(&sensor.stop(), &std::path::Path::to_owned);
    scene.verify();
}
