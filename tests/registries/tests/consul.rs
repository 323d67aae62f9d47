//! The suite for Consul, and what is Consul's alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, not marked as tests"
)]

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Context, Endpoint, Instance, InstanceStatus};
use bowline_discovery::{Discovery, Emptiness, Registrar, Snapshot, State, Watcher};
use bowline_registry_consul::{ConsulRegistry, Options};
use bowline_testkit::Server;
use bowline_tests_registries::{Backend, Consul, consul_client};
use bowline_tests_support::Http;
use serde_json::{Value, json};

bowline_tests_registries::conformance!(Consul);

const PATIENCE: Duration = Duration::from_secs(60);

fn cx() -> Context {
    Context::background().with_timeout(PATIENCE)
}

/// `None` where there is no Consul: the test is skipped then.
async fn consul() -> Option<(Server, Arc<ConsulRegistry>)> {
    if let Some(why) = Consul::missing() {
        println!("skipped: {why}");
        return None;
    }
    let consul = bowline_testkit::consul().await.unwrap();
    let mut options = Options::default();
    options.ttl = Duration::from_secs(3);
    let registry = consul_client(&consul.address(), options);
    Some((consul, registry))
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

/// Consul's API, by which registrations are seen as others see them.
async fn ask(consul: &Server, method: &str, path: &str, request: Value) -> Value {
    let mut http = Http::connect(consul.port()).await;
    let answer = http.call(method, path, &[], request.to_string()).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

#[tokio::test]
async fn what_kratos_has_registered_is_found_and_leaves_when_it_is_deregistered() {
    let Some((consul, registry)) = consul().await else { return };
    let watcher = registry.watch("helloworld");
    let registration = json!({
        "ID": "k-1", "Name": "helloworld", "Tags": ["version=v1"], "Address": "10.0.0.1", "Port": 9000,
        "Meta": {"weight": "30"},
        "TaggedAddresses": {"grpc": {"Address": "grpc://10.0.0.1:9000?isSecure=false", "Port": 9000}},
        "Checks": [{"CheckID": "service:k-1", "TTL": "20s", "DeregisterCriticalServiceAfter": "600s"}],
    });
    ask(&consul, "PUT", "/v1/agent/service/register", registration).await;
    until(&watcher, |s| s.state == State::Empty(Emptiness::Unknown)).await;
    ask(&consul, "PUT", "/v1/agent/check/pass/service:k-1", Value::Null).await;
    until(&watcher, |s| s.state == State::Live).await;
    let mut expected = Instance::new("helloworld", "k-1").with_endpoint(Endpoint::http("10.0.0.1", 9000));
    (expected.version, expected.weight) = ("v1".into(), 30);
    assert_eq!(watcher.current().instances.iter().map(|i| &**i).collect::<Vec<_>>(), [&expected]);
    ask(&consul, "PUT", "/v1/agent/service/deregister/k-1", Value::Null).await;
    until(&watcher, |s| s.state == State::Empty(Emptiness::Cancelled)).await;
}

#[tokio::test]
async fn what_is_registered_is_passing_in_the_form_that_kratos_reads() {
    let Some((consul, registry)) = consul().await else { return };
    let mut instance = Instance::new("helloworld", "b-1").with_endpoint(Endpoint::http("10.0.0.1", 80));
    instance.version = "v2".into();
    let _held = registry.register(&cx(), instance).await.unwrap();
    registry.watch("helloworld").ready(&cx()).await.unwrap();
    until(&registry.watch("helloworld"), |s| s.state == State::Live).await;
    let answer = ask(&consul, "GET", "/v1/health/service/helloworld?passing=1", Value::Null).await;
    let service = &answer[0]["Service"];
    assert_eq!((&service["ID"], &service["Tags"]), (&json!("b-1"), &json!(["version=v2"])), "{answer}");
    assert_eq!(service["TaggedAddresses"]["grpc"]["Address"], "grpc://10.0.0.1:80");
    assert_eq!((&service["Address"], &service["Port"]), (&json!("10.0.0.1"), &json!(80)));
}

#[tokio::test]
async fn what_somebody_deregistered_by_hand_comes_back() {
    let Some((consul, registry)) = consul().await else { return };
    let watcher = registry.watch("s");
    let _held = registry.register(&cx(), Instance::new("s", "a")).await.unwrap();
    until(&watcher, |s| s.state == State::Live).await;
    ask(&consul, "PUT", "/v1/agent/service/deregister/a", Value::Null).await;
    until(&watcher, |s| s.state == State::Empty(Emptiness::Cancelled)).await;
    until(&watcher, |s| s.state == State::Live).await;
}

#[tokio::test]
async fn what_an_operator_maintains_is_out_of_service_until_that_ends() {
    let Some((consul, registry)) = consul().await else { return };
    let watcher = registry.watch("s");
    let _held = registry.register(&cx(), Instance::new("s", "a")).await.unwrap();
    let is = |status| move |s: &Snapshot| s.state == State::Live && s.instances[0].status == status;
    until(&watcher, is(InstanceStatus::Up)).await;
    ask(&consul, "PUT", "/v1/agent/service/maintenance/a?enable=true", Value::Null).await;
    until(&watcher, is(InstanceStatus::OutOfService)).await;
    ask(&consul, "PUT", "/v1/agent/service/maintenance/a?enable=false", Value::Null).await;
    until(&watcher, is(InstanceStatus::Up)).await;
}

#[tokio::test]
async fn what_consul_has_no_place_for_is_refused_and_a_datacenter_that_is_not_there_is_named() {
    let Some((consul, registry)) = consul().await else { return };
    let mut many = Instance::new("s", "a");
    many.metadata = (0..70).map(|n| (format!("k{n}"), String::new())).collect();
    let error = registry.register(&cx(), many).await.err().unwrap();
    assert!(error.is_invalid() && error.to_string().contains("takes 64"), "{error}");
    let mut options = Options::default();
    options.datacenter = Some("nowhere".into());
    let elsewhere = consul_client(&consul.address(), options);
    until(&elsewhere.watch("s"), |s| {
        s.fault.as_deref().is_some_and(|fault| fault.contains("No path to datacenter"))
    })
    .await;
}

#[tokio::test]
async fn with_access_lists_the_token_is_shown_and_who_has_none_is_refused() {
    if let Some(why) = Consul::missing() {
        println!("skipped: {why}");
        return;
    }
    let (consul, token) = bowline_testkit::consul_with_token().await.unwrap();
    let mut options = Options::default();
    options.token = Some(token.into());
    let user = consul_client(&consul.address(), options);
    let watcher = user.watch("s");
    let held = user.register(&cx(), Instance::new("s", "a")).await.unwrap();
    until(&watcher, |s| s.state == State::Live).await;
    let stranger = consul_client(&consul.address(), Options::default());
    let error = stranger.register(&cx(), Instance::new("s", "b")).await.err().unwrap();
    assert!(error.is_denied() && error.to_string().contains("ermission denied"), "{error}");

    // Consul itself tells an empty list to a token that may not read.
    let mut http = Http::connect(consul.port()).await;
    let powerless = http.call("PUT", "/v1/acl/token", &[("x-consul-token", token)], "{}").await.json();
    let mut options = Options::default();
    options.token = Some(powerless["SecretID"].as_str().unwrap().into());
    let powerless = consul_client(&consul.address(), options);
    let unseen = powerless.watch("s");
    until(&unseen, |s| s.fault.as_deref().is_some_and(|fault| fault.contains("service:read"))).await;
    assert_eq!(unseen.current().state, State::Pending);
    held.deregister(&cx()).await.unwrap();
    until(&watcher, |s| s.state == State::Empty(Emptiness::Cancelled)).await;
}
