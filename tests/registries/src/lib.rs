//! What every registry adapter has to do, shown with its real server.
//!
//! A [`Backend`] is an adapter with its server behind it; [`conformance!`] makes the tests of [`suite`] for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "support of tests")]

mod bowline;
mod consul;
mod etcd;
mod eureka;
mod kubernetes;
mod nacos;
pub mod suite;
mod zookeeper;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bowline_discovery::{Discovery, Registrar};

pub use crate::bowline::Bowline;
pub use crate::consul::{Consul, consul_client};
pub use crate::etcd::Etcd;
pub use crate::eureka::{BowlineAsEureka, Eureka, eureka_client};
pub use crate::kubernetes::{Kubernetes, KubernetesApi, kubernetes_client, kubernetes_options};
pub use crate::nacos::{BowlineNacos, Rnacos};
pub use crate::zookeeper::Zookeeper;

/// The lease of every registration in these tests.
pub const LEASE: Duration = Duration::from_secs(3);
/// For how long instances are kept that a registry without its data does not list.
pub const GRACE: Duration = Duration::from_secs(6);

/// What the watchers see when the last instance of a service dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastDeath {
    /// It stays, stale: the registry does not know more than that nobody renewed a lease.
    Kept,
    /// There is none, as if it was removed: the registry does not tell one from the other.
    Untold,
}

/// One client of a registry: what a process would have.
#[derive(Clone)]
#[expect(missing_docs, reason = "they are called what they are")]
pub struct Client {
    pub registrar: Arc<dyn Registrar>,
    pub discovery: Arc<dyn Discovery>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// An adapter with a real server behind it.
pub trait Backend: Sized + Send {
    /// What it does when the last instance dies.
    const LAST_DEATH: LastDeath;
    /// Whether it keeps only instances with a host and a port.
    const NEEDS_ADDRESS: bool = false;
    /// How many instances of one service a process may well have.
    const MANY: u16 = 1_000;

    /// Why its server cannot be had here, if so: the tests are skipped then, and say it.
    fn missing() -> Option<&'static str> {
        None
    }
    /// Starts the server and waits until it answers.
    fn start() -> impl Future<Output = Self> + Send;
    /// Where clients connect: `HOST:PORT`.
    fn address(&self) -> String;
    /// A client that connects there.
    fn client_at(&self, address: &str) -> Client;
    /// A client.
    fn client(&self) -> Client {
        self.client_at(&self.address())
    }
    /// A client for a thousand registrations: with a longer lease than [`LEASE`] where the server takes so many only at a pace of its
    /// own.
    fn client_for_a_crowd(&self) -> Client {
        self.client()
    }
    /// Ends the server as `kill -9` does.
    fn kill(&mut self) -> impl Future<Output = ()> + Send;
    /// Starts it again, with what data it kept.
    fn start_again(&mut self) -> impl Future<Output = ()> + Send;
    /// Removes its data, while it does not run.
    fn wipe(&mut self);
    /// Stops the server without ending it.
    fn pause(&self) -> impl Future<Output = ()> + Send;
    /// Lets it go on.
    fn resume(&self);
}

/// The tests of [`suite`] for a [`Backend`]: all, or those that are named.
#[macro_export]
macro_rules! conformance {
    ($backend:ty: $($test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                match <$backend as $crate::Backend>::missing() {
                    Some(why) => println!("skipped: {why}"),
                    None => $crate::suite::$test::<$backend>().await,
                }
            }
        )*
    };
    ($backend:ty) => {
        $crate::conformance!($backend:
            a_watcher_sees_who_registers_changes_and_deregisters,
            every_field_of_an_instance_goes_there_and_back,
            who_vanishes_is_gone_after_its_lease,
            the_death_of_the_last_one_is_told_from_its_removal,
            a_restarted_registry_loses_nobody,
            a_registry_without_its_data_is_filled_again_and_nobody_is_lost_meanwhile,
            an_empty_registry_does_not_empty_a_list,
            while_the_registry_is_gone_the_last_list_stays_and_registering_goes_on,
            a_registry_that_hangs_makes_the_list_stale,
            the_later_holder_of_an_id_has_it,
            many_instances_come_stay_and_go,
            what_changed_while_a_connection_was_lost_is_seen_after_it,
        );
    };
}
