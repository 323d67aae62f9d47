//! Several nodes, each a process.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bowline_tests_support::{Http, PATIENCE, Process, free_port};
use serde_json::{Value, json};

use super::networks::Networks;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A node's process.
pub(crate) struct Host {
    pub(crate) name: String,
    zone: &'static str,
    /// The network it lives in, and its address there; this machine's own without.
    network: Option<String>,
    peers_at: String,
    /// Where the test reaches it.
    at: String,
    /// Its `cluster.tls`.
    pub(crate) tls: Value,
    disk: Value,
    pub(crate) port: u16,
    admin: u16,
    pub(crate) peers: u16,
    pub(crate) process: Option<Process>,
}

impl Host {
    /// Where its clients find it.
    pub(crate) fn client(&self) -> String {
        format!("{}:{}", self.at, self.port)
    }
}

/// Processes that are one registry.
pub(crate) struct Nodes {
    directory: tempfile::TempDir,
    pub(crate) hosts: Vec<Host>,
}

impl Nodes {
    /// One node for each zone that is named.
    pub(crate) async fn start(zones: &[&'static str]) -> Self {
        Self::start_in(None, zones).await
    }

    /// The same, each in a network of its own.
    pub(crate) async fn start_in(networks: Option<&Networks>, zones: &[&'static str]) -> Self {
        let mut nodes = Self::prepare(networks, zones);
        for n in 0..zones.len() {
            nodes.run(n);
        }
        for n in 0..zones.len() {
            nodes.ready(n).await;
        }
        nodes
    }

    /// The same, without starting them.
    pub(crate) fn prepare(networks: Option<&Networks>, zones: &[&'static str]) -> Self {
        let host = |(n, zone): (usize, &&'static str)| Host {
            name: format!("registry-{n}"),
            zone,
            network: networks.map(|networks| networks.name(n)),
            peers_at: networks.map_or("127.0.0.1".into(), |networks| networks.address(n)),
            at: networks.map_or("127.0.0.1".into(), |networks| networks.back_door(n)),
            port: free_port(),
            admin: free_port(),
            peers: free_port(),
            tls: Value::Null,
            disk: Value::Null,
            process: None,
        };
        let hosts = zones.iter().enumerate().map(host).collect();
        Self { directory: tempfile::tempdir().unwrap(), hosts }
    }

    /// Where the nodes' files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a node.
    pub(crate) fn run(&mut self, n: usize) {
        let seeds: Vec<String> = self.hosts.iter().map(|h| format!("{}:{}", h.peers_at, h.peers)).collect();
        let host = &self.hosts[n];
        let networks = host.network.is_some();
        let config = json!({
            "service": {
                "server": {"listen": format!("{}:{}", host.at, host.port)},
                "admin": {"listen": format!("{}:{}", host.at, host.admin)},
            },
            "registry": {"access": {"insecure": networks}, "disk": host.disk},
            "cluster": {
                "node": host.name,
                "zone": host.zone,
                "listen": format!("{}:{}", host.peers_at, host.peers),
                "seeds": seeds,
                "tls": host.tls,
            },
        });
        let path = self.directory.path().join(format!("{}.yaml", host.name));
        std::fs::write(&path, config.to_string()).unwrap();
        let program = env!("CARGO_BIN_EXE_bowline-registry");
        let mut command = match &self.hosts[n].network {
            None => Command::new(program),
            Some(network) => {
                let mut inside = Command::new("ip");
                inside.args(["netns", "exec", network, program]);
                inside
            }
        };
        command.arg("--config").arg(path);
        let log = self.directory.path().join(format!("{}.log", host.name));
        self.hosts[n].process = Some(Process::start(&mut command, log));
    }

    pub(crate) async fn ready(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        let admin = format!("{}:{}", host.at, host.admin);
        host.process.as_mut().unwrap().ready(admin.as_str()).await;
    }

    pub(crate) async fn kill(&mut self, n: usize) {
        let mut process = self.hosts[n].process.take().unwrap();
        process.kill();
        process.ended().await;
    }

    pub(crate) async fn post(&self, n: usize, instance: &str, verb: &str, body: Value) -> Value {
        let path = format!("/v1/registry/default/prod/services/{instance}:{verb}");
        let mut http = Http::connect(self.hosts[n].client().as_str()).await;
        let answer = http.call("POST", &path, &JSON, body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub(crate) async fn register(&self, n: usize, service: &str, id: &str, holder: &str) {
        self.register_for(n, service, id, holder, "60s").await;
    }

    pub(crate) async fn register_for(&self, n: usize, service: &str, id: &str, holder: &str, ttl: &str) {
        let body = json!({"instance": {"endpoints": ["http://10.0.0.1:80"]}, "holder": holder, "ttl": ttl});
        self.post(n, &format!("{service}/instances/{id}"), "register", body).await;
    }

    pub(crate) async fn deregister(&self, n: usize, service: &str, id: &str, holder: &str) {
        self.post(n, &format!("{service}/instances/{id}"), "deregister", json!({"holder": holder})).await;
    }

    /// How many nodes a node speaks to.
    pub(crate) async fn streams(&self, n: usize) -> u64 {
        let mut http = Http::connect(self.hosts[n].client().as_str()).await;
        let node = http.call("GET", "/v1/registry/node", &[], String::new()).await.json();
        node["streams"].as_u64().unwrap_or(0)
    }

    /// Waits until so many instances belong, as far as a node knows, to nodes that are lost.
    pub(crate) async fn until_orphans(&self, n: usize, wanted: impl Fn(u64) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let mut http = Http::connect(self.hosts[n].client().as_str()).await;
                let node = http.call("GET", "/v1/registry/node", &[], String::new()).await.json();
                if wanted(node["orphans"].as_u64().unwrap_or(0)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(waited.await.is_ok(), "{}", self.log(n));
    }

    /// The instances of a service as a node has them: ids and weights.
    pub(crate) async fn list(&self, n: usize, service: &str) -> Vec<(String, Value)> {
        let path = format!("/v1/registry/default/prod/services/{service}");
        let Some(mut http) = Http::try_connect(self.hosts[n].client().as_str()).await else {
            return Vec::new();
        };
        let Some(answer) = http.try_call("GET", &path, &[], "").await else { return Vec::new() };
        let entries = answer.json()["entries"].as_array().cloned().unwrap_or_default();
        let of = |e: Value| {
            (e["instance"]["id"].as_str().unwrap_or("").to_owned(), e["instance"]["weight"].clone())
        };
        entries.into_iter().map(of).collect()
    }

    /// Waits until these nodes have these instances.
    pub(crate) async fn have(&self, nodes: &[usize], service: &str, ids: &[&str]) {
        for n in nodes {
            self.until(*n, service, |list| list.iter().map(|(id, _)| id.as_str()).eq(ids.iter().copied()))
                .await;
        }
    }

    /// The statuses of a service's instances, by id; UP is empty.
    pub(crate) async fn until_statuses(&self, n: usize, service: &str, wanted: impl Fn(&[String]) -> bool) {
        let path = format!("/v1/registry/default/prod/services/{service}");
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let mut http = Http::connect(self.hosts[n].client().as_str()).await;
                let list = http.call("GET", &path, &[], String::new()).await.json();
                let entries = list["entries"].as_array().cloned().unwrap_or_default();
                let status = |e: &Value| e["instance"]["status"].as_str().unwrap_or_default().to_owned();
                if wanted(&entries.iter().map(status).collect::<Vec<_>>()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(waited.await.is_ok(), "{}", self.log(n));
    }

    /// Has a node write down what it knows.
    pub(crate) fn write_down(&mut self, n: usize) {
        let file = self.directory.path().join(format!("{}.facts", self.hosts[n].name));
        self.hosts[n].disk = json!({"file": file, "every": "1h"});
    }

    /// Stops a node in order.
    pub(crate) async fn stop(&mut self, n: usize) {
        let mut process = self.hosts[n].process.take().unwrap();
        process.terminate();
        process.ended().await;
    }

    /// What a node has written.
    pub(crate) fn log(&self, n: usize) -> String {
        let path = self.directory.path().join(format!("{}.log", self.hosts[n].name));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    pub(crate) async fn until(&self, n: usize, service: &str, wanted: impl Fn(&[(String, Value)]) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !wanted(&self.list(n, service).await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        if waited.await.is_err() {
            let list = self.list(n, service).await;
            panic!("node {n} has {list:?}\n{}", self.log(n));
        }
    }
}
