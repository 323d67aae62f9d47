//! Several nodes in one process, each behind real servers, that are one registry.

use std::net::SocketAddr;

use bowline::app::Server as _;
use bowline_client::Channel;
use bowline_core::task::Tracker;
use bowline_core::{Context, Error};
use bowline_registry::{Cluster, ClusterConfig, Config, Node};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_tests_support::{eventually, free_port};
use tokio::sync::watch;

use super::real::Real;

/// A node of a cluster. Dropping it kills it.
pub(crate) struct Member {
    pub(crate) real: Real,
    /// Where other nodes find it.
    pub(crate) peers: SocketAddr,
    /// Why it left by itself.
    pub(crate) ended: watch::Receiver<Option<Error>>,
    _cluster: Cluster,
    tasks: Tracker,
}

impl Member {
    /// A node that finds the others at these addresses.
    pub(crate) async fn start(name: &str, zone: &str, peers: SocketAddr, seeds: &[SocketAddr]) -> Self {
        let node = Node::named(Config::default(), name, zone).unwrap();
        let config = ClusterConfig {
            name: "registry".into(),
            node: name.into(),
            zone: zone.into(),
            listen: peers,
            advertise: None,
            seeds: seeds.iter().map(ToString::to_string).collect(),
            sync_within: super::SEC,
            tls: None,
        };
        let real = Real::of(node.clone(), super::SEC * 30);
        let mut cluster = Cluster::new(&node, config).unwrap().clients_at(real.at.clone());
        cluster.bind(&Context::background()).await.unwrap();
        let (told, ended) = watch::channel(None);
        let (serving, tasks) = (cluster.serve(), Tracker::new());
        tasks.spawn(async move { _ = told.send_replace(serving.await.err()) });
        Self { real, peers, ended, _cluster: cluster, tasks }
    }

    /// Nodes that know each other, one for each zone that is named.
    pub(crate) async fn several(zones: &[&str]) -> Vec<Self> {
        let peers: Vec<SocketAddr> = zones.iter().map(|_| peers()).collect();
        let mut members = Vec::new();
        for (n, zone) in zones.iter().enumerate() {
            members.push(Self::start(&format!("registry-{n}"), zone, peers[n], &peers).await);
        }
        for member in &members {
            member.real.node.serves().await;
        }
        eventually(|| members.iter().all(|member| member.real.node.stats().streams > 0)).await;
        members
    }

    pub(crate) fn node(&self) -> &Node {
        &self.real.node
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// A free address for a node.
pub(crate) fn peers() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// All nodes behind one channel, which spreads its calls over them.
pub(crate) fn behind_one_channel(members: &[Member], change: impl FnOnce(&mut Options)) -> BowlineRegistry {
    let all: Vec<String> = members.iter().map(|member| member.real.at.authority().to_string()).collect();
    let channel = Channel::builder(format!("static:///{}", all.join(","))).build().unwrap();
    let mut options = Options::default();
    change(&mut options);
    BowlineRegistry::new([channel.caller().unwrap()], options).unwrap()
}
