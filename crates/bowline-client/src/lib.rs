//! Channels to services.
//!
//! A [`Channel`] follows where a service's instances are, keeps connections to them, and picks one per request. A call goes,
//! outside in: metrics → context out (deadline, ids, trace, metadata) → pick → connection. What a server provably did not
//! begin (a refused stream, a GOAWAY, a connection that could not be made) is sent again elsewhere without anybody noticing;
//! what it may have begun is not.

mod channel;
mod connect;
mod connection;
mod headers;
mod node;
mod nodes;
mod options;
mod tls;

pub use channel::{Channel, ChannelBuilder, ChannelFactory};
pub use options::{ChannelOptions, HttpVersion};
pub use tls::ClientTls;
