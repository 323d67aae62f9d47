//! Tokens: who may do what, in every protocol; and where a node without tokens listens.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::process::Command;

use bowline_client::Channel;
use bowline_core::Code;
use bowline_discovery::{Discovery, Registrar, State};
use bowline_registry::Config;
use bowline_registry_bowline::api::bowline::registry::v1::registered::Outcome;
use bowline_registry_bowline::api::bowline::registry::v1::registry::Client;
use bowline_registry_bowline::api::bowline::registry::v1::slot_leased::Outcome as Leased;
use bowline_registry_bowline::api::bowline::registry::v1::slot_released::Outcome as Released;
use bowline_registry_bowline::api::bowline::registry::v1::{self as api, KeepAliveRequest, WatchRequest};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_registry_nacos::api::{
    Instance, InstanceRequest, InstanceResponse, REGISTER, SubscribeServiceRequest, SubscribeServiceResponse,
    code,
};
use bowline_rpc::Streaming;
use common::nacos::RealNacos;
use common::real::Real;
use common::{SEC, ids, instance, until, within};
use serde_json::{Value, json};

const SHOP: &str = "the-token-of-the-shop";
const READER: &str = "the-token-of-a-reader";
const OPERATOR: &str = "the-token-of-an-operator";

fn guarded() -> Config {
    let all = json!(["default", "shop"]);
    serde_json::from_value(json!({"access": {"tokens": [
        {"name": "shop", "token": SHOP, "namespaces": ["shop", "default"], "allow": ["read", "register"]},
        {"name": "reader", "token": READER, "namespaces": ["default"], "allow": ["read"]},
        {"name": "operator", "token": OPERATOR, "namespaces": all, "allow": ["operate", "read"]},
    ]}}))
    .unwrap()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn call(real: &Real, token: Option<&str>, method: &str, path: &str, body: &str) -> (u16, Value) {
    let authorization = token.map(bearer).unwrap_or_default();
    let mut headers = vec![("content-type", "application/json")];
    if token.is_some() {
        headers.push(("authorization", authorization.as_str()));
    }
    let answer = real.call(method, path, &headers, body).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_token_opens_its_namespace_for_what_it_allows_and_nothing_else() {
    let real = Real::start(guarded());
    let services = |namespace: &str| format!("/v1/registry/{namespace}/prod/services");
    let verb = |namespace: &str, verb: &str| format!("{}/s/instances/a:{verb}", services(namespace));
    let register = verb("shop", "register");
    for (token, status, reason) in [
        (None, 403, "NOT_ALLOWED"),
        (Some("a-wrong-one-altogether"), 401, "UNKNOWN_TOKEN"),
        (Some(READER), 403, "NOT_ALLOWED"),
    ] {
        let (was, body) = call(&real, token, "POST", &register, "{}").await;
        assert_eq!((was, &body["reason"]), (status, &json!(reason)), "{token:?} {body}");
    }
    let (status, granted) = call(&real, Some(SHOP), "POST", &register, "{}").await;
    assert_eq!(status, 200, "{granted}");
    assert_eq!(call(&real, Some(SHOP), "POST", &verb("other", "register"), "{}").await.0, 403);
    assert_eq!(call(&real, Some(SHOP), "GET", &services("shop"), "").await.0, 200);
    assert_eq!(call(&real, Some(READER), "GET", &services("shop"), "").await.0, 403);
    let (changes, set) = (r#"{"changes": {"weight": 0}}"#, verb("shop", "setOverride"));
    assert_eq!(call(&real, Some(SHOP), "POST", &set, changes).await.0, 403);
    assert_eq!(call(&real, Some(OPERATOR), "POST", &set, changes).await.0, 200);
    assert_eq!(call(&real, Some(READER), "GET", "/v1/registry/node", "").await.0, 200);
    assert_eq!(call(&real, None, "GET", "/v1/registry/node", "").await.0, 403);

    // Leases of another namespace are as unknown as those that never were; and streams ask for a token too.
    let lease: u64 = granted["leaseId"].as_str().unwrap().parse().unwrap();
    let client = |token: &str| {
        let channel = Channel::builder(real.at.to_string()).build().unwrap();
        Client::new(channel.caller().unwrap().bearer(token).unwrap())
    };
    let cx = within(10 * SEC);
    let renew = async |token: &str| {
        let (sender, requests) = Streaming::channel(1);
        let mut answers = client(token).keep_alive(&cx, requests).await?;
        sender.send(KeepAliveRequest { lease_ids: vec![lease], ..Default::default() }).await?;
        answers.message().await.map(|answer| answer.unwrap().unknown.is_empty())
    };
    assert!(renew(SHOP).await.unwrap());
    assert_eq!(renew(READER).await.unwrap_err().code(), Code::PermissionDenied);
    let (sender, requests) = Streaming::channel(1);
    let mut answers = client(SHOP).keep_alive(&cx, requests).await.unwrap();
    let registrations = ["shop", "other"].map(|namespace| api::RegisterRequest {
        namespace: namespace.into(),
        instance: api::Instance { service: "s".into(), id: "streamed".into(), ..Default::default() }.into(),
        ..Default::default()
    });
    let registrations = registrations.to_vec();
    let slots = ["shop", "other"].map(|namespace| api::LeaseSlotRequest {
        namespace: namespace.into(),
        group: "g".into(),
        holder: "h".into(),
        ..Default::default()
    });
    let slots = slots.to_vec();
    sender.send(KeepAliveRequest { registrations, slots, ..Default::default() }).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(&answer.slots[0].outcome, Some(Leased::Granted(_))), "{answer:?}");
    assert!(matches!(&answer.slots[1].outcome, Some(Leased::Refused(r)) if r.reason == "NOT_ALLOWED"));
    let releases = vec![api::ReleaseSlotRequest {
        namespace: "other".into(),
        group: "g".into(),
        holder: "h".into(),
        ..Default::default()
    }];
    sender.send(KeepAliveRequest { releases, ..Default::default() }).await.unwrap();
    let released = answers.message().await.unwrap().unwrap().released;
    assert!(matches!(&released[0].outcome, Some(Released::Refused(r)) if r.reason == "NOT_ALLOWED"));
    let registered = answer.registered;
    assert!(matches!(registered[0].outcome, Some(Outcome::Granted(_))), "{registered:?}");
    assert!(matches!(&registered[1].outcome, Some(Outcome::Refused(r)) if r.reason == "NOT_ALLOWED"));
    let everything =
        WatchRequest { namespace: "shop".into(), prefixes: vec![String::new()], ..Default::default() };
    assert_eq!(client(READER).watch(&cx, everything).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_a_node_tells_of_itself_names_nothing_that_one_may_not_read() {
    let real = Real::start(guarded());
    for n in 0..4 {
        let path = format!("/v1/registry/shop/prod/services/orders/instances/o-{n}:register");
        let body = r#"{"instance": {"zone": "z1"}, "ttl": "1s"}"#;
        assert_eq!(call(&real, Some(SHOP), "POST", &path, body).await.0, 200);
    }
    bowline_tests_support::eventually(|| real.node.stats().protected == 1).await;
    let protected = async |token| {
        let (status, node) = call(&real, Some(token), "GET", "/v1/registry/node", "").await;
        (status, node["protected"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(protected(OPERATOR).await, (200, 1));
    assert_eq!(protected(READER).await, (200, 0));
    let path = "/nacos/v1/ns/operator/metrics";
    let (status, told) = call(&real, None, "GET", path, "").await;
    assert_eq!((status, told), (200, json!({"status": "UP"})), "whether it is well, and nothing else");
    assert_eq!(call(&real, Some(READER), "GET", path, "").await.1["instanceCount"], json!(4));
}

#[tokio::test]
async fn our_client_registers_and_finds_with_its_token() {
    let real = Real::start(guarded());
    let client = |token: &str| {
        let channel = Channel::builder(real.at.to_string()).build().unwrap();
        let caller = channel.caller().unwrap().bearer(token).unwrap();
        let mut options = Options::default();
        options.namespace = "shop".into();
        BowlineRegistry::new([caller], options).unwrap()
    };
    let shop = client(SHOP);
    let _registered = shop.register(&within(10 * SEC), instance("catalog", "c")).await.unwrap();
    let watcher = shop.watch("catalog");
    assert_eq!(ids(&*until(&watcher, |s| s.state == State::Live).await), ["c"]);
    let error = client(READER).register(&within(10 * SEC), instance("catalog", "d")).await.err().unwrap();
    assert_eq!(error.code(), Code::PermissionDenied, "refused at once, not tried for ever: {error}");
}

#[tokio::test]
async fn eureka_and_discovery_ask_for_tokens_too() {
    let real = Real::start(guarded());
    let instance = json!({"instance": {"instanceId": "e", "app": "CART", "hostName": "h", "ipAddr": "10.0.0.1",
        "status": "UP", "port": {"$": 80, "@enabled": "true"},
        "dataCenterInfo": {"@class": "c", "name": "MyOwn"}}});
    let basic = |token: &str| {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("eureka:{token}")))
    };
    let eureka = async |token: &str, method: &str, path: &str, body: &str| {
        let authorization = basic(token);
        let headers = [
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("authorization", authorization.as_str()),
        ];
        real.call(method, path, &headers, body).await.status
    };
    let body = instance.to_string();
    assert_eq!(eureka(READER, "POST", "/eureka/apps/CART", &body).await, 403);
    assert_eq!(eureka("a-wrong-one-altogether", "POST", "/eureka/apps/CART", &body).await, 401);
    assert_eq!(eureka(SHOP, "POST", "/eureka/apps/CART", &body).await, 204);
    assert_eq!(eureka(READER, "GET", "/eureka/apps", "").await, 200);
    assert_eq!(eureka(SHOP, "PUT", "/eureka/apps/CART/e/status?value=OUT_OF_SERVICE", "").await, 403);
    assert_eq!(eureka(OPERATOR, "PUT", "/eureka/apps/CART/e/status?value=OUT_OF_SERVICE", "").await, 200);

    let fetch = "/discovery/fetch?appid=cart&env=prod&status=1";
    assert_eq!(call(&real, None, "GET", fetch, "").await.1["code"], json!(-403));
    assert_eq!(
        call(&real, Some(READER), "GET", fetch, "").await.1["code"],
        json!(-404),
        "allowed, and not there"
    );
    let set = "/discovery/set?appid=cart&env=prod&zone=z&hostname=e&status=1";
    assert_eq!(call(&real, Some(SHOP), "POST", set, "").await.1["code"], json!(-403));
}

#[tokio::test]
async fn nacos_clients_log_in_with_a_token_over_http_and_grpc() {
    let node = RealNacos::with(guarded(), |_| ()).await;
    let login = async |user: &str, password: &str| {
        let path = format!("/nacos/v1/auth/login?username={user}&password={password}");
        node.real.call("POST", &path, &[], "").await
    };
    assert_eq!(login("shop", "a-wrong-one-altogether").await.status, 401);
    assert_eq!(login("reader", SHOP).await.status, 401, "the token of another");
    let token = login("shop", SHOP).await.json()["accessToken"].as_str().unwrap().to_owned();
    let register = "/nacos/v1/ns/instance?serviceName=s&ip=10.0.0.1&port=80";
    assert_eq!(node.real.call("POST", register, &[], "").await.status, 403);
    let with_token = format!("{register}&accessToken={token}");
    assert_eq!(node.real.call("POST", &with_token, &[], "").await.status, 200);
    let elsewhere = format!("{with_token}&namespaceId=other");
    assert_eq!(node.real.call("POST", &elsewhere, &[], "").await.status, 403);

    let request = InstanceRequest {
        service_name: "orders".into(),
        kind: REGISTER.into(),
        instance: Instance { ip: "10.0.0.2".into(), port: 80, ..Default::default() },
        ..Default::default()
    };
    let mut client = node.client().await;
    assert_eq!(client.refused(&request).await.0, code::NO_RIGHT);
    client.token = Some(READER.into());
    let (code, message) = client.refused(&request).await;
    assert!(code == code::NO_RIGHT && message.contains("`reader` may not register"), "{code} {message}");
    client.token = Some("a-wrong-one-altogether".into());
    assert_eq!(client.refused(&request).await.0, code::NO_RIGHT);
    client.token = Some(token);
    client.ask::<InstanceResponse>(&request).await;
    client.token = Some(READER.into());
    let subscribe =
        SubscribeServiceRequest { service_name: "orders".into(), subscribe: true, ..Default::default() };
    let subscribed: SubscribeServiceResponse = client.ask(&subscribe).await;
    assert_eq!(subscribed.service_info.hosts.len(), 1);
    let elsewhere = SubscribeServiceRequest { namespace: "other".into(), ..subscribe };
    assert_eq!(client.refused(&elsewhere).await.0, code::NO_RIGHT);
}

#[test]
fn a_node_without_tokens_listens_at_loopback_only_unless_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("registry.yaml");
    let run = |listen: &str, extra: Value, flags: &[&str]| {
        let mut whole = json!({"service": {"server": {"listen": listen}}});
        whole.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        std::fs::write(&config, whole.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline-registry"));
        command.arg("--config").arg(&config).args(flags);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // It ends by the address in use where it would listen.
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let (_, said) = run(&listen, json!({}), &[]);
    assert!(said.contains("--insecure") && said.contains("registry.access.tokens"), "{said}");
    let (_, said) = run(&listen, json!({}), &["--insecure"]);
    assert!(said.contains("taken") || said.contains("in use"), "{said}");
    let tokens = json!({"registry": {"access": {"tokens": [
        {"name": "a", "token": SHOP, "namespaces": ["*"], "allow": ["read"]}]}}});
    let (_, said) = run(&listen, tokens.clone(), &[]);
    assert!(said.contains("taken") || said.contains("in use"), "{said}");
    let mut cluster = tokens.as_object().unwrap().clone();
    cluster.insert("cluster".into(), json!({"node": "n", "listen": "0.0.0.0:0"}));
    let (_, said) = run("127.0.0.1:0", Value::Object(cluster), &[]);
    assert!(said.contains("cluster.tls"), "{said}");
    let nowhere = json!({"cluster": {"node": "n", "listen": "0.0.0.0:7172"}});
    let (_, said) = run(&listen, nowhere, &["--insecure"]);
    assert!(said.contains("set `cluster.advertise`") && said.contains("0.0.0.0:7172"), "{said}");
    let (_, said) = run("127.0.0.1:0", json!({"dns": {"listen": "0.0.0.0:0"}}), &[]);
    assert!(said.contains("`dns`") && said.contains("--insecure"), "{said}");
}
