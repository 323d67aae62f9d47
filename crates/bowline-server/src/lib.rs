//! The server.
//!
//! A [`Server`] listens, limits, speaks HTTP/1.1 and HTTP/2 on one port, and sends each request through one pipeline,
//! outside in: resolve the operation, admit by the adaptive limit and the operation's policy, make the context → trace, metrics, log ([`layer::observe`]) → contain panics
//! ([`layer::recover`]) → deadline ([`layer::deadline`]) → user middleware → the method. gRPC, gRPC-Web, Connect and REST
//! differ in nothing but the innermost codec and the form of an error.
//!
//! Everything that could be held open without end has a bound that is on by default: see [`Limits`].

mod accept;
mod admin;
mod connection;
mod fallback;
mod guard;
pub mod layer;
mod limits;
mod listen;
mod middleware;
mod pipeline;
mod refusal;
mod remains;
mod request;
mod server;
mod tls;
mod unread;
mod watched;

pub use accept::Connections;
pub use admin::{Admin, AdminOptions, Info};
pub use fallback::Fallback;
pub use limits::Limits;
pub use listen::{ListenAddr, PeerAddr};
pub use middleware::{Middleware, Next};
pub use server::{PolicyHandle, Server, ServerOptions};
pub use tls::Tls;
