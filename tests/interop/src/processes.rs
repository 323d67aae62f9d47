//! The processes on a [`Stage`](crate::Stage) that are Bowline's.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use bowline_tests_support::{Process, free_port, programs};

/// How far above the port of HTTP Nacos' clients look for gRPC.
const NACOS_OFFSET: u16 = 1_000;

fn configuration(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A registry node, at the same ports in all its lives.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) port: u16,
    admin: u16,
    log: PathBuf,
    process: Option<Process>,
}

impl Node {
    pub(crate) async fn start(directory: &Path) -> Self {
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", port + NACOS_OFFSET)).is_ok();
        let port = std::iter::repeat_with(free_port).find(is_free).expect("it goes on until there is one");
        let mut node = Self { port, admin: free_port(), log: directory.join("node.log"), process: None };
        node.start_again().await;
        node
    }

    pub(crate) async fn start_again(&mut self) {
        let mut command = Command::new(programs().join("bowline-registry"));
        command
            .arg("--config")
            .arg(configuration("apps/registry/configs/registry.yaml"))
            .env("REGISTRY__SERVICE__SERVER__LISTEN", format!("127.0.0.1:{}", self.port))
            .env("REGISTRY__SERVICE__ADMIN__LISTEN", format!("127.0.0.1:{}", self.admin))
            .env("REGISTRY__NACOS__LISTEN", format!("127.0.0.1:{}", self.port + NACOS_OFFSET));
        let mut process = Process::start(&mut command, &self.log);
        process.ready(self.admin).await;
        self.process = Some(process);
    }

    /// Ends it at once, with all it knows.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill();
        process.ended().await;
    }
}

/// The shop's catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) port: u16,
    process: Process,
}

impl Catalog {
    pub(crate) async fn start(directory: &Path, node: &Node) -> Self {
        let (port, admin) = (free_port(), free_port());
        let own = directory.join(format!("catalog-{port}"));
        let mut command = Command::new(programs().join("catalog"));
        command
            .arg("--config")
            .arg(configuration("examples/shop/catalog/configs/catalog.yaml"))
            .env("CATALOG__SERVICE__SERVER__LISTEN", format!("127.0.0.1:{port}"))
            .env("CATALOG__SERVICE__ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
            .env("CATALOG__SERVICE__LIFECYCLE__PROPAGATION", "500ms")
            .env("CATALOG__SERVICE__REGISTRY__TARGET", format!("http://127.0.0.1:{}", node.port))
            .env("CATALOG__SERVICE__REGISTRY__SNAPSHOTS", own.join("registry"))
            .env("CATALOG__DATABASE__PATH", own.join("data.db"));
        std::fs::create_dir(&own).unwrap();
        let mut process = Process::start(&mut command, own.join("log"));
        process.ready(admin).await;
        Self { port, process }
    }

    /// Asks it to stop and waits until it has, in good order.
    pub(crate) async fn stop(mut self) {
        self.process.terminate();
        let status = self.process.ended().await;
        assert!(status.success(), "the catalog stopped with {status}:\n{}", self.process.log());
    }
}
