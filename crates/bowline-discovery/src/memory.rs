//! A registry within this process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_core::{Context, Error, Instance, InstanceId, Result};

use crate::{BoxFuture, Discovery, Emptiness, Publisher, Registrar, Registration, Watcher};

/// A registry within this process: for tests, and for systems that are one process. Clones share it.
///
/// It keeps the contract of a real one: an instance whose [`Registration`] is dropped without deregistering expires (at
/// once, there are no leases here), and [`Memory::set_reachable`] plays an outage.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Registry>>);

struct Registry {
    services: HashMap<Arc<str>, Service>,
    registrations: u64,
    reachable: bool,
}

struct Service {
    /// Each with the number of the registration it belongs to: who registers an id again takes it over.
    instances: BTreeMap<InstanceId, (u64, Instance)>,
    publisher: Publisher,
}

impl Default for Registry {
    fn default() -> Self {
        Self { services: HashMap::new(), registrations: 0, reachable: true }
    }
}

impl Memory {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plays an outage (`false`) and its end (`true`): meanwhile calls fail with `UNAVAILABLE` and watchers keep the last
    /// list, stale.
    pub fn set_reachable(&self, reachable: bool) {
        let mut registry = self.lock();
        registry.reachable = reachable;
        for service in registry.services.values() {
            if reachable {
                service.publish(Emptiness::Unknown);
            } else {
                service.publisher.fail(&unreachable());
            }
        }
    }

    /// What is registered now, of every service, sorted by service and id.
    pub fn registered(&self) -> Vec<Instance> {
        let registry = self.lock();
        let all = registry.services.values().flat_map(|s| s.instances.values());
        let mut all: Vec<_> = all.map(|(_, instance)| instance.clone()).collect();
        all.sort_by(|a, b| (&a.service, &a.id).cmp(&(&b.service, &b.id)));
        all
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreachable() -> Error {
    Error::unavailable("the in-memory registry is set unreachable; see Memory::set_reachable")
}

impl Registry {
    fn check(&self) -> Result<()> {
        if self.reachable { Ok(()) } else { Err(unreachable()) }
    }

    fn service(&mut self, name: &str) -> &mut Service {
        let reachable = self.reachable;
        // Names that were only asked for are forgotten once nobody asks any more.
        self.services.retain(|n, s| &**n == name || !s.instances.is_empty() || s.publisher.is_watched());
        self.services.entry(name.into()).or_insert_with(|| {
            let publisher = Publisher::pair(name).0;
            if reachable {
                publisher.publish_empty(Emptiness::Unknown);
            } else {
                publisher.fail(&unreachable());
            }
            Service { instances: BTreeMap::new(), publisher }
        })
    }

    fn remove(&mut self, name: &str, id: &InstanceId, number: u64, why: Emptiness) {
        let reachable = self.reachable;
        let Some(service) = self.services.get_mut(name) else { return };
        if service.instances.get(id).is_some_and(|(owner, _)| *owner == number) {
            service.instances.remove(id);
            if reachable {
                service.publish(why);
            }
        }
    }
}

impl Service {
    fn publish(&self, why_empty: Emptiness) {
        if self.instances.is_empty() {
            self.publisher.publish_empty(why_empty);
        } else {
            self.publisher.publish(self.instances.values().map(|(_, i)| i.clone()));
        }
    }
}

impl Registrar for Memory {
    fn register<'a>(
        &'a self,
        cx: &'a Context,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Box<dyn Registration>>> {
        Box::pin(async move {
            cx.check()?;
            let mut registry = self.lock();
            registry.check()?;
            registry.registrations += 1;
            let number = registry.registrations;
            let (id, name) = (instance.id.clone(), Arc::clone(&instance.service));
            let service = registry.service(&name);
            service.instances.insert(id.clone(), (number, instance));
            service.publish(Emptiness::Unknown);
            Ok(Box::new(Registered { memory: self.clone(), service: name, id, number }) as Box<_>)
        })
    }
}

impl Discovery for Memory {
    fn watch(&self, service: &str) -> Watcher {
        self.lock().service(service).publisher.watch()
    }
}

struct Registered {
    memory: Memory,
    service: Arc<str>,
    id: InstanceId,
    number: u64,
}

impl Registration for Registered {
    fn deregister<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            cx.check()?;
            let mut registry = self.memory.lock();
            registry.check()?;
            registry.remove(&self.service, &self.id, self.number, Emptiness::Cancelled);
            Ok(())
        })
    }

    fn update<'a>(&'a self, cx: &'a Context, instance: Instance) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            cx.check()?;
            if instance.id != self.id || instance.service != self.service {
                return Err(Error::invalid_argument(format!(
                    "an update of `{}/{}` is about `{}/{}`; register that one instead",
                    self.service, self.id, instance.service, instance.id
                )));
            }
            let mut registry = self.memory.lock();
            registry.check()?;
            let service = registry.service(&self.service);
            match service.instances.get_mut(&self.id) {
                Some((owner, place)) if *owner == self.number => *place = instance,
                _ => {
                    return Err(Error::failed_precondition(format!(
                        "`{}` is not registered any more by this registration; register it again",
                        self.id
                    )));
                }
            }
            service.publish(Emptiness::Unknown);
            Ok(())
        })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.memory.lock().remove(&self.service, &self.id, self.number, Emptiness::Expired);
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("registered", &self.registered()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    fn a() -> Instance {
        Instance::new("s", "a")
    }

    #[tokio::test]
    async fn a_service_is_unknown_then_live_then_cancelled() {
        let (cx, memory) = (Context::background(), Memory::new());
        let mut watcher = memory.watch("s");
        assert_eq!(watcher.current().state, State::Empty(Emptiness::Unknown));
        let registration = memory.register(&cx, a()).await.unwrap();
        assert_eq!(watcher.changed().await.state, State::Live);
        registration.deregister(&cx).await.unwrap();
        registration.deregister(&cx).await.unwrap();
        assert_eq!(watcher.changed().await.state, State::Empty(Emptiness::Cancelled));
    }

    #[tokio::test]
    async fn a_dropped_registration_expires_but_not_one_that_was_taken_over() {
        let (cx, memory) = (Context::background(), Memory::new());
        let watcher = memory.watch("s");
        let first = memory.register(&cx, a()).await.unwrap();
        let second = memory.register(&cx, a()).await.unwrap();
        drop(first);
        assert_eq!(memory.registered(), [a()]);
        drop(second);
        assert_eq!(watcher.current().state, State::Empty(Emptiness::Expired));
    }

    #[tokio::test]
    async fn an_update_changes_the_facts_of_the_same_instance_only() {
        let (cx, memory) = (Context::background(), Memory::new());
        let registration = memory.register(&cx, a()).await.unwrap();
        let lighter = Instance { weight: 1, ..a() };
        registration.update(&cx, lighter.clone()).await.unwrap();
        assert_eq!(memory.registered(), [lighter]);
        assert!(registration.update(&cx, Instance::new("s", "b")).await.unwrap_err().is_invalid());
        registration.deregister(&cx).await.unwrap();
        assert!(registration.update(&cx, a()).await.is_err());
        assert!(memory.registered().is_empty());
    }

    #[tokio::test]
    async fn during_an_outage_calls_fail_and_watchers_keep_the_last_list() {
        let (cx, memory) = (Context::background(), Memory::new());
        let registration = memory.register(&cx, a()).await.unwrap();
        let watcher = memory.watch("s");
        memory.set_reachable(false);
        assert!(memory.register(&cx, a()).await.err().is_some_and(|e| e.is_temporary()));
        assert!(registration.deregister(&cx).await.unwrap_err().is_temporary());
        assert_eq!(watcher.current().instances.len(), 1);
        assert!(matches!(watcher.current().state, State::Stale { .. }));
        assert_eq!(memory.watch("other").current().state, State::Pending);
        memory.set_reachable(true);
        assert_eq!(watcher.current().state, State::Live);
    }

    #[test]
    fn names_nobody_asks_for_any_more_are_forgotten() {
        let memory = Memory::new();
        for n in 0..100 {
            memory.watch(&n.to_string());
        }
        assert_eq!(memory.lock().services.len(), 1);
    }
}
