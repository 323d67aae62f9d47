//! Several real processes that are one registry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use bowline_client::Channel;
use bowline_core::{Context, Endpoint, Instance};
use bowline_discovery::{Discovery, Registrar};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_tests_support::{Http, PATIENCE};
use common::nodes::Nodes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn what_one_node_is_told_all_know_and_any_of_them_takes_back() {
    let nodes = Nodes::start(&["a", "a", "b", "b"]).await;
    nodes.register(1, "catalog", "c-1", "h1").await;
    nodes.register(3, "catalog", "c-2", "h2").await;
    nodes.have(&[0, 1, 2, 3], "catalog", &["c-1", "c-2"]).await;
    // By name, and with the holder's word, on a node that has not its lease.
    nodes.post(2, "catalog/instances/c-1", "renew", json!({})).await;
    nodes.post(2, "catalog/instances/c-1", "deregister", json!({"holder": "h1"})).await;
    nodes.have(&[0, 1, 2, 3], "catalog", &["c-2"]).await;
    nodes.post(0, "catalog/instances/c-2", "setOverride", json!({"changes": {"weight": 7}})).await;
    for n in 0..4 {
        nodes.until(n, "catalog", |list| list.iter().all(|(_, weight)| *weight == json!(7))).await;
    }
}

#[tokio::test]
async fn of_two_nodes_of_one_name_the_younger_gives_way_and_says_why() {
    let mut nodes = Nodes::prepare(None, &["a", "a", "a"]);
    nodes.run(0);
    nodes.ready(0).await;
    nodes.run(1);
    nodes.ready(1).await;
    nodes.register(0, "orders", "o-1", "h1").await;
    nodes.have(&[1], "orders", &["o-1"]).await;
    nodes.hosts[2].name = nodes.hosts[0].name.clone();
    nodes.run(2);
    let mut younger = nodes.hosts[2].process.take().unwrap();
    assert!(!younger.ended().await.success());
    let (log, elder) = (younger.log(), format!("127.0.0.1:{}", nodes.hosts[0].peers));
    assert!(log.contains(&elder) && log.contains("`cluster.node` of its own"), "{log}");
    nodes.have(&[0, 1], "orders", &["o-1"]).await;
    // An earlier life of its own is no rival.
    nodes.kill(1).await;
    nodes.hosts[1].peers = bowline_tests_support::free_port();
    nodes.run(1);
    nodes.ready(1).await;
    nodes.have(&[0, 1], "orders", &["o-1"]).await;
}

#[tokio::test]
async fn a_node_that_dies_takes_nothing_with_it_and_learns_everything_when_it_is_back() {
    let mut nodes = Nodes::start(&["a", "a", "b"]).await;
    nodes.register(0, "orders", "o-1", "h1").await;
    nodes.register(2, "orders", "o-2", "h2").await;
    nodes.post(0, "orders/instances/o-1", "setOverride", json!({"changes": {"weight": 7}})).await;
    nodes.have(&[0, 1, 2], "orders", &["o-1", "o-2"]).await;
    nodes.kill(0).await;
    // Its instances stay, and are claimed by their next word to another node.
    nodes.have(&[1, 2], "orders", &["o-1", "o-2"]).await;
    nodes.register(1, "orders", "o-1", "h1").await;
    nodes.run(0);
    nodes.ready(0).await;
    let list = nodes.list(0, "orders").await;
    assert_eq!(
        list,
        [("o-1".to_owned(), json!(7)), ("o-2".to_owned(), Value::Null)],
        "known once it is ready"
    );
    // Now the others, one after the other: what an operator set outlives them all.
    for n in [1, 2] {
        nodes.kill(n).await;
        nodes.run(n);
        nodes.ready(n).await;
        nodes.until(n, "orders", |list| list.first().is_some_and(|(_, weight)| *weight == json!(7))).await;
    }
}

#[tokio::test]
async fn a_node_alone_serves_after_a_while() {
    let mut nodes = Nodes::start(&["a"]).await;
    nodes.register(0, "alone", "a-1", "h1").await;
    nodes.have(&[0], "alone", &["a-1"]).await;
    let log = nodes.hosts[0].process.as_ref().unwrap().log();
    assert!(log.contains("serves what it knows itself"), "{log}");
    nodes.kill(0).await;
}

/// The adapter as services use it, with the nodes in the order in which it is to ask them.
fn adapter(nodes: &Nodes, order: &[usize]) -> BowlineRegistry {
    let caller = |n: &usize| {
        Channel::builder(format!("http://127.0.0.1:{}", nodes.hosts[*n].port))
            .build()
            .unwrap()
            .caller()
            .unwrap()
    };
    let mut options = Options::default();
    options.env = "prod".into();
    options.ttl = Some(Duration::from_secs(6));
    options.attempt_timeout = Duration::from_secs(2);
    options.watch_idle = Duration::from_secs(20);
    BowlineRegistry::new(order.iter().map(caller), options).unwrap()
}

#[tokio::test]
async fn who_loses_its_node_goes_on_with_another_and_nobody_sees_it() {
    let mut nodes = Nodes::start(&["a", "a", "b"]).await;
    let (provider, consumer) = (adapter(&nodes, &[0, 1]), adapter(&nodes, &[2]));
    let instance = Instance::new("payments", "p-1").with_endpoint(Endpoint::http("127.0.0.1", 9000));
    let registered = provider.register(&Context::background(), instance).await.unwrap();
    let watcher = consumer.watch("payments");
    let wait = |wanted: usize| {
        let mut watcher = watcher.clone();
        async move {
            let waited = tokio::time::timeout(PATIENCE, async {
                while watcher.current().instances.len() != wanted {
                    watcher.changed().await;
                }
            });
            assert!(waited.await.is_ok(), "{:?}", watcher.current());
        }
    };
    wait(1).await;
    nodes.kill(0).await;
    // Three leases long, and some: whoever believed the dead node's silence would have taken it out.
    let mut seen = watcher.clone();
    let quiet = tokio::time::timeout(Duration::from_secs(20), async {
        while !seen.current().instances.is_empty() {
            seen.changed().await;
        }
    });
    assert!(quiet.await.is_err(), "it was taken out: {:?}", watcher.current());
    nodes.have(&[1, 2], "payments", &["p-1"]).await;
    registered.deregister(&Context::background()).await.unwrap();
    wait(0).await;
    nodes.have(&[1, 2], "payments", &[]).await;
}

/// Makes an authority, and a certificate of it for nodes; returns the settings of a node that has it.
fn certificates(nodes: &Nodes, name: &str) -> Value {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let node =
        CertificateParams::new(vec!["nodes.registry".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let write = |what: &str, text: String| {
        let path = nodes.directory().join(format!("{name}-{what}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    json!({
        "ca": write("ca", ca_certificate.pem()),
        "certificate": write("node", node.pem()),
        "key": write("key", key.serialize_pem()),
        "server_name": "nodes.registry",
    })
}

#[tokio::test]
async fn nodes_know_each_other_by_their_certificates() {
    let mut nodes = Nodes::prepare(None, &["a", "a", "a"]);
    let (ours, theirs) = (certificates(&nodes, "ours"), certificates(&nodes, "theirs"));
    nodes.hosts[0].tls = ours.clone();
    nodes.hosts[1].tls = ours;
    nodes.hosts[2].tls = theirs;
    for n in 0..3 {
        nodes.run(n);
    }
    for n in 0..3 {
        nodes.ready(n).await;
    }
    nodes.register(2, "secret", "stranger", "h").await;
    nodes.register(0, "secret", "s-0", "h").await;
    nodes.have(&[0, 1], "secret", &["s-0"]).await;
    // The stranger gossips along, and that is all: no stream to it, so nothing of what it says.
    nodes.register(1, "secret", "s-1", "h").await;
    nodes.have(&[0, 1], "secret", &["s-0", "s-1"]).await;
    nodes.have(&[2], "secret", &["stranger"]).await;
    assert_eq!((nodes.streams(0).await, nodes.streams(1).await, nodes.streams(2).await), (1, 1, 0));
    // Clients of a protocol in which one node tells of all are sent to nobody else.
    let told = async |n: usize| {
        let mut http = Http::connect(nodes.hosts[n].client().as_str()).await;
        let told = http.call("GET", "/discovery/nodes", &[], String::new()).await.json();
        let addrs = told["data"].as_array().unwrap().iter().map(|n| n["addr"].as_str().unwrap().to_owned());
        addrs.collect::<BTreeSet<String>>()
    };
    let ours: BTreeSet<String> = [0, 1].map(|n: usize| nodes.hosts[n].client()).into();
    for n in [0, 1] {
        let waited = tokio::time::timeout(PATIENCE, async {
            while told(n).await != ours {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        waited.await.expect("both are told of");
    }
    assert_eq!(told(2).await, BTreeSet::from([nodes.hosts[2].client()]));
}

#[tokio::test]
async fn a_stranger_that_gossips_keeps_nobody_from_taking_over_what_a_lost_node_checked() {
    let mut nodes = Nodes::prepare(None, &["a", "a", "a"]);
    // The one that would do it for all, if it were one of them.
    let number = |n: &usize| bowline_registry::peers::node_number(&format!("registry-{n}"));
    let stranger = (0..3).min_by_key(number).unwrap();
    let [left, lost] = [1, 2].map(|n| (stranger + n) % 3);
    let ours = certificates(&nodes, "ours");
    for n in [left, lost] {
        nodes.hosts[n].tls = ours.clone();
    }
    for n in 0..3 {
        nodes.run(n);
    }
    for n in 0..3 {
        nodes.ready(n).await;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = json!({"tcp": {}, "interval": "1s", "unhealthyAfter": 1});
    let instance = json!({"endpoints": [format!("http://127.0.0.1:{port}")], "check": check});
    nodes.post(lost, "db/instances/p", "register", json!({"instance": instance})).await;
    nodes.until_statuses(left, "db", |statuses| statuses == [""]).await;
    nodes.kill(lost).await;
    drop(listener);
    nodes.until_statuses(left, "db", |statuses| statuses == ["INSTANCE_STATUS_STARTING"]).await;
}

#[tokio::test]
async fn what_a_lost_node_checked_another_checks_from_then_on() {
    let mut nodes = Nodes::start(&["a", "a", "b"]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = json!({"tcp": {}, "interval": "1s", "unhealthyAfter": 1});
    let instance = json!({"endpoints": [format!("http://127.0.0.1:{port}")], "weight": 1, "check": check});
    nodes.post(0, "catalog/instances/p", "register", json!({"instance": instance})).await;
    let is = |status: &'static str| move |statuses: &[String]| statuses == [status];
    nodes.until_statuses(1, "catalog", is("")).await;
    nodes.kill(0).await;
    // Whoever checks it now sees that nobody listens any more, and all hear of it.
    drop(listener);
    for n in [1, 2] {
        nodes.until_statuses(n, "catalog", is("INSTANCE_STATUS_STARTING")).await;
    }
    nodes.run(0);
    nodes.ready(0).await;
    nodes.until_statuses(0, "catalog", is("INSTANCE_STATUS_STARTING")).await;
    let _listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    for n in 0..3 {
        nodes.until_statuses(n, "catalog", is("")).await;
    }
}

#[tokio::test]
async fn a_node_that_is_alone_knows_after_a_restart_what_it_wrote_down() {
    let mut nodes = Nodes::prepare(None, &["a"]);
    nodes.write_down(0);
    nodes.run(0);
    nodes.ready(0).await;
    nodes.register(0, "orders", "o-1", "h1").await;
    nodes.register(0, "orders", "o-2", "h2").await;
    nodes.post(0, "orders/instances/o-1", "setOverride", json!({"changes": {"weight": 7}})).await;
    nodes.deregister(0, "orders", "o-2", "h2").await;
    nodes.stop(0).await;
    nodes.run(0);
    nodes.ready(0).await;
    assert_eq!(
        nodes.list(0, "orders").await,
        [("o-1".to_owned(), json!(7))],
        "known before anybody came back"
    );
    // Its holder comes back, and it is as it was.
    nodes.post(0, "orders/instances/o-1", "renew", json!({})).await;
    nodes.until_orphans(0, |orphans| orphans == 0).await;
}

#[tokio::test]
async fn what_is_taken_out_while_a_node_drains_stays_so_after_its_restart() {
    let mut nodes = Nodes::prepare(None, &["a"]);
    nodes.write_down(0);
    nodes.run(0);
    nodes.ready(0).await;
    let check = json!({"tcp": {}, "interval": "1s"});
    let instance = json!({"endpoints": ["http://127.0.0.1:9"], "check": check});
    nodes.post(0, "db/instances/db-1", "register", json!({"instance": instance})).await;
    // A request that has begun and is not whole keeps the node draining.
    let mut late = tokio::net::TcpStream::connect(nodes.hosts[0].client()).await.unwrap();
    let head = "POST /v1/registry/default/prod/services/db/instances/db-1:deregister HTTP/1.1\r\nhost: x\r\n\
        content-type: application/json\r\ncontent-length: 2\r\n\r\n{";
    late.write_all(head.as_bytes()).await.unwrap();
    let file = nodes.directory().join("registry-0.facts");
    nodes.hosts[0].process.as_ref().unwrap().terminate();
    // By then the background has ended.
    bowline_tests_support::eventually(|| file.exists()).await;
    late.write_all(b"}").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, late.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("200 OK") && answer.contains("removed"), "{answer}");
    nodes.hosts[0].process.take().unwrap().ended().await;
    assert!(!nodes.log(0).contains("stood still"), "{}", nodes.log(0));
    nodes.run(0);
    nodes.ready(0).await;
    assert!(nodes.list(0, "db").await.is_empty());
}
