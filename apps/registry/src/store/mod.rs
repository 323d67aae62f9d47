//! The registry's state and how it changes: no I/O, no tasks, the time is passed in.
//!
//! Renewals, and registrations whose content is known, change no revision: watchers learn of changes only. The revision
//! of a service grows by one with each change of one of its instances, and no two contents of a name ever have the same
//! one, even when the service was forgotten in between: new services begin at a number that counts all changes, and a
//! service is forgotten only while it is empty.
//!
//! Among several nodes an instance belongs to the one with its lease, its *owner*; the others know it, and no more. Each
//! state has a [`Version`], and of two states the later counts, everywhere. Exceptions make nobody unequal:
//!
//! - What a holder cancelled stays cancelled: nothing of the same holder counts beside it, whatever its version.
//! - An owner with a live lease does not believe that its instance has expired, nor what its holder said earlier: it says
//!   again, later, how it is.
//! - A lease alone never ends for another node's silence: what a lost node had is taken out only by [`Store::sweep`].

mod check;
mod checked;
mod digests;
mod expiry;
mod facts;
mod hash;
mod key;
mod leases;
mod overrides;
mod owners;
mod protection;
mod reading;
mod recent;
mod record;
mod replicated;
mod room;
mod service;
mod slots;
#[cfg(test)]
mod tests;
mod tombs;
mod types;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, Result};
use bowline_registry_bowline::api::bowline::registry::v1::{RemovalReason, registry_error};

pub use check::{Check, Probe};
pub use checked::Checked;
pub use digests::BUCKETS;
pub use facts::{Announced, Fact, FactKey, Kind, Said};
pub use hash::number;
pub use key::ServiceKey;
pub(crate) use key::{instance_id as check_id, scope as check_scope};
pub use overrides::{Override, Parts};
pub use protection::Protected;
pub use recent::{Happened, Recent};
pub use record::Record;
pub use replicated::Heard;
pub use service::{Changes, List, News};
pub use slots::{Slot, SlotAsked};
pub use tombs::Gone;
pub use types::{Counts, Granted, Registered, Registering, Summary};
pub use version::{Owner, Version};

use crate::Config;
use digests::Digests;
use leases::Leases;
use overrides::Overrides;
use owners::Owners;
use protection::Protection;
use recent::RecentChanges;
use room::Tally;
use service::{Registration, Service, served};
use tombs::Tombs;
use version::Clock;

/// Who is registered, for how long, and what changed of late.
#[derive(Debug)]
pub struct Store {
    config: Config,
    clock: Clock,
    services: BTreeMap<ServiceKey, Service>,
    of_services: Tally,
    of_slots: Tally,
    /// Those that nodes check.
    checked: BTreeSet<(ServiceKey, Arc<str>)>,
    leases: Leases,
    owners: Owners,
    tombs: Tombs,
    overrides: Overrides,
    protection: Protection,
    digests: Digests,
    /// Counts every change. No service's revision is larger.
    revision: u64,
    /// Whose revision changed since [`Store::take_changed`].
    changed: Vec<ServiceKey>,
    /// Which were forgotten since [`Store::take_forgotten`].
    forgotten: Vec<ServiceKey>,
    /// What this node said since [`Store::take_said`].
    said: Vec<FactKey>,
    /// The changes of late, the oldest first.
    changes: RecentChanges,
    /// When somebody looked last, once [`Store::expire`] is called regularly.
    looked: Option<Instant>,
    /// When this node stood still for long last, and until when what it heard may have been said before.
    stale: Option<(Instant, Instant)>,
}

impl Store {
    /// An empty store of a node that is alone or has no name.
    pub fn new(config: Config, life: u64) -> Self {
        Self::of(config, Owner { node: 0, life })
    }

    /// An empty store of a node. Revisions, versions and lease ids count from its life, which is another one in every
    /// life of the node.
    pub fn of(config: Config, own: Owner) -> Self {
        // Positive, and small enough to be exact in JSON readers that have floating point numbers only.
        let first = (own.life >> 16) + 1;
        Self {
            clock: Clock::new(own, first),
            services: BTreeMap::new(),
            of_services: Tally::default(),
            of_slots: Tally::default(),
            checked: BTreeSet::new(),
            // Far from those of any other node.
            leases: Leases::new(hash::of(&[&own.node.to_le_bytes(), &own.life.to_le_bytes()])),
            owners: Owners::new(own),
            tombs: Tombs::new(config.keep_removals(), config.keep_for_absent),
            overrides: Overrides::new(config.keep_overrides),
            protection: Protection::new(config.protection_threshold),
            digests: Digests::new(),
            revision: first,
            changed: Vec::new(),
            forgotten: Vec::new(),
            said: Vec::new(),
            changes: RecentChanges::default(),
            looked: None,
            stale: None,
            config,
        }
    }

    /// The node in this life.
    pub fn own(&self) -> Owner {
        self.clock.own()
    }

    /// The services whose revision changed since the last call, each once.
    pub fn take_changed(&mut self) -> Vec<ServiceKey> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort();
        changed.dedup();
        changed
    }

    /// The services that were forgotten since the last call.
    pub fn take_forgotten(&mut self) -> Vec<ServiceKey> {
        std::mem::take(&mut self.forgotten)
    }

    /// What this node said since the last call, for the others.
    pub fn take_said(&mut self) -> Vec<FactKey> {
        std::mem::take(&mut self.said)
    }

    /// Registers an instance, changes what is known of it, or takes it over.
    ///
    /// # Errors
    /// `INVALID_TTL`, `REGISTRATION_CANCELLED`, `INSTANCE_TAKEN`, `TOO_MANY_INSTANCES` or `TOO_MANY_SERVICES`.
    pub fn register(&mut self, asked: Registering, now: Instant) -> Result<Granted> {
        let mut ttl = self.ttl(asked.ttl)?;
        let Registering { key, record: mut registered, holder, mut sequence, .. } = asked;
        let id = Arc::clone(registered.id());
        if registered.is_checked() {
            ttl = self.config.max_ttl;
            self.check_room_for_checks(&key, &id)?;
            registered = registered.with_health_of(self.get(&key, &id).map(|known| &*known.registered));
        }
        if self.tombs.refuses(&key, &id, &holder) {
            return Err(registry_error::registration_cancelled().with_message(format!(
                "the registration of `{id}` of {key} was cancelled; register anew, with a new holder"
            )));
        }
        // What has run out but was not noticed yet is not there any more.
        if let Some(lease) = self.get(&key, &id).and_then(|r| r.lease)
            && self.leases.get(lease).is_some_and(|l| !l.is_live(now))
        {
            self.run_out(lease, now);
        }
        let mut version = None;
        let lease = match self.get(&key, &id) {
            Some(own) if own.holder == holder => {
                let (lease, said) = (own.lease, own.version);
                if sequence < own.sequence {
                    // Overtaken by what the same holder said later.
                    (registered, sequence) = (Arc::clone(&own.registered), own.sequence);
                    ttl = own.ttl;
                }
                let repeated = own.sequence == sequence && own.ttl == ttl && own.registered == registered;
                // Twice is once; but of what nobody renews, each time is a wish to have it.
                let is_known = repeated && !registered.is_checked() && said.owner == self.own();
                version = is_known.then_some(said);
                lease
            }
            Some(other) if asked.only_if_free && self.is_kept(other) => {
                let message = format!(
                    "`{id}` of {key} is kept alive by another holder ({:?}); give every process an id of its own",
                    other.holder
                );
                return Err(registry_error::instance_taken().with_message(message));
            }
            Some(other) => {
                if let Some(old) = other.lease {
                    self.leases.end(old);
                }
                None
            }
            None => {
                self.make_room(&key, now)?;
                None
            }
        };
        let lease = match lease {
            Some(lease) => {
                self.leases.set_ttl(lease, ttl, now);
                self.leases.contest(lease, false);
                lease
            }
            None => self.leases.grant(key.clone(), Arc::clone(&id), ttl, now),
        };
        let said = version.is_none();
        let version = version.unwrap_or_else(|| self.clock.tick());
        let of = FactKey { key, id, kind: Kind::Instance };
        let (record, since) = (Arc::clone(&registered), now);
        self.put(
            &of,
            Registration {
                registered,
                record,
                version,
                wished: version,
                said: now,
                lease: Some(lease),
                ttl,
                holder,
                sequence,
                since,
                updated: now,
            },
            now,
        );
        if said {
            self.said.push(of);
        }
        Ok(Granted { lease, ttl })
    }

    /// What makes a word the latest of an instance's holder, for who does not order its words: the time, `here`, unless this
    /// node's clock is behind the one by which the last word was ordered.
    pub fn next_sequence(&self, key: &ServiceKey, id: &str, here: u64) -> u64 {
        self.get(key, id).map_or(here, |known| here.max(known.sequence.saturating_add(1)))
    }

    /// Whether somebody keeps an instance alive, as far as is known here.
    fn is_kept(&self, of: &Registration) -> bool {
        let held = of.lease.and_then(|lease| self.leases.get(lease)).is_some_and(|l| l.held);
        self.owners.is_live(of.version.owner) && !held
    }

    fn get(&self, key: &ServiceKey, id: &str) -> Option<&Registration> {
        self.services.get(key)?.instances.get(id)
    }

    /// Puts a registration in, in place of what is there under its id.
    fn put(&mut self, of: &FactKey, mut registration: Registration, now: Instant) {
        let before = self.get(&of.key, &of.id).map(|b| b.version);
        let after = registration.version;
        if before != Some(after) {
            self.digests.change(of, before, Some(after));
            self.owners.change(before.map(|v| v.owner), Some(after.owner), now);
        }
        let is_named = self.services.contains_key(&of.key);
        let tally = self.tally_mut(&of.key);
        tally.instances += usize::from(before.is_none());
        tally.names += usize::from(!is_named);
        let (revision, log_limit) = (self.revision, self.config.limits.changes_kept);
        registration.record = served(&registration.registered, self.overrides.come(&of.key, &of.id));
        let record = Arc::clone(&registration.record);
        if record.is_checked() {
            self.checked.insert((of.key.clone(), Arc::clone(&of.id)));
        } else if before.is_some() {
            self.checked.remove(&(of.key.clone(), Arc::clone(&of.id)));
        }
        let service =
            self.services.entry(of.key.clone()).or_insert_with(|| Service::new(revision, log_limit));
        if service.insert(registration) {
            let happened = if before.is_some() { Happened::Modified } else { Happened::Added };
            self.note(of.key.clone(), record, happened, now);
        }
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

    /// Renews a lease. `None`: there is none, so the instance has to be registered again.
    pub fn renew(&mut self, lease: u64, now: Instant) -> Option<Duration> {
        let renewed = self.leases.renew(lease, now)?;
        let ttl = renewed.ttl;
        if renewed.contested {
            let (key, id) = (renewed.key.clone(), Arc::clone(&renewed.id));
            self.claim(&FactKey { key, id, kind: Kind::Instance }, now);
        }
        Some(ttl)
    }

    /// Renews what is registered under an id, if it has this lease, or any if that is `None`: then also what has its lease
    /// on another node, which is on this one from now on.
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
        let renewed = match self.get(key, id).map(|own| own.lease) {
            Some(Some(own)) if lease.is_none_or(|asked| asked == own) => self.renew(own, now),
            Some(None) if lease.is_none() => {
                let of = FactKey { key: key.clone(), id: id.into(), kind: Kind::Instance };
                self.claim(&of, now);
                self.get(key, id).map(|r| r.ttl)
            }
            _ => None,
        };
        renewed.ok_or_else(|| {
            let message = format!("`{id}` of {key} has no such lease; register it again");
            registry_error::lease_not_found().with_message(message)
        })
    }

    /// The holder of an instance renews it here: this node is its owner from now on.
    fn claim(&mut self, of: &FactKey, now: Instant) {
        self.own_again(of, now, now);
    }

    /// It is so, as its holder said last, whatever another node says that did not know.
    fn insist(&mut self, of: &FactKey, now: Instant) {
        if let Some(registration) = self.get(&of.key, &of.id) {
            self.own_again(of, self.heard_from(registration), now);
        }
    }

    /// When its holder was heard of last, as far as is known here.
    fn heard_from(&self, of: &Registration) -> Instant {
        // What was heard here may have waited since this node fell asleep. What another node says of it did not.
        let awake = |heard: Instant| match self.stale {
            Some((began, until)) if heard < until => heard.min(began),
            _ => heard,
        };
        let said = if of.version.owner == self.own() { awake(of.said) } else { of.said };
        let lease = of.lease.and_then(|lease| self.leases.get(lease));
        lease.map_or(said, |l| awake(l.renewed).max(said))
    }

    fn own_again(&mut self, of: &FactKey, said: Instant, now: Instant) {
        let Some(mut registration) = self.get(&of.key, &of.id).cloned() else { return };
        let (ttl, key, id) = (registration.ttl, of.key.clone(), Arc::clone(&of.id));
        let lease = registration.lease.unwrap_or_else(|| self.leases.grant(key, id, ttl, now));
        self.leases.contest(lease, false);
        registration.lease = Some(lease);
        registration.said = said;
        registration.version = self.clock.tick();
        self.put(of, registration, now);
        self.said.push(of.clone());
    }

    /// Takes an instance out, if this holder registered it; whoever did, if the holder is empty: then what is registered or
    /// renewed later is there again, and of a checked one, what is registered later. Returns whether it was there.
    pub fn deregister(&mut self, key: &ServiceKey, id: &str, holder: &str, now: Instant) -> bool {
        let holders = self.get(key, id).map(|r| holder.is_empty() || *r.holder == *holder);
        if holders.is_none() && holder.is_empty() {
            return false;
        }
        // It may be registered on another node, and known there only; or still on its way.
        let gone =
            Gone { reason: RemovalReason::REMOVAL_REASON_CANCELLED, holder: holder.into(), lapsed: false };
        let of = FactKey { key: key.clone(), id: id.into(), kind: Kind::Instance };
        let version = self.clock.tick();
        self.bury(&of, version, gone, now);
        self.said.push(of);
        holders == Some(true)
    }

    /// Remembers that something is gone, and takes it out if it is what went.
    fn bury(&mut self, of: &FactKey, version: Version, gone: Gone, now: Instant) {
        let (reason, known) = (gone.reason, self.get(&of.key, &of.id));
        let ends = known.is_some_and(|r| self.ends(&gone, version, r));
        let seen = known.is_some();
        self.tombs.add(of, (version, gone, now), seen, now);
        if ends {
            self.remove(of, reason, now);
        }
    }

    /// Whether what is gone at a version is this.
    fn ends(&self, gone: &Gone, at: Version, known: &Registration) -> bool {
        gone.ends(
            at,
            &known.holder,
            (known.version, known.wished()),
            self.owners.is_live(known.version.owner),
        )
    }

    fn remove(&mut self, of: &FactKey, reason: RemovalReason, now: Instant) {
        let Some(service) = self.services.get_mut(&of.key) else { return };
        let Some(registration) = service.remove(&of.id, reason, now) else { return };
        if service.empty_since.is_some() {
            self.note_empty(&of.key, now);
        }
        if let Some(lease) = registration.lease {
            self.leases.end(lease);
        }
        self.tally_mut(&of.key).instances -= 1;
        if registration.record.is_checked() {
            self.checked.remove(&(of.key.clone(), Arc::clone(&of.id)));
        }
        self.digests.change(of, Some(registration.version), None);
        self.owners.change(Some(registration.version.owner), None, now);
        self.overrides.go(&of.key, &of.id, now);
        self.note(of.key.clone(), registration.record, Happened::Removed, now);
    }

    fn note(&mut self, key: ServiceKey, record: Arc<Record>, happened: Happened, now: Instant) {
        self.revision += 1;
        if key.is_slots() {
            return;
        }
        self.changes.add(Recent { at: now, key: key.clone(), record, happened });
        if self.changed.last() != Some(&key) {
            self.changed.push(key);
        }
    }
}
