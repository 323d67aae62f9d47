//! What operators see of a node, and what they can do about it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::time::Duration;

use bowline_registry::Config;
use bowline_telemetry::Metrics;
use bowline_tests_support::{PATIENCE, eventually};
use common::real::Real;
use serde_json::json;

#[tokio::test]
async fn a_protection_is_seen_in_the_api_and_in_the_metrics_and_an_operator_ends_it() {
    let real = Real::start(Config::default());
    let metrics = Metrics::new();
    real.node.tell(&metrics);
    for n in 0..4 {
        let path = format!("/v1/registry/default/prod/services/orders/instances/o-{n}:register");
        real.post(&path, json!({"instance": {"zone": "z1"}, "ttl": "1s"})).await;
    }
    // Nobody renews them: that is more than may be late at a time.
    eventually(|| real.node.stats().protected == 1).await;
    // Their leases run out one after the other.
    let overdue = async || {
        let node = real.call("GET", "/v1/registry/node", &[], "").await.json();
        (node["protected"][0]["overdue"] == json!(4)).then_some(node)
    };
    let node = tokio::time::timeout(PATIENCE, async {
        loop {
            match overdue().await {
                Some(node) => break node,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let node = node.await.unwrap();
    assert_eq!((&node["serving"], &node["instances"], &node["leases"]), (&json!(true), &json!(4), &json!(4)));
    let protected = &node["protected"][0];
    assert_eq!((&protected["service"], &protected["zone"]), (&json!("orders"), &json!("z1")), "{node}");
    assert_eq!((&protected["expected"], &protected["env"]), (&json!(4), &json!("prod")));
    let told = metrics.encode().unwrap();
    assert!(told.contains("bowline_registry_holds{what=\"protected\"} 1"), "{told}");
    assert!(told.contains("bowline_registry_holds{what=\"instances\"} 4"), "{told}");
    let path = "/v1/registry/default/prod/services/orders:endProtection";
    let ended = real.post(path, json!({"zone": "z1"})).await;
    assert_eq!(ended["removed"], json!(4));
    assert_eq!((real.node.stats().instances, real.node.stats().protected), (0, 0));
}
