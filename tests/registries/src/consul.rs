//! Consul.

use std::sync::Arc;
use std::time::Duration;

use bowline_client::{Channel, ChannelOptions, HttpVersion};
use bowline_registry_consul::{ConsulRegistry, Options};
use bowline_testkit::Server;

use crate::{Backend, Client, GRACE, LEASE, LastDeath};

/// Consul, one server that is the agent too.
#[derive(Debug)]
pub struct Consul(Server);

/// A client of the agent at `HOST:PORT`.
pub fn consul_client(address: &str, options: Options) -> Arc<ConsulRegistry> {
    let channel = ChannelOptions {
        http: HttpVersion::Http1,
        http1_connections: ConsulRegistry::CONNECTIONS,
        ..ChannelOptions::default()
    };
    let channel = Channel::builder(format!("http://{address}")).options(channel).build().unwrap();
    Arc::new(ConsulRegistry::new(channel, address, options).unwrap())
}

fn client(address: &str, ttl: Duration) -> Client {
    let mut options = Options::default();
    options.ttl = ttl;
    options.grace = GRACE;
    options.wait = Duration::from_secs(2);
    options.attempt_timeout = Duration::from_secs(2);
    options.patience = Duration::from_secs(1);
    options.backoff_max = Duration::from_secs(1);
    let registry = consul_client(address, options);
    Client { registrar: Arc::clone(&registry) as Arc<_>, discovery: registry }
}

impl Backend for Consul {
    const LAST_DEATH: LastDeath = LastDeath::Kept;

    fn missing() -> Option<&'static str> {
        (!bowline_testkit::has_consul()).then_some("there is no Consul; run: cargo xtask tools")
    }

    async fn start() -> Self {
        Self(bowline_testkit::consul().await.unwrap())
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn client_at(&self, address: &str) -> Client {
        client(address, LEASE)
    }

    /// An agent writes each registration, and each check that runs out or recovers, to the servers and waits, one after the other:
    /// on a slow disk some hundred a second. Renewals wait meanwhile, so that a thousand at once would run out within 3 s, and
    /// their recovery would keep it busy for ever.
    fn client_for_a_crowd(&self) -> Client {
        client(&self.address(), LEASE * 10)
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
