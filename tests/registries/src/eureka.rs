//! Eureka: Spring Cloud's server, and our own registry by Eureka's protocol.

use std::sync::Arc;
use std::time::Duration;

use bowline_client::{Channel, ChannelOptions, HttpVersion};
use bowline_registry_eureka::{EurekaRegistry, Options};
use bowline_testkit::Server;

use crate::{Backend, Bowline, Client, GRACE, LEASE, LastDeath};

/// Spring Cloud's Eureka server. It holds everything in memory, so that every restart is one without data.
#[derive(Debug)]
pub struct Eureka(Server);

/// Our own registry, spoken to as Eureka.
#[derive(Debug)]
pub struct BowlineAsEureka(Bowline);

/// A client of the servers at these `HOST:PORT`.
pub fn eureka_client(addresses: &[&str], options: Options) -> Arc<EurekaRegistry> {
    let server = |address: &&str| {
        let http = ChannelOptions { http: HttpVersion::Http1, ..ChannelOptions::default() };
        let channel = Channel::builder(format!("http://{address}")).options(http).build().unwrap();
        (channel, (*address).to_owned())
    };
    Arc::new(EurekaRegistry::new(addresses.iter().map(server), options).unwrap())
}

fn client(address: &str) -> Client {
    let mut options = Options::default();
    options.ttl = LEASE;
    options.fetch = Duration::from_millis(500);
    options.grace = GRACE;
    options.attempt_timeout = Duration::from_secs(2);
    options.patience = Duration::from_secs(1);
    options.backoff_max = Duration::from_secs(1);
    let registry = eureka_client(&[address], options);
    Client { registrar: Arc::clone(&registry) as Arc<_>, discovery: registry }
}

impl Backend for Eureka {
    const LAST_DEATH: LastDeath = LastDeath::Kept;

    fn missing() -> Option<&'static str> {
        (!bowline_testkit::has_eureka()).then_some("there is no server of Eureka; run: cargo xtask tools")
    }

    async fn start() -> Self {
        Self(bowline_testkit::eureka().await.unwrap())
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn client_at(&self, address: &str) -> Client {
        client(address)
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

impl Backend for BowlineAsEureka {
    /// The protocol does not tell what the registry knows.
    const LAST_DEATH: LastDeath = LastDeath::Kept;

    async fn start() -> Self {
        Self(Bowline::start().await)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn client_at(&self, address: &str) -> Client {
        client(address)
    }

    async fn kill(&mut self) {
        self.0.kill().await;
    }

    async fn start_again(&mut self) {
        self.0.start_again().await;
    }

    fn wipe(&mut self) {
        self.0.wipe();
    }

    async fn pause(&self) {
        self.0.pause().await;
    }

    fn resume(&self) {
        self.0.resume();
    }
}
