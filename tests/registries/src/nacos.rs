//! Nacos: r-nacos, and our own registry by Nacos' protocol.

use std::sync::Arc;
use std::time::Duration;

use bowline_registry_nacos::{NacosRegistry, Options};
use bowline_testkit::Server;

use crate::{Backend, Bowline, Client, GRACE, LEASE, LastDeath};

fn client_at(address: &str) -> Client {
    let mut options = Options::default();
    // The address is that of gRPC: a relay in between has a port of any number.
    options.offset = 0;
    options.check = LEASE;
    options.grace = GRACE;
    options.watch_idle = Duration::from_secs(3);
    options.attempt_timeout = Duration::from_secs(2);
    options.patience = Duration::from_secs(1);
    options.backoff_max = Duration::from_secs(1);
    let server = format!("http://{address}").parse().unwrap();
    let registry = Arc::new(NacosRegistry::new(vec![server], options).unwrap());
    Client { registrar: Arc::clone(&registry) as Arc<_>, discovery: registry }
}

/// r-nacos, one server.
#[derive(Debug)]
pub struct Rnacos(Server);

impl Backend for Rnacos {
    const LAST_DEATH: LastDeath = LastDeath::Untold;
    const NEEDS_ADDRESS: bool = true;
    // Each has a connection.
    const MANY: u16 = 100;

    fn missing() -> Option<&'static str> {
        (!bowline_testkit::has_rnacos()).then_some("rnacos is not on PATH: run the tests by cargo xtask test")
    }

    async fn start() -> Self {
        Self(bowline_testkit::rnacos().await.unwrap())
    }

    fn address(&self) -> String {
        self.0.address_at(1)
    }

    fn client_at(&self, address: &str) -> Client {
        client_at(address)
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

/// Our own registry, spoken to as a Nacos.
#[derive(Debug)]
pub struct BowlineNacos(Bowline);

impl Backend for BowlineNacos {
    const LAST_DEATH: LastDeath = LastDeath::Untold;
    const NEEDS_ADDRESS: bool = true;
    // Each has a connection.
    const MANY: u16 = 100;

    async fn start() -> Self {
        Self(Bowline::start().await)
    }

    fn address(&self) -> String {
        self.0.nacos()
    }

    fn client_at(&self, address: &str) -> Client {
        client_at(address)
    }

    async fn kill(&mut self) {
        self.0.kill().await;
    }

    async fn start_again(&mut self) {
        self.0.start_again().await;
    }

    fn wipe(&mut self) {}

    async fn pause(&self) {
        self.0.pause().await;
    }

    fn resume(&self) {
        self.0.resume();
    }
}
