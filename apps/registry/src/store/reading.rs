//! What the store tells those who ask.

use std::sync::Arc;

use bowline_core::Instant;
use bowline_registry_bowline::api::bowline::registry::v1::Emptiness;

use super::service::Registration;
use super::{Counts, FactKey, Kind, List, News, Recent, Registered, ServiceKey, Store, Summary};

impl Store {
    /// How much there is.
    pub fn counts(&self) -> Counts {
        let instances = self.of_services.instances + self.of_slots.instances;
        let overrides = self.overrides.len();
        Counts { services: self.services.len(), instances, leases: self.leases.len(), overrides }
    }

    /// How many changes there have been, counted from some number.
    pub(crate) fn changes(&self) -> u64 {
        self.revision
    }

    /// The changes of the last 3 min, the oldest first; at most 10 000.
    pub fn recent(&mut self, now: Instant) -> impl Iterator<Item = &Recent> {
        self.changes.forget(now);
        self.changes.iter()
    }

    /// What is new of a service to somebody who knows it at the revision `known`; `None` for who knows nothing.
    pub fn news(&mut self, key: &ServiceKey, known: Option<u64>) -> News {
        match self.services.get_mut(key) {
            Some(service) => service.news(known),
            None if known == Some(0) => News::None,
            None => News::List(Arc::new(List::unknown())),
        }
    }

    /// Names everything that is known.
    pub(crate) fn fact_keys(&self) -> Vec<FactKey> {
        let of =
            |key: &ServiceKey, id: &Arc<str>, kind| FactKey { key: key.clone(), id: Arc::clone(id), kind };
        let services = self.services.iter();
        let mut all: Vec<_> = services
            .flat_map(|(key, s)| s.instances.keys().map(move |id| of(key, id, Kind::Instance)))
            .collect();
        // Sorted, and of both kinds together what went and what is there.
        let gone = self.tombs.keys().filter(|(key, id)| self.get(key, id).is_none());
        all.extend(gone.map(|(key, id)| of(key, id, Kind::Instance)));
        all.extend(self.overrides.names().map(|(key, id)| of(key, id, Kind::Override)));
        all
    }

    /// The same as long as nothing changes that nodes tell each other.
    pub(crate) fn told(&self) -> (u64, u64) {
        (self.revision, self.clock.last())
    }

    /// The namespace of the instance with this lease.
    pub(crate) fn lease_namespace(&self, lease: u64) -> Option<&str> {
        self.leases.get(lease).map(|lease| lease.key.namespace())
    }

    /// A service's revision, digest, and why it is empty; of the list of a service nobody has heard of, if nobody has.
    pub(crate) fn position(&self, key: &ServiceKey) -> (u64, u64, Emptiness) {
        let unknown = (0, 0, Emptiness::EMPTINESS_UNKNOWN);
        self.services.get(key).map_or(unknown, |service| service.position())
    }

    /// A service's revision, and its instances with their leases, by id. 0 and none for a service nobody has heard of.
    pub fn registered(&self, key: &ServiceKey) -> (u64, Vec<Registered>) {
        let Some(service) = self.services.get(key) else { return (0, Vec::new()) };
        (service.revision(), service.instances.values().filter_map(|r| self.with_lease(r)).collect())
    }

    /// Whether a service has instances.
    pub fn has_instances(&self, key: &ServiceKey) -> bool {
        self.services.get(key).is_some_and(|service| !service.instances.is_empty())
    }

    /// One instance with its lease.
    pub fn instance(&self, key: &ServiceKey, id: &str) -> Option<Registered> {
        self.with_lease(self.services.get(key)?.instances.get(id)?)
    }

    fn with_lease(&self, of: &Registration) -> Option<Registered> {
        let lease = of.lease.and_then(|lease| self.leases.get(lease));
        Some(Registered {
            registered: Arc::clone(&of.registered),
            record: Arc::clone(&of.record),
            holder: Arc::clone(&of.holder),
            sequence: of.sequence,
            since: of.since,
            updated: of.updated,
            // The deadline is always the last renewal and the ttl. Renewals on other nodes are not known here.
            renewed: lease.and_then(|l| l.deadline.checked_sub(l.ttl)).unwrap_or(of.since),
            ttl: of.ttl,
            owner: of.version.owner,
        })
    }

    /// The services of a namespace and environment that have instances, by name.
    pub fn services(&self, namespace: &str, env: &str) -> Vec<Summary> {
        self.services
            .range(ServiceKey::before_all(namespace, env)..)
            .take_while(|(key, _)| key.namespace() == namespace && key.env() == env)
            .filter(|(key, s)| !s.instances.is_empty() && !key.is_slots())
            .map(|(key, s)| Summary {
                key: key.clone(),
                instances: s.instances.len(),
                up: s.up(),
                revision: s.revision(),
            })
            .collect()
    }
}
