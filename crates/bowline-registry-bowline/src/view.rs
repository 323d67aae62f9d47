//! What is known of one service: a pure state machine over the registry's messages.
//!
//! The registry may restart and know nobody. A list of a new epoch is therefore not taken at its word at once: instances
//! it lacks are kept, as stale, for a grace, unless the registry says of one that it went. And a registry that has just
//! started and lists none at all is not believed before the grace is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_core::{Error, Instance, Instant, Result};
use bowline_discovery::{Emptiness, Publisher};

use crate::api::bowline::registry::v1 as wire;
use crate::convert;
use wire::watch_response::Event;

/// An entry of the registry: its hash, and the instance if this version can use it.
type Entry = (u64, Option<Instance>);

/// Invariant: once synced and outside of an incoming list, the sum of the entries' hashes is the registry's digest at
/// `revision` of `epoch`.
pub(crate) struct View {
    env: String,
    grace: Duration,
    epoch: u64,
    revision: u64,
    entries: BTreeMap<String, Entry>,
    empty: Emptiness,
    synced: bool,
    /// The list that is being sent, until its SYNCED.
    incoming: Option<Incoming>,
    /// Instances of an older epoch that have not come back, and until when they may.
    missing: BTreeMap<String, Instance>,
    missing_until: Option<Instant>,
    /// The registry has just started and knows nobody; until when that is not believed.
    settling_until: Option<Instant>,
}

#[derive(Default)]
struct Incoming {
    entries: BTreeMap<String, Entry>,
    removed: BTreeSet<String>,
}

impl View {
    /// Nothing is known. `env` is the environment that is watched.
    pub(crate) fn new(env: &str, grace: Duration) -> Self {
        Self {
            env: env.into(),
            grace,
            epoch: 0,
            revision: 0,
            entries: BTreeMap::new(),
            empty: Emptiness::Unknown,
            synced: false,
            incoming: None,
            missing: BTreeMap::new(),
            missing_until: None,
            settling_until: None,
        }
    }

    /// Where to go on, for a new stream. What was half sent on the old one is void.
    pub(crate) fn subscription(&mut self, service: &str) -> wire::Subscription {
        (self.incoming, self.synced) = (None, false);
        let (epoch, revision) = (self.epoch, self.revision);
        wire::Subscription { service: service.into(), epoch, revision, ..Default::default() }
    }

    /// Takes a message. Returns whether there is something to publish.
    ///
    /// # Errors
    /// `ABORTED` if it does not fit what is known: something was missed. A new stream brings the whole list.
    pub(crate) fn apply(&mut self, message: wire::WatchResponse, now: Instant) -> Result<bool> {
        let (epoch, revision, digest) = (message.epoch, message.revision, message.digest);
        let empty = message.empty.as_known().unwrap_or_default();
        let applied = match message.event {
            None => return Ok(false),
            Some(Event::Snapshot(part)) => return self.part(*part).map(|()| false),
            Some(Event::Synced(synced)) => self.sync(epoch, revision, digest, synced.settling, now),
            Some(Event::Delta(delta)) => self.delta(*delta, epoch, revision, digest),
        };
        if let Err(error) = applied {
            // No node has this revision, so each sends all it has.
            self.revision = u64::MAX;
            return Err(error);
        }
        self.empty = match empty {
            wire::Emptiness::EMPTINESS_CANCELLED => Emptiness::Cancelled,
            wire::Emptiness::EMPTINESS_EXPIRED => Emptiness::Expired,
            _ => Emptiness::Unknown,
        };
        if self.empty != Emptiness::Unknown || !self.entries.is_empty() {
            self.settling_until = None;
        }
        if self.missing.is_empty() {
            self.missing_until = None;
        }
        Ok(self.synced)
    }

    fn part(&mut self, part: wire::SnapshotPart) -> Result<()> {
        if part.first {
            self.incoming = Some(Incoming::default());
        }
        let Some(incoming) = &mut self.incoming else {
            return Err(gap("the beginning of a list is missing"));
        };
        for (id, entry) in part.entries.into_iter().filter_map(|e| entry(e, &self.env)) {
            incoming.entries.insert(id, entry);
        }
        incoming.removed.extend(part.removed.into_iter().map(|r| r.id));
        Ok(())
    }

    fn sync(&mut self, epoch: u64, revision: u64, digest: u64, settling: bool, now: Instant) -> Result<()> {
        let Some(incoming) = self.incoming.take() else {
            if (epoch, revision, digest) != (self.epoch, self.revision, sum(&self.entries)) {
                return Err(gap("the registry believes this side to be up to date, and it is not"));
            }
            self.synced = true;
            return Ok(());
        };
        if sum(&incoming.entries) != digest {
            return Err(gap("a list is not complete"));
        }
        let known = std::mem::replace(&mut self.entries, incoming.entries);
        if self.epoch != 0 && self.epoch != epoch {
            let usable = known.into_iter().filter_map(|(id, (_, instance))| Some((id, instance?)));
            self.missing.extend(usable);
            self.missing_until = Some(now + self.grace);
        }
        let entries = &self.entries;
        self.missing.retain(|id, _| !entries.contains_key(id) && !incoming.removed.contains(id));
        let knows_nobody = self.entries.is_empty() && self.missing.is_empty();
        self.settling_until = (settling && knows_nobody && self.epoch == 0).then(|| now + self.grace);
        (self.epoch, self.revision, self.synced) = (epoch, revision, true);
        Ok(())
    }

    fn delta(&mut self, delta: wire::Delta, epoch: u64, revision: u64, digest: u64) -> Result<()> {
        if (epoch, delta.from_revision) != (self.epoch, self.revision) || self.incoming.is_some() {
            return Err(gap("changes are missing"));
        }
        for (id, entry) in delta.upserted.into_iter().filter_map(|e| entry(e, &self.env)) {
            self.missing.remove(&id);
            self.entries.insert(id, entry);
        }
        for removal in delta.removed {
            self.missing.remove(&removal.id);
            self.entries.remove(&removal.id);
        }
        self.revision = revision;
        if sum(&self.entries) != digest {
            return Err(gap("the list is another one than the registry's"));
        }
        Ok(())
    }

    /// When [`View::tick`] is due.
    pub(crate) fn timer(&self) -> Option<Instant> {
        self.missing_until.into_iter().chain(self.settling_until).min()
    }

    /// Lets graces end. Returns whether there is something to publish.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let over = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        let (missing, settling) = (over(self.missing_until), over(self.settling_until));
        if missing {
            self.missing.clear();
            self.missing_until = None;
        }
        if settling {
            self.settling_until = None;
        }
        // Without SYNCED on this stream nothing is known to be live.
        self.synced && (missing || settling)
    }

    /// Tells the watchers.
    pub(crate) fn publish(&self, publisher: &Publisher) {
        let entries = self.entries.values().filter_map(|(_, instance)| instance.as_ref());
        let missing = self.missing.len();
        if missing > 0 {
            let all: BTreeMap<_, _> =
                entries.chain(self.missing.values()).map(|instance| (&instance.id, instance)).collect();
            let current = publisher.current();
            let same = current.instances.iter().map(|i| &**i).eq(all.values().copied());
            if !same {
                publisher.publish(all.into_values().cloned());
            }
            let all = missing + self.entries.len();
            return publisher.fail(&Error::unavailable(format!(
                "the registry has restarted; {missing} of {all} instances have not come back yet"
            )));
        }
        if self.settling_until.is_some() {
            return publisher.fail(&Error::unavailable("the registry has just started and knows nobody yet"));
        }
        let mut entries = entries.peekable();
        if entries.peek().is_none() {
            // Nobody removed those that were there. The last known are better than none: who tries them learns the truth.
            if self.empty != Emptiness::Cancelled && !publisher.current().instances.is_empty() {
                return publisher.fail(&Error::unavailable(match self.empty {
                    Emptiness::Expired => "the leases of all instances have run out; the last ones are kept",
                    _ => "the registry has restarted and lists no instance; none of those it listed before has come back",
                }));
            }
            publisher.publish_empty(self.empty);
        } else {
            publisher.publish(entries.cloned());
        }
    }
}

fn entry(entry: wire::Entry, env: &str) -> Option<(String, Entry)> {
    let hash = entry.hash;
    let instance = entry.instance.into_option()?;
    let id = instance.id.clone();
    let usable = convert::from_wire(instance, env);
    if let Err(error) = &usable {
        tracing::warn!(instance = %id, %error, "an instance in the registry cannot be used");
    }
    Some((id, (hash, usable.ok())))
}

fn sum(entries: &BTreeMap<String, Entry>) -> u64 {
    entries.values().fold(0, |sum, (hash, _)| sum.wrapping_add(*hash))
}

fn gap(what: &'static str) -> Error {
    Error::new(bowline_core::Code::Aborted, what)
}

#[cfg(test)]
mod tests;
