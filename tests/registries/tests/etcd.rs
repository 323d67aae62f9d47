//! The suite for etcd, and what is etcd's alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use bowline_client::Channel;
use bowline_core::{Context, Endpoint, Instance, Result};
use bowline_discovery::{Discovery, Emptiness, Registrar, Snapshot, State, Watcher};
use bowline_registry_etcd::{Credentials, EtcdRegistry, Options};
use bowline_testkit::Server;
use bowline_tests_support::Http;
use serde_json::{Value, json};

bowline_tests_registries::conformance!(bowline_tests_registries::Etcd);

const PATIENCE: Duration = Duration::from_secs(60);

fn cx() -> Context {
    Context::background().with_timeout(PATIENCE)
}

fn client(etcd: &Server, options: Options) -> EtcdRegistry {
    let channel = Channel::builder(format!("http://{}", etcd.address())).build().unwrap();
    EtcdRegistry::new(channel, options).unwrap()
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

/// etcd's JSON API, by which the keys are seen as others see them.
async fn ask(etcd: &Server, path: &str, request: Value) -> Value {
    let mut http = Http::connect(etcd.port()).await;
    http.call("POST", path, &[], request.to_string()).await.json()
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

#[tokio::test]
async fn what_kratos_has_put_is_found_and_leaves_when_its_key_is_deleted() {
    let etcd = bowline_testkit::etcd().await.unwrap();
    let registry = client(&etcd, Options::default());
    let watcher = registry.watch("helloworld");
    let value = r#"{"id":"k-1","name":"helloworld","version":"v1","metadata":{"weight":"30"},"endpoints":["grpc://10.0.0.1:9000?isSecure=false"]}"#;
    let key = base64("/microservices/helloworld/k-1");
    let lease = ask(&etcd, "/v3/lease/grant", json!({"TTL": 600})).await["ID"].clone();
    ask(&etcd, "/v3/kv/put", json!({"key": key, "value": base64(value), "lease": lease})).await;
    // Kratos asks by a prefix that holds this one too.
    let other = base64("/microservices/helloworld2/k-1");
    ask(&etcd, "/v3/kv/put", json!({"key": other, "value": base64(value)})).await;
    until(&watcher, |s| s.state == State::Live).await;
    let mut expected = Instance::new("helloworld", "k-1").with_endpoint(Endpoint::http("10.0.0.1", 9000));
    (expected.version, expected.weight) = ("v1".into(), 30);
    assert_eq!(watcher.current().instances.iter().map(|i| &**i).collect::<Vec<_>>(), [&expected]);
    ask(&etcd, "/v3/kv/deleterange", json!({"key": key})).await;
    until(&watcher, |s| s.state == State::Empty(Emptiness::Cancelled)).await;
}

#[tokio::test]
async fn what_is_registered_is_where_kratos_looks_for_it() {
    let etcd = bowline_testkit::etcd().await.unwrap();
    let registry = client(&etcd, Options::default());
    let instance = Instance::new("helloworld", "b-1").with_endpoint(Endpoint::http("10.0.0.1", 80));
    let _held = registry.register(&cx(), instance).await.unwrap();
    let key = base64("/microservices/helloworld/b-1");
    let answer = ask(&etcd, "/v3/kv/range", json!({"key": key})).await;
    let value = r#"{"id":"b-1","name":"helloworld","version":"","metadata":{"bowline.env":"default"},"endpoints":["http://10.0.0.1:80","grpc://10.0.0.1:80"]}"#;
    assert_eq!(answer["kvs"][0]["value"], base64(value), "{answer}");
    assert_ne!(answer["kvs"][0]["lease"], Value::Null, "it hangs on a lease");
}

#[tokio::test]
async fn a_key_that_somebody_deleted_by_hand_comes_back() {
    let etcd = bowline_testkit::etcd().await.unwrap();
    let mut options = Options::default();
    options.ttl = Duration::from_secs(3);
    let registry = client(&etcd, options);
    let watcher = registry.watch("s");
    let _held = registry.register(&cx(), Instance::new("s", "a")).await.unwrap();
    until(&watcher, |s| s.state == State::Live).await;
    ask(&etcd, "/v3/kv/deleterange", json!({"key": base64("/microservices/s/a")})).await;
    until(&watcher, |s| s.instances.is_empty()).await;
    until(&watcher, |s| s.state == State::Live).await;
}

#[tokio::test]
async fn a_user_logs_in_and_a_wrong_password_is_refused() {
    let etcd = bowline_testkit::etcd().await.unwrap();
    for (path, request) in [
        ("/v3/auth/user/add", json!({"name": "root", "password": "secret"})),
        ("/v3/auth/role/add", json!({"name": "root"})),
        ("/v3/auth/user/grant", json!({"user": "root", "role": "root"})),
        ("/v3/auth/enable", json!({})),
    ] {
        let answer = ask(&etcd, path, request).await;
        assert_eq!(answer["error"], Value::Null, "{path}: {answer}");
    }
    let as_user = |password: &str| {
        let mut options = Options::default();
        options.credentials = Some(Credentials { user: "root".into(), password: password.into() });
        client(&etcd, options)
    };
    let registered = async |registry: EtcdRegistry| -> Result<()> {
        let held = registry.register(&cx(), Instance::new("s", "a")).await?;
        registry.watch("s").ready(&cx()).await?;
        held.deregister(&cx()).await
    };
    registered(as_user("secret")).await.unwrap();
    let error = registered(as_user("another")).await.unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("the registry refused"), "{error}");
    assert!(!format!("{error:?}").contains("another"), "{error:?}");
    let error = registered(client(&etcd, Options::default())).await.unwrap_err();
    assert!(error.is_invalid(), "{error}");
}

#[tokio::test]
async fn a_watcher_that_missed_compacted_changes_lists_anew() {
    let etcd = bowline_testkit::etcd().await.unwrap();
    let relay = bowline_testkit::Relay::to(&etcd.address()).await.unwrap();
    let channel = Channel::builder(format!("http://{}", relay.address())).build().unwrap();
    let consumer = EtcdRegistry::new(channel, Options::default()).unwrap();
    let provider = client(&etcd, Options::default());
    let watcher = consumer.watch("s");
    let a = provider.register(&cx(), Instance::new("s", "a")).await.unwrap();
    let _b = provider.register(&cx(), Instance::new("s", "b")).await.unwrap();
    until(&watcher, |s| s.instances.len() == 2).await;
    relay.cut();
    until(&watcher, |s| matches!(s.state, State::Stale { .. })).await;
    a.deregister(&cx()).await.unwrap();
    let answer = ask(&etcd, "/v3/kv/range", json!({"key": base64("/x")})).await;
    let revision = answer["header"]["revision"].clone();
    ask(&etcd, "/v3/kv/compaction", json!({"revision": revision, "physical": true})).await;
    relay.mend();
    until(&watcher, |s| s.state == State::Live && s.instances.len() == 1).await;
}
