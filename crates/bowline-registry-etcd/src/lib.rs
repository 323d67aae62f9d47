//! etcd as a registry.
//!
//! [`EtcdRegistry`] registers instances and watches services in etcd 3.4 and later, in the layout of Go's Kratos
//! ([`bowline_discovery::kratos`]): the key `/microservices/SERVICE/ID` holds an instance as JSON and hangs on a lease.
//! Instances registered by either are found by both.
//!
//! # When etcd fails
//!
//! | what happens | what the watchers see | what becomes of registrations |
//! |---|---|---|
//! | it cannot be reached, or has no leader | the last list, stale since then | attempts go on for ever |
//! | it is back | the list, live again | renewed, or made again if their leases ran out |
//! | it is back without its data | the last list, stale, for a grace; who comes back meanwhile is live | made again |
//! | changes were compacted away | the whole list anew | |
//! | the last instance is removed while its lease lives | no instance: somebody removed it | |
//! | the last instance goes together with its lease | the last list, stale: it died, or lost etcd as others may have | |
//!
//! etcd does not say why a key went. But who deregisters deletes the key and leaves the lease to run out, here as in Kratos,
//! so that a key whose lease still lives was removed on purpose.

pub(crate) mod api {
    #![allow(missing_docs, unreachable_pub, reason = "generated, and nobody's API but etcd's")]
    bowline_rpc::include_api!();
}
mod client;
mod keeper;
mod keys;
mod options;
mod registry;
mod source;
mod view;

pub use bowline_discovery::Credentials;
pub use options::Options;
pub use registry::EtcdRegistry;
