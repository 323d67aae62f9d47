//! What a connection may ask for.

use std::time::Duration;

/// Bounds on connections and requests, all on by default.
///
/// ```
/// use bowline_server::Limits;
///
/// let limits = Limits { max_connections: 100, ..Limits::default() };
/// assert_eq!(limits.header_bytes, 16 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel's backlog. 10 000.
    pub max_connections: usize,
    /// Time for a TLS handshake. 10 s.
    pub handshake_timeout: Duration,
    /// Time for the head of a request, from its first byte, and of the first one from the connection's start. 10 s.
    pub header_timeout: Duration,
    /// Bytes of a request's head. 16 KiB: the most that common proxies send.
    pub header_bytes: u32,
    /// Headers of a request. 100, hyper's default.
    pub header_count: usize,
    /// Bytes of a message, where the method has no limit of its own. 4 MiB, as in gRPC's implementations.
    pub body_bytes: usize,
    /// Bytes of messages that have not arrived completely, over all connections. 256 MiB: 64 of the largest at a time.
    pub unfinished_bytes: usize,
    /// HTTP/2 streams at a time on a connection. 250.
    pub concurrent_streams: u32,
    /// Streams a peer may open and reset before they were accepted; more ends the connection (the rapid-reset attack,
    /// CVE-2023-44487). 20, h2's default.
    pub pending_resets: usize,
    /// Streams that we reset for a peer's errors before the connection ends. 1024, h2's default.
    pub error_resets: usize,
    /// A connection without requests ends after this. 5 min.
    pub idle_timeout: Duration,
    /// A connection is asked to end (GOAWAY) at this age, so that load spreads to new instances; give or take 10 %, so
    /// that not all do at once. 30 min.
    pub max_age: Duration,
    /// How long such a connection may still finish its requests. 30 s.
    pub age_grace: Duration,
    /// A peer that takes nothing of an answer for this long, though it asked for it, has it cut off: over HTTP/2 the stream is
    /// reset, over HTTP/1 the connection ends. 60 s, as nginx's `send_timeout`.
    pub write_timeout: Duration,
    /// HTTP/2 pings on a quiet connection. 30 s.
    pub ping_interval: Duration,
    /// A connection whose ping is not answered in this time is dead. 10 s.
    pub ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            header_count: 100,
            body_bytes: bowline_rpc::DEFAULT_BODY_LIMIT,
            unfinished_bytes: 256 * 1024 * 1024,
            concurrent_streams: 250,
            pending_resets: 20,
            error_resets: 1024,
            idle_timeout: Duration::from_secs(300),
            max_age: Duration::from_secs(1800),
            age_grace: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
        }
    }
}
