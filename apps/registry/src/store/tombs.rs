//! What is gone, so that it does not come back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::Instant;
use bowline_registry_bowline::api::bowline::registry::v1::RemovalReason;

use super::{FactKey, Owner, ServiceKey, Version};

/// The most that are remembered; beyond it the oldest are forgotten first. Those of what was never seen here are fewer, so that
/// nobody who takes out what there is not makes others be forgotten.
const MOST: usize = 200_000;
const MOST_UNSEEN: usize = 10_000;
/// The most holders whose removals of one id are remembered, processes with one id after the other; and the most nodes.
const MOST_OF_AN_ID: usize = 16;

/// How an instance went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Why.
    pub reason: RemovalReason,
    /// Who took it out, if that was its holder; empty otherwise.
    pub holder: Arc<str>,
    /// Its node is lost and nobody claimed it: it counts only as long as that node stays lost.
    pub lapsed: bool,
}

impl Gone {
    /// Its lease has run out; or nobody knows, and its node is lost.
    pub(super) fn expired(lapsed: bool) -> Self {
        Self { reason: RemovalReason::REMOVAL_REASON_EXPIRED, holder: Arc::from(""), lapsed }
    }

    fn by(&self, version: Version) -> By {
        match self.reason {
            _ if !self.holder.is_empty() => By::Holder(Arc::clone(&self.holder)),
            RemovalReason::REMOVAL_REASON_CANCELLED => By::Operator,
            _ => By::Node(version.owner),
        }
    }

    /// Whether it ends, being said at `at`, what this holder registered at `version`, whose owner is heard of, or not.
    ///
    /// What its holder took out is ended for good, whatever the version, and nothing else is. What expired, expired at the
    /// version it had: who claimed it meanwhile, without anybody here knowing, has a later one, and is not ended. Nor is what
    /// another node has that is heard of, though it be earlier: only that node knows whether it goes as well. What an operator
    /// took out is ended unless somebody wished for it later: that its probes failed meanwhile, or another node took it over,
    /// is no such wish.
    pub(super) fn ends(
        &self,
        at: Version,
        holder: &str,
        (version, wished): (Version, Version),
        is_heard_of: bool,
    ) -> bool {
        match self.by(at) {
            By::Holder(own) => *own == *holder,
            By::Operator => wished <= at,
            By::Node(owner) => version <= at && (owner == version.owner || !is_heard_of),
        }
    }
}

#[derive(Clone, Debug)]
struct Tomb {
    version: Version,
    gone: Gone,
    since: Instant,
    /// Whether what went was there.
    seen: bool,
}

/// Whose removals are remembered beside each other: the last of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// An operator's.
    Operator,
    /// What was a node's expired.
    Node(Owner),
    /// A holder's own, which ends its word for good.
    Holder(Arc<str>),
}

type Name = (ServiceKey, Arc<str>, By);

/// The last removals of each instance. A registration that was still on its way, on another connection or from another node,
/// must not bring the instance back: nobody would ever take it out again but the end of its lease.
#[derive(Debug)]
pub(super) struct Tombs {
    keep: Duration,
    /// How long while some node is out of sight, who has not heard of them.
    longest: Duration,
    /// Whether that may be so.
    longer: bool,
    tombs: BTreeMap<Name, Tomb>,
    /// In the order in which they came, those of what was there and of what was not.
    order: [VecDeque<(Instant, Name)>; 2],
}

impl Tombs {
    pub(super) fn new(keep: Duration, for_absent: Duration) -> Self {
        Self {
            keep,
            longest: keep.max(for_absent),
            longer: false,
            tombs: BTreeMap::new(),
            order: Default::default(),
        }
    }

    fn keep(&self) -> Duration {
        if self.longer { self.longest } else { self.keep }
    }

    /// Whether to remember them for as long as a node may be away.
    pub(super) fn keep_longer(&mut self, longer: bool) {
        self.longer = longer;
    }

    /// Remembers a removal of that time, unless a later one is known or it was too long ago. Returns whether it did.
    pub(super) fn add(
        &mut self,
        of: &FactKey,
        (version, gone, since): (Version, Gone, Instant),
        seen: bool,
        now: Instant,
    ) -> bool {
        let name = (of.key.clone(), Arc::clone(&of.id), gone.by(version));
        let known = self.tombs.get(&name);
        let is_known = known.is_some_and(|t| (t.version, !t.gone.lapsed) >= (version, !gone.lapsed));
        if is_known || since + self.keep() <= now {
            return false;
        }
        let seen = seen || known.is_some_and(|t| t.seen);
        self.order[usize::from(seen)].push_back((since, name.clone()));
        self.tombs.insert(name, Tomb { version, gone, since, seen });
        for (which, most) in [MOST_UNSEEN, MOST].into_iter().enumerate() {
            while self.order[which].len() > most {
                self.drop_oldest(which);
            }
        }
        self.bound(of);
        true
    }

    /// Forgets the oldest of an id's, if there are too many.
    fn bound(&mut self, of: &FactKey) {
        let first = (of.key.clone(), Arc::clone(&of.id), By::Operator);
        let same = self.tombs.range(first..).take_while(|((key, id, _), _)| *key == of.key && *id == of.id);
        let all = same.map(|(name, tomb)| (tomb.version, name.clone()));
        let (holders, nodes): (Vec<_>, Vec<_>) = all.partition(|(_, (.., by))| matches!(by, By::Holder(_)));
        for all in [holders, nodes] {
            if all.len() > MOST_OF_AN_ID
                && let Some((_, oldest)) = all.into_iter().min()
            {
                self.tombs.remove(&oldest);
            }
        }
    }

    /// The last removals.
    pub(super) fn of(
        &self,
        key: &ServiceKey,
        id: &Arc<str>,
    ) -> impl Iterator<Item = (Version, &Gone, Instant)> {
        let first = (key.clone(), Arc::clone(id), By::Operator);
        let all = self.tombs.range(first.clone()..);
        let same = all.take_while(move |((key, id, _), _)| *key == first.0 && *id == first.1);
        same.map(|(_, tomb)| (tomb.version, &tomb.gone, tomb.since))
    }

    /// What lapsed of a service, by id.
    pub(super) fn lapsed(&self, key: &ServiceKey) -> impl Iterator<Item = (&Arc<str>, Version)> {
        let all = self.tombs.range((key.clone(), Arc::from(""), By::Operator)..);
        let same = all.take_while(move |((k, ..), _)| k == key);
        same.filter(|(_, tomb)| tomb.gone.lapsed).map(|((_, id, _), tomb)| (id, tomb.version))
    }

    /// All of which one is known to be gone.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&ServiceKey, &Arc<str>)> {
        self.tombs.keys().map(|(key, id, _)| (key, id))
    }

    /// What ends the registration of this holder at this version, wished for at another one, whose owner is heard of, or not;
    /// if anything does.
    pub(super) fn end(
        &self,
        key: &ServiceKey,
        id: &Arc<str>,
        holder: &str,
        (version, is_heard_of): ((Version, Version), bool),
    ) -> Option<&Gone> {
        let ends = self.of(key, id).filter(|(at, gone, _)| gone.ends(*at, holder, version, is_heard_of));
        // What ends it whatever becomes of its node counts most.
        ends.map(|(_, gone, _)| gone).min_by_key(|gone| gone.lapsed)
    }

    /// Whether `holder` has deregistered this id.
    pub(super) fn refuses(&self, key: &ServiceKey, id: &Arc<str>, holder: &str) -> bool {
        !holder.is_empty()
            && self.tombs.contains_key(&(key.clone(), Arc::clone(id), By::Holder(holder.into())))
    }

    /// Forgets that the instance of a lost node lapsed.
    pub(super) fn open(&mut self, key: &ServiceKey, id: &Arc<str>, owner: Owner) {
        self.tombs.remove(&(key.clone(), Arc::clone(id), By::Node(owner)));
    }

    /// Forgets what is old.
    pub(super) fn forget(&mut self, now: Instant) {
        let keep = self.keep();
        for which in 0..self.order.len() {
            while self.order[which].front().is_some_and(|(at, _)| *at + keep <= now) {
                self.drop_oldest(which);
            }
        }
    }

    fn drop_oldest(&mut self, which: usize) {
        if let Some((at, name)) = self.order[which].pop_front()
            && self.tombs.get(&name).is_some_and(|tomb| tomb.since == at)
        {
            self.tombs.remove(&name);
        }
    }
}
