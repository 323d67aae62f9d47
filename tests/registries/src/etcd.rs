//! etcd.

use std::sync::Arc;
use std::time::Duration;

use bowline_client::Channel;
use bowline_registry_etcd::{EtcdRegistry, Options};
use bowline_testkit::Server;

use crate::{Backend, Client, GRACE, LEASE, LastDeath};

/// etcd, one member.
#[derive(Debug)]
pub struct Etcd(Server);

impl Backend for Etcd {
    const LAST_DEATH: LastDeath = LastDeath::Kept;

    async fn start() -> Self {
        Self(bowline_testkit::etcd().await.unwrap())
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn client_at(&self, address: &str) -> Client {
        let channel = Channel::builder(format!("http://{address}")).build().unwrap();
        let mut options = Options::default();
        options.ttl = LEASE;
        options.grace = GRACE;
        options.watch_idle = Duration::from_secs(4);
        options.attempt_timeout = Duration::from_secs(2);
        options.patience = Duration::from_secs(1);
        options.backoff_max = Duration::from_secs(1);
        let registry = Arc::new(EtcdRegistry::new(channel, options).unwrap());
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
