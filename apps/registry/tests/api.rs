//! The API as others see it: over HTTP with long polls, and over gRPC stream by stream.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::collections::BTreeMap;

use bowline_core::{Code, Context, Operation};
use bowline_registry::Config;
use bowline_registry_bowline::api::bowline::registry::v1::registered::Outcome;
use bowline_registry_bowline::api::bowline::registry::v1::slot_leased::Outcome as Leased;
use bowline_registry_bowline::api::bowline::registry::v1::slot_released::Outcome as Released;
use bowline_registry_bowline::api::bowline::registry::v1::watch_response::Event;
use bowline_registry_bowline::api::bowline::registry::v1::{
    DeregisterRequest, Emptiness, Entry, Instance, KeepAliveRequest, LeaseSlotRequest, RegisterRequest,
    ReleaseSlotRequest, RemovalReason, Subscription, WatchRequest, WatchResponse,
};
use bowline_rpc::{Body, Streaming};
use common::*;
use serde_json::{Value, json};

const INSTANCES: &str = "/v1/registry/default/default/services/s/instances";
const SERVICE: &str = "/v1/registry/default/default/services/s";

async fn http(running: &Running, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::full(body.to_string()) };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://registry{path}"))
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let response = dispatch(&running.routes, Context::background(), request).await;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect(16 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn get(running: &Running, query: &str) -> Value {
    let (status, body) = http(running, "GET", &format!("{SERVICE}{query}"), Value::Null).await;
    assert_eq!(status, 200, "{body}");
    body
}

fn registering(id: &str, version: &str) -> RegisterRequest {
    let instance =
        Instance { id: id.into(), service: "s".into(), version: version.into(), ..Default::default() };
    RegisterRequest { instance: instance.into(), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn an_instance_lives_by_http_alone() {
    let running = Running::start(Config::default());
    let body = json!({"instance": {"endpoints": ["http://10.0.0.1:80"]}, "ttl": "5s"});
    let (status, granted) = http(&running, "POST", &format!("{INSTANCES}/a:register"), body).await;
    assert_eq!((status, &granted["ttl"]), (200, &json!("5s")), "{granted}");
    let list = get(&running, "").await;
    assert_eq!(list["entries"][0]["instance"]["endpoints"], json!(["http://10.0.0.1:80"]));
    let renew = format!("{INSTANCES}/a:renew");
    for _ in 0..3 {
        tokio::time::sleep(4 * SEC).await;
        let (status, body) = http(&running, "POST", &renew, json!({"leaseId": granted["leaseId"]})).await;
        assert_eq!(status, 200, "{body}");
    }
    let (_, services) = http(&running, "GET", "/v1/registry/default/default/services", Value::Null).await;
    assert_eq!(services["services"][0]["service"], json!("s"));
    assert_eq!(services["services"][0]["up"], json!(1));
    let deregister = format!("{INSTANCES}/a:deregister");
    let (status, body) = http(&running, "POST", &deregister, json!({})).await;
    assert_eq!((status, body), (200, json!({"removed": true})));
    let (status, body) = http(&running, "POST", &deregister, json!({})).await;
    assert_eq!((status, body), (200, json!({})));
    assert_eq!(get(&running, "").await["empty"], json!("EMPTINESS_CANCELLED"));
    let (status, body) = http(&running, "POST", &renew, json!({})).await;
    assert_eq!((status, &body["reason"]), (404, &json!("LEASE_NOT_FOUND")), "{body}");
}

#[tokio::test(start_paused = true)]
async fn an_operator_overrides_by_http_what_an_instance_registers() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (client, cx) = (link.raw(), Context::background());
    let set = format!("{INSTANCES}/a:setOverride");
    let changes = json!({"changes": {"status": "INSTANCE_STATUS_OUT_OF_SERVICE", "weight": 7}});
    let (status, body) = http(&running, "POST", &set, changes.clone()).await;
    assert_eq!((status, &body["reason"]), (404, &json!("INSTANCE_NOT_FOUND")), "{body}");
    client.register(&cx, registering("a", "1")).await.unwrap();
    let before = get(&running, "").await;
    let mut stream = watch(&link, 0, 0).await;
    let mut told = Told::default();
    told.until_revision(&mut stream, revision(&running).await).await;

    let (status, body) = http(&running, "POST", &set, changes).await;
    assert_eq!((status, &body["overridden"]["weight"]), (200, &json!(7)), "{body}");
    client.register(&cx, registering("a", "2")).await.unwrap();
    let list = get(&running, "").await;
    let entry = &list["entries"][0];
    assert_eq!(entry["instance"]["status"], json!("INSTANCE_STATUS_OUT_OF_SERVICE"));
    assert_eq!((&entry["instance"]["weight"], &entry["instance"]["version"]), (&json!(7), &json!("2")));
    assert_eq!(entry["overridden"]["status"], json!("INSTANCE_STATUS_OUT_OF_SERVICE"));
    assert!(entry["overridden"]["sequence"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    told.until_revision(&mut stream, revision(&running).await).await;
    assert_eq!(told.entries["a"].instance.weight, Some(7));

    let clear = format!("{INSTANCES}/a:clearOverride");
    let (status, body) = http(&running, "POST", &clear, json!({"status": true})).await;
    assert_eq!((status, body), (200, json!({"cleared": true})));
    let entry = get(&running, "").await["entries"][0].clone();
    assert_eq!((&entry["instance"]["status"], &entry["instance"]["weight"]), (&Value::Null, &json!(7)));
    http(&running, "POST", &clear, json!({})).await;
    let (_, body) = http(&running, "POST", &clear, json!({})).await;
    assert_eq!(body, json!({}), "there was nothing left");
    client.register(&cx, registering("a", "1")).await.unwrap();
    assert_eq!(get(&running, "").await["digest"], before["digest"]);
    let (status, body) = http(&running, "POST", &set, json!({"changes": {}})).await;
    assert_eq!((status, &body["reason"]), (400, &json!("INVALID_REQUEST")), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_parks_until_there_is_a_change_or_the_wait_is_over() {
    let running = Running::start(Config::default());
    let client = Link::to(&running).raw();
    let cx = Context::background();
    client.register(&cx, registering("a", "1")).await.unwrap();
    let first = get(&running, "").await;
    let revision = first["revision"].as_str().unwrap();
    let epoch = first["epoch"].clone();

    let started = tokio::time::Instant::now();
    let unchanged = get(&running, &format!("?revision={revision}&wait=20s")).await;
    assert_eq!((&unchanged["unchanged"], &unchanged["revision"]), (&json!(true), &json!(revision)));
    assert!(unchanged["entries"].is_null());
    assert!((20 * SEC..21 * SEC).contains(&started.elapsed()));

    let started = tokio::time::Instant::now();
    let query = format!("?revision={revision}&wait=29s");
    let change = async {
        tokio::time::sleep(5 * SEC).await;
        // Neither is news: the same content, and another service.
        client.register(&cx, registering("a", "1")).await.unwrap();
        let mut other = registering("a", "1");
        other.instance.get_or_insert_default().service = "t".into();
        client.register(&cx, other).await.unwrap();
        tokio::time::sleep(5 * SEC).await;
        client.register(&cx, registering("b", "1")).await.unwrap();
    };
    let (changed, ()) = tokio::join!(get(&running, &query), change);
    assert_eq!(changed["entries"].as_array().unwrap().len(), 2);
    assert!((10 * SEC..11 * SEC).contains(&started.elapsed()));

    let started = tokio::time::Instant::now();
    let behind = get(&running, &query).await;
    assert_eq!((&behind["revision"], &behind["epoch"]), (&changed["revision"], &epoch));
    assert!(started.elapsed() < SEC, "whoever is behind does not wait");
    let (status, body) = http(&running, "GET", &format!("{SERVICE}?revision=1&wait=61s"), Value::Null).await;
    assert_eq!((status, &body["reason"]), (400, &json!("INVALID_REQUEST")), "{body}");
    assert_eq!(running.node.stats().watchers, 0);
}

#[tokio::test(start_paused = true)]
async fn revisions_of_a_restarted_node_are_others() {
    let revision = async |running: &Running| {
        Link::to(running).raw().register(&Context::background(), registering("a", "1")).await.unwrap();
        get(running, "").await["revision"].as_str().unwrap().parse::<u64>().unwrap()
    };
    let (one, two) = (Running::start(Config::default()), Running::start(Config::default()));
    let (one, two) = (revision(&one).await, revision(&two).await);
    assert_ne!(one, two);
    assert!(one.max(two) < 1 << 53, "exact in readers that have floating point numbers only");
}

#[tokio::test(start_paused = true)]
async fn leases_run_out_also_after_all_there_were_had_been_kept_beyond_their_time() {
    let running = Running::start(Config::default());
    let client = Link::to(&running).raw();
    let cx = Context::background();
    let mut lease_ids = Vec::new();
    for id in ["a", "b", "c", "d"] {
        lease_ids.push(client.register(&cx, registering(id, "1")).await.unwrap().lease_id);
    }
    // All are late together, and so kept: nothing is left that could run out.
    eventually(|| running.node.stats().protected == 1).await;
    let (requests, stream) = Streaming::channel(1);
    let mut answers = client.keep_alive(&cx, stream).await.unwrap();
    requests.send(KeepAliveRequest { lease_ids, ..Default::default() }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().renewed.len(), 4);
    eventually(|| running.node.stats().protected == 0).await;
    for id in ["a", "b", "c"] {
        let gone = DeregisterRequest { service: "s".into(), instance_id: id.into(), ..Default::default() };
        assert!(client.deregister(&cx, gone).await.unwrap().removed);
    }
    eventually(|| running.node.stats().instances == 0).await;
}

#[tokio::test(start_paused = true)]
async fn keep_alive_answers_every_request_and_names_what_it_does_not_know() {
    let running = Running::start(Config::default());
    let client = Link::to(&running).raw();
    let cx = Context::background();
    let granted = client.register(&cx, registering("a", "1")).await.unwrap();
    let (requests, stream) = Streaming::channel(1);
    let mut answers = client.keep_alive(&cx, stream).await.unwrap();
    for _ in 0..3 {
        let lease_ids = vec![granted.lease_id, 42];
        requests.send(KeepAliveRequest { lease_ids, ..Default::default() }).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((&answer.renewed, &answer.unknown), (&vec![granted.lease_id], &vec![42]));
        assert_eq!(answer.epoch, granted.epoch);
        tokio::time::sleep(20 * SEC).await;
    }
    running.node.close();
    let error = answers.message().await.unwrap_err();
    assert!(error.is_temporary() && error.message().contains("going down"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_registers_many_at_a_time_and_tells_of_each_what_became_of_it() {
    let running = Running::start(Config::default());
    let client = Link::to(&running).raw();
    let cx = Context::background();
    let known = client.register(&cx, registering("a", "1")).await.unwrap();
    let (requests, stream) = Streaming::channel(1);
    let mut answers = client.keep_alive(&cx, stream).await.unwrap();
    let registrations = vec![registering("a", "2"), registering("not an id", "1"), registering("b", "1")];
    let lease_ids = vec![known.lease_id];
    requests.send(KeepAliveRequest { lease_ids, registrations, ..Default::default() }).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.renewed, [known.lease_id]);
    let outcomes: Vec<_> = answer.registered.into_iter().map(|r| r.outcome.unwrap()).collect();
    let [Outcome::Granted(a), Outcome::Refused(not), Outcome::Granted(b)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((a.lease_id, a.epoch, b.epoch), (known.lease_id, known.epoch, known.epoch));
    assert_eq!((not.code, not.reason.as_str()), (Code::InvalidArgument.number(), "INVALID_NAME"));
    assert!(not.message.contains("not an id"), "{not:?}");
    let entries = get(&running, "").await["entries"].as_array().unwrap().clone();
    let told = |n: usize| (entries[n]["instance"]["id"].clone(), entries[n]["instance"]["version"].clone());
    assert_eq!((told(0), told(1)), ((json!("a"), json!("2")), (json!("b"), json!("1"))));
    // What it registers it renews.
    let lease_ids = vec![b.lease_id];
    requests.send(KeepAliveRequest { lease_ids, ..Default::default() }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().renewed, [b.lease_id]);
    let registrations = (0..1001).map(|n| registering(&n.to_string(), "1")).collect();
    requests.send(KeepAliveRequest { registrations, ..Default::default() }).await.unwrap();
    let error = answers.message().await.unwrap_err();
    assert!(error.reason() == "INVALID_REQUEST" && error.message().contains("up to 1000"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_leases_slots_and_lets_them_go_and_tells_of_each_what_became_of_it() {
    let running = Running::start(Config::default());
    let client = Link::to(&running).raw();
    let (requests, stream) = Streaming::channel(1);
    let mut answers = client.keep_alive(&Context::background(), stream).await.unwrap();
    let mut say = async |request| {
        requests.send(request).await.unwrap();
        answers.message().await.map(Option::unwrap)
    };
    let slot =
        |holder: &str| LeaseSlotRequest { group: "g".into(), holder: holder.into(), ..Default::default() };
    let slots = vec![slot("a"), slot(""), slot("b")];
    let answer = say(KeepAliveRequest { slots, ..Default::default() }).await.unwrap();
    let outcomes: Vec<_> = answer.slots.into_iter().map(|slot| slot.outcome.unwrap()).collect();
    let [Leased::Granted(a), Leased::Refused(not), Leased::Granted(b)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((a.slot, b.slot, a.epoch), (0, 1, answer.epoch));
    assert_eq!((not.code, not.reason.as_str()), (Code::InvalidArgument.number(), "INVALID_REQUEST"));

    // Let go first, then leased; and renewed as all leases are.
    let release = |holder: &str| ReleaseSlotRequest {
        group: "g".into(),
        slot: 0,
        holder: holder.into(),
        ..Default::default()
    };
    let answer = say(KeepAliveRequest {
        lease_ids: vec![a.lease_id, b.lease_id],
        slots: vec![slot("c")],
        releases: vec![release("b"), release("a"), release("")],
        ..Default::default()
    });
    let answer = answer.await.unwrap();
    assert_eq!(answer.renewed, [a.lease_id, b.lease_id]);
    let [one] = &answer.slots[..] else { panic!("{answer:?}") };
    assert!(matches!(&one.outcome, Some(Leased::Granted(c)) if c.slot == 0), "{one:?}");
    let released: Vec<_> = answer.released.into_iter().map(|slot| slot.outcome.unwrap()).collect();
    let [Released::Released(of_another), Released::Released(own), Released::Refused(_)] = &released[..]
    else {
        panic!("{released:?}")
    };
    assert!(!of_another.released && own.released);
    let slots = vec![slot("d"); 101];
    let error = say(KeepAliveRequest { slots, ..Default::default() }).await.unwrap_err();
    assert!(error.reason() == "INVALID_REQUEST" && error.message().contains("up to 100"), "{error}");
}

/// What a watcher of one service knows that believes all it is told.
#[derive(Default)]
struct Told {
    entries: BTreeMap<String, Entry>,
    events: Vec<&'static str>,
    last: WatchResponse,
}

impl Told {
    async fn until_revision(&mut self, stream: &mut Streaming<WatchResponse>, revision: u64) {
        while self.last.revision < revision || self.events.last() == Some(&"snapshot") {
            let message = stream.message().await.unwrap().unwrap();
            self.take(message);
        }
    }

    fn take(&mut self, message: WatchResponse) {
        match message.event.clone() {
            None => return self.events.push("heartbeat"),
            Some(Event::Synced(_)) => self.events.push("synced"),
            Some(Event::Snapshot(part)) => {
                self.events.push("snapshot");
                if part.first {
                    self.entries.clear();
                }
                self.upsert(part.entries);
            }
            Some(Event::Delta(delta)) => {
                self.events.push("delta");
                assert_eq!(delta.from_revision, self.last.revision);
                self.upsert(delta.upserted);
                for removal in delta.removed {
                    assert_ne!(removal.reason, RemovalReason::REMOVAL_REASON_UNSPECIFIED);
                    self.entries.remove(&removal.id);
                }
            }
        }
        if self.events.last() != Some(&"snapshot") {
            let sum = self.entries.values().fold(0_u64, |sum, e| sum.wrapping_add(e.hash));
            assert_eq!(sum, message.digest);
            assert_eq!(message.empty == Emptiness::EMPTINESS_UNSPECIFIED, !self.entries.is_empty());
        }
        self.last = message;
    }

    fn upsert(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.entries.insert(entry.instance.as_option().unwrap().id.clone(), entry);
        }
    }
}

async fn watch(link: &Link, epoch: u64, revision: u64) -> Streaming<WatchResponse> {
    let subscription = Subscription { service: "s".into(), epoch, revision, ..Default::default() };
    let request = WatchRequest { services: vec![subscription], ..Default::default() };
    link.raw().watch(&Context::background(), request).await.unwrap()
}

async fn revision(running: &Running) -> u64 {
    get(running, "").await["revision"].as_str().unwrap_or("0").parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watcher_gets_a_snapshot_then_synced_then_deltas_and_resumes_where_it_was() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (client, cx) = (link.raw(), Context::background());
    client.register(&cx, registering("a", "1")).await.unwrap();
    let mut stream = watch(&link, 0, 0).await;
    let mut told = Told::default();
    told.until_revision(&mut stream, revision(&running).await).await;
    assert_eq!(told.events, ["snapshot", "synced"]);
    client.register(&cx, registering("b", "1")).await.unwrap();
    told.until_revision(&mut stream, revision(&running).await).await;
    assert_eq!(told.events, ["snapshot", "synced", "delta"]);
    drop(stream);

    let mut stream = watch(&link, told.last.epoch, told.last.revision).await;
    told.events.clear();
    told.take(stream.message().await.unwrap().unwrap());
    assert_eq!(told.events, ["synced"]);
    drop(stream);
    client.register(&cx, registering("c", "1")).await.unwrap();
    let mut stream = watch(&link, told.last.epoch, told.last.revision).await;
    told.take(stream.message().await.unwrap().unwrap());
    told.take(stream.message().await.unwrap().unwrap());
    assert_eq!(told.events, ["synced", "delta", "synced"]);
    assert_eq!(told.entries.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_at_once_and_those_that_follow_closely_go_out_together() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (client, cx) = (link.raw(), Context::background());
    client.register(&cx, registering("a", "1")).await.unwrap();
    let mut stream = watch(&link, 0, 0).await;
    let mut told = Told::default();
    told.until_revision(&mut stream, revision(&running).await).await;
    tokio::time::sleep(SEC).await;
    told.events.clear();
    let (wrote, last) = (tokio::time::Instant::now(), revision(&running).await + 21);
    let writing = async {
        for n in 0..21 {
            client.register(&cx, registering("b", &n.to_string())).await.unwrap();
            tokio::time::sleep(SEC / 500).await;
        }
    };
    let reading = async {
        told.take(stream.message().await.unwrap().unwrap());
        let first = wrote.elapsed();
        told.until_revision(&mut stream, last).await;
        (first, wrote.elapsed())
    };
    let ((), (first, all)) = tokio::join!(writing, reading);
    assert!(first < SEC / 100, "{first:?}");
    assert!(all >= SEC / 20 && all < SEC / 10, "{all:?}");
    assert_eq!(told.events, ["delta", "delta"]);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_lags_gets_one_delta_or_the_list_and_never_a_queue() {
    let mut config = Config::default();
    config.limits.changes_kept = 10;
    let running = Running::start(config);
    let link = Link::to(&running);
    let (client, cx) = (link.raw(), Context::background());
    client.register(&cx, registering("a", "0")).await.unwrap();
    let mut stream = watch(&link, 0, 0).await;
    let mut told = Told::default();
    told.until_revision(&mut stream, revision(&running).await).await;
    for (changes, expected) in [(10, vec!["delta"]), (1_000, vec!["snapshot", "synced"])] {
        told.events.clear();
        for n in 0..changes {
            client.register(&cx, registering(&format!("b{}", n % 7), &n.to_string())).await.unwrap();
        }
        let now = revision(&running).await;
        told.until_revision(&mut stream, now).await;
        assert_eq!(told.events, expected);
        assert_eq!(told.entries.len(), 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_list_comes_in_parts_that_fit_into_messages() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let (client, cx) = (link.raw(), Context::background());
    for n in 0..250 {
        let version = "x".repeat(20_000);
        client.register(&cx, registering(&format!("i{n}"), &version)).await.unwrap();
    }
    let mut stream = watch(&link, 0, 0).await;
    let mut told = Told::default();
    told.until_revision(&mut stream, revision(&running).await).await;
    assert!(told.events.iter().filter(|e| **e == "snapshot").count() >= 4, "{:?}", told.events);
    assert_eq!((told.entries.len(), told.events.last()), (250, Some(&"synced")));
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_gives_signs_of_life_and_ends_when_the_node_closes() {
    let running = Running::start(Config::default());
    let link = Link::to(&running);
    let mut stream = watch(&link, 0, 0).await;
    let mut told = Told::default();
    for _ in 0..2 {
        told.take(stream.message().await.unwrap().unwrap());
    }
    let started = tokio::time::Instant::now();
    told.take(stream.message().await.unwrap().unwrap());
    assert_eq!(told.events, ["snapshot", "synced", "heartbeat"]);
    assert_eq!(told.last.empty, Emptiness::EMPTINESS_UNKNOWN);
    assert!((10 * SEC..11 * SEC).contains(&started.elapsed()));
    running.node.close();
    assert!(stream.message().await.unwrap_err().is_temporary());
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_nothing_of_too_much_or_of_one_thing_twice_is_refused() {
    let mut config = Config::default();
    (config.limits.services_per_watch, config.limits.watchers) = (2, 1);
    let running = Running::start(config);
    let link = Link::to(&running);
    let refusal = async |services: &[&str]| {
        let subscription = |s: &&str| Subscription { service: (*s).into(), ..Default::default() };
        let services = services.iter().map(subscription).collect();
        let request = WatchRequest { services, ..Default::default() };
        let cx = Context::background();
        let mut stream = match link.raw().watch(&cx, request).await {
            Ok(stream) => stream,
            Err(error) => return Err(error),
        };
        stream.message().await.map(|_| stream)
    };
    for (services, why) in [
        (&[][..], "name at least one"),
        (&["a", "b", "c"], "at most 2"),
        (&["a", "a"], "named twice"),
        (&["a b"], "is no service"),
    ] {
        let error = refusal(services).await.err().unwrap();
        assert!(error.is_invalid() && error.message().contains(why), "{error:?}");
    }
    let _held = refusal(&["a"]).await.unwrap();
    let error = refusal(&["b"]).await.err().unwrap();
    assert_eq!(error.code(), bowline_core::Code::ResourceExhausted);
    assert!(error.message().contains("`limits.watchers`"), "{error}");
}

#[test]
fn every_method_is_known_by_its_operation() {
    let running = bowline_registry::Node::new(Config::default()).unwrap();
    let names: Vec<_> = running.service_def().methods().map(|m| m.operation()).collect();
    let methods: Vec<_> = names.iter().map(Operation::method).collect();
    let expected = [
        "Register",
        "KeepAlive",
        "Renew",
        "Deregister",
        "SetOverride",
        "ClearOverride",
        "Watch",
        "GetService",
        "LeaseSlot",
        "ReleaseSlot",
        "ListSlots",
        "GetNode",
        "EndProtection",
        "ListServices",
    ];
    assert_eq!(methods, expected);
}
