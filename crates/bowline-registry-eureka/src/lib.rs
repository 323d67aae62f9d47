//! Eureka as a registry.
//!
//! [`EurekaRegistry`] registers instances at servers of Eureka and watches services there, over REST with JSON: Netflix' own,
//! Spring Cloud's, and Bowline's registry, which speaks it too. Instances of Spring Cloud are found, and find ours.
//!
//! # When Eureka fails
//!
//! | what happens | what the watchers see | what becomes of registrations |
//! |---|---|---|
//! | it cannot be reached, or hangs | the last list, stale since then | attempts go on for ever, at the next server |
//! | it is back | the list, live again | renewed, or made again |
//! | it is back without its data, as after each start | the last list, stale, for a grace; who comes back meanwhile is live | made again at their next renewal |
//! | an instance is not renewed | it is gone, after twice its lease | |
//! | the last instance says that it is down, and is cancelled | no instance: somebody removed it | |
//! | the last instance expires, or is cancelled while it is up | the last list, stale: it died, or lost Eureka as others may have | |
//!
//! Eureka tells for three minutes who went, but not why. So who deregisters here says that it is down first, as Netflix' client
//! does.
//!
//! The protocol's facts are those of github.com/Netflix/eureka.

mod apps;
mod client;
mod form;
mod options;
mod poller;
mod registry;
mod source;

pub use bowline_discovery::Credentials;
pub use options::Options;
pub use registry::EurekaRegistry;
