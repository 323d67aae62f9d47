//! How instances go that say nothing any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, Rng};

use super::protection::{Group, Guarded};
use super::{FactKey, Gone, Kind, Owner, Protected, ServiceKey, Store};

/// How often protected groups are counted again.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Not having looked for so long means to have stood still: a node looks twice a second.
const STOOD_STILL: Duration = Duration::from_millis(1_500);
/// What arrives this long after a pause was sent after it: nobody waits longer for an answer.
const STALE: Duration = Duration::from_secs(5);
/// Of a hundred instances of a service, how many of lost nodes are taken out in one sweep. As in Eureka.
const SWEPT_PERCENT: usize = 15;

impl Store {
    /// Takes out what has run out by `now`, at most `limit` instances; the rest is for the next call. Returns how many went.
    pub fn expire(&mut self, now: Instant, limit: usize) -> usize {
        self.looked = Some(now);
        let (mut expired, mut free) = (0, BTreeSet::new());
        while expired < limit
            && let Some(lease) = self.leases.expired(now)
        {
            let Some((of, zone)) = self.leased(lease) else {
                self.leases.end(lease);
                continue;
            };
            let group = (of.key, zone);
            // Decided once for all that are due now.
            if !free.contains(&group) && self.is_protected(&group, now) {
                self.leases.hold(lease);
                if let Some(guarded) = self.protection.groups.get_mut(&group) {
                    guarded.held.insert(lease);
                }
                continue;
            }
            free.insert(group);
            self.run_out(lease, now);
            expired += 1;
        }
        expired += self.recount(now);
        self.forget_overrides(now);
        self.tombs.forget(now);
        self.changes.forget(now);
        self.forget(now);
        expired
    }

    /// When [`Store::expire`] may next have something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.leases.next_due()
    }

    /// Notices that this node stood still, by nobody having looked for long; to be called before anything is changed. Returns
    /// for how long, if it did. Nothing is noticed before the first [`Store::expire`].
    pub fn awake(&mut self, now: Instant) -> Option<Duration> {
        let looked = self.looked?;
        self.looked = Some(now);
        let gap = now.saturating_duration_since(looked);
        if gap < STOOD_STILL {
            return None;
        }
        self.paused(gap, now);
        Some(gap)
    }

    /// Nobody looks any more, for this node goes down: nothing is noticed from now on.
    pub(crate) fn rest(&mut self) {
        self.looked = None;
    }

    /// This node stood still for this long. Nobody's renewals could arrive, so nobody is late for that.
    pub fn paused(&mut self, time: Duration, now: Instant) {
        self.leases.prolong(time, now);
        self.owners.prolong(time);
        if time >= self.config.keep_removals() {
            self.stale = Some((now.checked_sub(time).unwrap_or(now), now + STALE));
            self.owners.stood_still(now);
        }
    }

    /// Whose instance has a lease of this node, and its zone. `None` if another node has it: the lease means nothing then.
    fn leased(&mut self, lease: u64) -> Option<(FactKey, Arc<str>)> {
        let entry = self.leases.get(lease)?;
        let of = FactKey { key: entry.key.clone(), id: Arc::clone(&entry.id), kind: Kind::Instance };
        let own = self.own();
        let registration = self.services.get_mut(&of.key)?.instances.get_mut(&of.id)?;
        if registration.lease != Some(lease) {
            return None;
        }
        if registration.version.owner != own {
            registration.lease = None;
            return None;
        }
        Some((of, registration.registered.instance().zone.as_str().into()))
    }

    /// A lease of this node has run out.
    pub(super) fn run_out(&mut self, lease: u64, now: Instant) {
        let Some((of, _)) = self.leased(lease) else {
            self.leases.end(lease);
            return;
        };
        self.expired(&of, false, now);
    }

    /// Nobody renews it any more.
    fn expired(&mut self, of: &FactKey, lapsed: bool, now: Instant) {
        let Some(registration) = self.get(&of.key, &of.id) else { return };
        let version = registration.version;
        self.bury(of, version, Gone::expired(lapsed), now);
        self.said.push(of.clone());
    }

    /// How many of a group are expected to renew here, and how many are on time. Those who came after the last word of one
    /// who is late may have come in its place: they are on time, and not expected besides.
    fn count(&self, (key, zone): &Group, now: Instant) -> (usize, usize) {
        let own = self.own();
        let Some(service) = self.services.get(key) else { return (0, 0) };
        let owned = service.instances.values().filter(|r| r.version.owner == own);
        let of_zone = owned.filter(|r| r.registered.instance().zone == **zone);
        let leases = of_zone.filter_map(|r| Some((r, self.leases.get(r.lease?)?)));
        let all: Vec<_> =
            leases.map(|(r, lease)| (r.since, self.heard_from(r), lease.is_late(now))).collect();
        let silent = all.iter().filter(|(.., late)| *late).map(|(_, heard, _)| *heard).min();
        let newcomers =
            all.iter().filter(|(since, _, late)| !late && silent.is_some_and(|s| *since > s)).count();
        (all.len() - newcomers, all.iter().filter(|(.., late)| !late).count())
    }

    /// Whether a group of which one is due is protected from now on, or has been.
    fn is_protected(&mut self, group: &Group, now: Instant) -> bool {
        if self.protection.is_off() || group.0.is_slots() {
            return false;
        }
        if self.protection.groups.contains_key(group) {
            return true;
        }
        let (expected, on_time) = self.count(group, now);
        if on_time + self.protection.allowed(expected) >= expected {
            return false;
        }
        let guarded = Guarded { since: now, expected, held: BTreeSet::new() };
        self.protection.groups.insert(group.clone(), guarded);
        true
    }

    /// Ends the protection of groups that have as many on time as before. Returns how many went.
    fn recount(&mut self, now: Instant) -> usize {
        if self.protection.groups.is_empty()
            || self.protection.counted.is_some_and(|at| at + COUNT_EVERY > now)
        {
            return 0;
        }
        self.protection.counted = Some(now);
        let groups: Vec<Group> = self.protection.groups.keys().cloned().collect();
        let mut expired = 0;
        for group in groups {
            let (expected, on_time) = self.count(&group, now);
            let Some(guarded) = self.protection.groups.get_mut(&group) else { continue };
            let leases = &self.leases;
            guarded.held.retain(|lease| leases.get(*lease).is_some_and(|l| l.held));
            guarded.expected = guarded.expected.min(expected);
            let (expected, held) = (guarded.expected, guarded.held.len());
            if held == 0 || on_time + self.protection.allowed(expected) >= expected {
                expired += self.end_protection(&group.0, &group.1, now);
            }
        }
        expired
    }

    /// Ends the protection of a service in a zone: whoever is overdue goes. Returns how many went. If as many are late
    /// again, it begins again.
    pub fn end_protection(&mut self, key: &ServiceKey, zone: &str, now: Instant) -> usize {
        let Some(guarded) = self.protection.groups.remove(&(key.clone(), zone.into())) else { return 0 };
        let held = guarded.held.into_iter().filter(|lease| self.leases.get(*lease).is_some_and(|l| l.held));
        let held: Vec<u64> = held.collect();
        held.iter().for_each(|lease| self.run_out(*lease, now));
        held.len()
    }

    /// The groups of which nobody is removed for being late.
    pub fn protected(&self) -> Vec<Protected> {
        let of = |((key, zone), guarded): (&Group, &Guarded)| Protected {
            key: key.clone(),
            zone: Arc::clone(zone),
            since: guarded.since,
            expected: guarded.expected,
            overdue: guarded.held.iter().filter(|l| self.leases.get(**l).is_some_and(|l| l.held)).count(),
        };
        self.protection.groups.iter().map(of).collect()
    }

    /// These nodes, and this one, are heard of now, and no others. What those have who are not is kept as it is until
    /// [`Store::sweep`].
    pub fn set_live(&mut self, live: BTreeSet<Owner>, now: Instant) {
        self.owners.set_live(&live, now);
        let is_somebody_away = self.owners.may_somebody_be_away(self.config.keep_for_absent, now);
        self.tombs.keep_longer(is_somebody_away);
        self.overrides.keep_longer(is_somebody_away);
    }

    /// How many instances belong to a node that is lost, and were not claimed since.
    pub fn orphans(&self) -> usize {
        self.owners.orphans()
    }

    /// Takes out instances of nodes that have been lost for the partition window: of each service at most 15 %, but one, by
    /// chance. Who lives had that time to register elsewhere; if the cause is another one, little is lost before somebody
    /// sees it. Returns how many went. One node does this, for all.
    pub fn sweep(&mut self, now: Instant, rng: &dyn Rng) -> usize {
        let lost = self.owners.lost(self.config.partition_window, now);
        if lost.is_empty() {
            return 0;
        }
        let mut orphans: BTreeMap<ServiceKey, Vec<Arc<str>>> = BTreeMap::new();
        for (key, service) in &self.services {
            let ids = service.instances.iter().filter(|(_, r)| lost.contains(&r.version.owner));
            let mut ids: Vec<_> = ids.map(|(id, _)| Arc::clone(id)).collect();
            let most = (service.instances.len() * SWEPT_PERCENT / 100).max(1);
            while ids.len() > most {
                ids.swap_remove(rng.below(ids.len()));
            }
            orphans.insert(key.clone(), ids);
        }
        let all = orphans.into_iter().flat_map(|(key, ids)| ids.into_iter().map(move |id| (key.clone(), id)));
        let all: Vec<_> = all.map(|(key, id)| FactKey { key, id, kind: Kind::Instance }).collect();
        all.iter().for_each(|of| self.expired(of, true, now));
        all.len()
    }
}
