//! A node: its store, its streams to others, and whom it hears of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, SeededRng};
use bowline_registry::peers::{Member, Peers, StreamId, Tended};
use bowline_registry::store::{FactKey, News, Owner, Protected, ServiceKey, Store};
use bowline_registry_bowline::api::bowline::registry::v1::RemovalReason;

use super::operators::Shown;
use super::plan::Plan;
use super::sums::{Reached, Sums};

/// Silence after which a node counts as lost.
const LOST: Duration = Duration::from_secs(3);
/// How long a lost node is remembered.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What one node tells of another in its heartbeats: as gossip does, it goes on from node to node.
#[derive(Clone, Debug)]
pub(super) struct Beat {
    pub(super) owner: Owner,
    pub(super) zone: String,
    pub(super) count: u64,
}

#[derive(Debug)]
struct HeardOf {
    beat: Beat,
    first: Instant,
    last: Instant,
}

/// What somebody sees who follows all services of a node.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) revision: Option<u64>,
    /// By id, who holds it.
    pub(super) instances: BTreeMap<Arc<str>, Arc<str>>,
    sum: u64,
    pub(super) hashes: BTreeMap<Arc<str>, u64>,
}

/// What a change of a view was.
#[derive(Debug)]
pub(super) enum Seen {
    Came { id: Arc<str>, holder: Arc<str> },
    Went { id: Arc<str>, holder: Arc<str>, reason: RemovalReason },
}

/// Since when a group is protected, and whose leases of it are here.
type Held = (Instant, Vec<Arc<str>>);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) own: Member,
    pub(super) store: Store,
    pub(super) peers: Peers,
    pub(super) tended: Tended,
    pub(super) views: BTreeMap<ServiceKey, View>,
    /// Who was seen to cancel here.
    pub(super) cancelled: BTreeSet<Arc<str>>,
    /// When each holder's instance was last seen to go here.
    pub(super) went: BTreeMap<Arc<str>, Instant>,
    pub(super) booted: Instant,
    pub(super) ready: bool,
    heard: BTreeMap<Owner, HeardOf>,
    count: u64,
    ticked: Instant,
    swept: Instant,
    /// Who was protected, when it was looked last, since when.
    pub(super) protected: BTreeMap<(ServiceKey, Arc<str>), Instant>,
    /// What it has shown of overrides.
    pub(super) overrides: BTreeMap<FactKey, Shown>,
    /// The streams, by their number in the world.
    pub(super) streams: BTreeMap<u64, StreamId>,
}

impl Node {
    pub(super) fn boot(plan: &Plan, owner: Owner, zone: &str, now: Instant) -> Self {
        Self {
            own: Member { owner, zone: zone.into(), live: true },
            store: Store::of(plan.config.clone(), owner),
            peers: Peers::new(),
            tended: Tended::default(),
            views: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            went: BTreeMap::new(),
            booted: now,
            ready: false,
            heard: BTreeMap::new(),
            count: 0,
            ticked: now,
            swept: now,
            protected: BTreeMap::new(),
            overrides: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    /// Time passes. Returns what to tell the others.
    ///
    /// # Errors
    /// If a sweep takes out too much.
    pub(super) fn tick(
        &mut self,
        (plan, every): (&Plan, Duration),
        rng: &SeededRng,
        sums: &mut Sums,
        now: Instant,
    ) -> Result<Vec<Beat>, String> {
        let gap = now.saturating_duration_since(self.ticked);
        if gap > every * 4 {
            self.store.paused(gap - every, now);
        }
        self.ticked = now;
        self.count += 1;
        self.heard.retain(|_, h| h.last + REMEMBERED > now);
        let mut latest: BTreeMap<u64, &HeardOf> = BTreeMap::new();
        for heard in self.heard.values() {
            let entry = latest.entry(heard.beat.owner.node).or_insert(heard);
            // A life that is lost is no rival to one that is not, as in gossip.
            let rank = |h: &HeardOf| (h.last + LOST > now, h.first);
            if rank(heard) > rank(entry) {
                *entry = heard;
            }
        }
        let member = |h: &&HeardOf| Member {
            owner: h.beat.owner,
            zone: h.beat.zone.clone(),
            live: h.last + LOST > now,
        };
        let others: Vec<Member> = latest.values().map(member).collect();
        self.tended = self.peers.tend(&self.own, &others, now);
        self.store.set_live(self.tended.topology.live.clone(), now);
        let held = self.held();
        sums.reach(Reached::Expired, self.store.expire(now, usize::MAX));
        self.count_protected(sums);
        for ((key, zone), (since, ids)) in held {
            let goes_on = self.protected.get(&(key.clone(), zone)) == Some(&since);
            if goes_on && let Some(id) = ids.iter().find(|id| self.store.instance(&key, id).is_none()) {
                return Err(format!("{id} of {key} went, which is protected"));
            }
        }
        if self.swept + plan.sweep_every <= now {
            self.swept = now;
            if self.tended.topology.sweeps {
                self.sweep(rng, sums, now)?;
            }
        }
        if !self.ready && (self.peers.is_synced() || self.booted + plan.sync_within <= now) {
            self.ready = true;
            sums.reach(Reached::StartedUnsynced, usize::from(!self.peers.is_synced()));
            self.peers.set_ready();
        }
        let own = Beat { owner: self.own.owner, zone: self.own.zone.clone(), count: self.count };
        let others = self.heard.values().filter(|h| h.last + LOST > now).map(|h| h.beat.clone());
        Ok(others.chain([own]).collect())
    }

    fn sweep(&mut self, rng: &SeededRng, sums: &mut Sums, now: Instant) -> Result<(), String> {
        let count = |key: &ServiceKey, store: &Store| store.registered(key).1.len();
        let before: Vec<_> = self.views.keys().map(|key| (key.clone(), count(key, &self.store))).collect();
        let lapsed = self.store.sweep(now, rng);
        sums.reach(Reached::WindowPassed, usize::from(lapsed > 0));
        sums.reach(Reached::LapsedTaken, lapsed);
        for (key, before) in before {
            let went = before - count(&key, &self.store);
            if went > (before * 15 / 100).max(1) {
                return Err(format!("a sweep took out {went} of the {before} instances of {key}"));
            }
        }
        Ok(())
    }

    /// Whose leases are here and protected, since when.
    fn held(&self) -> BTreeMap<(ServiceKey, Arc<str>), Held> {
        let ids = |p: &Protected| {
            let own = self.store.registered(&p.key).1.into_iter().filter(|r| r.owner == self.own.owner);
            let zone = own.filter(|r| r.registered.instance().zone == *p.zone);
            zone.map(|r| Arc::clone(r.registered.id())).collect()
        };
        let protected = self.store.protected();
        protected.into_iter().map(|p| ((p.key.clone(), Arc::clone(&p.zone)), (p.since, ids(&p)))).collect()
    }

    fn count_protected(&mut self, sums: &mut Sums) {
        let of = |p: Protected| ((p.key, p.zone), p.since);
        let protected: BTreeMap<_, _> = self.store.protected().into_iter().map(of).collect();
        let began = protected.iter().filter(|(group, since)| self.protected.get(*group) != Some(since));
        sums.reach(Reached::Protected, began.count());
        let over = self.protected.iter().filter(|(group, since)| protected.get(*group) != Some(since));
        sums.reach(Reached::ProtectionOver, over.count());
        self.protected = protected;
    }

    /// Returns how many are back that were not heard of for longer than `long`.
    pub(super) fn hear(&mut self, beats: Vec<Beat>, long: Duration, now: Instant) -> usize {
        let mut back = 0;
        for beat in beats.into_iter().filter(|b| b.owner.node != self.own.owner.node) {
            match self.heard.get_mut(&beat.owner) {
                Some(heard) if heard.beat.count >= beat.count => {}
                Some(heard) => {
                    back += usize::from(heard.last + long <= now);
                    (heard.beat, heard.last) = (beat, now);
                }
                None => {
                    self.heard.insert(beat.owner, HeardOf { beat, first: now, last: now });
                }
            }
        }
        back
    }

    /// What changed for who follows this node, and whether it is as the node says.
    pub(super) fn look(&mut self) -> Result<Vec<(ServiceKey, Seen)>, String> {
        let said = self.store.take_said();
        self.peers.say(&said);
        let mut seen = Vec::new();
        for key in self.store.take_changed() {
            let view = self.views.entry(key.clone()).or_default();
            let news = self.store.news(&key, view.revision);
            let (revision, digest, upserted, removed) = match news {
                News::None => continue,
                News::Changes(c) => {
                    if view.revision != Some(c.from_revision) {
                        return Err(format!("a gap in {key}: {:?} and {}", view.revision, c.from_revision));
                    }
                    (c.revision, c.digest, c.upserted, c.removed)
                }
                News::List(list) => {
                    let there = |id: &Arc<str>| list.records.iter().any(|r| r.id() == id);
                    let gone = view.instances.keys().filter(|id| !there(id)).cloned();
                    let reason = |id: &Arc<str>| {
                        let removed = list.removed.iter().find(|(removed, _)| removed == id);
                        removed.map_or(RemovalReason::REMOVAL_REASON_UNSPECIFIED, |(_, reason)| *reason)
                    };
                    let gone = gone.map(|id| (Arc::clone(&id), reason(&id))).collect();
                    (list.revision, list.digest, list.records.clone(), gone)
                }
            };
            view.revision = Some(revision);
            for record in upserted {
                let id = Arc::clone(record.id());
                let old = view.hashes.insert(Arc::clone(&id), record.hash()).unwrap_or(0);
                view.sum = view.sum.wrapping_sub(old).wrapping_add(record.hash());
                let holder = self.store.instance(&key, &id).map(|r| r.holder).unwrap_or_default();
                if view.instances.insert(Arc::clone(&id), Arc::clone(&holder)).as_ref() != Some(&holder) {
                    seen.push((key.clone(), Seen::Came { id, holder }));
                }
            }
            for (id, reason) in removed {
                view.sum = view.sum.wrapping_sub(view.hashes.remove(&id).unwrap_or(0));
                if let Some(holder) = view.instances.remove(&id) {
                    seen.push((key.clone(), Seen::Went { id, holder, reason }));
                }
            }
            if view.sum != digest {
                return Err(format!("who follows {key} has not what the node has"));
            }
        }
        Ok(seen)
    }
}
