//! Channels to services.
//!
//! A [`Channel`] follows where a service's instances are, keeps connections to them, and picks one per request. A call goes,
//! outside in: metrics → canary and mirror → context out (deadline, ids, trace, metadata) → throttle and breaker → attempts
//! within the budget → pick → connection. What a server provably did not begin (a refused stream, a GOAWAY, a connection that
//! could not be made) is sent again elsewhere without anybody noticing; what it may have begun is sent again only if it
//! may be done twice.
//!
//! | file | what |
//! |---|---|
//! | `channel` | a call, from its metrics to its answer |
//! | `rules`, `govern` | what counts for an operation; how often a call is sent, and when |
//! | `answers` | answers that are shared, kept, or stood in for |
//! | `attempt` | one request to one instance, how far it came, and the loop that sends again what was not begun |
//! | `measuring` | what the end of a request tells of its instance |
//! | `nodes`, `keeper` | the index of instances, and the one task that builds it, judges instances and probes them |
//! | `node`, `connection`, `connect` | an instance's connections |
//!
//! How instances are chosen is said by [`Balance`], and in docs/balancing.md.

mod answers;
mod attempt;
mod balance;
mod channel;
mod connect;
mod connection;
mod govern;
mod headers;
mod keeper;
mod measuring;
mod mirror;
mod node;
mod nodes;
mod options;
mod passing;
mod policies;
mod probe;
mod rules;
mod signals;
mod timed;
mod tls;

pub use balance::{Balance, Mirroring, PickerKind};
pub use channel::{Channel, ChannelBuilder, ChannelFactory};
pub use options::{ChannelOptions, HttpVersion};
pub use policies::ClientPolicies;
pub use tls::ClientTls;

pub use bowline_balance::{ActiveProbes, Canary, Ejection, LEAST, SLOT, SlowStart, ZonePolicy, Zones};
