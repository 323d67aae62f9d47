//! ZooKeeper.

use std::sync::Arc;
use std::time::Duration;

use bowline_registry_zookeeper::{Options, ZookeeperRegistry};
use bowline_testkit::Server;

use crate::{Backend, Client, GRACE, LEASE, LastDeath};

/// ZooKeeper, one server.
#[derive(Debug)]
pub struct Zookeeper(Server);

impl Backend for Zookeeper {
    const LAST_DEATH: LastDeath = LastDeath::Kept;

    async fn start() -> Self {
        Self(bowline_testkit::zookeeper().await.unwrap())
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn client_at(&self, address: &str) -> Client {
        let (servers, mut options) = Options::from_url(&format!("zookeeper://{address}")).unwrap();
        options.ttl = LEASE;
        options.grace = GRACE;
        options.attempt_timeout = Duration::from_secs(2);
        options.patience = Duration::from_secs(1);
        options.backoff_max = Duration::from_secs(1);
        let registry = Arc::new(ZookeeperRegistry::new(&servers, options).unwrap());
        Client { registrar: Arc::clone(&registry) as Arc<_>, discovery: registry }
    }

    async fn kill(&mut self) {
        self.0.kill().await.unwrap();
    }

    async fn start_again(&mut self) {
        self.0.start().await.unwrap();
    }

    fn wipe(&mut self) {
        self.0.wipe().unwrap();
    }

    async fn pause(&self) {
        self.0.pause().await.unwrap();
    }

    fn resume(&self) {
        self.0.resume().unwrap();
    }
}
