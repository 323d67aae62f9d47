//! Slots: small numbers, each of which one member of a group has.
//!
//! A slot is kept as an instance whose id is its number, and lives and ends as one: by a lease, and on all nodes. Two sides of
//! a partition may give the same number to two members; afterwards the later one has it, and the other hears at its next
//! renewal that its lease is not known, and asks again. Self-protection does not count slots: a number that is free too early
//! is worth less than one that is never free.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, Result};
use bowline_registry_bowline::api::bowline::registry::v1::Instance;

use super::{Granted, Record, Registering, ServiceKey, Store};

/// Under which name the member is kept.
const MEMBER: &str = "member";

/// A slot that is asked for.
#[derive(Debug)]
pub struct SlotAsked {
    /// The group, of [`ServiceKey::slots`].
    pub group: ServiceKey,
    /// Who asks, by a name that whoever replaces it has too; empty for none.
    pub member: String,
    /// The lease's life without renewal; the default one if `None`.
    pub ttl: Option<Duration>,
    /// The process that asks.
    pub holder: Arc<str>,
}

/// A slot that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The number.
    pub slot: u32,
    /// Who has it.
    pub member: String,
}

/// Sorted as text they are sorted as numbers.
fn id(slot: u32) -> String {
    format!("{slot:010}")
}

impl Store {
    /// Leases a slot: the one that this holder has, else the one that a member of this name has, whom it replaces, else the
    /// smallest that is free.
    ///
    /// # Errors
    /// As [`Store::register`].
    pub fn lease_slot(&mut self, asked: SlotAsked, now: Instant) -> Result<(u32, Granted)> {
        let SlotAsked { group, member, ttl, holder } = asked;
        let (mut free, mut own, mut inherited) = (0, None, None);
        for (slot, member_of, holder_of) in self.taken(&group, now) {
            if slot == free {
                free += 1;
            }
            if *holder_of == holder {
                own = Some(slot);
            }
            if !member.is_empty() && member_of == member {
                inherited = Some(slot);
            }
        }
        let slot = own.or(inherited).unwrap_or(free);
        let metadata = [(MEMBER.to_owned(), member)].into_iter().collect();
        let instance = Instance { id: id(slot), metadata, ..Default::default() };
        let record = Arc::new(Record::new(instance, &self.config.limits)?);
        let asked = Registering { key: group, record, ttl, holder, sequence: 0, only_if_free: false };
        Ok((slot, self.register(asked, now)?))
    }

    /// The slots of a group, by number.
    pub fn slots(&self, group: &ServiceKey, now: Instant) -> Vec<Slot> {
        self.taken(group, now).map(|(slot, member, _)| Slot { slot, member: member.to_owned() }).collect()
    }

    /// Lets a slot go, if this holder has it, as far as is known here. Returns whether it had.
    pub fn release_slot(&mut self, group: &ServiceKey, slot: u32, holder: &str, now: Instant) -> bool {
        let id = id(slot);
        let has = self.get(group, &id).is_some_and(|known| *known.holder == *holder);
        // Not in the holder's name: that would be for good, and it may want this number again.
        has && self.deregister(group, &id, "", now)
    }

    fn taken(&self, group: &ServiceKey, now: Instant) -> impl Iterator<Item = (u32, &str, &Arc<str>)> {
        let instances = self.services.get(group).into_iter().flat_map(|service| service.instances.iter());
        instances.filter_map(move |(id, known)| {
            let lease = known.lease.and_then(|lease| self.leases.get(lease));
            // What has run out and was not noticed is free.
            let lives = lease.is_none_or(|lease| lease.is_live(now));
            let member = known.record.instance().metadata.get(MEMBER).map(String::as_str).unwrap_or_default();
            Some((id.parse().ok().filter(|_| lives)?, member, &known.holder))
        })
    }
}
