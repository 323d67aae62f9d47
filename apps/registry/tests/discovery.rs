//! bilibili discovery's HTTP, spoken as its clients speak it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::time::Duration;

use bowline_registry::Config;
use bowline_tests_support::PATIENCE;
use common::members::{Member, peers};
use common::real::Real;
use serde_json::{Value, json};

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];
const NAMED: &str = "region=sh&zone=sh1&env=test&appid=provider&hostname=host-1";
const WHOLE: &str = "region=sh&zone=sh1&env=test&appid=provider&hostname=host-1&status=1&version=111\
    &addrs=http%3A%2F%2F172.1.1.1%3A8000&addrs=grpc%3A%2F%2F172.1.1.1%3A9999&addrs=gorpc%3A%2F%2F172.1.1.1%3A9\
    &metadata=%7B%22weight%22%3A10%2C%22color%22%3A%22red%22%7D";

async fn post(real: &Real, method: &str, form: &str) -> Value {
    let answer = real.call("POST", &format!("/discovery/{method}"), &FORM, form).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json; charset=utf-8"));
    answer.json()
}

async fn get(real: &Real, method: &str, query: &str) -> Value {
    let answer = real.call("GET", &format!("/discovery/{method}?{query}"), &[], "").await;
    assert_eq!(answer.status, 200);
    answer.json()
}

async fn fetch(real: &Real, service: &str, status: u32) -> Value {
    get(real, "fetch", &format!("env=test&appid={service}&status={status}")).await
}

#[tokio::test]
async fn an_instance_registers_renews_is_fetched_and_cancelled() {
    let real = Real::start(Config::default());
    // What makes a client register.
    assert_eq!(post(&real, "renew", NAMED).await["code"], json!(-404));
    assert_eq!(fetch(&real, "provider", 1).await["code"], json!(-404));
    assert_eq!(post(&real, "register", WHOLE).await["code"], json!(0));
    let renewed = post(&real, "renew", NAMED).await;
    assert_eq!((&renewed["code"], &renewed["data"]["hostname"]), (&json!(0), &json!("host-1")));

    let fetched = fetch(&real, "provider", 1).await;
    assert_eq!(fetched["code"], json!(0), "{fetched}");
    let instance = &fetched["data"]["instances"]["sh1"][0];
    let addrs = ["http://172.1.1.1:8000", "grpc://172.1.1.1:9999", "gorpc://172.1.1.1:9"];
    assert_eq!(instance["addrs"], json!(addrs));
    assert_eq!(instance["metadata"], json!({"weight": "10", "color": "red"}));
    assert_eq!((&instance["region"], &instance["version"]), (&json!("sh"), &json!("111")));
    assert_eq!((&instance["status"], &instance["appid"]), (&json!(1), &json!("provider")));
    let since_2020 = 1_577_836_800_000_000_000_u64;
    for name in ["reg_timestamp", "up_timestamp", "renew_timestamp", "dirty_timestamp", "latest_timestamp"] {
        assert!(instance[name].as_u64().unwrap() > since_2020, "{name}: {instance}");
    }
    assert!(instance["renew_timestamp"].as_u64() > instance["reg_timestamp"].as_u64());
    assert!(fetched["data"]["latest_timestamp"].as_u64().unwrap() > since_2020);

    let both = get(&real, "fetchs", "env=test&appid=provider&appid=nobody&status=3").await;
    assert_eq!(both["data"].as_object().unwrap().len(), 1, "{both}");
    assert_eq!(both["data"]["provider"], fetched["data"]);
    let elsewhere = get(&real, "fetch", "env=test&appid=provider&status=1&zone=sh2").await;
    assert_eq!(elsewhere["code"], json!(-404), "{elsewhere}");
    let cancelled = post(&real, "cancel", &NAMED.replace("sh1", "sh2")).await;
    assert_eq!(cancelled["code"], json!(-404), "it is not in that zone");
    assert_eq!(post(&real, "cancel", NAMED).await["code"], json!(0));
    assert_eq!(post(&real, "cancel", NAMED).await["code"], json!(-404));
    assert_eq!(fetch(&real, "provider", 3).await["code"], json!(-404));
}

#[tokio::test]
async fn parameters_may_come_in_the_query_of_a_post() {
    let real = Real::start(Config::default());
    let path = |method: &str, query: &str| format!("/discovery/{method}?{query}");
    let answer = real.call("POST", &path("register", WHOLE), &[], "").await;
    assert_eq!(answer.json()["code"], json!(0));
    let answer = real.call("POST", &path("renew", NAMED), &[], "").await;
    assert_eq!(answer.json()["code"], json!(0));
}

#[tokio::test]
async fn a_poll_parks_until_something_changes_and_a_client_that_is_behind_is_answered_at_once() {
    let real = Real::start(Config::default());
    post(&real, "register", WHOLE).await;
    let polls = |known: u64| format!("env=test&hostname=consumer&appid=provider&latest_timestamp={known}");
    let first = get(&real, "polls", &polls(0)).await;
    let known = first["data"]["provider"]["latest_timestamp"].as_u64().unwrap();
    let parked = async { get(&real, "polls", &polls(known)).await };
    let change = async {
        bowline_tests_support::eventually(|| real.node.stats().watchers == 1).await;
        // Neither is news.
        post(&real, "renew", NAMED).await;
        post(&real, "register", WHOLE).await;
        post(&real, "register", &WHOLE.replace("host-1", "host-2")).await;
    };
    let (changed, ()) = tokio::join!(parked, change);
    assert_eq!(changed["code"], json!(0), "{changed}");
    let provider = &changed["data"]["provider"];
    assert_eq!(provider["instances"]["sh1"].as_array().unwrap().len(), 2);
    assert!(provider["latest_timestamp"].as_u64().unwrap() > known);
    let behind = get(&real, "poll", &polls(known)).await;
    assert_eq!(behind["data"], *provider);
    // As a client does that comes from another node, whose times are others.
    let ahead = get(&real, "poll", &polls(known + 1_000_000_000_000_000)).await;
    assert_eq!(ahead["data"], *provider);
    bowline_tests_support::eventually(|| real.node.stats().watchers == 0).await;
}

#[tokio::test]
async fn a_poll_without_news_ends_with_not_modified() {
    let real = Real::with_timeout(Config::default(), Duration::from_secs(2));
    post(&real, "register", WHOLE).await;
    let first = get(&real, "poll", "env=test&hostname=consumer&appid=provider").await;
    let known = first["data"]["latest_timestamp"].as_u64().unwrap();
    let query = format!("env=test&hostname=consumer&appid=provider&latest_timestamp={known}");
    for method in ["poll", "polls"] {
        assert_eq!(get(&real, method, &query).await["code"], json!(-304));
    }
    let nobody = "env=test&hostname=consumer&appid=nobody";
    assert_eq!(get(&real, "poll", nobody).await["code"], json!(-404));
    assert_eq!(get(&real, "polls", nobody).await["code"], json!(-304), "somebody may come");
}

#[tokio::test]
async fn polls_tell_of_who_is_there_and_name_who_is_not() {
    let real = Real::start(Config::default());
    post(&real, "register", WHOLE).await;
    let answer = get(&real, "polls", "env=test&hostname=h&appid=provider&appid=nobody").await;
    assert_eq!(answer["error"], json!({"-404": ["nobody"]}), "{answer}");
    assert_eq!(answer["data"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn clients_find_the_node_by_the_name_under_which_they_reached_it() {
    let real = Real::start(Config::default());
    let at = real.at.authority();
    // The first thing a client does; it waits until there is an answer.
    let answer = get(&real, "polls", "env=test&hostname=h&appid=infra.discovery&latest_timestamp=0").await;
    let data = &answer["data"]["infra.discovery"];
    assert_eq!(data["instances"][""][0]["addrs"], json!([format!("http://{at}")]), "{answer}");
    assert!(data["latest_timestamp"].as_u64().unwrap() > 0);
    let nodes = get(&real, "nodes", "").await;
    assert_eq!(nodes["data"], json!([{"addr": at, "status": 0, "zone": ""}]));
}

/// The addresses of the registry's nodes, by zone, and the time at which they became these.
fn nodes_of(data: &Value) -> (Vec<(String, Vec<String>)>, u64) {
    let of_zone = |(zone, instances): (&String, &Value)| {
        let addrs = instances.as_array().unwrap().iter().map(|i| i["addrs"][0].as_str().unwrap().to_owned());
        (zone.clone(), addrs.collect::<Vec<_>>())
    };
    let zones = data["instances"].as_object().unwrap().iter().map(of_zone).collect();
    (zones, data["latest_timestamp"].as_u64().unwrap())
}

#[tokio::test]
async fn clients_are_told_of_all_nodes_of_a_cluster_by_zone_and_hear_of_another_one() {
    let at: Vec<_> = (0..3).map(|_| peers()).collect();
    let near = Member::start("registry-0", "sh1", at[0], &at).await;
    let far = Member::start("registry-1", "sh2", at[1], &at).await;
    near.node().serves().await;
    let url = |member: &Member| format!("http://{}", member.real.at.authority());
    let polls = async |member: &Member, known: u64| {
        let query = format!("env=test&hostname=h&appid=infra.discovery&latest_timestamp={known}");
        let answer = get(&member.real, "polls", &query).await;
        assert_eq!(answer["code"], json!(0), "{answer}");
        nodes_of(&answer["data"]["infra.discovery"])
    };
    // As a client does: it asks again with what it knows, and is answered when there is something else.
    let until = async |member: &Member, wanted: &[(&str, Vec<String>)]| {
        let mut known = 0;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let (zones, time) = polls(member, known).await;
                assert!(time > known, "{time}");
                known = time;
                if zones.iter().map(|(zone, addrs)| (zone.as_str(), addrs.clone())).eq(wanted.iter().cloned())
                {
                    return;
                }
            }
        });
        waited.await.expect("all nodes are told of");
        known
    };
    let both = [("sh1", vec![url(&near)]), ("sh2", vec![url(&far)])];
    let known = until(&near, &both).await;
    far.node().serves().await;
    until(&far, &both).await;
    // One more, of which a poll hears that is parked.
    let (parked, third) = tokio::join!(polls(&near, known), Member::start("registry-2", "sh1", at[2], &at));
    assert!(parked.1 > known, "{parked:?}");
    assert_eq!(parked.0[0].1, [url(&near), url(&third)], "{parked:?}");

    let of_zone = get(&near.real, "fetch", "env=any&appid=infra.discovery&status=1&zone=sh2").await;
    assert_eq!(nodes_of(&of_zone["data"]).0, [("sh2".to_owned(), vec![url(&far)])]);
    let nowhere = get(&near.real, "fetch", "env=any&appid=infra.discovery&status=1&zone=sh3").await;
    assert_eq!(nowhere["code"], json!(-404));
    let told = |member: &Member| json!({"addr": member.real.at.authority(), "status": 0, "zone": "sh1"});
    assert_eq!(get(&near.real, "nodes", "").await["data"], json!([told(&near), told(&third)]));
    // Who is gone is told of no more.
    drop(third);
    until(&near, &both).await;
}

#[tokio::test]
async fn what_an_operator_sets_outlives_the_next_registration() {
    let real = Real::start(Config::default());
    post(&real, "register", WHOLE).await;
    let set = "region=sh&zone=sh1&env=test&appid=provider&hostname=host-1";
    let metadata = "&metadata=%7B%22weight%22%3A%223%22%7D";
    assert_eq!(post(&real, "set", &format!("{set}&status=2{metadata}")).await["code"], json!(0));
    post(&real, "register", WHOLE).await;
    let instance = fetch(&real, "provider", 3).await["data"]["instances"]["sh1"][0].clone();
    assert_eq!((&instance["status"], &instance["metadata"]["weight"]), (&json!(2), &json!("3")));
    assert_eq!(fetch(&real, "provider", 1).await["data"]["instances"]["sh1"], json!([]));
    let own = real.service("test", "provider").await;
    assert_eq!(own["entries"][0]["instance"]["weight"], json!(3));
    assert_eq!(post(&real, "set", &format!("{set}&status=1")).await["code"], json!(0));
    let instance = fetch(&real, "provider", 1).await["data"]["instances"]["sh1"][0].clone();
    assert_eq!((&instance["status"], &instance["metadata"]["color"]), (&json!(1), &json!("red")));
    // All or none.
    let two = format!("{set}&hostname=nobody&status=2&status=2");
    assert_eq!(post(&real, "set", &two).await["code"], json!(-400));
    let one_status = format!("{set}&hostname=nobody&status=2");
    assert_eq!(post(&real, "set", &one_status).await["code"], json!(-400));
    let instance = fetch(&real, "provider", 1).await["data"]["instances"]["sh1"][0].clone();
    assert_eq!(instance["status"], json!(1));
}

#[tokio::test]
async fn of_two_states_the_one_with_the_later_dirty_timestamp_counts() {
    let real = Real::start(Config::default());
    let at = |time: u64, version: &str| format!("{WHOLE}&dirty_timestamp={time}").replace("111", version);
    post(&real, "register", &at(2_000, "new")).await;
    post(&real, "register", &at(1_000, "old")).await;
    let instance = fetch(&real, "provider", 1).await["data"]["instances"]["sh1"][0].clone();
    assert_eq!((&instance["version"], &instance["dirty_timestamp"]), (&json!("new"), &json!(2_000)));
    for (time, code) in [(2_000, 0), (1_000, -409), (3_000, -404)] {
        let form = format!("{NAMED}&replication=true&dirty_timestamp={time}");
        assert_eq!(post(&real, "renew", &form).await["code"], json!(code), "{time}");
    }
}

#[tokio::test]
async fn who_does_not_order_its_words_is_heard_also_after_one_from_the_future() {
    let real = Real::start(Config::default());
    let year_2100 = 4_102_444_800_000_000_000_u64;
    post(&real, "register", &format!("{WHOLE}&dirty_timestamp={year_2100}")).await;
    let moved = WHOLE.replace("172.1.1.1", "172.1.1.2");
    assert_eq!(post(&real, "register", &moved).await["code"], json!(0));
    let instance = fetch(&real, "provider", 1).await["data"]["instances"]["sh1"][0].clone();
    assert_eq!(instance["addrs"][0], json!("http://172.1.1.2:8000"));
    assert_eq!(instance["dirty_timestamp"], json!(year_2100 + 1));
}

#[tokio::test]
async fn a_malformed_request_is_refused_with_the_name_of_its_fault() {
    let real = Real::start(Config::default());
    for (form, fault) in [
        (WHOLE.replace("zone=sh1", "zone="), "`zone` is missing"),
        (WHOLE.replace("hostname=host-1", ""), "`hostname` is missing"),
        (WHOLE.replace("status=1", "status=7"), "use 1 (takes traffic) or 2"),
        (WHOLE.replace("status=1", "status=up"), "`up`"),
        (WHOLE.replace("addrs=", "x="), "`addrs` is missing"),
        (WHOLE.replace("http%3A%2F%2F", ""), "has no scheme"),
        (WHOLE.replace("%3A8000", "%3Aport"), "is malformed"),
        (WHOLE.replace("metadata=%7B", "metadata=%5B"), "is no JSON object"),
        (WHOLE.replace("weight%22%3A10", "weight%22%3A%5B%5D"), "`weight` is no text"),
        (WHOLE.replace("color", "bowline.discovery"), "is the registry's own"),
        (WHOLE.replace("appid=provider", "appid=a+b"), "is no service"),
        (format!("{WHOLE}&dirty_timestamp=x"), "`dirty_timestamp`"),
    ] {
        let answer = post(&real, "register", &form).await;
        assert_eq!(answer["code"], json!(-400), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(fault), "{answer} lacks {fault}");
    }
    assert_eq!(real.node.stats().instances, 0);
    let huge = format!("{WHOLE}&version={}", "x".repeat(200_000));
    let answer = post(&real, "register", &huge).await;
    assert_eq!(answer["code"], json!(-400), "{answer}");
    let answer = get(&real, "polls", "env=test&hostname=h&appid=a&appid=b&latest_timestamp=1").await;
    assert!(answer["message"].as_str().unwrap().contains("give one for each"), "{answer}");
    let answer = get(&real, "register", WHOLE).await;
    assert!(answer["message"].as_str().unwrap().contains("use POST"), "{answer}");
    assert_eq!(real.call("GET", "/discovery/nothing", &[], "").await.status, 404);
}

#[tokio::test]
async fn a_parked_poll_ends_when_the_node_closes() {
    let real = Real::start(Config::default());
    let parked = async { get(&real, "polls", "env=test&hostname=h&appid=nobody").await };
    let close = async {
        bowline_tests_support::eventually(|| real.node.stats().watchers == 1).await;
        real.node.close();
    };
    let (answer, ()) = tokio::join!(parked, close);
    assert_eq!(answer["code"], json!(-503), "{answer}");
}
