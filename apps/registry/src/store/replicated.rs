//! What other nodes say, and what is said to them.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::Instant;
use bowline_registry_bowline::api::bowline::registry::v1::RemovalReason;

use super::service::Registration;
use super::{Announced, Fact, FactKey, Gone, Kind, Said, ServiceKey, Store, Version};
use super::{BUCKETS, Override};

/// What a fact was to the node that heard it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// News.
    News,
    /// Nothing.
    Known,
    /// Older than what is known here: whoever said it should hear that.
    Old,
    /// It cannot be: its version is of no clock.
    Absurd,
}

impl Store {
    /// Another node said something.
    pub fn hear(&mut self, fact: Fact, now: Instant) -> Heard {
        if !self.clock.hear(fact.version) {
            return Heard::Absurd;
        }
        let Fact { of, version, said } = fact;
        match said {
            Said::Here(announced) => self.hear_here(of, version, announced, now),
            Said::Gone(gone, age) => self.hear_gone(of, version, (gone, age), now),
            Said::Overridden { overridden, forgotten } => {
                self.hear_override(&of, (overridden, version, forgotten), now)
            }
        }
    }

    fn hear_here(&mut self, of: FactKey, version: Version, announced: Announced, now: Instant) -> Heard {
        let Announced { record: registered, holder, sequence, ttl, age, said, registered: wished } =
            announced;
        // No later than what was said of it since.
        let wished = wished.min(version);
        let asked = if registered.is_checked() { wished } else { version };
        let ttl = ttl.clamp(self.config.min_ttl, self.config.max_ttl);
        let is_heard_of = self.owners.is_live(version.owner);
        if let Some(gone) = self.tombs.end(&of.key, &of.id, &holder, ((version, asked), is_heard_of)) {
            if !gone.lapsed || !is_heard_of {
                return Heard::Old;
            }
            // The node that was lost is back, and its instances with it.
            self.tombs.open(&of.key, &of.id, version.owner);
        }
        let (own, known) = (self.own(), self.get(&of.key, &of.id));
        if let Some(known) = known
            && known.version >= version
        {
            return if known.version == version { Heard::Known } else { Heard::Old };
        }
        if version.owner == own {
            // Nobody else can know that. It is gone, for so long that nobody remembers.
            self.bury(&of, version, Gone::expired(false), now);
            self.said.push(of);
            return Heard::Known;
        }
        // Whichever node's word counts: who wished for it has done so.
        let wished = known.filter(|known| known.holder == holder).map_or(wished, |k| k.wished.max(wished));
        let (said, since) = (now.checked_sub(said).unwrap_or(now), now.checked_sub(age).unwrap_or(now));
        let mut lease = None;
        if let Some(known) = known
            && let Some(kept) = known.lease
        {
            let lease_here = self.leases.get(kept);
            let lives = lease_here.is_some_and(|l| l.deadline > now);
            let is_held = lease_here.is_some_and(|l| l.held);
            let is_own = known.version.owner == own;
            // Of one process the later word counts, whichever node has heard it; of two, the one that came later.
            let is_later = match known.holder == holder {
                // Nobody but nodes is heard of what is checked, and all of them always.
                true if sequence == known.sequence => {
                    is_own && !registered.is_checked() && self.heard_from(known) > said
                }
                true => sequence < known.sequence,
                false => is_own && known.since > since,
            };
            let is_older = known.holder == holder && sequence < known.sequence;
            if (lives && is_later) || (is_held && is_older) {
                self.insist(&of, now);
                return Heard::Known;
            }
            // Whoever has what was said earlier has to say again what is so, and not to renew that.
            if known.holder != holder || is_older {
                self.leases.end(kept);
            } else {
                // The next renewal tells.
                self.leases.contest(kept, true);
                lease = Some(kept);
            }
        }
        let record = Arc::clone(&registered);
        let registration = Registration {
            registered,
            record,
            version,
            wished,
            said,
            lease,
            ttl,
            holder,
            sequence,
            since,
            updated: now,
        };
        self.put(&of, registration, now);
        Heard::News
    }

    fn hear_gone(
        &mut self,
        of: FactKey,
        version: Version,
        (gone, age): (Gone, Duration),
        now: Instant,
    ) -> Heard {
        // It counts as long as its owner is lost. The owner itself says again what it has, and nobody else's goes for it.
        if gone.lapsed && self.owners.is_live(version.owner) {
            let known = self.get(&of.key, &of.id);
            let own = known.filter(|k| k.version.owner == self.own() && k.version.owner == version.owner);
            let own = own.filter(|k| k.version <= version);
            // One that is held may live, as far as a node can know that had lost this one.
            if own.and_then(|k| self.leases.get(k.lease?)).is_some_and(|l| l.is_live(now)) {
                self.insist(&of, now);
            }
            return Heard::Known;
        }
        let (mut ends, mut seen) = (false, false);
        if let Some(known) = self.get(&of.key, &of.id) {
            seen = true;
            ends = self.ends(&gone, version, known);
            let expired = gone.reason != RemovalReason::REMOVAL_REASON_CANCELLED;
            let lease = known.lease.and_then(|lease| self.leases.get(lease));
            if ends && expired && lease.is_some_and(|l| l.deadline > now) {
                self.insist(&of, now);
                return Heard::Known;
            }
        }
        let reason = gone.reason;
        let since = now.checked_sub(age).unwrap_or(now);
        let is_new = self.tombs.add(&of, (version, gone, since), seen, now);
        if ends {
            self.remove(&of, reason, now);
        }
        if is_new || ends { Heard::News } else { Heard::Known }
    }

    fn hear_override(
        &mut self,
        of: &FactKey,
        (overridden, version, forgotten): (Arc<Override>, Version, bool),
        now: Instant,
    ) -> Heard {
        let here = self.get(&of.key, &of.id).is_some();
        if let Some(known) = self.overrides.kept(&of.key, &of.id) {
            if known.version >= version {
                return if known.version == version { Heard::Known } else { Heard::Old };
            }
            if forgotten && here && !known.overridden.is_empty() {
                // It was gone for whoever forgot it, and not for all.
                let mut kept = (*known.overridden).clone();
                let version = self.clock.tick();
                kept.sequence = version.clock;
                self.overrule(of, (Arc::new(kept), version, false), now);
                self.said.push(of.clone());
                return Heard::Known;
            }
        }
        self.overrule(of, (overridden, version, forgotten), now);
        Heard::News
    }

    /// What is known of something: what holds, and before it, what went.
    pub fn facts(&self, of: &FactKey, now: Instant) -> Vec<Fact> {
        let fact = |version, said| Fact { of: of.clone(), version, said };
        if of.kind == Kind::Override {
            let kept = self.overrides.kept(&of.key, &of.id);
            let said = |overridden, forgotten| Said::Overridden { overridden, forgotten };
            return kept
                .map(|k| fact(k.version, said(Arc::clone(&k.overridden), k.forgotten)))
                .into_iter()
                .collect();
        }
        let tombs = self.tombs.of(&of.key, &of.id);
        let gone = tombs.map(|(version, gone, since)| {
            fact(version, Said::Gone(gone.clone(), now.saturating_duration_since(since)))
        });
        let here = self.get(&of.key, &of.id).map(|r| {
            let announced = Announced {
                record: Arc::clone(&r.registered),
                holder: Arc::clone(&r.holder),
                sequence: r.sequence,
                ttl: r.ttl,
                age: now.saturating_duration_since(r.since),
                said: now.saturating_duration_since(self.heard_from(r)),
                registered: r.wished(),
            };
            fact(r.version, Said::Here(announced))
        });
        gone.chain(here).collect()
    }

    /// What is known to be gone. Sums say nothing of that, so who meets another node tells it all.
    pub fn removals(&self) -> impl Iterator<Item = FactKey> {
        let of = |(key, id): (&ServiceKey, &Arc<str>)| FactKey {
            key: key.clone(),
            id: Arc::clone(id),
            kind: Kind::Instance,
        };
        self.tombs.keys().map(of)
    }

    /// The version of what is there; `None` if nothing is.
    pub fn version(&self, of: &FactKey) -> Option<Version> {
        match of.kind {
            Kind::Instance => self.get(&of.key, &of.id).map(|r| r.version),
            Kind::Override => {
                let kept = self.overrides.kept(&of.key, &of.id);
                kept.filter(|k| !k.overridden.is_empty()).map(|k| k.version)
            }
        }
    }

    /// The versions of what is there of a service, sorted.
    pub fn versions(&self, key: &ServiceKey) -> Vec<(Arc<str>, Kind, Version)> {
        let service = self.services.get(key);
        let instances = service.into_iter().flat_map(|s| &s.instances);
        let instances = instances.map(|(id, r)| (Arc::clone(id), Kind::Instance, r.version));
        let overrides = self.overrides.of(key).map(|(id, k)| (Arc::clone(id), Kind::Override, k.version));
        let mut all: Vec<_> = instances.chain(overrides).collect();
        all.sort();
        all
    }

    /// Whether the owner of a version is lost.
    pub fn is_lost(&self, version: Version) -> bool {
        !self.owners.is_live(version.owner)
    }

    /// Whether an instance at this version has lapsed here, its owner being lost still.
    pub fn has_lapsed(&self, of: &FactKey, version: Version) -> bool {
        let mut lapsed = self.tombs.of(&of.key, &of.id).filter(|(_, gone, _)| gone.lapsed);
        let is_it = |at: Version| at.owner == version.owner && version <= at;
        of.kind == Kind::Instance && self.is_lost(version) && lapsed.any(|(at, ..)| is_it(at))
    }

    /// What has lapsed of a service, at which versions, its owners being lost still.
    pub fn lapsed(&self, key: &ServiceKey) -> impl Iterator<Item = (Arc<str>, Version)> {
        let lapsed = self.tombs.lapsed(key).filter(|(_, version)| self.is_lost(*version));
        lapsed.filter(|(id, _)| self.get(key, id).is_none()).map(|(id, version)| (Arc::clone(id), version))
    }

    /// Stands for everything that is there.
    pub fn root(&self) -> u64 {
        self.digests.root()
    }

    /// The same in parts.
    pub fn buckets(&self) -> &[u64; BUCKETS] {
        self.digests.buckets()
    }

    /// The services of a part, each with what stands for it.
    pub fn digests(&self, bucket: u8) -> impl Iterator<Item = (&ServiceKey, u64)> {
        self.digests.services(bucket)
    }

    /// What stands for a service; 0 if there is nothing of it.
    pub fn digest(&self, key: &ServiceKey) -> u64 {
        self.digests.of(key)
    }
}
