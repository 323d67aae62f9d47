//! The way to a registry of several nodes, which are real.

use std::net::SocketAddr;
use std::time::Duration;

use bowline_app::Server as _;
use bowline_core::task::Tracker;
use bowline_core::{Context, Endpoint, Instance};
use bowline_registry::{Cluster, ClusterConfig, Config, Node};
use bowline_server::{Server, ServerOptions};
use bowline_telemetry::{Metrics, Side};
use bowline_tests_support::{eventually, free_port};

use super::*;

const SEC: Duration = Duration::from_secs(1);

/// A node. Dropping it kills it.
struct Running {
    node: Node,
    at: Endpoint,
    server: Server,
    _cluster: Cluster,
    tasks: Tracker,
}

impl Running {
    async fn start(n: usize, peers: &[SocketAddr]) -> Self {
        // A renewal each two thirds of a second.
        let mut config = Config::default();
        config.default_ttl = 2 * SEC;
        let node = Node::named(config, &format!("registry-{n}"), "").unwrap();
        let mut cluster = Cluster::new(
            &node,
            ClusterConfig {
                name: "registry".into(),
                node: format!("registry-{n}"),
                zone: String::new(),
                listen: peers[n],
                advertise: None,
                seeds: peers.iter().map(ToString::to_string).collect(),
                sync_within: SEC,
                tls: None,
            },
        )
        .unwrap();
        cluster.bind(&Context::background()).await.unwrap();
        let mut server = Server::new("registry", ServerOptions::at("127.0.0.1:0").unwrap());
        server = server.mount(node.service_def());
        let at = server.bind().unwrap();
        server.set_ready(true);
        let (peers, serving, leases, tasks) = (cluster.serve(), server.serve(), node.clone(), Tracker::new());
        tasks.spawn(async move { peers.await.unwrap() });
        tasks.spawn(async move { serving.await.unwrap() });
        tasks.spawn(async move { _ = leases.run(&Context::background()).await });
        Self { node, at, server, _cluster: cluster, tasks }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
        self.tasks.abort();
    }
}

/// How many leases each node has.
fn leases(nodes: &[Option<Running>]) -> Vec<usize> {
    nodes.iter().map(|node| node.as_ref().map_or(0, |node| node.node.stats().leases)).collect()
}

#[tokio::test]
async fn of_a_list_of_nodes_one_has_all_leases_of_a_process_and_the_next_one_when_that_is_lost() {
    let peers: Vec<SocketAddr> = (0..4).map(|_| ([127, 0, 0, 1], free_port()).into()).collect();
    let mut nodes = Vec::new();
    for n in 0..peers.len() {
        nodes.push(Some(Running::start(n, &peers).await));
    }
    for node in nodes.iter().flatten() {
        node.node.serves().await;
    }
    eventually(|| nodes.iter().flatten().all(|node| node.node.stats().streams == 3)).await;
    let list: Vec<_> = nodes.iter().flatten().map(|node| node.at.authority().to_string()).collect();
    let settings = RegistrySettings {
        target: format!("static:///{}", list.join(",")),
        namespace: "default".into(),
        token: None,
        snapshots: None,
        slot: true,
    };
    let calls = CallMetrics::new(&Metrics::new(), Side::Client);
    let way = format!("{:?}", ours(&settings, "", &calls).unwrap());
    assert!(list.iter().all(|at| way.contains(&format!("Caller({at})"))), "{way}");
    let connected = connect(&settings, "", &calls).unwrap();
    let here = Instance::new("cart", "cart-1").with_endpoint(Endpoint::http("127.0.0.1", 9000));
    let soon = || Context::background().with_timeout(5 * SEC);
    let registration = connected.registrar.register(&soon(), here.clone()).await.unwrap();
    let slot = connected.slots.unwrap().of("discovery:///catalog", &here).unwrap();
    // The instance, its own slot, and that among the clients of another service.
    let has_all = |nodes: &[Option<Running>], n: usize| {
        leases(nodes).into_iter().enumerate().all(|(of, leases)| leases == if of == n { 3 } else { 0 })
    };
    eventually(|| (0..4).any(|n| has_all(&nodes, n))).await;
    let number = slot.number();
    assert_eq!(number, Some(0));
    let mut owner = leases(&nodes).iter().position(|leases| *leases == 3).unwrap();
    for _ in 0..2 {
        // Some five renewals.
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(33)).await;
            assert!(has_all(&nodes, owner), "{:?}, and not at {owner}", leases(&nodes));
        }
        eventually(|| nodes.iter().flatten().all(|node| node.node.stats().instances == 3)).await;
        nodes[owner] = None;
        owner = (owner + 1) % 4;
        eventually(|| has_all(&nodes, owner)).await;
    }
    assert_eq!(slot.number(), number);
    registration.deregister(&soon()).await.unwrap();
}
