//! Which nodes have instances, and which of them are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_core::Instant;

use super::Owner;

/// How long a node has to be heard of before all it said is known here: twice the time in which all are equal.
const SURE: Duration = Duration::from_secs(10);

/// The most lives of nodes of which it is remembered since when they are lost.
const MOST_SIGHTS: usize = 1_000;

/// How well a node is known.
#[derive(Clone, Copy, Debug, Default)]
struct Sight {
    /// Since when it is heard of; `None` if it is not.
    since: Option<Instant>,
    /// Since when it is not.
    lost: Option<Instant>,
}

/// What a node, in one of its lives, has.
#[derive(Debug)]
struct Owned {
    instances: usize,
    /// Since when it is not heard of; `None` while it is.
    lost: Option<Instant>,
}

/// All that have instances here, or are heard of.
#[derive(Debug)]
pub(super) struct Owners {
    own: Owner,
    /// When this node first looked who is there. Who was away by then, it cannot know.
    began: Option<Instant>,
    sights: BTreeMap<Owner, Sight>,
    owned: BTreeMap<Owner, Owned>,
}

impl Owners {
    /// Only this node is heard of.
    pub(super) fn new(own: Owner) -> Self {
        Self { own, began: None, sights: BTreeMap::new(), owned: BTreeMap::new() }
    }

    pub(super) fn is_live(&self, owner: Owner) -> bool {
        owner == self.own || self.sights.get(&owner).is_some_and(|sight| sight.since.is_some())
    }

    /// This node heard of nobody until now.
    pub(super) fn stood_still(&mut self, now: Instant) {
        for sight in self.sights.values_mut() {
            sight.since = sight.since.map(|_| now);
        }
    }

    /// These, and this one, are heard of now, and no others.
    pub(super) fn set_live(&mut self, live: &BTreeSet<Owner>, now: Instant) {
        self.began = self.began.or(Some(now));
        for (owner, sight) in &mut self.sights {
            if sight.since.is_some() && !live.contains(owner) {
                *sight = Sight { since: None, lost: Some(now) };
            }
        }
        for owner in live {
            let sight = self.sights.entry(*owner).or_default();
            sight.since = sight.since.or(Some(now));
        }
        let own = self.own;
        for (owner, owned) in &mut self.owned {
            let is_live = *owner == own || live.contains(owner);
            owned.lost = if is_live { None } else { owned.lost.or(Some(now)) };
        }
        while self.sights.len() > MOST_SIGHTS
            && let Some(oldest) = self.oldest_sight()
        {
            self.sights.remove(&oldest);
        }
    }

    /// Whether a node may be out of sight, or not be back for long, that is not known to be dead, for less than `away`.
    pub(super) fn may_somebody_be_away(&self, away: Duration, now: Instant) -> bool {
        let own = self.own.node;
        let is_back =
            |node: u64| node == own || self.sights.iter().any(|(o, s)| o.node == node && s.since.is_some());
        let is_new = self.began.is_some_and(|began| began + away > now);
        is_new
            || self.sights.iter().any(|(owner, sight)| match sight.since {
                Some(since) => since + SURE > now,
                None => sight.lost.is_some_and(|lost| lost + away > now) && !is_back(owner.node),
            })
    }

    /// Of those that are not heard of the one that was lost first.
    fn oldest_sight(&self) -> Option<Owner> {
        let lost = self.sights.iter().filter(|(_, sight)| sight.since.is_none());
        lost.min_by_key(|(_, sight)| sight.lost).map(|(owner, _)| *owner)
    }

    /// This node heard of nobody for so long, for it stood still.
    pub(super) fn prolong(&mut self, by: Duration) {
        for owned in self.owned.values_mut() {
            owned.lost = owned.lost.map(|lost| lost + by);
        }
    }

    /// An instance is another owner's from now on.
    pub(super) fn change(&mut self, before: Option<Owner>, after: Option<Owner>, now: Instant) {
        if before == after {
            return;
        }
        if let Some(before) = before
            && let Some(owned) = self.owned.get_mut(&before)
        {
            owned.instances -= 1;
            if owned.instances == 0 {
                self.owned.remove(&before);
            }
        }
        if let Some(after) = after {
            let lost = (!self.is_live(after)).then_some(now);
            self.owned.entry(after).or_insert(Owned { instances: 0, lost }).instances += 1;
        }
    }

    /// Those who have been lost for longer than `window`, and still have instances.
    pub(super) fn lost(&self, window: Duration, now: Instant) -> BTreeSet<Owner> {
        let is_lost = |owned: &Owned| owned.lost.is_some_and(|lost| lost + window <= now);
        self.owned.iter().filter(|(_, owned)| is_lost(owned)).map(|(owner, _)| *owner).collect()
    }

    /// How many instances have a lost owner.
    pub(super) fn orphans(&self) -> usize {
        self.owned.values().filter(|owned| owned.lost.is_some()).map(|owned| owned.instances).sum()
    }
}
