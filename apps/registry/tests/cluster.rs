//! Several real processes that are one registry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

use std::process::Command;
use std::time::Duration;

use bowline_client::Channel;
use bowline_core::{Context, Endpoint, Instance};
use bowline_discovery::{Discovery, Registrar};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_tests_support::{Http, PATIENCE, Process, free_port};
use serde_json::{Value, json};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

struct Host {
    name: String,
    zone: &'static str,
    port: u16,
    admin: u16,
    peers: u16,
    process: Option<Process>,
}

struct Nodes {
    directory: tempfile::TempDir,
    hosts: Vec<Host>,
}

impl Nodes {
    /// One node for each zone that is named.
    async fn start(zones: &[&'static str]) -> Self {
        let host = |(n, zone): (usize, &&'static str)| Host {
            name: format!("registry-{n}"),
            zone,
            port: free_port(),
            admin: free_port(),
            peers: free_port(),
            process: None,
        };
        let hosts = zones.iter().enumerate().map(host).collect();
        let mut nodes = Self { directory: tempfile::tempdir().unwrap(), hosts };
        for n in 0..zones.len() {
            nodes.run(n);
        }
        for n in 0..zones.len() {
            nodes.ready(n).await;
        }
        nodes
    }

    /// Starts a node.
    fn run(&mut self, n: usize) {
        let seeds: Vec<String> = self.hosts.iter().map(|h| format!("127.0.0.1:{}", h.peers)).collect();
        let host = &self.hosts[n];
        let config = json!({
            "service": {
                "server": {"listen": format!("127.0.0.1:{}", host.port)},
                "admin": {"listen": format!("127.0.0.1:{}", host.admin)},
            },
            "cluster": {
                "node": host.name,
                "zone": host.zone,
                "listen": format!("127.0.0.1:{}", host.peers),
                "seeds": seeds,
            },
        });
        let path = self.directory.path().join(format!("{}.yaml", host.name));
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline-registry"));
        command.arg("--config").arg(path);
        let log = self.directory.path().join(format!("{}.log", host.name));
        self.hosts[n].process = Some(Process::start(&mut command, log));
    }

    async fn ready(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        host.process.as_mut().unwrap().ready(host.admin).await;
    }

    async fn kill(&mut self, n: usize) {
        let mut process = self.hosts[n].process.take().unwrap();
        process.kill();
        process.ended().await;
    }

    async fn post(&self, n: usize, instance: &str, verb: &str, body: Value) -> Value {
        let path = format!("/v1/registry/default/prod/services/{instance}:{verb}");
        let mut http = Http::connect(self.hosts[n].port).await;
        let answer = http.call("POST", &path, &JSON, body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    async fn register(&self, n: usize, service: &str, id: &str, holder: &str) {
        let body = json!({"instance": {"endpoints": ["http://10.0.0.1:80"]}, "holder": holder, "ttl": "60s"});
        self.post(n, &format!("{service}/instances/{id}"), "register", body).await;
    }

    /// The instances of a service as a node has them: ids and weights.
    async fn list(&self, n: usize, service: &str) -> Vec<(String, Value)> {
        let path = format!("/v1/registry/default/prod/services/{service}");
        let Some(mut http) = Http::try_connect(self.hosts[n].port).await else { return Vec::new() };
        let Some(answer) = http.try_call("GET", &path, &[], "").await else { return Vec::new() };
        let entries = answer.json()["entries"].as_array().cloned().unwrap_or_default();
        let of = |e: Value| {
            (e["instance"]["id"].as_str().unwrap_or("").to_owned(), e["instance"]["weight"].clone())
        };
        entries.into_iter().map(of).collect()
    }

    /// Waits until these nodes have these instances.
    async fn have(&self, nodes: &[usize], service: &str, ids: &[&str]) {
        for n in nodes {
            self.until(*n, service, |list| list.iter().map(|(id, _)| id.as_str()).eq(ids.iter().copied()))
                .await;
        }
    }

    async fn until(&self, n: usize, service: &str, wanted: impl Fn(&[(String, Value)]) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !wanted(&self.list(n, service).await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        if waited.await.is_err() {
            let list = self.list(n, service).await;
            let log = std::fs::read_to_string(self.directory.path().join(format!("registry-{n}.log")));
            panic!("node {n} has {list:?}\n{}", log.unwrap_or_default());
        }
    }
}

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
