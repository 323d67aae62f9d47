//! The suite for ZooKeeper, and what is ZooKeeper's alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

use std::time::Duration;

use bowline_core::{Context, Endpoint, Instance, Result};
use bowline_discovery::{Discovery, Registrar, Registration, Snapshot, State, Watcher};
use bowline_registry_zookeeper::{Options, ZookeeperRegistry};
use bowline_testkit::{Relay, Server};
use tokio::process::Command;

bowline_tests_registries::conformance!(bowline_tests_registries::Zookeeper);

const PATIENCE: Duration = Duration::from_secs(60);

fn cx() -> Context {
    Context::background().with_timeout(PATIENCE)
}

/// `zookeeper://` and what follows.
fn client(rest: &str) -> ZookeeperRegistry {
    let (servers, options) = Options::from_url(&format!("zookeeper://{rest}")).unwrap();
    ZookeeperRegistry::new(&servers, options).unwrap()
}

async fn register(registry: &ZookeeperRegistry, id: &str) -> Result<Box<dyn Registration>> {
    registry.register(&cx(), Instance::new("s", id)).await
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

fn has(ids: &'static [&str]) -> impl Fn(&Snapshot) -> bool {
    move |s| s.state == State::Live && s.instances.iter().map(|i| i.id.as_str()).eq(ids.iter().copied())
}

/// ZooKeeper's own client, by which the nodes are seen as others see them. Its log and its answer come mixed.
async fn ask(zookeeper: &Server, command: &[&str]) -> String {
    let jars = ["zookeeper", "slf4j-api", "commons-cli"].map(|jar| format!("/usr/share/java/{jar}.jar"));
    let mut java = Command::new("/usr/bin/java");
    java.args([
        "-cp",
        &jars.join(":"),
        "org.apache.zookeeper.ZooKeeperMain",
        "-server",
        &zookeeper.address(),
    ]);
    let output = java.args(command).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn what_kratos_has_put_is_found_and_its_removal_is_not_told_from_a_death() {
    let zookeeper = bowline_testkit::zookeeper().await.unwrap();
    let registry = client(&zookeeper.address());
    let watcher = registry.watch("helloworld");
    watcher.ready(&cx()).await.unwrap();
    let value = r#"{"id":"k-1","name":"helloworld","version":"v1","metadata":{"weight":"30"},"endpoints":["grpc://10.0.0.1:9000?isSecure=false"]}"#;
    for parent in ["/microservices", "/microservices/helloworld"] {
        ask(&zookeeper, &["create", parent, ""]).await;
    }
    ask(&zookeeper, &["create", "/microservices/helloworld/k-1", value]).await;
    until(&watcher, |s| s.state == State::Live).await;
    let mut expected = Instance::new("helloworld", "k-1").with_endpoint(Endpoint::http("10.0.0.1", 9000));
    (expected.version, expected.weight) = ("v1".into(), 30);
    assert_eq!(watcher.current().instances.iter().map(|i| &**i).collect::<Vec<_>>(), [&expected]);
    ask(&zookeeper, &["delete", "/microservices/helloworld/k-1"]).await;
    until(&watcher, |s| matches!(s.state, State::Stale { .. })).await;
    assert_eq!(watcher.current().instances.len(), 1);
}

#[tokio::test]
async fn what_is_registered_is_where_kratos_looks_for_it_and_goes_with_its_session() {
    let zookeeper = bowline_testkit::zookeeper().await.unwrap();
    let registry = client(&zookeeper.address());
    let instance = Instance::new("helloworld", "b-1").with_endpoint(Endpoint::http("10.0.0.1", 80));
    let _held = registry.register(&cx(), instance).await.unwrap();
    let answer = ask(&zookeeper, &["get", "-s", "/microservices/helloworld/b-1"]).await;
    let value = r#"{"id":"b-1","name":"helloworld","version":"","metadata":{"bowline.env":"default"},"endpoints":["http://10.0.0.1:80","grpc://10.0.0.1:80"]}"#;
    assert!(answer.contains(value), "{answer}");
    assert!(answer.contains("ephemeralOwner = 0x1"), "it is ephemeral: {answer}");
}

#[tokio::test]
async fn a_node_that_somebody_deleted_by_hand_comes_back() {
    let zookeeper = bowline_testkit::zookeeper().await.unwrap();
    let registry = client(&format!("{}?ttl=2s", zookeeper.address()));
    let watcher = registry.watch("s");
    let _held = register(&registry, "a").await.unwrap();
    until(&watcher, has(&["a"])).await;
    ask(&zookeeper, &["deleteall", "/microservices/s"]).await;
    until(&watcher, |s| matches!(s.state, State::Stale { .. })).await;
    until(&watcher, has(&["a"])).await;
}

#[tokio::test]
async fn who_was_cut_off_for_longer_than_a_session_registers_again() {
    let zookeeper = bowline_testkit::zookeeper().await.unwrap();
    let relay = Relay::to(&zookeeper.address()).await.unwrap();
    let provider = client(&format!("{}?ttl=1s", relay.address()));
    let consumer = client(&zookeeper.address());
    let watcher = consumer.watch("s");
    let _a = register(&provider, "a").await.unwrap();
    let _b = register(&consumer, "b").await.unwrap();
    until(&watcher, has(&["a", "b"])).await;
    relay.cut();
    until(&watcher, has(&["b"])).await;
    relay.mend();
    until(&watcher, has(&["a", "b"])).await;
}

#[tokio::test]
async fn a_registration_that_is_dropped_goes_though_its_process_lives() {
    let zookeeper = bowline_testkit::zookeeper().await.unwrap();
    let registry = client(&zookeeper.address());
    let watcher = registry.watch("s");
    let a = register(&registry, "a").await.unwrap();
    let b = register(&registry, "b").await.unwrap();
    b.update(&cx(), Instance { weight: 7, ..Instance::new("s", "b") }).await.unwrap();
    until(&watcher, |s| has(&["a", "b"])(s) && s.instances[1].weight == 7).await;
    drop(a);
    until(&watcher, has(&["b"])).await;
    drop(b);
    until(&watcher, |s| matches!(s.state, State::Stale { .. })).await;
    assert_eq!(watcher.current().instances[0].id.as_str(), "b");
}

#[tokio::test]
async fn what_a_user_registered_is_nobody_elses_to_see_or_to_change() {
    let zookeeper = bowline_testkit::zookeeper().await.unwrap();
    let address = zookeeper.address();
    let (user, stranger) = (client(&format!("bob:secret@{address}")), client(&address));
    let held = register(&user, "a").await.unwrap();
    until(&user.watch("s"), has(&["a"])).await;
    let error = register(&stranger, "b").await.err().unwrap();
    assert!(error.is_denied() && error.to_string().contains("access list"), "{error}");
    let watcher = stranger.watch("s");
    until(&watcher, |s| s.fault.as_deref().is_some_and(|fault| fault.contains("access list"))).await;
    assert_eq!(watcher.current().state, State::Pending);
    held.deregister(&cx()).await.unwrap();
    until(&user.watch("s"), |s| matches!(s.state, State::Empty(_))).await;
}
