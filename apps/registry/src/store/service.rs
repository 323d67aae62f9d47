//! One service: its instances, its revision, and the log of what changed last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::Instant;
use bowline_registry_bowline::api::bowline::registry::v1::{Emptiness, RemovalReason};

use super::{Override, Record, Version};

/// What a holder registered.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    /// As it was registered.
    pub(super) registered: Arc<Record>,
    /// As it is served: with what an operator set.
    pub(super) record: Arc<Record>,
    /// When it was said, and which node has its lease.
    pub(super) version: Version,
    /// When it was registered. Whether a checked one is well, and which node finds that out, is nobody's wish to have it.
    pub(super) wished: Version,
    /// When its holder was heard of, at the latest.
    pub(super) said: Instant,
    /// Its lease, if it is here.
    pub(super) lease: Option<u64>,
    pub(super) ttl: Duration,
    pub(super) holder: Arc<str>,
    pub(super) sequence: u64,
    /// When its holder came.
    pub(super) since: Instant,
    /// When its content changed last.
    pub(super) updated: Instant,
}

impl Registration {
    /// What an operator who takes it out has to have known, or could have: a renewal of what is not checked is a word of its
    /// holder, as its registration is.
    pub(super) fn wished(&self) -> Version {
        if self.registered.is_checked() { self.wished } else { self.version }
    }
}

/// What is served of what was registered.
pub(super) fn served(registered: &Arc<Record>, overridden: Option<Arc<Override>>) -> Arc<Record> {
    let record = match overridden {
        Some(overridden) => Arc::new(registered.with_override(overridden)),
        None => Arc::clone(registered),
    };
    // Whatever an operator wants: nobody can make it well by saying so.
    if record.instance().unhealthy && record.is_up() { Arc::new(record.not_ready()) } else { record }
}

/// The whole list of a service at one revision. Shared by all who ask at that revision.
#[derive(Debug)]
pub struct List {
    /// The revision.
    pub revision: u64,
    /// The sum of the records' hashes.
    pub digest: u64,
    /// Why it is empty; unspecified if it is not.
    pub empty: Emptiness,
    /// Sorted by id.
    pub records: Vec<Arc<Record>>,
    /// Who went of late and did not come back.
    pub removed: Vec<(Arc<str>, RemovalReason)>,
}

/// What changed between two revisions.
#[derive(Debug)]
pub struct Changes {
    /// The revision it builds on.
    pub from_revision: u64,
    /// The revision it leads to.
    pub revision: u64,
    /// The sum of the records' hashes at that revision.
    pub digest: u64,
    /// Why there are no instances then; unspecified if there are.
    pub empty: Emptiness,
    /// New or other than before.
    pub upserted: Vec<Arc<Record>>,
    /// Gone.
    pub removed: Vec<(Arc<str>, RemovalReason)>,
}

/// What somebody who knows a service at some revision does not know yet.
#[derive(Debug)]
pub enum News {
    /// Nothing.
    None,
    /// What changed since.
    Changes(Changes),
    /// The whole list: nothing was known, or it was too long ago.
    List(Arc<List>),
}

/// A change: the latest state of this id is another than before. Revisions of a log are consecutive.
#[derive(Debug)]
struct Change {
    id: Arc<str>,
    /// Why it went, if it did.
    removed: Option<RemovalReason>,
}

/// Invariants: `digest` is the sum of the hashes of all records; the last change of the log led to `revision`; `empty`
/// is unspecified if and only if there are instances.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) instances: BTreeMap<Arc<str>, Registration>,
    revision: u64,
    digest: u64,
    empty: Emptiness,
    up: usize,
    log: VecDeque<Change>,
    log_limit: usize,
    list: Option<Arc<List>>,
    /// When the last instance went.
    pub(super) empty_since: Option<Instant>,
}

impl Service {
    /// A service without instances at a revision that no earlier service of its name had.
    pub(super) fn new(revision: u64, log_limit: usize) -> Self {
        Self {
            instances: BTreeMap::new(),
            revision,
            digest: 0,
            empty: Emptiness::EMPTINESS_UNKNOWN,
            up: 0,
            log: VecDeque::new(),
            log_limit,
            list: None,
            empty_since: None,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// What its list would say of itself.
    pub(super) fn position(&self) -> (u64, u64, Emptiness) {
        (self.revision, self.digest, self.empty)
    }

    /// How many of the instances want traffic.
    pub(super) fn up(&self) -> usize {
        self.up
    }

    /// Puts a registration in. Returns whether its content is news.
    pub(super) fn insert(&mut self, mut registration: Registration) -> bool {
        let (record, id) = (Arc::clone(&registration.record), Arc::clone(registration.record.id()));
        if let Some(before) = self.instances.get(&id) {
            if before.holder == registration.holder {
                registration.since = before.since;
            }
            let (before, updated) = (Arc::clone(&before.record), before.updated);
            if before == record {
                registration.updated = updated;
                self.instances.insert(id, registration);
                return false;
            }
            self.forget(&before);
        }
        self.instances.insert(id, registration);
        self.digest = self.digest.wrapping_add(record.hash());
        self.up += usize::from(record.is_up());
        self.empty = Emptiness::EMPTINESS_UNSPECIFIED;
        self.empty_since = None;
        self.changed(Change { id: Arc::clone(record.id()), removed: None });
        true
    }

    /// Serves an instance with this override from now on. Returns whether that is news.
    pub(super) fn overrule(&mut self, id: &str, overridden: Option<Arc<Override>>, now: Instant) -> bool {
        let Some(before) = self.instances.get(id) else { return false };
        let record = served(&before.registered, overridden);
        let changed = Registration { record, updated: now, ..before.clone() };
        self.insert(changed)
    }

    /// Takes a registration out.
    pub(super) fn remove(&mut self, id: &str, reason: RemovalReason, now: Instant) -> Option<Registration> {
        let registration = self.instances.remove(id)?;
        self.forget(&registration.record);
        if self.instances.is_empty() {
            self.empty = match reason {
                RemovalReason::REMOVAL_REASON_EXPIRED => Emptiness::EMPTINESS_EXPIRED,
                _ => Emptiness::EMPTINESS_CANCELLED,
            };
            self.empty_since = Some(now);
        }
        self.changed(Change { id: Arc::clone(registration.record.id()), removed: Some(reason) });
        Some(registration)
    }

    fn forget(&mut self, record: &Record) {
        self.digest = self.digest.wrapping_sub(record.hash());
        self.up -= usize::from(record.is_up());
    }

    fn changed(&mut self, change: Change) {
        self.revision += 1;
        self.list = None;
        self.log.push_back(change);
        while self.log.len() > self.log_limit {
            self.log.pop_front();
        }
    }

    /// What is new to somebody who knows the service at `known`; `None` for who knows nothing.
    pub(super) fn news(&mut self, known: Option<u64>) -> News {
        let oldest = self.revision - self.log.len() as u64;
        match known {
            Some(known) if known == self.revision => News::None,
            Some(known) if (oldest..self.revision).contains(&known) => {
                News::Changes(self.since(known, oldest))
            }
            _ => News::List(self.list()),
        }
    }

    fn since(&self, known: u64, oldest: u64) -> Changes {
        // Bounded by the length of the log, which is a usize.
        let skip = (known - oldest) as usize;
        // Of each id the latest counts, and what is there now is what counts.
        let latest: BTreeMap<_, _> = self.log.iter().skip(skip).map(|c| (&c.id, c.removed)).collect();
        let (mut upserted, mut removed) = (Vec::new(), Vec::new());
        for (id, reason) in latest {
            match (self.instances.get(id), reason) {
                (Some(registration), _) => upserted.push(Arc::clone(&registration.record)),
                (None, reason) => removed.push((Arc::clone(id), reason.unwrap_or_default())),
            }
        }
        let (revision, digest, empty) = (self.revision, self.digest, self.empty);
        Changes { from_revision: known, revision, digest, empty, upserted, removed }
    }

    fn list(&mut self) -> Arc<List> {
        if let Some(list) = &self.list {
            return Arc::clone(list);
        }
        let mut seen = BTreeSet::new();
        let latest = self.log.iter().rev().filter(|c| seen.insert(&c.id));
        let gone = latest.filter(|c| !self.instances.contains_key(&c.id));
        let removed = gone.map(|c| (Arc::clone(&c.id), c.removed.unwrap_or_default())).collect();
        let list = Arc::new(List {
            revision: self.revision,
            digest: self.digest,
            empty: self.empty,
            records: self.instances.values().map(|r| Arc::clone(&r.record)).collect(),
            removed,
        });
        self.list = Some(Arc::clone(&list));
        list
    }
}

impl List {
    /// The list of a service that nobody has heard of.
    pub(crate) fn unknown() -> Self {
        let empty = Emptiness::EMPTINESS_UNKNOWN;
        Self { revision: 0, digest: 0, empty, records: Vec::new(), removed: Vec::new() }
    }
}
