//! Finding services by DNS: for consumers that know nothing but names.
//!
//! The node is authoritative for the zone `bowline.` and for nothing else; a resolver forwards that zone to it.
//!
//! | name | records |
//! |---|---|
//! | `SERVICE.ENV.NAMESPACE.bowline.` | A, AAAA: the addresses of its instances; SRV: with port and weight |
//! | `TENANT._tenant.SERVICE.…` | the tenant's own instances, else the base's; without it, the base's |
//! | `ZONE._zone.SERVICE.…` | the instances of the zone, else all |
//! | `_PORT._tcp.SERVICE.…` | the same as without: an instance's endpoints all serve every protocol |
//! | `ip-10-0-0-1.addr.bowline.` | the address that the name spells: what SRV records point to |
//!
//! Only instances that are up and have a weight are told, at most [`DnsConfig::answers`] of them, drawn at random. Hosts that
//! are names appear in SRV records only. Letter case does not count, so names with capitals cannot be found. A service that was
//! never heard of is NXDOMAIN; one without usable instances has no records. A node that does not know yet what there is answers
//! SERVFAIL. What does not fit into a UDP answer is truncated,
//! and asked again over TCP.

mod answer;
mod name;
mod serve;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use serve::Dns;

/// How names are served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// Where to listen, over UDP and TCP. Resolvers expect port 53; a forwarding one takes any.
    pub listen: SocketAddr,
    /// How long an answer may be remembered. 5 s: a consumer by DNS hears of a departure that much later.
    #[serde(default = "five_seconds", with = "bowline_config::duration")]
    pub ttl: Duration,
    /// The most instances in one answer. 32.
    #[serde(default = "thirty_two")]
    pub answers: usize,
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

const fn thirty_two() -> usize {
    32
}

impl DnsConfig {
    /// The defaults, at an address.
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, ttl: five_seconds(), answers: thirty_two() }
    }
}
