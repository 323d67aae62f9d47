//! The registry's state and how it changes: no I/O, no tasks, the time is passed in.
//!
//! Renewals, and registrations whose content is known, change no revision: watchers learn of changes only. The revision
//! of a service grows by one with each change of one of its instances, and no two contents of a name ever have the same
//! one, even when the service was forgotten in between: new services begin at a number that counts all changes, and a
//! service is forgotten only while it is empty.

mod cancelled;
mod key;
mod leases;
mod overrides;
mod recent;
mod record;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, Result};
use bowline_registry_bowline::api::bowline::registry::v1::{RemovalReason, registry_error};

pub use key::ServiceKey;
pub(crate) use key::{instance_id as check_id, scope as check_scope};
pub use overrides::{Override, Parts};
pub use recent::{Happened, Recent};
pub use record::Record;
pub use service::{Changes, List, News};

use crate::Config;
use cancelled::Cancelled;
use leases::Leases;
use overrides::Overrides;
use recent::RecentChanges;
use service::{Registration, Service, served};

/// A registration that is asked for.
#[derive(Debug)]
pub struct Registering {
    /// The service.
    pub key: ServiceKey,
    /// The instance.
    pub record: Arc<Record>,
    /// The lease's life without renewal; the default one if `None`.
    pub ttl: Option<Duration>,
    /// Who asks. Another holder takes the id over; an empty one is a holder like any other, but remembers nothing.
    pub holder: Arc<str>,
    /// Orders what one holder says.
    pub sequence: u64,
    /// Whether to refuse when another holder's lease lives.
    pub only_if_free: bool,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What to renew.
    pub lease: u64,
    /// How long it lives.
    pub ttl: Duration,
}

/// An instance and its lease.
#[derive(Clone, Debug)]
pub struct Registered {
    /// As it was registered.
    pub registered: Arc<Record>,
    /// As it is served: with what an operator set.
    pub record: Arc<Record>,
    /// Who registered it.
    pub holder: Arc<str>,
    /// What orders the words of its holder.
    pub sequence: u64,
    /// When it came.
    pub since: Instant,
    /// When its content changed last.
    pub updated: Instant,
    /// When it was renewed last.
    pub renewed: Instant,
    /// How long it lives without being renewed.
    pub ttl: Duration,
}

/// One service in a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The service.
    pub key: ServiceKey,
    /// Its instances.
    pub instances: usize,
    /// Those that want traffic.
    pub up: usize,
    /// Its revision.
    pub revision: u64,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Services, those without instances included.
    pub services: usize,
    /// Instances.
    pub instances: usize,
    /// Instances with an override, those that are gone included.
    pub overrides: usize,
}

/// Who is registered, for how long, and what changed of late.
#[derive(Debug)]
pub struct Store {
    config: Config,
    services: BTreeMap<ServiceKey, Service>,
    leases: Leases,
    cancelled: Cancelled,
    overrides: Overrides,
    /// Counts every change. No service's revision is larger.
    revision: u64,
    /// Services in the order in which they became empty; those that are not any more are skipped.
    emptied: VecDeque<(Instant, ServiceKey)>,
    /// Whose revision changed since [`Store::take_changed`].
    changed: Vec<ServiceKey>,
    /// The changes of late, the oldest first.
    changes: RecentChanges,
}

impl Store {
    /// An empty store. Revisions and lease ids count from `seed`, which is another one in every life of a node.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            services: BTreeMap::new(),
            leases: Leases::new(seed),
            cancelled: Cancelled::new(config.refuse_late),
            overrides: Overrides::new(seed >> 16, config.keep_overrides),
            // Positive, and small enough to be exact in JSON readers that have floating point numbers only.
            revision: (seed >> 16) + 1,
            emptied: VecDeque::new(),
            changed: Vec::new(),
            changes: RecentChanges::default(),
            config,
        }
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        let overrides = self.overrides.len();
        Counts { services: self.services.len(), instances: self.leases.len(), overrides }
    }

    /// How many changes there have been, counted from some number.
    pub(crate) fn changes(&self) -> u64 {
        self.revision
    }

    /// The services whose revision changed since the last call, each once.
    pub fn take_changed(&mut self) -> Vec<ServiceKey> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort();
        changed.dedup();
        changed
    }

    /// Registers an instance, changes what is known of it, or takes it over.
    ///
    /// # Errors
    /// `INVALID_TTL`, `REGISTRATION_CANCELLED`, `INSTANCE_TAKEN`, `TOO_MANY_INSTANCES` or `TOO_MANY_SERVICES`.
    pub fn register(&mut self, asked: Registering, now: Instant) -> Result<Granted> {
        let ttl = self.ttl(asked.ttl)?;
        let Registering { key, record, holder, sequence, .. } = asked;
        if !holder.is_empty() && self.cancelled.contains(&key, record.id(), &holder, now) {
            return Err(registry_error::registration_cancelled().with_message(format!(
                "the registration of `{}` of {key} was cancelled; register anew, with a new holder",
                record.id()
            )));
        }
        // What has run out but was not noticed yet is not there any more.
        if let Some(lease) = self.lease_of(&key, record.id())
            && self.leases.get(lease).is_some_and(|l| l.deadline <= now)
        {
            self.remove(&key, record.id(), RemovalReason::REMOVAL_REASON_EXPIRED, now);
        }
        let existing = self.services.get(&key).and_then(|s| s.instances.get(record.id()));
        let happened = if existing.is_some() { Happened::Modified } else { Happened::Added };
        let lease = match existing {
            Some(own) if own.holder == holder => {
                let lease = own.lease;
                if sequence < own.sequence {
                    // Overtaken by what the same holder said later.
                    let ttl = self.leases.get(lease).map_or(ttl, |l| l.ttl);
                    return Ok(Granted { lease, ttl });
                }
                self.leases.set_ttl(lease, ttl, now);
                lease
            }
            Some(other) if asked.only_if_free => {
                let message = format!(
                    "`{}` of {key} is kept alive by another holder ({:?}); give every process an id of its own",
                    record.id(),
                    other.holder
                );
                return Err(registry_error::instance_taken().with_message(message));
            }
            Some(other) => {
                let old = other.lease;
                self.leases.end(old);
                self.leases.grant(key.clone(), Arc::clone(record.id()), ttl, now)
            }
            None => {
                self.make_room(&key, now)?;
                self.leases.grant(key.clone(), Arc::clone(record.id()), ttl, now)
            }
        };
        let (revision, log_limit) = (self.revision, self.config.limits.changes_kept);
        let registered = record;
        let record = served(&registered, self.overrides.come(&key, registered.id(), now));
        let service = self.services.entry(key.clone()).or_insert_with(|| Service::new(revision, log_limit));
        let (since, updated) = (now, now);
        let served = Arc::clone(&record);
        if service.insert(Registration { registered, record, lease, holder, sequence, since, updated }) {
            self.note(key, served, happened, now);
        }
        Ok(Granted { lease, ttl })
    }

    fn ttl(&self, asked: Option<Duration>) -> Result<Duration> {
        let (min, max) = (self.config.min_ttl, self.config.max_ttl);
        let ttl = asked.unwrap_or(self.config.default_ttl);
        if ttl < min || ttl > max {
            let message = format!("a ttl of {ttl:?} is out of bounds: use {min:?} to {max:?}");
            return Err(registry_error::invalid_ttl().with_message(message));
        }
        Ok(ttl)
    }

    fn lease_of(&self, key: &ServiceKey, id: &str) -> Option<u64> {
        self.services.get(key)?.instances.get(id).map(|r| r.lease)
    }

    /// Whether one more instance of this service fits; names that nobody uses any more give way.
    fn make_room(&mut self, key: &ServiceKey, now: Instant) -> Result<()> {
        let limits = self.config.limits.clone();
        let too_many = |what: String, setting: &str| {
            let message =
                format!("there are {what}; remove some or raise `limits.{setting}` of the registry");
            registry_error::too_many_instances().with_message(message)
        };
        if self.leases.len() >= limits.instances {
            return Err(too_many(format!("{} instances", limits.instances), "instances"));
        }
        match self.services.get(key).map(|s| s.instances.len()) {
            Some(instances) if instances >= limits.instances_per_service => {
                let most = limits.instances_per_service;
                Err(too_many(format!("{most} instances of {key}"), "instances_per_service"))
            }
            None if self.services.len() >= limits.services && !self.forget(now, true) => {
                let message = format!(
                    "there are {} services; remove some or raise `limits.services` of the registry",
                    limits.services
                );
                Err(registry_error::too_many_services().with_message(message))
            }
            _ => Ok(()),
        }
    }

    /// Renews a lease. `None`: there is none, so the instance has to be registered again.
    pub fn renew(&mut self, lease: u64, now: Instant) -> Option<Duration> {
        self.leases.renew(lease, now)
    }

    /// Renews what is registered under an id, if it has this lease, or any if that is `None`.
    ///
    /// # Errors
    /// `LEASE_NOT_FOUND`.
    pub fn renew_instance(
        &mut self,
        key: &ServiceKey,
        id: &str,
        lease: Option<u64>,
        now: Instant,
    ) -> Result<Duration> {
        let current = self.lease_of(key, id).filter(|own| lease.is_none_or(|asked| asked == *own));
        current.and_then(|lease| self.leases.renew(lease, now)).ok_or_else(|| {
            let message = format!("`{id}` of {key} has no such lease; register it again");
            registry_error::lease_not_found().with_message(message)
        })
    }

    /// Takes an instance out, if this holder registered it; whoever did, if the holder is empty. Returns whether it was
    /// there.
    pub fn deregister(&mut self, key: &ServiceKey, id: &str, holder: &str, now: Instant) -> bool {
        if !holder.is_empty() {
            self.cancelled.add(key, id, holder, now);
        }
        let existing = self.services.get(key).and_then(|s| s.instances.get(id));
        if !existing.is_some_and(|r| holder.is_empty() || *r.holder == *holder) {
            return false;
        }
        self.remove(key, id, RemovalReason::REMOVAL_REASON_CANCELLED, now)
    }

    /// Takes out what has run out by `now`, at most `limit` instances; the rest is for the next call.
    pub fn expire(&mut self, now: Instant, limit: usize) -> usize {
        let mut expired = 0;
        while expired < limit
            && let Some(lease) = self.leases.expired(now)
        {
            self.remove(&lease.key, &lease.id, RemovalReason::REMOVAL_REASON_EXPIRED, now);
            expired += 1;
        }
        self.overrides.forget(now);
        self.changes.forget(now);
        self.forget(now, false);
        expired
    }

    /// When [`Store::expire`] may next have something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.leases.next_due()
    }

    fn remove(&mut self, key: &ServiceKey, id: &str, reason: RemovalReason, now: Instant) -> bool {
        let Some(service) = self.services.get_mut(key) else { return false };
        let Some(registration) = service.remove(id, reason, now) else { return false };
        if service.empty_since.is_some() {
            self.emptied.push_back((now, key.clone()));
        }
        self.leases.end(registration.lease);
        self.overrides.go(key, registration.record.id(), now);
        self.note(key.clone(), registration.record, Happened::Removed, now);
        true
    }

    /// Sets what an operator wants of an instance: on top of what is set already. Returns all that is set then.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if that is nothing or too much, `INSTANCE_NOT_FOUND` if the instance is not there and has not been
    /// of late with an override, `TOO_MANY_OVERRIDES`.
    pub fn set_override(
        &mut self,
        key: &ServiceKey,
        id: &str,
        changes: &Override,
        now: Instant,
    ) -> Result<Arc<Override>> {
        if changes.is_empty() {
            let message = "the override is empty; set a status, a weight or metadata";
            return Err(registry_error::invalid_request().with_message(message));
        }
        let is_there = self.lease_of(key, id).and_then(|lease| self.leases.get(lease));
        if is_there.is_none_or(|l| l.deadline <= now) && self.overrides.get(key, id, now).is_none() {
            let message =
                format!("there is no instance `{id}` of {key}; it can be overridden once it is registered");
            return Err(registry_error::instance_not_found().with_message(message));
        }
        let overridden = self.overrides.set(key, id, changes, &self.config.limits, now)?;
        self.overrule(key, id, Some(Arc::clone(&overridden)), now);
        Ok(overridden)
    }

    /// Takes back what an operator set of an instance. Returns whether there was something.
    pub fn clear_override(&mut self, key: &ServiceKey, id: &str, parts: Parts, now: Instant) -> bool {
        let Some(left) = self.overrides.clear(key, id, parts, now) else { return false };
        self.overrule(key, id, left, now);
        true
    }

    fn overrule(&mut self, key: &ServiceKey, id: &str, overridden: Option<Arc<Override>>, now: Instant) {
        let Some(service) = self.services.get_mut(key) else { return };
        if service.overrule(id, overridden, now)
            && let Some(record) = service.instances.get(id).map(|r| Arc::clone(&r.record))
        {
            self.note(key.clone(), record, Happened::Modified, now);
        }
    }

    fn note(&mut self, key: ServiceKey, record: Arc<Record>, happened: Happened, now: Instant) {
        self.revision += 1;
        self.changes.add(Recent { at: now, key: key.clone(), record, happened });
        if self.changed.last() != Some(&key) {
            self.changed.push(key);
        }
    }

    /// The changes of the last 3 min, the oldest first; at most 10 000.
    pub fn recent(&mut self, now: Instant) -> impl Iterator<Item = &Recent> {
        self.changes.forget(now);
        self.changes.iter()
    }

    /// Forgets services that have been empty for long; with `now_or_never` the one that is empty longest in any case.
    /// Returns whether one was forgotten.
    fn forget(&mut self, now: Instant, mut now_or_never: bool) -> bool {
        let mut forgotten = false;
        while let Some((since, key)) = self.emptied.front() {
            let old = *since + self.config.forget_after <= now;
            let is_empty = self.services.get(key).is_some_and(|s| s.empty_since == Some(*since));
            if is_empty && !old && !now_or_never {
                break;
            }
            if is_empty {
                self.services.remove(key);
                forgotten = true;
                now_or_never = false;
            }
            self.emptied.pop_front();
        }
        forgotten
    }

    /// What is new of a service to somebody who knows it at the revision `known`; `None` for who knows nothing.
    pub fn news(&mut self, key: &ServiceKey, known: Option<u64>) -> News {
        match self.services.get_mut(key) {
            Some(service) => service.news(known),
            None if known == Some(0) => News::None,
            None => News::List(Arc::new(List::unknown())),
        }
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
        let lease = self.leases.get(of.lease)?;
        Some(Registered {
            registered: Arc::clone(&of.registered),
            record: Arc::clone(&of.record),
            holder: Arc::clone(&of.holder),
            sequence: of.sequence,
            since: of.since,
            updated: of.updated,
            // The deadline is always the last renewal and the ttl.
            renewed: lease.deadline.checked_sub(lease.ttl).unwrap_or(of.since),
            ttl: lease.ttl,
        })
    }

    /// The services of a namespace and environment that have instances, by name.
    pub fn services(&self, namespace: &str, env: &str) -> Vec<Summary> {
        self.services
            .range(ServiceKey::before_all(namespace, env)..)
            .take_while(|(key, _)| key.namespace() == namespace && key.env() == env)
            .filter(|(_, s)| !s.instances.is_empty())
            .map(|(key, s)| Summary {
                key: key.clone(),
                instances: s.instances.len(),
                up: s.up(),
                revision: s.revision(),
            })
            .collect()
    }
}
