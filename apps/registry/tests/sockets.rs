//! The registry behind a real server, its clients behind real channels: HTTP/2 with everything that comes with it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, not marked as tests")]

mod common;

use bowline_client::Channel;
use bowline_core::Context;
use bowline_core::task::Tracker;
use bowline_discovery::{Discovery, Registrar, State};
use bowline_registry::{Config, Node};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_server::{Server, ServerOptions};
use common::{SEC, eventually, ids, instance, until, within};

const ADDRESS: &str = "memory:registry-sockets";

struct Process {
    node: Node,
    server: Server,
    tasks: Tracker,
}

impl Process {
    fn start() -> Self {
        let node = Node::new(Config::default()).unwrap();
        let options = ServerOptions::at(ADDRESS).unwrap();
        let mut server = Server::new("registry", options).mount(node.service_def());
        server.bind().unwrap();
        server.set_ready(true);
        let tasks = Tracker::new();
        let (serving, leases) = (server.serve(), node.clone());
        tasks.spawn(async move { serving.await.unwrap() });
        tasks.spawn(async move { _ = leases.run(&Context::background()).await });
        Self { node, server, tasks }
    }

    /// Stops as an application does.
    async fn stop(self) {
        self.node.close();
        self.server.drain(&within(5 * SEC)).await.unwrap();
        self.kill().await;
    }

    async fn kill(self) {
        self.server.abort();
        self.tasks.abort();
        self.tasks.wait().await;
    }
}

fn client() -> BowlineRegistry {
    let channel = Channel::builder(ADDRESS).build().unwrap();
    BowlineRegistry::new([channel.caller().unwrap()], Options::default()).unwrap()
}

#[tokio::test]
async fn restarts_kills_and_drains_of_the_registry_lose_nobody() {
    let mut process = Process::start();
    let (provider, consumer) = (client(), client());
    let watcher = consumer.watch("s");
    let held = provider.register(&within(5 * SEC), instance("s", "a")).await.unwrap();
    until(&watcher, |s| s.state == State::Live && ids(s) == ["a"]).await;
    for round in 0..4 {
        if round % 2 == 0 {
            // Nothing holds a draining registry up: its streams end.
            process.stop().await;
        } else {
            process.kill().await;
        }
        until(&watcher, |s| matches!(s.state, State::Stale { .. }) && ids(s) == ["a"]).await;
        process = Process::start();
        eventually(|| process.node.stats().instances == 1).await;
        until(&watcher, |s| s.state == State::Live && ids(s) == ["a"]).await;
    }
    held.deregister(&within(5 * SEC)).await.unwrap();
    until(&watcher, |s| s.instances.is_empty() && s.state.is_current()).await;
    process.stop().await;
}
