//! Persistent instances: those that the registry checks itself.
//!
//! Nobody renews their leases but the node that owns them, for as long as it lives. When it is lost, one of the others takes
//! over what it had, at once: there is no client that could come back. What was taken over on two sides of a partition is the
//! one's whose word is the later, as everything else; the other lets go.

use std::sync::Arc;

use bowline_core::Instant;

use super::{FactKey, Kind, Record, ServiceKey, Store};

/// A persistent instance of this node.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The service.
    pub key: ServiceKey,
    /// As it was registered.
    pub record: Arc<Record>,
    /// When its holder came: another time for one that was taken out and registered again.
    pub since: Instant,
}

impl Store {
    /// Renews what this node checks and returns it. With `takes_over`, that is also what lost nodes checked.
    pub fn tend_checked(&mut self, takes_over: bool, now: Instant) -> Vec<Checked> {
        let own = self.own();
        let mut all = Vec::new();
        for (key, id) in self.checked.iter().cloned().collect::<Vec<_>>() {
            let Some(known) = self.get(&key, &id) else { continue };
            let owner = known.version.owner;
            match known.lease {
                Some(lease) if owner == own => _ = self.renew(lease, now),
                _ if takes_over && !self.owners.is_live(owner) => {
                    let of = FactKey { key: key.clone(), id: Arc::clone(&id), kind: Kind::Instance };
                    self.claim(&of, now);
                }
                _ => continue,
            }
            if let Some(known) = self.get(&key, &id) {
                all.push(Checked { key, record: Arc::clone(&known.registered), since: known.since });
            }
        }
        all
    }

    /// Says whether an instance that this node checks is well. Returns whether that is news.
    pub fn set_health(&mut self, key: &ServiceKey, id: &str, healthy: bool, now: Instant) -> bool {
        let own = self.own();
        let Some(known) = self.get(key, id).filter(|known| known.version.owner == own) else { return false };
        let mut instance = known.registered.instance().clone();
        if instance.check.is_unset() || instance.unhealthy != healthy {
            return false;
        }
        instance.unhealthy = !healthy;
        let mut registration = known.clone();
        registration.registered = Arc::new(Record::trusted(instance));
        registration.version = self.clock.tick();
        registration.updated = now;
        let of =
            FactKey { key: key.clone(), id: Arc::clone(registration.registered.id()), kind: Kind::Instance };
        self.put(&of, registration, now);
        self.said.push(of);
        true
    }

    /// Takes out what this node checks and what has been unhealthy for too long. Returns whether it was there.
    pub fn give_up(&mut self, key: &ServiceKey, id: &str, now: Instant) -> bool {
        let own = self.own();
        let lease =
            self.get(key, id).filter(|known| known.version.owner == own).and_then(|known| known.lease);
        if let Some(lease) = lease {
            self.run_out(lease, now);
        }
        lease.is_some()
    }
}
