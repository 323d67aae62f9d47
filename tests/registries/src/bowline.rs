//! Our own registry as a process.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bowline_client::Channel;
use bowline_registry_bowline::{BowlineRegistry, Options};
use bowline_tests_support::{Process, build, free_port, programs};

use crate::{Backend, Client, GRACE, LEASE, LastDeath};

/// Our own registry. It holds everything in memory, so that every restart is one without data.
#[derive(Debug)]
pub struct Bowline {
    port: u16,
    admin: u16,
    /// For Nacos' gRPC.
    nacos: u16,
    directory: tempfile::TempDir,
    process: Option<Process>,
}

impl Bowline {
    async fn run(&mut self) {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../apps/registry/configs/registry.yaml");
        let mut command = Command::new(programs().join("bowline-registry"));
        command
            .arg("--config")
            .arg(config)
            .env("REGISTRY__SERVICE__SERVER__LISTEN", format!("127.0.0.1:{}", self.port))
            .env("REGISTRY__SERVICE__ADMIN__LISTEN", format!("127.0.0.1:{}", self.admin))
            .env("REGISTRY__NACOS__LISTEN", format!("127.0.0.1:{}", self.nacos))
            .env("REGISTRY__NACOS__LEASE", "3s")
            .env("REGISTRY__REGISTRY__HEARTBEAT", "500ms");
        let mut process = Process::start(&mut command, self.directory.path().join("log"));
        process.ready(self.admin).await;
        self.process = Some(process);
    }

    /// Where clients of Nacos connect.
    pub(crate) fn nacos(&self) -> String {
        format!("127.0.0.1:{}", self.nacos)
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }
}

impl Backend for Bowline {
    const LAST_DEATH: LastDeath = LastDeath::Kept;

    async fn start() -> Self {
        build(&[("bowline-registry", "bowline-registry")]);
        let directory = tempfile::tempdir().unwrap();
        let (port, admin, nacos) = (free_port(), free_port(), free_port());
        let mut backend = Self { port, admin, nacos, directory, process: None };
        backend.run().await;
        backend
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn client_at(&self, address: &str) -> Client {
        let channel = Channel::builder(format!("http://{address}")).build().unwrap();
        let mut options = Options::default();
        options.ttl = Some(LEASE);
        options.grace = GRACE;
        options.watch_idle = Duration::from_secs(4);
        options.attempt_timeout = Duration::from_secs(2);
        options.patience = Duration::from_secs(1);
        options.backoff_max = Duration::from_secs(1);
        let registry = Arc::new(BowlineRegistry::new([channel.caller().unwrap()], options).unwrap());
        Client { registrar: Arc::clone(&registry) as Arc<_>, discovery: registry }
    }

    async fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill();
        process.ended().await;
    }

    async fn start_again(&mut self) {
        self.run().await;
    }

    fn wipe(&mut self) {}

    async fn pause(&self) {
        self.process().pause();
    }

    fn resume(&self) {
        self.process().resume();
    }
}
