//! Bowline's own registry: its API, and the adapter to it.
//!
//! [`BowlineRegistry`] registers instances and keeps them alive, and watches services, through the API that
//! `bowline-registry` serves ([`api`]).
//!
//! # When the registry fails
//!
//! | what happens | what the watchers see | what becomes of registrations |
//! |---|---|---|
//! | it cannot be reached | the last list, stale since then | attempts go on for ever |
//! | it is back | the list, live again | renewed, or made again if their leases ran out |
//! | it restarted and knows nobody | the last list, stale, for a grace; who comes back meanwhile is live | made again at once |
//! | it restarted, and nobody has come back within the grace | the last list, stale, until somebody does | |
//! | it restarted and says that an instance went | the list without that one | |
//! | it has just started, and nothing was known | nothing yet, for a grace | |
//! | changes are lost on the way | the last list, until a new stream brought the whole list | |
//!
//! Changes carry revisions and a digest of the whole list, so that nothing goes missing unnoticed.

mod agent;
mod asking;
mod convert;
mod inner;
mod keeper;
pub mod names;
mod nodes;
mod options;
mod registry;
mod session;
mod slots;
mod slotted;
mod subscriptions;
mod view;

/// The API of the registry, generated from `bowline/registry/v1/registry.proto`.
pub mod api {
    bowline_rpc::include_api!();
}

pub use options::Options;
pub use registry::BowlineRegistry;
pub use slots::SlotLease;
pub use slotted::WithSlot;
