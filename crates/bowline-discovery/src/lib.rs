//! Where services are.
//!
//! A service announces itself through a [`Registrar`] and finds others through a [`Discovery`]. What a discovery hands out
//! is a [`Watcher`]: the newest [`Snapshot`] at any moment, without waiting, and a signal when it changes.
//!
//! The rule of this crate is *fail open with the last good*: a registry that is down, or a name server that does not
//! answer, never takes instances away. The last list stays and is marked [`State::Stale`]; only a definite answer of the
//! registry makes a list empty, and then it says why ([`State::Empty`]). The other way round, a cleared list because of a
//! broken registry, has turned many small incidents into total ones.
//!
//! Sources here: [`Memory`] (one process), [`Static`] (a fixed list), [`Dns`] (names, re-resolved by their time to live)
//! and [`DiskSnapshots`], which wraps any other source and lets a process start while its registry is down. Adapters to
//! registries are crates of their own, built on [`Hub`], [`Publisher`] and [`Announcer`].
//!
//! ```
//! use bowline_core::{Context, Endpoint, Instance};
//! use bowline_discovery::{Discovery, Memory, Registrar};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let cx = Context::background();
//! let registry = Memory::new();
//! let watcher = registry.watch("catalog");
//! let instance = Instance::new("catalog", "catalog-1").with_endpoint(Endpoint::http("127.0.0.1", 9001));
//! let registration = registry.register(&cx, instance).await?;
//! assert_eq!(watcher.ready(&cx).await?.instances.len(), 1);
//! registration.deregister(&cx).await?;
//! assert!(watcher.current().instances.is_empty());
//! # Ok::<_, bowline_core::Error>(())
//! # }).unwrap();
//! ```

mod address;
mod announcer;
mod backoff;
mod disk;
mod dns;
mod fixed;
mod hub;
pub mod kratos;
mod ledger;
mod memory;
mod registrar;
mod resolver;
mod snapshot;
mod target;
mod watcher;

pub use address::{Address, AddressForm, Credentials};
pub use announcer::{Announce, Announcer, AnnouncerOptions, Hold};
pub use backoff::Backoff;
pub use disk::{DiskOptions, DiskSnapshots};
pub use dns::{Answer, Dns, Lookup, ServiceRecord, SystemLookup};
pub use fixed::Static;
pub use hub::Hub;
pub use ledger::Ledger;
pub use memory::Memory;
pub use registrar::{BoxFuture, Registrar, Registration};
pub use resolver::Resolver;
pub use snapshot::{Emptiness, Snapshot, State, no_instance};
pub use target::{DnsName, Target};
pub use watcher::{Discovery, Publisher, Watcher};
