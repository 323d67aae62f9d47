//! ZooKeeper as a registry.
//!
//! [`ZookeeperRegistry`] registers instances and watches services in ZooKeeper 3.6 and later, in the layout of Go's Kratos
//! ([`bowline_discovery::kratos`]): the ephemeral node `/microservices/SERVICE/ID` holds an instance as JSON. Instances
//! registered by either are found by both.
//!
//! # When ZooKeeper fails
//!
//! | what happens | what the watchers see | what becomes of registrations |
//! |---|---|---|
//! | it cannot be reached, or is silent for two thirds of the session's time | the last list, stale since then | attempts go on for ever |
//! | it is back | the list, live again | kept by their session, or made again in a new one |
//! | it is back without its data | the last list, stale, for a grace; who comes back meanwhile is live | made again, once the old session's time is over |
//! | the last instance is removed by Bowline | no instance: somebody removed it | |
//! | the last instance goes with its session, or Kratos deletes it | the last list, stale: it died, or lost ZooKeeper as others may have | |
//!
//! ZooKeeper does not say why a node went. So who deregisters here writes the instance's id into the service's node in the same
//! change. Kratos deletes the node alone, which looks as if it died.
//!
//! A registration that is dropped without being deregistered is deleted at once where its process goes on, for the session lives
//! on; with the process it goes once the session's time is over.
//!
//! Nothing is spoken over TLS.
//!
//! The protocol's facts are those of ZooKeeper's `zookeeper.jute` and of its programmer's guide.

mod connection;
mod jute;
mod link;
mod nodes;
mod options;
mod registry;
mod session;
mod source;
mod wire;

pub use bowline_discovery::Credentials;
pub use options::Options;
pub use registry::ZookeeperRegistry;
