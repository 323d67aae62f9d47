//! Which nodes have instances, and which of them are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_core::Instant;

use super::Owner;

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
    live: BTreeSet<Owner>,
    owned: BTreeMap<Owner, Owned>,
}

impl Owners {
    /// Only this node is heard of.
    pub(super) fn new(own: Owner) -> Self {
        Self { own, live: BTreeSet::new(), owned: BTreeMap::new() }
    }

    pub(super) fn is_live(&self, owner: Owner) -> bool {
        owner == self.own || self.live.contains(&owner)
    }

    /// These, and this one, are heard of now, and no others.
    pub(super) fn set_live(&mut self, live: BTreeSet<Owner>, now: Instant) {
        self.live = live;
        let (own, live) = (self.own, &self.live);
        for (owner, owned) in &mut self.owned {
            let is_live = *owner == own || live.contains(owner);
            owned.lost = if is_live { None } else { owned.lost.or(Some(now)) };
        }
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
