//! Who is connected, and what each of them registered and subscribed to.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_core::{Error, Instant, Result};
use tokio::sync::Notify;

use super::super::names::Name;
use super::super::registry::Registration;
use super::NacosConfig;
use crate::node::Shared;
use crate::store::ServiceKey;
use crate::watch::Watching;

/// All connections that are set up.
pub(super) struct Hub {
    pub(super) shared: Arc<Shared>,
    pub(super) config: NacosConfig,
    connections: Mutex<HashMap<SocketAddr, Arc<Connection>>>,
    count: AtomicU64,
}

/// A client's connection.
pub(super) struct Connection {
    /// Names it, and what it registers, in this life of the node.
    pub(super) name: Arc<str>,
    state: Mutex<State>,
    /// The stream is to look at the subscriptions, or to end.
    pub(super) changed: Notify,
}

/// What a connection has.
#[derive(Default)]
pub(super) struct State {
    /// What it registered, by service and id, with the lease.
    pub(super) published: BTreeMap<(ServiceKey, Arc<str>), Published>,
    subscribed: BTreeMap<Subject, Name>,
    /// Where news of the subscriptions come from; `None` while there are none.
    watching: Option<Arc<Watching>>,
    heard: Option<Instant>,
    /// Another stream was set up on the same connection.
    is_replaced: bool,
}

impl State {
    /// The ids of what it registered of a service.
    pub(super) fn of<'a>(&'a self, key: &'a ServiceKey) -> impl Iterator<Item = &'a Arc<str>> {
        let from = (key.clone(), Arc::from(""));
        self.published.range(from..).map(|(own, _)| own).take_while(move |(k, _)| k == key).map(|(_, id)| id)
    }
}

/// Something registered.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) registration: Arc<Registration>,
    pub(super) lease: u64,
    pub(super) renewed: Instant,
}

/// What is subscribed to: a service, and which clusters of it.
pub(super) type Subject = (ServiceKey, String);

impl Hub {
    pub(super) fn new(shared: Arc<Shared>, config: NacosConfig) -> Self {
        Self { shared, config, connections: Mutex::default(), count: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// What a connection is called before it is set up, and after.
    pub(super) fn name(&self, peer: SocketAddr) -> String {
        format!("{:x}_{}_{}", self.shared.epoch, peer.ip(), peer.port())
    }

    /// The connection of a peer, if it is set up.
    pub(super) fn get(&self, peer: SocketAddr) -> Option<Arc<Connection>> {
        self.lock().get(&peer).cloned()
    }

    /// Sets one up. An earlier stream on the same connection is to end.
    pub(super) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Place {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            name: format!("{}_{number}", self.name(peer)).into(),
            state: Mutex::new(State { heard: Some(self.shared.now()), ..State::default() }),
            changed: Notify::new(),
        });
        if let Some(before) = self.lock().insert(peer, Arc::clone(&connection)) {
            before.state().is_replaced = true;
            before.changed.notify_one();
        }
        Place { hub: Arc::clone(self), peer, connection }
    }
}

/// A connection among all. Dropping it gives it up; what it registered runs out.
pub(super) struct Place {
    hub: Arc<Hub>,
    peer: SocketAddr,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.hub.lock();
        if connections.get(&self.peer).is_some_and(|current| Arc::ptr_eq(current, &self.connection)) {
            connections.remove(&self.peer);
        }
    }
}

impl Connection {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has said something.
    pub(super) fn heard(&self, now: Instant) {
        self.state().heard = Some(now);
    }

    /// When it last said something.
    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.state().heard
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.state().is_replaced
    }

    /// Where news come from.
    pub(super) fn watching(&self) -> Option<Arc<Watching>> {
        self.state().watching.clone()
    }

    /// The subscriptions to a service: its name, and which clusters are wanted.
    pub(super) fn subscriptions(&self, key: &ServiceKey) -> Vec<(Subject, Name)> {
        let state = self.state();
        let from = (key.clone(), String::new());
        let of_key = state.subscribed.range(from..).take_while(|((k, _), _)| k == key);
        of_key.map(|(subject, name)| (subject.clone(), name.clone())).collect()
    }

    /// Subscribes.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if it has too many subscriptions, or the node too many watchers.
    pub(super) fn subscribe(&self, hub: &Hub, subject: Subject, name: Name) -> Result<()> {
        let mut state = self.state();
        if state.subscribed.contains_key(&subject) {
            return Ok(());
        }
        let most = hub.config.subscriptions_per_connection;
        if state.subscribed.len() >= most {
            return Err(Error::resource_exhausted(format!(
                "the connection is subscribed to {most} services; raise `nacos.subscriptions_per_connection` of the registry"
            )));
        }
        let is_new = !state.watches(&subject.0);
        state.subscribed.insert(subject.clone(), name);
        if is_new && let Err(error) = state.watch(hub) {
            state.subscribed.remove(&subject);
            return Err(error);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes a subscription back.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` as [`Connection::subscribe`].
    pub(super) fn unsubscribe(&self, hub: &Hub, subject: &Subject) -> Result<()> {
        let mut state = self.state();
        if state.subscribed.remove(subject).is_none() || state.watches(&subject.0) {
            return Ok(());
        }
        state.watch(hub)?;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }
}

impl State {
    fn watches(&self, key: &ServiceKey) -> bool {
        self.subscribed.keys().any(|(subscribed, _)| subscribed == key)
    }

    /// Watches what is subscribed to, and nothing else. All of it is marked as having news then, whoever was told what.
    fn watch(&mut self, hub: &Hub) -> Result<()> {
        let mut keys: Vec<ServiceKey> = self.subscribed.keys().map(|(key, _)| key.clone()).collect();
        keys.dedup();
        // The place that is given up is taken again.
        let before = self.watching.take();
        if keys.is_empty() {
            return Ok(());
        }
        match hub.shared.fanout.watch(keys) {
            Ok(watching) => self.watching = Some(Arc::new(watching)),
            Err(error) => {
                self.watching = before;
                return Err(error);
            }
        }
        Ok(())
    }
}
