//! A program, a node and the catalog.

use std::path::Path;
use std::time::Duration;

use bowline_client::Channel;
use bowline_core::Endpoint;
use bowline_discovery::{Discovery, Emptiness, Snapshot, State, Watcher};
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_tests_support::{Answer, Http, PATIENCE, Process, build, free_port};

use crate::Foreign;
use crate::processes::{Catalog, Node};

/// What the catalog is asked for.
const ITEMS: &str = "/v1/items?page_size=3";
/// The service that the program calls.
const CATALOG: &str = "catalog";

/// A [`Foreign`] program, a registry node and the catalog as processes. They end with it.
#[derive(Debug)]
pub struct Stage {
    foreign: Foreign,
    port: u16,
    program: Process,
    catalog: Catalog,
    node: Node,
    directory: tempfile::TempDir,
}

impl Stage {
    /// Starts all three, and sees that the program does what a service among others has to:
    ///
    /// - it registers, and is called where the node says that it is;
    /// - it finds the catalog, which registered by Bowline's own protocol, and calls it;
    /// - it goes on calling while there is no node;
    /// - after the node has begun anew, knowing nobody, it is found again, and follows the catalog to another port;
    /// - when it is asked to stop it deregisters, rather than leaving its lease to run out.
    ///
    /// Where the program is not built or cannot run, this prints why and is done.
    ///
    /// # Panics
    /// If it does not do one of these within [`PATIENCE`].
    pub async fn play(foreign: Foreign) {
        if let Some(why) = foreign.missing() {
            println!("skipped: {why}");
            return;
        }
        let mut stage = Self::start(foreign).await;
        stage.is_called_where_the_node_says().await;
        stage.calls_what_it_finds().await;

        stage.node.kill().await;
        stage.calls_what_it_finds().await;
        stage.node.start_again().await;
        stage.is_called_where_the_node_says().await;
        stage.moves_the_catalog().await;
        stage.calls_what_it_finds().await;

        stage.leaves().await;
    }

    async fn start(foreign: Foreign) -> Self {
        build(&[("bowline-registry", "bowline-registry"), ("shop-catalog", "catalog")]);
        let directory = tempfile::tempdir().unwrap();
        let node = Node::start(directory.path()).await;
        let catalog = Catalog::start(directory.path(), &node).await;
        let port = free_port();
        let program = run(&foreign, directory.path(), &node, port);
        Self { foreign, port, program, catalog, node, directory }
    }

    /// Watches a service as a process that has just begun.
    fn watch(&self, service: &str) -> (BowlineRegistry, Watcher) {
        let channel = Channel::builder(format!("http://127.0.0.1:{}", self.node.port)).build().unwrap();
        let registry = BowlineRegistry::new([channel.caller().unwrap()], Options::default()).unwrap();
        let watcher = registry.watch(service);
        (registry, watcher)
    }

    /// Waits until the node tells of the program, and calls it there.
    async fn is_called_where_the_node_says(&self) {
        let (_registry, mut watcher) = self.watch(self.foreign.name);
        let is_found = |found: &Snapshot| found.state == State::Live && found.instances.len() == 1;
        let found = self.until(&mut watcher, is_found).await;
        let endpoints = &found.instances[0].endpoints;
        assert_eq!(endpoints[..], [Endpoint::http("127.0.0.1", self.port)]);
        let answer = Http::connect(&endpoints[0]).await.call("GET", "/hello", &[], "").await;
        assert_eq!((answer.status, answer.text()), (200, format!("hello from {}", self.foreign.name)));
    }

    /// Waits until the program calls the catalog where it is now, and compares what it got with what the catalog says.
    async fn calls_what_it_finds(&self) {
        let address = format!("127.0.0.1:{}", self.catalog.port);
        let direct = Http::connect(&*address).await.call("GET", ITEMS, &[], "").await;
        assert_eq!(direct.json()["items"].as_array().map(Vec::len), Some(3), "{}", direct.text());
        let mut last = None;
        let called = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.ask_to_call().await {
                    Some(answer) if answer.status == 200 && answer.header("x-called") == address => {
                        return answer;
                    }
                    other => last = other,
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let called = called.await.ok();
        let called =
            called.unwrap_or_else(|| panic!("it did not call {address}: {last:?}\n{}", self.program.log()));
        assert_eq!(called.json(), direct.json());
    }

    /// Has the program call the catalog, if it listens.
    async fn ask_to_call(&self) -> Option<Answer> {
        Http::try_connect(self.port).await?.try_call("GET", &format!("/call?{ITEMS}"), &[], "").await
    }

    /// Another instance at another port takes the place of the one that there is.
    async fn moves_the_catalog(&mut self) {
        let next = Catalog::start(self.directory.path(), &self.node).await;
        std::mem::replace(&mut self.catalog, next).stop().await;
    }

    /// Stops the program, and waits until the node says that it deregistered.
    async fn leaves(&mut self) {
        let (_registry, mut watcher) = self.watch(self.foreign.name);
        self.until(&mut watcher, |found| found.state == State::Live).await;
        self.program.terminate();
        self.until(&mut watcher, |found| found.state == State::Empty(Emptiness::Cancelled)).await;
        self.program.ended().await;
    }

    async fn until(
        &self,
        watcher: &mut Watcher,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> std::sync::Arc<Snapshot> {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let now = watcher.current();
                if wanted(&now) {
                    return now;
                }
                watcher.changed().await;
            }
        });
        let waited = waited.await.ok();
        waited.unwrap_or_else(|| panic!("the node tells: {:?}\n{}", watcher.current(), self.program.log()))
    }
}

fn run(foreign: &Foreign, directory: &Path, node: &Node, port: u16) -> Process {
    let home = directory.join("home");
    std::fs::create_dir(&home).unwrap();
    let mut command = foreign.command(&home);
    command
        .env("REGISTRY", format!("127.0.0.1:{}", node.port))
        .env("NAME", foreign.name)
        .env("PORT", port.to_string())
        .env("CALLS", CATALOG);
    Process::start(&mut command, directory.join("program.log"))
}
