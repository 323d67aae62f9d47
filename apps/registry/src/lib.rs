//! The registry node: services announce themselves here and find each other.
//!
//! A [`Node`] is the API over a [`store::Store`], which is a pure state machine. It answers the gRPC service
//! `bowline.registry.v1.Registry` and the same over HTTP, with long polls for who cannot stream.
//!
//! It answers the protocols of its predecessors too: bilibili discovery, Eureka and Nacos ([`Node::predecessors`], [`Nacos`]).
//!
//! What a node holds is in memory only. After a restart it has a new *epoch*; it learns from the other nodes of its
//! [`Cluster`] what there is, and if there is none, everybody registers again within a heartbeat. Watchers see the new epoch
//! and keep the instances that have not come back yet for a while.

mod access;
mod api;
mod checks;
mod cluster;
mod config;
mod disk;
mod dns;
mod keep_alive;
mod node;
pub mod peers;
mod predecessors;
mod process;
pub mod store;
mod watch;
mod wire;

pub use access::{AccessConfig, Grant, Right, Token};
pub use cluster::{Cluster, ClusterConfig, ClusterTls};
pub use config::{Config, Limits};
pub use disk::DiskConfig;
pub use dns::{Dns, DnsConfig};
pub use node::{Node, Stats};
pub use predecessors::nacos::grpc::{Nacos, NacosConfig};
pub use process::{INSECURE, ProcessConfig, run};

#[allow(missing_docs, unreachable_pub, elided_lifetimes_in_paths, clippy::all, reason = "generated")]
mod proto {
    bowline_rpc::include_api!();
}
