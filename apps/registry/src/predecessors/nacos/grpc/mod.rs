//! Nacos' gRPC: requests and pushes over connections that stand for their clients.
//!
//! A connection is a TCP connection: requests on it are those of the client that set the stream up on it. What the client
//! registers is renewed for as long as the stream lives, and runs out [`NacosConfig::lease`] later, so that a client that
//! comes back in time loses nothing. Everything that is told to a client, and every bound on it, is the stream's: nothing
//! runs for a connection besides. A stream that waits for a client to take something is not run at all; its server resets it
//! then, after the same patience.

mod connection;
mod requests;
mod server;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

use bowline_core::{Error, Result};
use serde::{Deserialize, Serialize};

pub use server::Nacos;

/// How Nacos' gRPC is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NacosConfig {
    /// Where to listen. Clients know the port of HTTP alone, and take this one to be 1000 above it.
    pub listen: SocketAddr,
    /// How long an instance outlives its connection. 15 s: clients are back within seconds.
    #[serde(default = "lease", with = "bowline_config::duration")]
    pub lease: Duration,
    /// A client that was silent for this long is asked whether it is there. 20 s, as in Nacos; its clients say something
    /// every 5 s.
    #[serde(default = "idle", with = "bowline_config::duration")]
    pub idle: Duration,
    /// A connection that leaves something unanswered for this long is cut, or takes nothing of what it is sent; and one that was
    /// asked to go. 10 s.
    #[serde(default = "patience", with = "bowline_config::duration")]
    pub patience: Duration,
    /// Connections at a time; further ones wait. 10 000.
    #[serde(default = "ten_thousand")]
    pub connections: usize,
    /// Instances of one connection. 1 000.
    #[serde(default = "thousand")]
    pub instances_per_connection: usize,
    /// Services that one connection is subscribed to. 1 000.
    #[serde(default = "thousand")]
    pub subscriptions_per_connection: usize,
}

const fn lease() -> Duration {
    Duration::from_secs(15)
}

const fn idle() -> Duration {
    Duration::from_secs(20)
}

const fn patience() -> Duration {
    Duration::from_secs(10)
}

const fn ten_thousand() -> usize {
    10_000
}

const fn thousand() -> usize {
    1_000
}

impl NacosConfig {
    /// The defaults, at an address.
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            lease: lease(),
            idle: idle(),
            patience: patience(),
            connections: ten_thousand(),
            instances_per_connection: thousand(),
            subscriptions_per_connection: thousand(),
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid_argument(format!("the settings of `nacos`: {what}")));
        for (name, time) in [("lease", self.lease), ("idle", self.idle), ("patience", self.patience)] {
            if time.is_zero() {
                return wrong(&format!("`{name}` is 0; leave it out for its default"));
            }
        }
        for (name, limit) in [
            ("connections", self.connections),
            ("instances_per_connection", self.instances_per_connection),
            ("subscriptions_per_connection", self.subscriptions_per_connection),
        ] {
            if limit == 0 {
                return wrong(&format!("`{name}` is 0, so nothing would be accepted; use 1 or more"));
            }
        }
        Ok(())
    }
}
