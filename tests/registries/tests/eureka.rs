//! The suite for Spring Cloud's Eureka server, and what is Eureka's alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, not marked as tests"
)]

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Context, Endpoint, Instance, InstanceStatus};
use bowline_discovery::{Discovery, Registrar, Snapshot, State, Watcher};
use bowline_registry_eureka::{EurekaRegistry, Options};
use bowline_testkit::{Relay, Server};
use bowline_tests_registries::{Backend, Eureka, eureka_client};
use bowline_tests_support::Http;
use serde_json::{Value, json};

bowline_tests_registries::conformance!(Eureka);

const PATIENCE: Duration = Duration::from_secs(60);

fn cx() -> Context {
    Context::background().with_timeout(PATIENCE)
}

/// `None` where there is no server of Eureka: the test is skipped then.
async fn eureka() -> Option<Server> {
    if let Some(why) = Eureka::missing() {
        println!("skipped: {why}");
        return None;
    }
    Some(bowline_testkit::eureka().await.unwrap())
}

fn client(addresses: &[&str]) -> Arc<EurekaRegistry> {
    let mut options = Options::default();
    options.ttl = Duration::from_secs(3);
    options.fetch = Duration::from_millis(500);
    options.backoff_max = Duration::from_secs(1);
    eureka_client(addresses, options)
}

async fn until(watcher: &Watcher, wanted: impl Fn(&Snapshot) -> bool) {
    let mut own = watcher.clone();
    let waited = tokio::time::timeout(PATIENCE, async {
        while !wanted(&own.current()) {
            own.changed().await;
        }
    });
    assert!(waited.await.is_ok(), "not in {PATIENCE:?}; it is {:?}", watcher.current());
}

/// Eureka's API, by which registrations are seen as others see them.
async fn ask(eureka: &Server, method: &str, path: &str, request: &str) -> (u16, Value) {
    let mut http = Http::connect(eureka.port()).await;
    let headers = [("accept", "application/json"), ("content-type", "application/json")];
    let answer = http.call(method, path, &headers, request.to_owned()).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[tokio::test]
async fn what_others_register_is_found_and_its_cancellation_is_not_told_from_a_death() {
    let Some(eureka) = eureka().await else { return };
    let registry = client(&[&eureka.address()]);
    let watcher = registry.watch("greeter");
    watcher.ready(&cx()).await.unwrap();
    let registration = json!({"instance": {
        "instanceId": "host-1:greeter:8080", "app": "GREETER", "hostName": "10.0.0.1", "ipAddr": "10.0.0.1",
        "vipAddress": "greeter", "secureVipAddress": "greeter", "status": "UP",
        "port": {"$": 8080, "@enabled": "true"}, "securePort": {"$": 443, "@enabled": "false"},
        "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
        "metadata": {"management.port": "8081", "zone": "z1"},
    }});
    let (status, _) = ask(&eureka, "POST", "/eureka/apps/GREETER", &registration.to_string()).await;
    assert_eq!(status, 204);
    until(&watcher, |s| s.state == State::Live).await;
    let mut expected =
        Instance::new("greeter", "host-1:greeter:8080").with_endpoint(Endpoint::http("10.0.0.1", 8080));
    expected.zone = "z1".into();
    expected.metadata.insert("management.port".into(), "8081".into());
    assert_eq!(watcher.current().instances.iter().map(|i| &**i).collect::<Vec<_>>(), [&expected]);
    ask(&eureka, "DELETE", "/eureka/apps/GREETER/host-1:greeter:8080", "").await;
    until(&watcher, |s| matches!(s.state, State::Stale { .. })).await;
    assert_eq!(watcher.current().instances.len(), 1);
}

#[tokio::test]
async fn what_is_registered_is_found_by_others_and_what_an_operator_sets_is_seen() {
    let Some(eureka) = eureka().await else { return };
    let registry = client(&[&eureka.address()]);
    let watcher = registry.watch("greeter");
    let mut instance = Instance::new("greeter", "b-1").with_endpoint(Endpoint::http("10.0.0.1", 80));
    (instance.zone, instance.version) = ("z1".into(), "v2".into());
    let _held = registry.register(&cx(), instance).await.unwrap();
    let (_, answer) = ask(&eureka, "GET", "/eureka/vips/greeter", "").await;
    let told = &answer["applications"]["application"][0]["instance"][0];
    assert_eq!((&told["app"], &told["status"]), (&json!("GREETER"), &json!("UP")), "{answer}");
    assert_eq!((&told["hostName"], &told["port"]["$"]), (&json!("10.0.0.1"), &json!(80)));
    assert_eq!((&told["metadata"]["zone"], &told["metadata"]["version"]), (&json!("z1"), &json!("v2")));
    assert_eq!(told["leaseInfo"]["durationInSecs"], 3);

    let is = |status| move |s: &Snapshot| s.state == State::Live && s.instances[0].status == status;
    until(&watcher, is(InstanceStatus::Up)).await;
    let path = "/eureka/apps/GREETER/b-1/status";
    ask(&eureka, "PUT", &format!("{path}?value=OUT_OF_SERVICE"), "").await;
    until(&watcher, is(InstanceStatus::OutOfService)).await;
    ask(&eureka, "DELETE", &format!("{path}?value=UP"), "").await;
    until(&watcher, is(InstanceStatus::Up)).await;
}

#[tokio::test]
async fn the_next_server_is_asked_while_one_does_not_answer() {
    let Some(eureka) = eureka().await else { return };
    let first = Relay::to(&eureka.address()).await.unwrap();
    let second = Relay::to(&eureka.address()).await.unwrap();
    let registry = client(&[&first.address(), &second.address()]);
    let watcher = registry.watch("s");
    first.cut();
    let held = registry.register(&cx(), Instance::new("s", "a")).await.unwrap();
    until(&watcher, |s| s.state == State::Live).await;
    first.mend();
    second.cut();
    // It is renewed at the first one, or would be gone.
    until(&watcher, |s| matches!(s.state, State::Stale { .. })).await;
    until(&watcher, |s| s.state == State::Live).await;
    held.deregister(&cx()).await.unwrap();
    until(&watcher, |s| matches!(s.state, State::Empty(_))).await;
}
