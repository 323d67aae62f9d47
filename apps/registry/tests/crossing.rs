//! What is registered in one protocol is seen in all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use bowline_registry::Config;
use common::real::Real;
use serde_json::{Value, json};

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];
const JSON: [(&str, &str); 2] = [("content-type", "application/json"), ("accept", "application/json")];

fn start() -> Real {
    let mut config = Config::default();
    config.eureka_env = "prod".into();
    config.nacos_env = "prod".into();
    Real::start(config)
}

async fn by_discovery(real: &Real, service: &str) -> Value {
    let path = format!("/discovery/fetch?env=prod&appid={service}&status=3");
    real.call("GET", &path, &[], "").await.json()["data"]["instances"].clone()
}

async fn by_eureka(real: &Real, app: &str) -> Value {
    real.call("GET", &format!("/eureka/apps/{app}"), &JSON, "").await.json()["application"]["instance"][0]
        .clone()
}

async fn by_bowline(real: &Real, service: &str) -> Value {
    real.service("prod", service).await["entries"][0]["instance"].clone()
}

async fn by_nacos(real: &Real, service: &str) -> Value {
    let path = format!("/nacos/v1/ns/instance/list?serviceName={service}");
    real.call("GET", &path, &[], "").await.json()["hosts"].clone()
}

async fn set(real: &Real, service: &str, id: &str, changes: Value) {
    let path = format!("/v1/registry/default/prod/services/{service}/instances/{id}:setOverride");
    real.post(&path, json!({"changes": changes})).await;
}

#[tokio::test]
async fn what_bowline_registers_is_seen_by_discovery_and_eureka() {
    let real = start();
    let path = "/v1/registry/default/prod/services/shop.catalog/instances/c-1:register";
    let instance = json!({
        "endpoints": ["http://10.0.0.1:9000", "https://10.0.0.1:9443"], "zone": "z1", "weight": 50,
        "metadata": {"color": "red"},
    });
    real.post(path, json!({"instance": instance, "ttl": "30s"})).await;
    let seen = by_discovery(&real, "shop.catalog").await["z1"][0].clone();
    let addrs =
        ["http://10.0.0.1:9000", "grpc://10.0.0.1:9000", "https://10.0.0.1:9443", "grpcs://10.0.0.1:9443"];
    assert_eq!((&seen["hostname"], &seen["addrs"]), (&json!("c-1"), &json!(addrs)));
    assert_eq!(seen["metadata"], json!({"color": "red", "weight": "50"}));
    let seen = by_eureka(&real, "SHOP.CATALOG").await;
    assert_eq!((&seen["instanceId"], &seen["hostName"]), (&json!("c-1"), &json!("10.0.0.1")));
    assert_eq!(seen["port"], json!({"$": 9000, "@enabled": "true"}));
    assert_eq!(seen["securePort"], json!({"$": 9443, "@enabled": "true"}));
    assert_eq!((&seen["vipAddress"], &seen["metadata"]["zone"]), (&json!("shop.catalog"), &json!("z1")));

    set(&real, "shop.catalog", "c-1", json!({"status": "INSTANCE_STATUS_OUT_OF_SERVICE"})).await;
    assert_eq!(by_discovery(&real, "shop.catalog").await["z1"][0]["status"], json!(2));
    assert_eq!(by_eureka(&real, "SHOP.CATALOG").await["status"], json!("OUT_OF_SERVICE"));
}

#[tokio::test]
async fn what_discovery_registers_is_seen_by_bowline_and_eureka() {
    let real = start();
    let form = "zone=z1&env=prod&appid=provider&hostname=h1&status=1&addrs=http%3A%2F%2F10.0.0.2%3A8000\
        &addrs=grpc%3A%2F%2F10.0.0.2%3A9000%3FisSecure%3Dfalse&metadata=%7B%22weight%22%3A%2220%22%7D";
    let answer = real.call("POST", "/discovery/register", &FORM, form).await.json();
    assert_eq!(answer["code"], json!(0), "{answer}");
    let seen = by_bowline(&real, "provider").await;
    assert_eq!(seen["endpoints"], json!(["http://10.0.0.2:8000", "http://10.0.0.2:9000"]));
    assert_eq!((&seen["zone"], &seen["weight"]), (&json!("z1"), &json!(20)));
    let seen = by_eureka(&real, "PROVIDER").await;
    assert_eq!(seen["port"], json!({"$": 8000, "@enabled": "true"}));
    assert!(seen["metadata"].as_object().unwrap().keys().all(|key| !key.starts_with("bowline.")), "{seen}");
    // Heartbeats and overrides of one protocol hold in the others.
    assert_eq!(real.call("PUT", "/eureka/apps/PROVIDER/h1", &JSON, "").await.status, 200);
    let path = "/eureka/apps/PROVIDER/h1/status?value=OUT_OF_SERVICE";
    assert_eq!(real.call("PUT", path, &JSON, "").await.status, 200);
    assert_eq!(by_discovery(&real, "provider").await["z1"][0]["status"], json!(2));
    assert_eq!(by_bowline(&real, "provider").await["status"], json!("INSTANCE_STATUS_OUT_OF_SERVICE"));
    assert_eq!(real.call("DELETE", "/eureka/apps/PROVIDER/h1", &JSON, "").await.status, 200);
    assert_eq!(by_discovery(&real, "provider").await, Value::Null);
}

#[tokio::test]
async fn what_eureka_registers_is_seen_by_bowline_and_discovery() {
    let real = start();
    let poll = "/discovery/polls?env=prod&hostname=h&appid=orders";
    let polled = async { real.call("GET", poll, &[], "").await.json() };
    let register = async {
        bowline_tests_support::eventually(|| real.node.stats().watchers == 1).await;
        let body = json!({"instance": {
            "instanceId": "h3:orders:80", "hostName": "h3.internal", "app": "ORDERS", "ipAddr": "10.0.0.3",
            "port": {"$": 80, "@enabled": true}, "securePort": {"$": 443, "@enabled": "true"},
            "dataCenterInfo": {"name": "MyOwn"}, "metadata": {"zone": "z9"},
        }});
        let answer = real.call("POST", "/eureka/apps/ORDERS", &JSON, &body.to_string()).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    };
    let (polled, ()) = tokio::join!(polled, register);
    let seen = &polled["data"]["orders"]["instances"]["z9"][0];
    assert_eq!(seen["addrs"], json!(["http://h3.internal:80", "https://h3.internal:443"]), "{polled}");
    let seen = by_bowline(&real, "orders").await;
    assert_eq!(seen["endpoints"], json!(["http://h3.internal:80", "https://h3.internal:443"]));
    assert_eq!((&seen["id"], &seen["zone"]), (&json!("h3:orders:80"), &json!("z9")));
    let form = "zone=z9&env=prod&appid=orders&hostname=h3:orders:80&status=2";
    assert_eq!(real.call("POST", "/discovery/set", &FORM, form).await.json()["code"], json!(0));
    let seen = by_eureka(&real, "ORDERS").await;
    assert_eq!(
        (&seen["status"], &seen["overriddenStatus"]),
        (&json!("OUT_OF_SERVICE"), &json!("OUT_OF_SERVICE"))
    );
}

#[tokio::test]
async fn every_request_is_measured_by_the_name_of_its_operation() {
    let real = start();
    let form = "zone=z1&env=prod&appid=provider&hostname=h1&status=1&addrs=http%3A%2F%2F10.0.0.2%3A8000";
    real.call("POST", "/discovery/register", &FORM, form).await;
    real.call("POST", "/discovery/renew", &FORM, "zone=z1&env=prod&appid=provider&hostname=h2").await;
    for id in ["h1", "h2", "h3"] {
        real.call("PUT", &format!("/eureka/apps/PROVIDER/{id}"), &JSON, "").await;
    }
    let told = real.metrics.encode().unwrap();
    for (service, method, code, count) in [
        ("discovery", "register", "OK", 1),
        ("discovery", "renew", "NOT_FOUND", 1),
        ("eureka", "heartbeat", "OK", 1),
        ("eureka", "heartbeat", "NOT_FOUND", 2),
    ] {
        let line = format!(
            "bowline_server_calls_total{{service=\"{service}\",method=\"{method}\",code=\"{code}\"}} {count}\n"
        );
        assert!(told.contains(&line), "{line} is not in {told}");
    }
}

#[tokio::test]
async fn what_nacos_registers_is_seen_by_all_and_what_others_register_by_nacos() {
    let real = start();
    let form = "serviceName=orders&ip=10.0.0.4&port=8443&weight=0.5&clusterName=EAST\
        &metadata=%7B%22zone%22%3A%22z1%22%2C%22secure%22%3A%22true%22%7D";
    assert_eq!(real.call("POST", "/nacos/v1/ns/instance", &FORM, form).await.text(), "ok");
    let seen = by_bowline(&real, "orders").await;
    assert_eq!((&seen["id"], &seen["cluster"]), (&json!("10.0.0.4:8443@EAST"), &json!("EAST")));
    assert_eq!((&seen["endpoints"], &seen["weight"]), (&json!(["https://10.0.0.4:8443"]), &json!(50)));
    let seen = by_discovery(&real, "orders").await["z1"][0].clone();
    assert_eq!(
        seen["addrs"],
        json!(["https://10.0.0.4:8443"]),
        "of Nacos' it is not known whether they take gRPC"
    );
    assert!(seen["metadata"].as_object().unwrap().keys().all(|key| !key.starts_with("bowline.")), "{seen}");
    let seen = by_eureka(&real, "ORDERS").await;
    assert_eq!(seen["securePort"], json!({"$": 8443, "@enabled": "true"}));
    set(&real, "orders", "10.0.0.4:8443@EAST", json!({"weight": 300})).await;
    assert_eq!(by_nacos(&real, "orders").await[0]["weight"], json!(3.0));
    assert_eq!(real.call("PUT", "/eureka/apps/ORDERS/10.0.0.4:8443@EAST", &JSON, "").await.status, 200);

    let path = "/v1/registry/default/prod/services/shop.catalog/instances/c-1:register";
    let endpoints = ["unix:/run/x", "https://[::1]:9443", "http://10.0.0.1:9000"];
    let instance = json!({"endpoints": endpoints, "zone": "z1", "version": "v2", "weight": 150});
    real.post(path, json!({"instance": instance, "ttl": "30s"})).await;
    let expected = json!([{
        "instanceId": "10.0.0.1#9000#DEFAULT#DEFAULT_GROUP@@shop.catalog", "ip": "10.0.0.1", "port": 9000, "weight": 1.5,
        "healthy": true, "enabled": true, "ephemeral": true, "clusterName": "DEFAULT",
        "serviceName": "DEFAULT_GROUP@@shop.catalog", "metadata": {"zone": "z1", "version": "v2"},
    }]);
    assert_eq!(by_nacos(&real, "shop.catalog").await, expected);
    // It is found by its address, whatever its id.
    let at = "/nacos/v1/ns/instance?serviceName=shop.catalog&ip=10.0.0.1&port=9000";
    let beat = at.replace("instance?", "instance/beat?");
    assert_eq!(real.call("PUT", &beat, &[], "").await.json()["code"], json!(10200));
    assert_eq!(real.call("PUT", &format!("{at}&enabled=false"), &[], "").await.text(), "ok");
    assert_eq!(by_bowline(&real, "shop.catalog").await["status"], json!("INSTANCE_STATUS_OUT_OF_SERVICE"));
    assert_eq!(by_nacos(&real, "shop.catalog").await, json!([]));
    assert_eq!(real.call("DELETE", at, &[], "").await.text(), "ok");
    assert_eq!(by_discovery(&real, "shop.catalog").await, Value::Null);
}
