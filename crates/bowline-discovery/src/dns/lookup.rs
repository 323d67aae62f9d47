//! What is asked of a name server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::Result;

use crate::BoxFuture;

/// Asks a name server once. [`SystemLookup`](crate::SystemLookup) is the real one.
pub trait Lookup: Send + Sync + 'static {
    /// The addresses of a host: its A and AAAA records. An IP address is its own answer.
    ///
    /// # Errors
    /// When there was no answer. "There are no such records" is an answer without records.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer<IpAddr>>>;

    /// The SRV records of a name.
    ///
    /// # Errors
    /// As [`Lookup::addresses`].
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Answer<ServiceRecord>>>;
}

/// What a name server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records; none if the name has none or does not exist.
    pub records: Vec<T>,
    /// For how long it holds.
    pub ttl: Duration,
}

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Lower is better.
    pub priority: u16,
    /// The share among records of one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host.
    pub target: Arc<str>,
}
