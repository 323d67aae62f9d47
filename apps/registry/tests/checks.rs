//! Persistent instances: the registry finds out itself whether they are well.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::time::Duration;

use bowline_core::task::Tracker;
use bowline_registry::Config;
use bowline_rpc::ServingStatus;
use bowline_server::{Server, ServerOptions};
use common::nacos::RealNacos;
use common::real::Real;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every request with this, one per connection. Dropping it ends it, and with it the port.
struct Web {
    port: u16,
    tasks: Tracker,
}

impl Web {
    async fn answering(status: &'static str) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").await.unwrap(), status)
    }

    fn at(listener: TcpListener, status: &'static str) -> Self {
        let (port, tasks) = (listener.local_addr().unwrap().port(), Tracker::new());
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                // A connection alone is a probe too.
                if !matches!(stream.read(&mut request).await, Ok(read) if read > 0) {
                    continue;
                }
                let is_health = request.starts_with(b"GET /healthz ");
                let status = if is_health { status } else { "404 Not Found" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, tasks }
    }

    async fn stop(self) {
        self.tasks.abort();
        self.tasks.wait().await;
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

async fn register(real: &Real, id: &str, port: u16, check: Value) {
    let path = format!("/v1/registry/default/default/services/s/instances/{id}:register");
    let endpoints = [format!("http://127.0.0.1:{port}")];
    real.post(&path, json!({"instance": {"endpoints": endpoints, "check": check}})).await;
}

/// The instance as watchers are told of it; null while it is not there.
async fn told(real: &Real, id: &str) -> Value {
    let service = real.service("default", "s").await;
    let entries = service["entries"].as_array().cloned().unwrap_or_default();
    let entry = entries.into_iter().find(|entry| entry["instance"]["id"] == json!(id));
    entry.map(|mut entry| entry["instance"].take()).unwrap_or_default()
}

async fn eventually(real: &Real, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let told = told(real, id).await;
        if wanted(&told) {
            return told;
        }
        assert!(tokio::time::Instant::now() < end, "{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_well(instance: &Value) -> bool {
    !instance.is_null() && instance["unhealthy"].is_null() && instance["status"].is_null()
}

fn is_unwell(instance: &Value) -> bool {
    instance["unhealthy"] == json!(true) && instance["status"] == json!("INSTANCE_STATUS_STARTING")
}

fn every_second(probe: Value) -> Value {
    let mut check = json!({"interval": "1s", "timeout": "0.5s", "unhealthyAfter": 2});
    check.as_object_mut().unwrap().extend(probe.as_object().unwrap().clone());
    check
}

/// Leases so short that anything with one would be gone soon.
fn config() -> Config {
    serde_json::from_value(json!({"default_ttl": "1s", "min_ttl": "1s", "max_ttl": "2s"})).unwrap()
}

#[tokio::test]
async fn what_answers_is_well_what_does_not_is_starting_and_neither_is_ever_renewed() {
    let real = Real::start(config());
    let (well, sick) = (Web::answering("204 No Content").await, Web::answering("503 Sorry").await);
    register(&real, "well", well.port, every_second(json!({"http": {"path": "/healthz"}}))).await;
    register(&real, "sick", sick.port, every_second(json!({"http": {"path": "/healthz"}}))).await;
    register(&real, "lost", well.port, every_second(json!({"http": {"path": "/elsewhere"}}))).await;
    register(&real, "open", sick.port, every_second(json!({"tcp": {}}))).await;
    eventually(&real, "well", is_well).await;
    eventually(&real, "open", is_well).await;
    // Longer than any lease.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (id, expected) in [("well", true), ("open", true), ("sick", false), ("lost", false)] {
        let instance = told(&real, id).await;
        assert_eq!((is_well(&instance), is_unwell(&instance)), (expected, !expected), "{id}: {instance}");
    }
    // Registering the same again is no reason to doubt it.
    register(&real, "well", well.port, every_second(json!({"http": {"path": "/healthz"}}))).await;
    assert!(is_well(&told(&real, "well").await));

    let port = well.port;
    well.stop().await;
    eventually(&real, "well", is_unwell).await;
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let _well = Web::at(listener, "200 OK");
    eventually(&real, "well", is_well).await;
}

#[tokio::test]
async fn a_grpc_server_is_asked_by_the_health_protocol() {
    let real = Real::start(config());
    let mut server = Server::new("backend", ServerOptions::at("127.0.0.1:0").unwrap());
    let health = server.health().clone();
    let port = server.bind().unwrap().port();
    let tasks = Tracker::new();
    let serving = server.serve();
    tasks.spawn(async move { _ = serving.await });
    server.set_ready(true);
    health.set("shop.Cart", ServingStatus::NotServing);
    register(&real, "whole", port, every_second(json!({"grpc": {}}))).await;
    register(&real, "cart", port, every_second(json!({"grpc": {"service": "shop.Cart"}}))).await;
    eventually(&real, "whole", is_well).await;
    assert!(is_unwell(&told(&real, "cart").await));
    health.set("shop.Cart", ServingStatus::Serving);
    eventually(&real, "cart", is_well).await;
    server.set_ready(false);
    eventually(&real, "whole", is_unwell).await;
    server.abort();
    tasks.abort();
}

#[tokio::test]
async fn what_has_not_been_well_for_long_goes_if_it_says_so() {
    let real = Real::start(config());
    let port = Web::answering("200 OK").await.port;
    let mut check = every_second(json!({"tcp": {}}));
    check["removeAfter"] = json!("2s");
    register(&real, "gone", port, check.clone()).await;
    check.as_object_mut().unwrap().remove("removeAfter");
    register(&real, "kept", port, check).await;
    eventually(&real, "gone", Value::is_null).await;
    assert!(is_unwell(&told(&real, "kept").await));
    let body = real.service("default", "s").await;
    assert_eq!(body["entries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_check_that_makes_no_sense_is_refused_with_the_mend() {
    let real = Real::start(config());
    let path = "/v1/registry/default/default/services/s/instances/a:register";
    let body = json!({"instance": {"endpoints": ["http://127.0.0.1:1"], "check": {"interval": "5s"}}});
    let headers = [("content-type", "application/json")];
    let answer = real.call("POST", path, &headers, &body.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("use `http`, `tcp` or `grpc`"), "{}", answer.text());
    let mut limited = config();
    limited.limits.checks = 1;
    let real = Real::start(limited);
    register(&real, "a", 1, every_second(json!({"tcp": {}}))).await;
    let body = json!({"instance": {"endpoints": ["http://127.0.0.1:1"], "check": {"tcp": {}}}});
    let path = "/v1/registry/default/default/services/s/instances/b:register";
    let answer = real.call("POST", path, &headers, &body.to_string()).await;
    assert!(answer.text().contains("limits.checks"), "{}", answer.text());
}

#[tokio::test]
async fn nacos_persistent_instances_are_kept_and_checked() {
    let node = RealNacos::with(config(), |_| ()).await;
    let well = Web::answering("200 OK").await;
    let register =
        |port: u16| format!("/nacos/v1/ns/instance?serviceName=s&ip=127.0.0.1&port={port}&ephemeral=false");
    let closed = Web::answering("200 OK").await;
    let (open, gone) = (well.port, closed.port);
    closed.stop().await;
    for port in [open, gone] {
        let answer = node.real.call("POST", &register(port), &[], "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let hosts = async || {
        let list = node.real.call("GET", "/nacos/v1/ns/instance/list?serviceName=s", &[], "").await.json();
        let host = |host: &Value| (host["port"].as_u64().unwrap(), host["healthy"].as_bool().unwrap());
        assert!(list["hosts"].as_array().unwrap().iter().all(|host| host["ephemeral"] == json!(false)));
        list["hosts"].as_array().unwrap().iter().map(host).collect::<Vec<_>>()
    };
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !hosts().await.contains(&(u64::from(open), true)) {
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(hosts().await.contains(&(u64::from(gone), false)));
    let answer = node.real.call("DELETE", &register(gone), &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(hosts().await.len(), 1);
}
