//! What a channel may do.

use std::time::Duration;

use crate::{Balance, ClientPolicies, ClientTls};

/// Which HTTP is spoken where TLS does not settle it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// Many requests on one connection; gRPC needs it.
    #[default]
    Http2,
    /// One request at a time on a connection: for old servers behind a gateway.
    Http1,
}

/// Bounds and habits of a channel.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// Time to connect, with TLS and HTTP/2 preface. 1 s: within a region a connection takes milliseconds.
    pub connect_timeout: Duration,
    /// The time a call gets whose context has no deadline. 30 s.
    pub default_timeout: Duration,
    /// HTTP/2 connections to one instance, when streams run out. 4.
    pub connections: usize,
    /// HTTP/1.1 connections to one instance. 64.
    pub http1_connections: usize,
    /// Requests that wait for a stream or a connection of one instance; more are refused with `RESOURCE_EXHAUSTED`. 1000.
    pub pending: usize,
    /// Pings on a connection with requests in flight. 20 s.
    pub ping_interval: Duration,
    /// A connection whose ping is not answered in this time is dead. 5 s.
    pub ping_timeout: Duration,
    /// An idle HTTP/1.1 connection is not used after this, lest the server close it at that moment. 15 s.
    pub http1_idle: Duration,
    /// How an instance is tried again that could not be reached: the first and the longest delay. 100 ms, 5 s.
    pub reconnect: (Duration, Duration),
    /// Who gets a request.
    pub balance: Balance,
    /// What counts for each operation.
    pub policies: ClientPolicies,
    /// The service that calls, as it is told to servers (`x-md-local-caller`), so that they share what they have fairly
    /// among their callers.
    pub caller: Option<String>,
    /// Which HTTP to speak.
    pub http: HttpVersion,
    /// Whom to trust, for `https` endpoints.
    pub tls: Option<ClientTls>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            default_timeout: Duration::from_secs(30),
            connections: 4,
            http1_connections: 64,
            pending: 1000,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(5),
            http1_idle: Duration::from_secs(15),
            reconnect: (Duration::from_millis(100), Duration::from_secs(5)),
            balance: Balance::default(),
            policies: ClientPolicies::default(),
            caller: None,
            http: HttpVersion::Http2,
            tls: None,
        }
    }
}
