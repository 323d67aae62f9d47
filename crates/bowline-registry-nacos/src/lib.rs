//! Nacos as a registry.
//!
//! [`NacosRegistry`] registers instances and watches services in Nacos 2 and 3 over gRPC, in the layout of Go's Kratos: one
//! of Nacos' instances for each protocol that an endpoint takes, in services named `NAME.grpc` and `NAME.http` (`NAME.grpcs`
//! and `NAME.https` with TLS), with `kind` and `version` in the metadata. Instances registered by either are found by both;
//! those that others registered as `NAME`, such as Spring's, are found too.
//!
//! | [`Instance`](bowline_core::Instance) | Nacos |
//! |---|---|
//! | first `http` or `https` endpoint | ip and port; an instance without one has no place |
//! | weight | weight, as Kratos counts it: 100 is the default; that of `NAME` alone counts 1.0 as 100 |
//! | status | weight 0, unless it is up |
//! | version | metadata `version` |
//! | id, environment, zone, cluster, tenant, status, other endpoints, a weight other than 100 | metadata `bowline-…` |
//!
//! In Nacos a client has one instance of a service, and a client is a connection: where a process registers several of one
//! service, each has a connection of its own. r-nacos (0.8) keeps the metadata of the first registration at an address, so
//! that there a change of anything but the weight is not seen.
//!
//! # When Nacos fails
//!
//! | what happens | what the watchers see | what becomes of registrations |
//! |---|---|---|
//! | it cannot be reached, or does not answer | the last list, stale since then | attempts go on for ever |
//! | it is back | what it lists, and for a grace what it does not list yet, stale | made again |
//! | it is back, and within the grace nobody has come back | the last list, stale, until somebody does | |
//! | the last instance goes while the connection lives | no instance | |
//!
//! Nacos does not say why an instance went: it takes one out when it deregisters and when its connection breaks alike.
//!
//! [`api`] has the messages of gRPC, for both sides: `bowline-registry` answers them. [`names`] has what both sides do with
//! names.

pub mod api;
mod convert;
mod login;
pub mod names;
mod options;
mod registry;
mod session;
mod source;
mod view;

pub use bowline_discovery::Credentials;
pub use options::Options;
pub use registry::NacosRegistry;
