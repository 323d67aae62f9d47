//! Real servers for tests.
//!
//! A [`Server`] runs on free ports of loopback and in a temporary directory of its own. It can be killed, stopped (as a
//! machine that hangs) and started again on the same ports and data; dropping it ends it and removes its data.
//!
//! | function | server | Debian packages |
//! |---|---|---|
//! | [`etcd`] | etcd, one member | `etcd-server` |
//! | [`zookeeper`] | ZooKeeper, standalone | `zookeeper` |
//! | [`rnacos`] | r-nacos, one server | none: the program is looked for on `PATH` |
//!
//! A [`Relay`] is a way to a server that can break while the server lives.
//!
//! Where one is missing, the error names the line that installs it.
//!
//! ```no_run
//! # async fn example() -> bowline_core::Result<()> {
//! let mut etcd = bowline_testkit::etcd().await?;
//! let address = etcd.address(); // 127.0.0.1:PORT
//! etcd.kill().await?;
//! etcd.start().await?; // the same address, the same data
//! # Ok(())
//! # }
//! ```

mod port;
mod recipe;
mod relay;
mod server;

pub use port::free_port;
pub use relay::Relay;
pub use server::Server;

use bowline_core::Result;

/// Starts etcd and waits until it answers.
///
/// # Errors
/// If the package is missing, or it does not answer within a minute: with the end of its log.
pub async fn etcd() -> Result<Server> {
    Server::run(recipe::ETCD).await
}

/// Starts ZooKeeper and waits until it answers. Its tick is 500 ms, so that sessions can be as short as a second.
///
/// # Errors
/// If the package is missing, or it does not answer within a minute: with the end of its log.
pub async fn zookeeper() -> Result<Server> {
    Server::run(recipe::ZOOKEEPER).await
}

/// Starts r-nacos, which speaks Nacos' protocols, and waits until it answers over HTTP. Its ports are those of HTTP, gRPC and
/// the console. It listens on all addresses of the machine, which cannot be set.
///
/// # Errors
/// If the program is missing ([`has_rnacos`]), or it does not answer within a minute: with the end of its log.
pub async fn rnacos() -> Result<Server> {
    Server::run(recipe::RNACOS).await
}

/// Whether r-nacos can be started here.
pub fn has_rnacos() -> bool {
    recipe::rnacos().is_some()
}
