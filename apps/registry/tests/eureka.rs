//! Eureka's REST, spoken as its clients speak it, in JSON and in XML.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::time::Duration;

use bowline_registry::Config;
use common::real::Real;
use serde_json::{Value, json};

const JSON: [(&str, &str); 2] = [("content-type", "application/json"), ("accept", "application/json")];
const XML: [(&str, &str); 1] = [("content-type", "application/xml")];
const ID: &str = "host-1:catalog:8080";

/// As Spring Cloud's client writes it.
fn instance(id: &str, dirty: u64) -> Value {
    json!({"instance": {
        "instanceId": id,
        "hostName": "host-1",
        "app": "CATALOG",
        "ipAddr": "10.0.0.1",
        "status": "UP",
        "overriddenstatus": "UNKNOWN",
        "port": {"$": 8080, "@enabled": "true"},
        "securePort": {"$": 443, "@enabled": "false"},
        "countryId": 1,
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
            "name": "MyOwn",
        },
        "leaseInfo": {
            "renewalIntervalInSecs": 10, "durationInSecs": 30, "registrationTimestamp": 0,
            "lastRenewalTimestamp": 0, "evictionTimestamp": 0, "serviceUpTimestamp": 0,
        },
        "metadata": {"management.port": "8081", "zone": "z1"},
        "homePageUrl": "http://host-1:8080/",
        "statusPageUrl": "http://host-1:8081/actuator/info",
        "healthCheckUrl": "http://host-1:8081/actuator/health",
        "vipAddress": "catalog",
        "secureVipAddress": "catalog-tls",
        "isCoordinatingDiscoveryServer": "false",
        "lastUpdatedTimestamp": "1700000000000",
        "lastDirtyTimestamp": dirty.to_string(),
    }})
}

async fn register(real: &Real, id: &str, dirty: u64) {
    let body = instance(id, dirty).to_string();
    let answer = real.call("POST", "/eureka/apps/CATALOG", &JSON, &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
}

async fn status(real: &Real, method: &str, path: &str) -> u16 {
    real.call(method, &format!("/eureka/{path}"), &JSON, "").await.status
}

async fn get(real: &Real, path: &str) -> Value {
    let answer = real.call("GET", &format!("/eureka/{path}"), &JSON, "").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/json"),
        "{}",
        answer.text()
    );
    answer.json()
}

async fn one(real: &Real) -> Value {
    get(real, &format!("apps/CATALOG/{ID}")).await["instance"].clone()
}

#[tokio::test]
async fn an_instance_registers_when_its_heartbeat_finds_nothing_lives_and_cancels() {
    let real = Real::start(Config::default());
    let own = format!("apps/CATALOG/{ID}");
    let heartbeat = format!("{own}?status=UP&lastDirtyTimestamp=1700000000000");
    assert_eq!(status(&real, "PUT", &heartbeat).await, 404);
    register(&real, ID, 1_700_000_000_000).await;
    assert_eq!(status(&real, "PUT", &heartbeat).await, 200);
    let told = one(&real).await;
    let sent = instance(ID, 1_700_000_000_000)["instance"].clone();
    for name in [
        "instanceId",
        "hostName",
        "app",
        "ipAddr",
        "status",
        "port",
        "securePort",
        "countryId",
        "dataCenterInfo",
        "metadata",
        "homePageUrl",
        "statusPageUrl",
        "healthCheckUrl",
        "vipAddress",
        "secureVipAddress",
        "isCoordinatingDiscoveryServer",
        "lastDirtyTimestamp",
    ] {
        assert_eq!(told[name], sent[name], "{name}");
    }
    assert_eq!((&told["overriddenStatus"], &told["actionType"]), (&json!("UNKNOWN"), &json!("ADDED")));
    let lease = &told["leaseInfo"];
    assert_eq!((&lease["durationInSecs"], &lease["renewalIntervalInSecs"]), (&json!(30), &json!(10)));
    let since_2020 = 1_577_836_800_000_u64;
    for name in ["registrationTimestamp", "lastRenewalTimestamp", "serviceUpTimestamp"] {
        assert!(lease[name].as_u64().unwrap() > since_2020, "{name}: {lease}");
    }
    assert_eq!(get(&real, &format!("instances/{ID}")).await["instance"]["hostName"], json!("host-1"));
    // A client that has changed since asks with a later time, and is told to register.
    assert_eq!(status(&real, "PUT", &format!("{own}?lastDirtyTimestamp=1700000000001")).await, 404);
    assert_eq!(status(&real, "DELETE", &own).await, 200);
    assert_eq!(status(&real, "DELETE", &own).await, 404);
    for path in [own.as_str(), "apps/CATALOG", "vips/catalog", &format!("instances/{ID}")] {
        assert_eq!(status(&real, "GET", path).await, 404, "{path}");
    }
}

#[tokio::test]
async fn applications_are_told_with_their_hash_code_and_found_by_their_addresses() {
    let real = Real::start(Config::default());
    let empty = get(&real, "apps/").await;
    assert_eq!(empty["applications"]["application"], json!([]), "Spring asks with a slash at the end");
    register(&real, ID, 1).await;
    register(&real, "host-1:catalog:8081", 1).await;
    let path = format!("apps/CATALOG/{ID}/status?value=OUT_OF_SERVICE");
    assert_eq!(status(&real, "PUT", &path).await, 200);
    for path in ["apps", "v2/apps/"] {
        let apps = get(&real, path).await["applications"].clone();
        assert_eq!(apps["apps__hashcode"], json!("OUT_OF_SERVICE_1_UP_1_"), "{path}");
        assert_eq!(apps["versions__delta"], json!("1"));
        assert_eq!(apps["application"][0]["name"], json!("CATALOG"));
        assert_eq!(apps["application"][0]["instance"].as_array().unwrap().len(), 2);
    }
    let app = get(&real, "apps/catalog").await["application"].clone();
    assert_eq!((&app["name"], app["instance"].as_array().unwrap().len()), (&json!("CATALOG"), 2));
    for (path, expected) in [("vips/catalog", 200), ("svips/catalog-tls", 200), ("vips/catalog-tls", 404)] {
        assert_eq!(status(&real, "GET", path).await, expected, "{path}");
    }
    let vip = get(&real, "vips/catalog").await;
    assert_eq!(vip["applications"]["apps__hashcode"], json!("OUT_OF_SERVICE_1_UP_1_"));
}

/// A client that only ever sees deltas after its first look.
#[derive(Default)]
struct Replica(std::collections::BTreeMap<String, String>);

impl Replica {
    fn apply(&mut self, delta: &Value) -> String {
        for app in delta["applications"]["application"].as_array().unwrap() {
            for instance in app["instance"].as_array().unwrap() {
                let id = instance["instanceId"].as_str().unwrap().to_owned();
                match instance["actionType"].as_str().unwrap() {
                    "DELETED" => _ = self.0.remove(&id),
                    "ADDED" | "MODIFIED" => {
                        _ = self.0.insert(id, instance["status"].as_str().unwrap().to_owned());
                    }
                    other => panic!("{other}"),
                }
            }
        }
        let mut counts = std::collections::BTreeMap::new();
        for status in self.0.values() {
            *counts.entry(status).or_insert(0) += 1;
        }
        counts.iter().map(|(status, count)| format!("{status}_{count}_")).collect()
    }
}

#[tokio::test]
async fn who_follows_deltas_has_what_the_hash_code_says() {
    let real = Real::start(Config::default());
    let mut replica = Replica::default();
    let ids: Vec<_> = (0..4).map(|n| format!("host-1:catalog:{n}")).collect();
    for id in &ids {
        register(&real, id, 1).await;
    }
    let check = async |replica: &mut Replica, expected: &str| {
        let delta = get(&real, "apps/delta").await;
        let own = replica.apply(&delta);
        assert_eq!((json!(own), own.as_str()), (delta["applications"]["apps__hashcode"].clone(), expected));
    };
    check(&mut replica, "UP_4_").await;
    assert_eq!(status(&real, "DELETE", &format!("apps/CATALOG/{}", ids[0])).await, 200);
    let out = format!("apps/CATALOG/{}/status?value=OUT_OF_SERVICE", ids[1]);
    assert_eq!(status(&real, "PUT", &out).await, 200);
    check(&mut replica, "OUT_OF_SERVICE_1_UP_2_").await;
    register(&real, &ids[0], 2).await;
    assert_eq!(status(&real, "DELETE", &out.replace("?value=OUT_OF_SERVICE", "")).await, 200);
    check(&mut replica, "UP_4_").await;
    for id in &ids {
        assert_eq!(status(&real, "DELETE", &format!("apps/CATALOG/{id}")).await, 200);
    }
    check(&mut replica, "").await;
}

#[tokio::test]
async fn a_status_override_outlives_registrations_until_it_is_deleted() {
    let real = Real::start(Config::default());
    let path = format!("apps/CATALOG/{ID}/status");
    assert_eq!(status(&real, "PUT", &format!("{path}?value=OUT_OF_SERVICE")).await, 404);
    register(&real, ID, 1).await;
    assert_eq!(status(&real, "PUT", &format!("{path}?value=OUT_OF_SERVICE")).await, 200);
    register(&real, ID, 2).await;
    let told = one(&real).await;
    assert_eq!(
        (&told["status"], &told["overriddenStatus"]),
        (&json!("OUT_OF_SERVICE"), &json!("OUT_OF_SERVICE"))
    );
    assert_eq!(status(&real, "DELETE", &format!("{path}?value=UP")).await, 200);
    let told = one(&real).await;
    assert_eq!((&told["status"], &told["overriddenStatus"]), (&json!("UP"), &json!("UNKNOWN")));
    let metadata = format!("apps/CATALOG/{ID}/metadata?color=red&zone=z2&weight=7");
    assert_eq!(status(&real, "PUT", &metadata).await, 200);
    let told = one(&real).await;
    assert_eq!((&told["metadata"]["zone"], &told["metadata"]["weight"]), (&json!("z2"), &json!("7")));
    assert_eq!(
        (&told["metadata"]["color"], &told["metadata"]["management.port"]),
        (&json!("red"), &json!("8081"))
    );
}

#[tokio::test]
async fn an_instance_that_is_not_ready_keeps_its_own_word_and_no_override_makes_it_ready() {
    let real = Real::start(Config::default());
    for word in ["STARTING", "DOWN"] {
        let body =
            instance(ID, 1).to_string().replace("\"status\":\"UP\"", &format!("\"status\":\"{word}\""));
        assert_eq!(real.call("POST", "/eureka/apps/CATALOG", &JSON, &body).await.status, 204);
        assert_eq!(status(&real, "PUT", &format!("apps/CATALOG/{ID}/status?value=UP")).await, 200);
        assert_eq!(one(&real).await["status"], json!(word));
        let own = real.service("default", "catalog").await;
        assert_eq!(own["entries"][0]["instance"]["status"], json!("INSTANCE_STATUS_STARTING"));
    }
}

#[tokio::test]
async fn xml_says_the_same_as_json() {
    let real = Real::start(Config::default());
    let body = r#"<?xml version="1.0" encoding="UTF-8"?>
        <instance>
          <instanceId>host-1:catalog:8080</instanceId><hostName>host-1</hostName><app>CATALOG</app>
          <ipAddr>10.0.0.1</ipAddr><status>UP</status><overriddenstatus>UNKNOWN</overriddenstatus>
          <port enabled="true">8080</port><securePort enabled="false">443</securePort><countryId>1</countryId>
          <dataCenterInfo class="com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo"><name>MyOwn</name></dataCenterInfo>
          <leaseInfo><renewalIntervalInSecs>10</renewalIntervalInSecs><durationInSecs>30</durationInSecs></leaseInfo>
          <metadata><management.port>8081</management.port><zone>z1</zone><motto>this &amp; that</motto></metadata>
          <vipAddress>catalog</vipAddress><lastDirtyTimestamp>1700000000000</lastDirtyTimestamp>
        </instance>"#;
    assert_eq!(real.call("POST", "/eureka/v2/apps/CATALOG", &XML, body).await.status, 204);
    let told = one(&real).await;
    assert_eq!(told["metadata"], json!({"management.port": "8081", "motto": "this & that", "zone": "z1"}));
    assert_eq!(told["port"], json!({"$": "8080", "@enabled": "true"}));
    assert_eq!(told["leaseInfo"]["durationInSecs"], json!(30));
    let answer = real.call("GET", "/eureka/apps", &[], "").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/xml"));
    let text = answer.text();
    for part in [
        "<applications>",
        "<apps__hashcode>UP_1_</apps__hashcode>",
        "<versions__delta>1</versions__delta>",
        "<application><name>CATALOG</name><instance>",
        "<port enabled=\"true\">8080</port>",
        "<dataCenterInfo class=\"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo\"><name>MyOwn</name>",
        "<motto>this &amp; that</motto>",
        "<durationInSecs>30</durationInSecs>",
        "<actionType>ADDED</actionType>",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // What was told can be registered.
    let own = real.call("GET", &format!("/eureka/apps/CATALOG/{ID}"), &[], "").await.text();
    assert_eq!(real.call("POST", "/eureka/apps/CATALOG", &XML, &own).await.status, 204, "{own}");
    assert_eq!(one(&real).await["metadata"], told["metadata"]);
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_runs_out_in_the_time_the_client_asked_for() {
    let real = Real::start(Config::default());
    let body = instance(ID, 1).to_string().replace("\"durationInSecs\":30", "\"durationInSecs\":1");
    assert_eq!(real.call("POST", "/eureka/apps/CATALOG", &JSON, &body).await.status, 204);
    let gone = async {
        while real.node.stats().instances > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    let delta = get(&real, "apps/delta").await;
    let told = &delta["applications"]["application"][0]["instance"][0];
    assert_eq!((&told["instanceId"], &told["actionType"]), (&json!(ID), &json!("DELETED")));
}

#[tokio::test]
async fn who_does_not_order_its_words_is_heard_also_after_one_from_the_future() {
    let real = Real::start(Config::default());
    let year_2100 = 4_102_444_800_000_u64;
    register(&real, ID, year_2100).await;
    let mut moved = instance(ID, 0);
    moved["instance"].as_object_mut().unwrap().remove("lastDirtyTimestamp");
    moved["instance"]["hostName"] = json!("host-2");
    let answer = real.call("POST", "/eureka/apps/CATALOG", &JSON, &moved.to_string()).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let seen = one(&real).await;
    assert_eq!(seen["hostName"], json!("host-2"), "{seen}");
    let seen = real.service("default", "catalog").await["entries"][0]["instance"].clone();
    assert_eq!(seen["endpoints"], json!(["http://host-2:8080"]));
}

#[tokio::test]
async fn a_malformed_request_is_refused_with_the_name_of_its_fault() {
    let real = Real::start(Config::default());
    let good = instance(ID, 1).to_string();
    for (body, fault) in [
        ("{".to_owned(), "no JSON"),
        ("{}".to_owned(), "no `instance`"),
        (good.replace("hostName", "x"), "`hostName` is missing"),
        (good.replace("ipAddr", "x"), "`ipAddr` is missing"),
        (good.replace("CATALOG", "OTHER"), "the path says `CATALOG`"),
        (good.replace("\"name\":\"MyOwn\"", "\"n\":1"), "`dataCenterInfo.name`"),
        (good.replace("\"$\":8080", "\"$\":80800"), "`port` is 80800"),
        (good.replace("\"$\":8080", "\"$\":\"x\""), "`port`"),
        (good.replace("\"durationInSecs\":30", "\"durationInSecs\":\"x\""), "`leaseInfo.durationInSecs`"),
        (good.replace("\"UP\"", "\"SIDEWAYS\""), "`SIDEWAYS`"),
        (good.replace("management.port", "bowline.eureka"), "is the registry's own"),
        (good.replace(ID, "a b"), "is no instance id"),
    ] {
        let answer = real.call("POST", "/eureka/apps/CATALOG", &JSON, &body).await;
        assert_eq!(answer.status, 400, "{fault}: {}", answer.text());
        assert!(answer.text().contains(fault), "{} lacks {fault}", answer.text());
    }
    let answer = real.call("POST", "/eureka/apps/CATALOG", &XML, "<instance><a></instance>").await;
    assert!(answer.status == 400 && answer.text().contains("malformed XML"), "{}", answer.text());
    let huge = "x".repeat(200_000);
    assert_eq!(real.call("POST", "/eureka/apps/CATALOG", &JSON, &huge).await.status, 413);
    assert_eq!(real.node.stats().instances, 0);
    register(&real, ID, 1).await;
    let path = format!("apps/CATALOG/{ID}");
    assert_eq!(status(&real, "PUT", &format!("{path}/status?value=SIDEWAYS")).await, 400);
    assert_eq!(status(&real, "PUT", &format!("{path}/status")).await, 400);
    assert_eq!(status(&real, "PUT", &format!("{path}?lastDirtyTimestamp=x")).await, 400);
    assert_eq!(status(&real, "POST", "apps").await, 404);
}
