//! Nacos' HTTP as its clients speak it, over a real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use bowline_registry::Config;
use bowline_tests_support::Answer;
use common::real::Real;
use serde_json::{Value, json};

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];
const INSTANCE: &str = "/nacos/v1/ns/instance";

async fn call(real: &Real, method: &str, path: &str) -> Answer {
    real.call(method, path, &[], "").await
}

/// Something that is done.
async fn ok(real: &Real, method: &str, query: &str) {
    let answer = call(real, method, &format!("{INSTANCE}?{query}")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{method} {query}");
}

async fn get(real: &Real, path: &str) -> Value {
    let answer = call(real, "GET", path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

async fn ports(real: &Real, query: &str) -> Vec<u64> {
    let list = get(real, &format!("{INSTANCE}/list?{query}")).await;
    list["hosts"].as_array().unwrap().iter().map(|host| host["port"].as_u64().unwrap()).collect()
}

async fn beat(real: &Real, query: &str) -> Value {
    call(real, "PUT", &format!("{INSTANCE}/beat?{query}")).await.json()
}

#[tokio::test]
async fn an_instance_registers_is_told_and_deregisters() {
    let real = Real::start(Config::default());
    let form = "serviceName=catalog&ip=10.0.0.1&port=8080&weight=2.5&metadata=%7B%22version%22%3A%22v1%22%7D";
    let answer = real.call("POST", INSTANCE, &FORM, form).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "the form counts as the query does");
    let list = get(&real, &format!("{INSTANCE}/list?serviceName=catalog")).await;
    let host = json!({
        "instanceId": "10.0.0.1#8080#DEFAULT#DEFAULT_GROUP@@catalog", "ip": "10.0.0.1", "port": 8080, "weight": 2.5,
        "healthy": true, "enabled": true, "ephemeral": true, "clusterName": "DEFAULT",
        "serviceName": "DEFAULT_GROUP@@catalog", "metadata": {"version": "v1"},
    });
    assert_eq!(list["hosts"], json!([host]));
    assert_eq!(
        (&list["name"], &list["groupName"]),
        (&json!("DEFAULT_GROUP@@catalog"), &json!("DEFAULT_GROUP"))
    );
    assert!(list["lastRefTime"].as_u64().unwrap() > 1_577_836_800_000 && list["cacheMillis"] == json!(3000));
    let detail = get(&real, &format!("{INSTANCE}?serviceName=catalog&ip=10.0.0.1&port=8080")).await;
    assert_eq!((&detail["weight"], &detail["healthy"]), (&json!(2.5), &json!(true)));
    let seen = real.service("default", "catalog").await["entries"][0]["instance"].clone();
    assert_eq!((&seen["weight"], &seen["version"]), (&json!(250), &json!("v1")));
    let services = get(&real, "/nacos/v1/ns/service/list?pageNo=1&pageSize=10").await;
    assert_eq!(services, json!({"count": 1, "doms": ["catalog"]}));
    ok(&real, "DELETE", "serviceName=catalog&ip=10.0.0.1&port=8080").await;
    ok(&real, "DELETE", "serviceName=catalog&ip=10.0.0.1&port=8080").await;
    assert!(ports(&real, "serviceName=catalog").await.is_empty());
    let gone = call(&real, "GET", &format!("{INSTANCE}?serviceName=catalog&ip=10.0.0.1&port=8080")).await;
    assert_eq!(gone.status, 404, "{}", gone.text());
}

#[tokio::test]
async fn the_last_word_of_an_instance_counts_also_after_one_of_a_node_whose_clock_is_ahead() {
    let real = Real::start(Config::default());
    // As such a node hands it on: of the same holder, and ordered by its time.
    let year_2100 = "4102444800000000000";
    let path = "/v1/registry/default/default/services/s/instances/10.0.0.1:80:register";
    let instance = json!({"endpoints": ["http://10.0.0.1:80"], "weight": 100});
    real.post(path, json!({"instance": instance, "holder": "nacos", "sequence": year_2100})).await;
    ok(&real, "POST", "serviceName=s&ip=10.0.0.1&port=80&weight=3&metadata=%7B%22secure%22%3A%22true%22%7D")
        .await;
    let seen = real.service("default", "s").await["entries"][0]["instance"].clone();
    assert_eq!((&seen["weight"], &seen["endpoints"]), (&json!(300), &json!(["https://10.0.0.1:80"])));
    let list = get(&real, &format!("{INSTANCE}/list?serviceName=s")).await;
    assert_eq!(list["hosts"][0]["weight"], json!(3.0), "{list}");
}

#[tokio::test]
async fn heartbeats_renew_and_one_that_finds_nothing_makes_the_client_register() {
    let real = Real::start(Config::default());
    let who = "serviceName=DEFAULT_GROUP@@s&ip=10.0.0.1&port=80";
    assert_eq!(beat(&real, who).await["code"], json!(20404));
    ok(&real, "POST", who).await;
    let taken = json!({"code": 10200, "clientBeatInterval": 5000, "lightBeatEnabled": true});
    assert_eq!(beat(&real, who).await, taken);
    // A whole heartbeat registers where there is nothing.
    let whole = json!({"ip": "10.0.0.2", "port": 81, "weight": 3.0, "cluster": "EAST", "scheduled": true,
        "serviceName": "DEFAULT_GROUP@@s", "metadata": {"preserved.heart.beat.interval": "1000"}});
    let whole: String = form_urlencoded::byte_serialize(whole.to_string().as_bytes()).collect();
    let answer = beat(&real, &format!("serviceName=DEFAULT_GROUP@@s&beat={whole}")).await;
    assert_eq!((&answer["code"], &answer["clientBeatInterval"]), (&json!(10200), &json!(1000)));
    assert_eq!(ports(&real, "serviceName=s&clusters=EAST").await, [81]);
}

#[tokio::test]
async fn an_instance_without_heartbeats_is_gone_after_the_time_it_named() {
    let real = Real::start(Config::default());
    ok(&real, "POST", "serviceName=s&ip=10.0.0.1&port=80&metadata=preserved.heart.beat.timeout=1000").await;
    assert_eq!(ports(&real, "serviceName=s").await, [80]);
    bowline_tests_support::eventually(|| real.node.stats().instances == 0).await;
    assert_eq!(beat(&real, "serviceName=s&ip=10.0.0.1&port=80").await["code"], json!(20404));
}

#[tokio::test]
async fn namespaces_groups_and_clusters_are_kept_apart() {
    let real = Real::start(Config::default());
    for (port, query) in [
        (1, "serviceName=s"),
        (2, "serviceName=s&groupName=G1"),
        (3, "serviceName=s&namespaceId=dev"),
        (4, "serviceName=s&clusterName=EAST"),
        (5, "serviceName=providers:com.x.Demo:1.0.0:"),
    ] {
        ok(&real, "POST", &format!("{query}&ip=10.0.0.1&port={port}")).await;
    }
    assert_eq!(ports(&real, "serviceName=s").await, [1, 4]);
    assert_eq!(ports(&real, "serviceName=DEFAULT_GROUP@@s&namespaceId=public").await, [1, 4]);
    assert_eq!(ports(&real, "serviceName=G1@@s").await, [2]);
    assert_eq!(ports(&real, "serviceName=s&namespaceId=dev").await, [3]);
    assert_eq!(ports(&real, "serviceName=s&clusters=DEFAULT").await, [1]);
    assert_eq!(ports(&real, "serviceName=providers:com.x.Demo:1.0.0:").await, [5]);
    let services = get(&real, "/nacos/v1/ns/service/list?pageNo=1&pageSize=10&groupName=G1").await;
    assert_eq!(services["doms"], json!(["s"]));
    let services = get(&real, "/nacos/v1/ns/service/list?pageNo=2&pageSize=1").await;
    assert_eq!(services, json!({"count": 2, "doms": ["s"]}), "the group's alone, page by page");
    let service = get(&real, "/nacos/v1/ns/service?serviceName=s").await;
    assert_eq!(service["clusters"], json!([{"name": "DEFAULT"}, {"name": "EAST"}]));
}

#[tokio::test]
async fn what_an_operator_sets_holds_over_the_next_registration() {
    let real = Real::start(Config::default());
    let who = "serviceName=s&ip=10.0.0.1&port=80";
    ok(&real, "POST", who).await;
    ok(&real, "PUT", &format!("{who}&weight=5&metadata=color=red")).await;
    ok(&real, "POST", who).await;
    let list = get(&real, &format!("{INSTANCE}/list?serviceName=s")).await;
    assert_eq!(
        (&list["hosts"][0]["weight"], &list["hosts"][0]["metadata"]["color"]),
        (&json!(5.0), &json!("red"))
    );
    ok(&real, "PUT", &format!("{who}&enabled=false")).await;
    assert!(ports(&real, "serviceName=s").await.is_empty(), "a disabled one is told to nobody");
    assert_eq!(get(&real, &format!("{INSTANCE}?{who}")).await["enabled"], json!(false));
    ok(&real, "PUT", &format!("{who}&enabled=true")).await;
    assert_eq!(ports(&real, "serviceName=s").await, [80]);
    let nobody = call(&real, "PUT", &format!("{INSTANCE}?serviceName=s&ip=10.0.0.9&port=80&weight=1")).await;
    assert_eq!(nobody.status, 404, "{}", nobody.text());
}

#[tokio::test]
async fn nacos_3_is_answered_in_its_envelope() {
    let real = Real::start(Config::default());
    let path = "/nacos/v3/client/ns/instance";
    let who = "serviceName=s&groupName=G&ip=10.0.0.1&port=80";
    let done = json!({"code": 0, "message": "success", "data": "ok"});
    let lost = call(&real, "POST", &format!("{path}?{who}&heartBeat=true")).await;
    assert_eq!((lost.status, lost.json()["code"].clone()), (200, json!(21003)));
    assert_eq!(call(&real, "POST", &format!("{path}?{who}")).await.json(), done);
    assert_eq!(call(&real, "POST", &format!("{path}?{who}&heartBeat=true")).await.json(), done);
    let list = get(&real, &format!("{path}/list?serviceName=s&groupName=G")).await;
    assert_eq!((&list["code"], &list["data"][0]["port"]), (&json!(0), &json!(80)), "{list}");
    assert_eq!(call(&real, "DELETE", &format!("{path}?{who}")).await.json(), done);
    let missing = call(&real, "POST", &format!("{path}?serviceName=s&ip=10.0.0.1")).await;
    assert_eq!((missing.status, missing.json()["code"].clone()), (400, json!(10000)), "{}", missing.text());
    let wrong = call(&real, "POST", &format!("{path}?{who}&weight=x")).await;
    assert_eq!((wrong.status, wrong.json()["code"].clone()), (400, json!(20002)), "{}", wrong.text());
}

#[tokio::test]
async fn malformed_requests_are_refused_with_the_parameter() {
    let real = Real::start(Config::default());
    let who = "serviceName=s&ip=10.0.0.1&port=80";
    for (method, query, what) in [
        ("POST", "ip=a&port=1".to_owned(), "`serviceName` is missing"),
        ("POST", "serviceName=s&port=1".into(), "`ip` is missing"),
        ("POST", "serviceName=s&ip=a".into(), "`port` is missing"),
        ("POST", "serviceName=s&ip=a&port=99999".into(), "`port`"),
        ("POST", format!("{who}&weight=10001"), "weight"),
        ("POST", format!("{who}&enabled=perhaps"), "`enabled`"),
        ("POST", format!("{who}&metadata=nothing"), "`metadata`"),
        ("POST", format!("{who}&metadata=bowline.nacos=x"), "`bowline.nacos`"),
        ("POST", format!("{who}&namespaceId=a/b"), "namespace"),
        ("DELETE", "serviceName=s".into(), "`port` is missing"),
    ] {
        let answer = call(&real, method, &format!("{INSTANCE}?{query}")).await;
        assert_eq!((answer.status, answer.text().contains(what)), (400, true), "{query}: {}", answer.text());
    }
    let malformed = call(&real, "PUT", &format!("{INSTANCE}/beat?serviceName=s&beat=x")).await;
    assert_eq!((malformed.status, malformed.text().contains("`beat`")), (400, true), "{}", malformed.text());
    assert_eq!(real.node.stats().instances, 0);
}

#[tokio::test]
async fn who_logs_in_gets_a_token_and_who_asks_hears_that_the_node_is_well() {
    let real = Real::start(Config::default());
    for path in ["v1/auth/login", "v1/auth/users/login", "v3/auth/user/login"] {
        let answer =
            real.call("POST", &format!("/nacos/{path}?username=u"), &FORM, "password=p").await.json();
        assert!(!answer["accessToken"].as_str().unwrap().is_empty(), "{path}: {answer}");
        assert!(answer["tokenTtl"].as_u64().unwrap() > 0, "{path}: {answer}");
    }
    assert_eq!(get(&real, "/nacos/v1/ns/operator/metrics").await["status"], json!("UP"));
    assert_eq!(get(&real, "/nacos/v3/admin/core/state/liveness").await["code"], json!(0));
    real.node.close();
    assert_eq!(get(&real, "/nacos/v1/ns/operator/metrics").await["status"], json!("DOWN"));
    assert_eq!(call(&real, "GET", "/nacos/v3/admin/core/state/liveness").await.status, 503);
}
