//! That the servers of the tests are what the tests take them for.

use serde_json::json;

use crate::aws_support::{Client, Moto, Seaweed, test_tools};

#[test]
fn moto_holds_objects_and_events_until_it_ends() {
    let Some(moto) = Moto::start() else {
        return;
    };
    let client = moto.client();
    client.make_bucket("flow-logs");
    client.put("flow-logs", "a/b", &[0, 255, 10]);
    assert_eq!(client.keys("flow-logs").get("a/b"), Some(&3));
    assert_eq!(client.get("flow-logs", "a/b"), [0, 255, 10]);
    let group = json!({"logGroupName": "g"});
    client.call("logs", "create_log_group", group).unwrap();
    let found = client.call("logs", "describe_log_groups", json!({}));
    assert_eq!(found.unwrap()["logGroups"][0]["logGroupName"], "g");
    let missing = client.call("s3", "head_bucket", json!({"Bucket": "missing"}));
    assert_eq!(missing.unwrap_err().0, "404");
}

#[test]
fn seaweedfs_asks_for_credentials_and_keeps_objects_when_it_is_killed() {
    let Some(mut server) = Seaweed::start() else {
        return;
    };
    let client = server.client();
    client.make_bucket("flow-logs");
    client.put("flow-logs", "a/b", b"kept");
    let tools = test_tools().unwrap();
    let other = Client::with_keys(&tools, &server.endpoint(), "AKIAOTHER", "wrong");
    assert!(other.try_keys("flow-logs").is_err());
    server.kill();
    assert!(client.try_keys("flow-logs").is_err());
    assert!(server.start_again(), "{}", server.log());
    assert_eq!(client.get("flow-logs", "a/b"), b"kept");
}
