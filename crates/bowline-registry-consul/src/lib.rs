//! Consul as a registry.
//!
//! [`ConsulRegistry`] registers instances at an agent and watches services in its catalog, in the form of Go's Kratos: the version
//! as a tag, an address for each scheme, the rest as metadata. Instances registered by either are found by both; of what others
//! register, the address and the port are taken.
//!
//! # When Consul fails
//!
//! | what happens | what the watchers see | what becomes of registrations |
//! |---|---|---|
//! | the agent cannot be reached, hangs, or has no leader | the last list, stale since then | attempts go on for ever |
//! | it is back | the list, live again | renewed, or made again |
//! | it is back without its data | the last list, stale, for a grace; who comes back meanwhile is live | made again |
//! | an instance is not renewed, or another of its checks fails | it is gone | |
//! | an operator puts it into maintenance | it is out of service | |
//! | the last instance is deregistered | no instance: somebody removed it | |
//! | the last instance fails | the last list, stale: it died, or lost its agent as others may have | |
//!
//! Consul lists failing instances for a while (`forget_after`), so that a death is told from a removal.
//!
//! An identifier is an agent's own: with one agent for all, an instance's id has to be one among those of all services. Two
//! processes with one id at one agent are one instance, that of the later one; at two agents, which of the two counts is left open.

mod client;
mod form;
mod options;
mod registry;
mod source;

pub use options::Options;
pub use registry::ConsulRegistry;
