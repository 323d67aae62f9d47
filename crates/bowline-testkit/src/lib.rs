//! Real servers for tests.
//!
//! A [`Server`] runs on free ports of loopback and in a temporary directory of its own. It can be killed, stopped (as a
//! machine that hangs) and started again on the same ports and data; dropping it ends it and removes its data.
//!
//! | function | server | Debian packages |
//! |---|---|---|
//! | [`etcd`] | etcd, one member | `etcd-server` |
//! | [`zookeeper`] | ZooKeeper, standalone | `zookeeper` |
//! | [`consul`] | Consul, one server | none; `cargo xtask tools` builds it |
//! | [`eureka`] | Spring Cloud's Eureka server, without its caches and self-preservation | `default-jre-headless`; `cargo xtask tools` builds it |
//! | [`kubernetes`] | Kubernetes' API server, over an etcd of its own | `etcd-server`; `cargo xtask tools` builds the API server |
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

mod kubernetes;
mod port;
mod recipe;
mod relay;
mod server;
mod tls;

pub use kubernetes::Kubernetes;
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

/// Starts Consul, as a server with a directory of its own, and waits until it has a leader.
///
/// # Errors
/// If it is not built, or does not answer within a minute: with the end of its log.
pub async fn consul() -> Result<Server> {
    Server::run(recipe::CONSUL).await
}

/// As [`consul`], with access lists that let nobody do anything without a token. With the server comes the token that may do
/// everything.
///
/// # Errors
/// As [`consul`].
pub async fn consul_with_token() -> Result<(Server, &'static str)> {
    Ok((Server::run(recipe::CONSUL_WITH_TOKEN).await?, recipe::CONSUL_TOKEN))
}

/// Whether `cargo xtask tools` has built Consul here.
pub fn has_consul() -> bool {
    recipe::has_tool("consul")
}

/// Starts Spring Cloud's Eureka server and waits until it answers, at `/eureka`. It has no data that outlives it.
///
/// # Errors
/// If it is not built, or does not answer within a minute: with the end of its log.
pub async fn eureka() -> Result<Server> {
    Server::run(recipe::EUREKA).await
}

/// Whether `cargo xtask tools` has built Eureka's server here.
pub fn has_eureka() -> bool {
    recipe::has_tool("eureka-server.jar")
}

/// Starts Kubernetes' API server over an etcd of its own, and waits until it is ready.
///
/// # Errors
/// If it is not built, or does not answer within a minute: with the end of its log.
pub async fn kubernetes() -> Result<Kubernetes> {
    Kubernetes::run().await
}

/// As [`kubernetes`], with an API server that watches etcd itself for each watch: it knows no more of the past than that does, and
/// tells nobody how far it is.
///
/// # Errors
/// As [`kubernetes`].
pub async fn kubernetes_without_cache() -> Result<Kubernetes> {
    Kubernetes::run_without_cache().await
}

/// Whether `cargo xtask tools` has built Kubernetes' API server here.
pub fn has_kubernetes() -> bool {
    recipe::has_tool("kube-apiserver")
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
