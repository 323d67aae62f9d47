//! Nacos' gRPC as its clients speak it, over a real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::time::Duration;

use bowline_core::{Context, Endpoint};
use bowline_discovery::{Discovery, Registrar};
use bowline_registry_nacos::api::{
    Body, ClientDetectionRequest, ClientDetectionResponse, ConnectResetRequest, ConnectResetResponse,
    DEREGISTER, HealthCheckRequest, HealthCheckResponse, Instance, InstanceRequest, InstanceResponse,
    Outcome, PersistentInstanceRequest, QueryServiceResponse, REGISTER, ServerCheckRequest,
    ServiceListRequest, ServiceListResponse, ServiceQueryRequest, SubscribeServiceRequest,
    SubscribeServiceResponse, code,
};
use bowline_registry_nacos::{Credentials, NacosRegistry, Options};
use common::nacos::{RealNacos, at, of, ports};
use serde_json::{Value, json};

const MS: Duration = Duration::from_millis(1);

/// The lease of the only instance of a service, as Eureka's clients see it: since when, renewed when, in milliseconds.
async fn lease(real: &RealNacos, app: &str) -> Option<(u64, u64)> {
    let headers = [("accept", "application/json")];
    let answer = real.real.call("GET", &format!("/eureka/apps/{app}"), &headers, "").await;
    let lease = |answer: &Value| {
        let lease = &answer["application"]["instance"][0]["leaseInfo"];
        Some((lease["registrationTimestamp"].as_u64()?, lease["lastRenewalTimestamp"].as_u64()?))
    };
    (answer.status == 200).then(|| lease(&answer.json())).flatten()
}

/// Asks again and again, for at most 20 s.
async fn eventually(what: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !what().await {
            tokio::time::sleep(20 * MS).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came to be");
}

#[tokio::test]
async fn requests_are_answered_once_the_connection_is_set_up() {
    let real = RealNacos::start(|_| {}).await;
    let mut client = real.stranger();
    let (refused, _) = client.refused(&HealthCheckRequest::default()).await;
    assert_eq!(refused, code::UN_REGISTER, "clients connect anew then");
    client.set_up().await;
    let request = HealthCheckRequest { request_id: "7".into() };
    let answer: HealthCheckResponse = client.ask(&request).await;
    assert_eq!(answer.outcome, Outcome::success("7"));
    let (refused, _) = real.stranger().refused(&HealthCheckRequest::default()).await;
    assert_eq!(refused, code::UN_REGISTER, "another connection is another client");
    assert_eq!(real.nacos.clients(), 1);
    drop(client);
    eventually(async || real.nacos.clients() == 0).await;
}

#[tokio::test]
async fn an_instance_lives_as_long_as_its_connection() {
    let real = RealNacos::start(|config| config.lease = 1_000 * MS).await;
    let mut client = real.client().await;
    client.subscribe("s", true).await;
    client.register("s", at(80)).await;
    client.until(|seen| ports(seen) == [80]).await;
    let is_renewed = async || lease(&real, "S").await.is_some_and(|(since, renewed)| renewed > since + 2_000);
    eventually(is_renewed).await;
    client.deregister("s", at(80)).await;
    client.until(|seen| seen.hosts.is_empty()).await;
    client.register("s", at(80)).await;
    client.until(|seen| ports(seen) == [80]).await;
    drop(client);
    eventually(async || lease(&real, "S").await.is_none()).await;
}

#[tokio::test]
async fn a_client_that_comes_back_keeps_its_instance() {
    let real = RealNacos::start(|config| config.lease = 1_000 * MS).await;
    let (before, after) = (real.client().await, real.client().await);
    before.register("s", at(80)).await;
    after.register("s", at(80)).await;
    let (since, _) = lease(&real, "S").await.unwrap();
    before.deregister("s", at(80)).await;
    drop(before);
    let is_renewed = async || lease(&real, "S").await.unwrap().1 > since + 2_000;
    eventually(is_renewed).await;
    assert_eq!(lease(&real, "S").await.unwrap().0, since, "it was there all the time");
}

#[tokio::test]
async fn subscribers_hear_what_changes_and_only_of_what_they_are_subscribed_to() {
    let real = RealNacos::start(|_| {}).await;
    let (provider, mut consumer) = (real.client().await, real.client().await);
    assert!(consumer.subscribe("a", true).await.hosts.is_empty());
    consumer.subscribe("b", true).await;
    let instance = Instance { weight: 2.5, metadata: [("k".into(), "v".into())].into(), ..at(80) };
    provider.register("a", instance.clone()).await;
    let pushed = consumer.until(|seen| !seen.hosts.is_empty()).await;
    assert_eq!((&*pushed.name, &*pushed.group_name), ("a", "DEFAULT_GROUP"));
    let expected = Instance {
        instance_id: Some("10.0.0.1#80#DEFAULT#DEFAULT_GROUP@@a".into()),
        cluster_name: "DEFAULT".into(),
        service_name: Some("DEFAULT_GROUP@@a".into()),
        ..instance.clone()
    };
    assert_eq!(pushed.hosts, [expected]);
    provider.register("a", Instance { weight: 3.0, ..instance }).await;
    let later = consumer.until(|seen| seen.name == "a" && seen.hosts[0].weight == 3.0).await;
    assert!(later.last_ref_time >= pushed.last_ref_time);
    consumer.subscribe("a", false).await;
    provider.register("a", at(81)).await;
    provider.register("b", at(82)).await;
    let next = consumer.until(|seen| !seen.hosts.is_empty()).await;
    assert_eq!((&*next.name, ports(&next)), ("b", vec![82]), "nothing of the other any more");
}

#[tokio::test]
async fn clusters_and_disabled_instances_are_left_out_as_asked() {
    let real = RealNacos::start(|_| {}).await;
    let client = real.client().await;
    let east = Instance { cluster_name: "EAST".into(), ..at(81) };
    let ill = Instance { healthy: false, ..at(82) };
    let disabled = Instance { enabled: false, ..at(83) };
    client.batch("s", vec![at(80), east, ill, disabled]).await;
    let asked = async |cluster: &str, healthy_only| {
        let (service_name, cluster) = ("s".to_owned(), cluster.to_owned());
        let request = ServiceQueryRequest { service_name, cluster, healthy_only, ..Default::default() };
        ports(&client.ask::<QueryServiceResponse>(&request).await.service_info)
    };
    assert_eq!(asked("", false).await, [80, 81, 82]);
    assert_eq!(asked("", true).await, [80, 81]);
    assert_eq!(asked("EAST", false).await, [81]);
    assert_eq!(asked("DEFAULT, EAST", true).await, [80, 81]);
    client.batch("s", vec![at(80), at(90)]).await;
    assert_eq!(asked("", false).await, [80, 90], "a batch is all there is of a connection");
    let mut page = ServiceListRequest { page_no: 1, page_size: 10, ..Default::default() };
    let listed: ServiceListResponse = client.ask(&page).await;
    assert_eq!((listed.count, listed.service_names), (1, vec!["s".to_owned()]));
    page.page_no = 2;
    assert!(client.ask::<ServiceListResponse>(&page).await.service_names.is_empty());
}

#[tokio::test]
async fn a_push_that_is_not_answered_cuts_the_connection() {
    let real = RealNacos::start(|config| config.patience = 200 * MS).await;
    let mut client = real.client().await;
    client.subscribe("s", true).await;
    client.register("s", at(80)).await;
    let error = loop {
        match client.hear().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(error) => break error,
        }
    };
    assert!(error.is_timeout() && error.message().contains("connect anew"), "{error}");
    eventually(async || real.nacos.clients() == 0).await;
}

#[tokio::test]
async fn a_silent_client_is_asked_whether_it_is_there_and_cut_if_not() {
    let settings = |config: &mut bowline_registry::NacosConfig| {
        (config.idle, config.patience) = (100 * MS, 500 * MS);
    };
    let real = RealNacos::start(settings).await;
    let mut client = real.client().await;
    for _ in 0..2 {
        let asked = ClientDetectionRequest::of(&client.hear().await.unwrap().unwrap()).unwrap();
        let outcome = Outcome::success(asked.request_id);
        client.say(&ClientDetectionResponse { outcome }).await;
    }
    ClientDetectionRequest::of(&client.hear().await.unwrap().unwrap()).unwrap();
    assert!(client.hear().await.unwrap_err().is_timeout());
    // Who opens a stream and does not introduce itself is not waited for either.
    let mut stranger = real.stranger();
    stranger.say(&HealthCheckRequest::default()).await;
    assert!(stranger.hear().await.is_err());
}

#[tokio::test]
async fn a_node_that_goes_down_sends_its_clients_elsewhere() {
    let real = RealNacos::start(|_| {}).await;
    let mut client = real.client().await;
    client.register("s", at(80)).await;
    real.real.node.close();
    let reset = ConnectResetRequest::of(&client.hear().await.unwrap().unwrap()).unwrap();
    assert_eq!(reset.server_ip, None, "any other");
    let outcome = Outcome::success(reset.request_id);
    client.say(&ConnectResetResponse { outcome }).await;
    assert!(client.hear().await.unwrap().is_none());
    let (refused, message) = real.stranger().refused(&ServerCheckRequest::default()).await;
    assert_eq!((refused, message.contains("try another")), (code::INVALID_SERVER_STATUS, true));
}

#[tokio::test]
async fn a_persistent_instance_outlives_its_connection_and_goes_when_it_is_told() {
    let node = RealNacos::start(|_| ()).await;
    let persistent = |kind: &str| PersistentInstanceRequest {
        service_name: "s".into(),
        kind: kind.into(),
        instance: at(1),
        ..Default::default()
    };
    let client = node.client().await;
    let _: InstanceResponse = client.ask(&persistent(REGISTER)).await;
    drop(client);
    let client = node.client().await;
    let query = ServiceQueryRequest { service_name: "s".into(), ..Default::default() };
    let list: QueryServiceResponse = client.ask(&query).await;
    let host = &list.service_info.hosts[0];
    assert!(!host.ephemeral && !host.healthy, "nobody has seen it well: {host:?}");
    let _: InstanceResponse = client.ask(&persistent(DEREGISTER)).await;
    let list: QueryServiceResponse = client.ask(&query).await;
    assert!(list.service_info.hosts.is_empty());
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_its_cause() {
    let settings = |config: &mut bowline_registry::NacosConfig| {
        (config.instances_per_connection, config.subscriptions_per_connection) = (2, 1);
    };
    let real = RealNacos::start(settings).await;
    let client = real.client().await;
    let register = |instance| InstanceRequest { kind: REGISTER.into(), instance, ..of("s") };
    for (instance, code, what) in [
        (Instance { ephemeral: false, ..at(80) }, code::INVALID_PARAM, "persistent"),
        (Instance { weight: -1.0, ..at(80) }, code::INVALID_PARAM, "weight"),
        (Instance { ip: String::new(), ..at(80) }, code::INVALID_PARAM, "`ip` is missing"),
        (Instance { ip: "a b".into(), ..at(80) }, code::INVALID_PARAM, "`ip` and `port`"),
        (Instance { metadata: [("bowline.x".into(), "".into())].into(), ..at(80) }, 400, "`bowline.x`"),
    ] {
        let (refused, message) = client.refused(&register(instance)).await;
        assert_eq!((refused, message.contains(what)), (code, true), "{message}");
    }
    let (refused, message) = client.refused(&InstanceRequest { kind: "x".into(), ..of("s") }).await;
    assert_eq!((refused, message.contains("`x` is unknown")), (code::INVALID_PARAM, true), "{message}");
    let nowhere =
        PersistentInstanceRequest { service_name: "s".into(), kind: REGISTER.into(), ..Default::default() };
    let (refused, message) = client.refused(&nowhere).await;
    assert_eq!((refused, message.contains("`ip` is missing")), (code::INVALID_PARAM, true), "{message}");
    let (refused, _) = client.refused(&Outcomeless::default()).await;
    assert_eq!(refused, code::NO_HANDLER);

    client.batch("s", vec![at(1), at(2)]).await;
    let (refused, message) = client.refused(&InstanceRequest { ..register_of("t") }).await;
    assert_eq!(refused, code::OVER_THRESHOLD);
    assert!(message.contains("`nacos.instances_per_connection`"), "{message}");
    client.subscribe("s", true).await;
    let subscribe =
        SubscribeServiceRequest { subscribe: true, service_name: "t".into(), ..Default::default() };
    let (refused, message) = client.refused(&subscribe).await;
    assert_eq!(refused, code::OVER_THRESHOLD);
    assert!(message.contains("`nacos.subscriptions_per_connection`"), "{message}");
}

fn register_of(service: &str) -> InstanceRequest {
    InstanceRequest { kind: REGISTER.into(), instance: at(80), ..of(service) }
}

/// A request of another part of Nacos.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Outcomeless {}

impl Body for Outcomeless {
    const TYPE: &'static str = "ConfigQueryRequest";
}

/// A node whose port for gRPC is above that for HTTP, as the adapter takes it to be.
async fn with_ports_in_order() -> (RealNacos, u16) {
    for _ in 0..50 {
        let real = RealNacos::start(|config| config.lease = 1_000 * MS).await;
        let offset = real.nacos.endpoint().unwrap().port().checked_sub(real.real.at.port());
        if let Some(offset) = offset {
            return (real, offset);
        }
    }
    panic!("the ports were never in order");
}

#[tokio::test]
async fn the_adapter_logs_in_and_an_instance_that_moves_leaves_nothing_behind() {
    let (real, offset) = with_ports_in_order().await;
    let mut options = Options::default();
    options.offset = offset;
    options.credentials = Some(Credentials { user: "nacos".into(), password: "nacos".into() });
    let registry = NacosRegistry::new(vec![real.real.at.clone()], options).unwrap();
    let cx = Context::background().with_timeout(Duration::from_secs(20));
    let instance = |endpoint| bowline_core::Instance::new("s", "a").with_endpoint(endpoint);
    let plain = instance(Endpoint::http("10.0.0.1", 80));
    let registration = registry.register(&cx, plain.clone()).await.unwrap();
    let seen = registry.watch("s").ready(&cx).await.unwrap();
    assert_eq!(seen.instances.iter().map(|i| &**i).collect::<Vec<_>>(), [&plain]);
    assert_eq!(real.real.service("default", "s.http").await["entries"].as_array().unwrap().len(), 1);

    registration.update(&cx, instance(Endpoint::http("10.0.0.2", 80))).await.unwrap();
    let entries = real.real.service("default", "s.grpc").await["entries"].clone();
    assert_eq!(entries[0]["instance"]["id"], serde_json::json!("10.0.0.2:80"), "{entries}");
    assert_eq!(entries.as_array().unwrap().len(), 1);
    registration.update(&cx, instance(Endpoint::https("10.0.0.2", 443))).await.unwrap();
    assert_eq!(real.real.service("default", "s.grpc").await["entries"].as_array().map_or(0, Vec::len), 0);
    assert_eq!(real.real.service("default", "s.grpcs").await["entries"].as_array().unwrap().len(), 1);
    // Who only lets go of it leaves nothing either, though the connection lives on.
    drop(registration);
    eventually(async || real.real.node.stats().instances == 0).await;
}

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_pushes_is_cut_and_is_made_no_more_than_one_at_a_time() {
    let real = RealNacos::start(|config| {
        (config.patience, config.idle) = (2_000 * MS, 600_000 * MS);
    })
    .await;
    let register = async |id: &str, metadata: Value| {
        let instance = json!({"endpoints": ["http://10.0.0.1:80"], "metadata": metadata});
        let body = json!({"instance": instance, "ttl": "600s"});
        real.real
            .post(&format!("/v1/registry/default/default/services/s/instances/{id}:register"), body)
            .await;
    };
    for n in 0..20 {
        register(&format!("i{n}"), json!({"k": "x".repeat(25_000)})).await;
    }
    // Half a megabyte each, 160 times on one connection.
    let mut client = real.client().await;
    for n in 0..160 {
        let clusters = format!("DEFAULT,x{n}");
        let request = SubscribeServiceRequest {
            subscribe: true,
            service_name: "s".into(),
            clusters,
            ..Default::default()
        };
        let _: SubscribeServiceResponse = client.ask(&request).await;
        // The others have heard of it with the answer.
        if n == 0 {
            client.pushed().await;
        }
    }
    let before = resident_mib();
    register("j", json!({})).await;
    eventually(async || {
        let grown = resident_mib().saturating_sub(before);
        assert!(grown < 50, "{grown} MiB for one change");
        real.nacos.clients() == 0
    })
    .await;
    let ended = async { while let Ok(Some(_)) = client.hear().await {} };
    tokio::time::timeout(20_000 * MS, ended).await.unwrap();
}
