//! What operators want of instances, whatever these register.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, Result};
use bowline_registry_bowline::api::bowline::registry::v1::{Instance, InstanceStatus, registry_error};

use super::{FactKey, Happened, Kind, ServiceKey, Store, Version};
use crate::Limits;

/// What an operator wants of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Its status. `UP` does not take away that it is `STARTING`: only itself knows when that is over.
    pub status: Option<InstanceStatus>,
    /// Its weight.
    pub weight: Option<u32>,
    /// Entries of metadata that are added or replaced.
    pub metadata: BTreeMap<String, String>,
    /// Of two overrides of one instance the one with the higher sequence is the later, in every life of a node.
    pub sequence: u64,
}

/// Which parts of an override to take back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The status.
    pub status: bool,
    /// The weight.
    pub weight: bool,
    /// The metadata.
    pub metadata: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Self = Self { status: true, weight: true, metadata: true };
    /// The status alone.
    pub const STATUS: Self = Self { status: true, weight: false, metadata: false };
}

impl Override {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.status.is_none() && self.weight.is_none() && self.metadata.is_empty()
    }

    pub(super) fn apply(&self, instance: &mut Instance) {
        if let Some(status) = self.status {
            let starting = instance.status == InstanceStatus::INSTANCE_STATUS_STARTING;
            if status != InstanceStatus::INSTANCE_STATUS_UP || !starting {
                instance.status = status.into();
            }
        }
        if self.weight.is_some() {
            instance.weight = self.weight;
        }
        instance.metadata.extend(self.metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
    }

    /// Tells its content in parts, always in the same order, and returns its size in bytes, about.
    pub(super) fn fingerprint(&self, mut write: impl FnMut(&[u8])) -> usize {
        write(&self.sequence.to_le_bytes());
        write(&self.status.map_or(0, |s| s as i32).to_le_bytes());
        write(&self.weight.map_or(u64::MAX, u64::from).to_le_bytes());
        for (key, value) in &self.metadata {
            write(key.as_bytes());
            write(value.as_bytes());
        }
        self.bytes() + 24
    }

    fn bytes(&self) -> usize {
        self.metadata.iter().map(|(k, v)| k.len() + v.len() + 8).sum()
    }

    /// This one with what another one says on top.
    fn with(&self, changes: &Self) -> Self {
        let mut merged = self.clone();
        merged.status = changes.status.or(merged.status);
        merged.weight = changes.weight.or(merged.weight);
        merged.metadata.extend(changes.metadata.iter().map(|(k, v)| (k.clone(), v.clone())));
        merged
    }

    fn without(&self, parts: Parts) -> Self {
        Self {
            status: self.status.filter(|_| !parts.status),
            weight: self.weight.filter(|_| !parts.weight),
            metadata: if parts.metadata { BTreeMap::new() } else { self.metadata.clone() },
            sequence: self.sequence,
        }
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let wrong = |what: String| Err(registry_error::invalid_request().with_message(what));
        if self.metadata.len() > limits.metadata_entries {
            let (is, most) = (self.metadata.len(), limits.metadata_entries);
            return wrong(format!("the override has {is} entries of metadata; at most {most}"));
        }
        if self.bytes() > limits.instance_bytes {
            let (is, most) = (self.bytes(), limits.instance_bytes);
            return wrong(format!("the override has {is} bytes of metadata; at most {most}"));
        }
        Ok(())
    }
}

type Name = (ServiceKey, Arc<str>);

/// The most that were taken back and are remembered; beyond it the oldest are forgotten first. As many as there may be by default.
pub(super) const MOST_TAKEN_BACK: usize = 20_000;

/// What is known of an instance's override.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Empty: it was taken back.
    pub(super) overridden: Arc<Override>,
    pub(super) version: Version,
    /// It was taken back because its instance had been gone for long, and not by an operator.
    pub(super) forgotten: bool,
    /// Since when the instance is not there.
    gone: Option<Instant>,
}

/// All overrides: those of instances that are there, and for a while those of instances that are gone, and that there was
/// one.
#[derive(Debug)]
pub(super) struct Overrides {
    kept: BTreeMap<Name, Kept>,
    /// How many say something.
    count: usize,
    /// In the order in which instances went; those that are back, or went again, are skipped.
    gone: VecDeque<(Instant, Name)>,
    /// In the order in which they were taken back; those that were set again are skipped.
    taken_back: VecDeque<(Version, Name)>,
    keep: Duration,
    /// Whether some node is out of sight, who has not heard what was taken back.
    longer: bool,
}

impl Overrides {
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            kept: BTreeMap::new(),
            count: 0,
            gone: VecDeque::new(),
            taken_back: VecDeque::new(),
            keep,
            longer: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// What is known, that there was one included.
    pub(super) fn kept(&self, key: &ServiceKey, id: &Arc<str>) -> Option<&Kept> {
        self.kept.get(&(key.clone(), Arc::clone(id)))
    }

    /// What holds.
    pub(super) fn get(&self, key: &ServiceKey, id: &str, now: Instant) -> Option<&Arc<Override>> {
        let kept = self.kept.get(&(key.clone(), id.into()))?;
        let forgotten = kept.gone.is_some_and(|gone| gone + self.keep <= now);
        (!forgotten && !kept.overridden.is_empty()).then_some(&kept.overridden)
    }

    /// Names all, those that were taken back included.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.kept.keys()
    }

    /// Those of a service that say something, by id.
    pub(super) fn of(&self, key: &ServiceKey) -> impl Iterator<Item = (&Arc<str>, &Kept)> {
        let all = self.kept.range((key.clone(), Arc::from(""))..).take_while(move |((k, _), _)| k == key);
        all.filter(|(_, kept)| !kept.overridden.is_empty()).map(|((_, id), kept)| (id, kept))
    }

    /// What holds for an instance that registers.
    pub(super) fn come(&mut self, key: &ServiceKey, id: &Arc<str>) -> Option<Arc<Override>> {
        if self.kept.is_empty() {
            return None;
        }
        let kept = self.kept.get_mut(&(key.clone(), Arc::clone(id)))?;
        kept.gone = None;
        Some(Arc::clone(&kept.overridden)).filter(|o| !o.is_empty())
    }

    /// Its instance is gone.
    pub(super) fn go(&mut self, key: &ServiceKey, id: &Arc<str>, now: Instant) {
        if self.kept.is_empty() {
            return;
        }
        let name = (key.clone(), Arc::clone(id));
        let Some(kept) = self.kept.get_mut(&name) else { return };
        kept.gone = Some(now);
        self.leave(name, now);
    }

    fn leave(&mut self, name: Name, now: Instant) {
        self.gone.push_back((now, name));
        if self.gone.len() > 64 + 4 * self.kept.len() {
            let kept = &self.kept;
            self.gone.retain(|(at, name)| kept.get(name).is_some_and(|k| k.gone == Some(*at)));
        }
    }

    /// What holds once `changes` are set; `None` if that is what holds already.
    pub(super) fn merged(
        &self,
        key: &ServiceKey,
        id: &str,
        changes: &Override,
        limits: &Limits,
        now: Instant,
    ) -> Result<Option<Override>> {
        let before = self.get(key, id, now);
        if before.is_none() && self.count >= limits.overrides {
            let message = format!(
                "{} instances have an override; clear some or raise `limits.overrides` of the registry",
                limits.overrides
            );
            return Err(registry_error::too_many_overrides().with_message(message));
        }
        let merged = before.map(|b| (**b).clone()).unwrap_or_default().with(changes);
        if before.is_some_and(|before| **before == merged) {
            return Ok(None);
        }
        merged.check(limits)?;
        Ok(Some(merged))
    }

    /// What is left once parts are taken back. `None` if there is nothing of these parts.
    pub(super) fn without(&self, key: &ServiceKey, id: &str, parts: Parts, now: Instant) -> Option<Override> {
        let before = self.get(key, id, now)?;
        let left = before.without(parts);
        (**before != left).then_some(left)
    }

    /// Sets what is known. `here` says whether the instance is there. Returns what was known before.
    pub(super) fn put(
        &mut self,
        key: &ServiceKey,
        id: &Arc<str>,
        (overridden, version, forgotten): (Arc<Override>, Version, bool),
        here: bool,
        now: Instant,
    ) -> Option<Kept> {
        let name = (key.clone(), Arc::clone(id));
        let says = |kept: Option<&Kept>| kept.is_some_and(|k| !k.overridden.is_empty());
        let before = self.kept.remove(&name);
        // That it was taken back is known as long as somebody may still have it: while the instance is there, and a while.
        let since = before.as_ref().filter(|b| b.overridden.is_empty() == overridden.is_empty());
        let since = since.and_then(|b| b.gone);
        let gone = since.or(Some(now)).filter(|_| !here);
        let after = Kept { overridden, version, forgotten, gone };
        self.count += usize::from(says(Some(&after)));
        self.count -= usize::from(says(before.as_ref()));
        let is_taken_back = after.overridden.is_empty();
        self.kept.insert(name.clone(), after);
        if is_taken_back {
            self.take_back(version, name.clone());
        }
        if gone.is_some() && gone != since {
            self.leave(name, now);
        }
        before
    }

    /// One was taken back.
    fn take_back(&mut self, version: Version, name: Name) {
        self.taken_back.push_back((version, name));
        let kept = &self.kept;
        let is_so = |(version, name): &(Version, Name)| {
            kept.get(name).is_some_and(|k| k.version == *version && k.overridden.is_empty())
        };
        if self.taken_back.len() > 64 + 4 * kept.len() {
            self.taken_back.retain(is_so);
        }
        while self.kept.len() - self.count > MOST_TAKEN_BACK
            && let Some((version, name)) = self.taken_back.pop_front()
        {
            let is_so = |k: &Kept| k.version == version && k.overridden.is_empty();
            if self.kept.get(&name).is_some_and(is_so) {
                self.kept.remove(&name);
            }
        }
    }

    /// Whether to remember what was taken back, for who has not heard of it.
    pub(super) fn keep_longer(&mut self, longer: bool) {
        self.longer = longer;
    }

    /// Forgets that there were some, long ago. Returns those whose instances have been gone for long: they are to be taken
    /// back.
    pub(super) fn forget(&mut self, now: Instant) -> Vec<Name> {
        let (mut old, mut again) = (Vec::new(), Vec::new());
        while let Some((gone, _)) = self.gone.front()
            && *gone + self.keep <= now
            && let Some((gone, name)) = self.gone.pop_front()
        {
            let Some(kept) = self.kept.get(&name).filter(|kept| kept.gone == Some(gone)) else { continue };
            if kept.overridden.is_empty() && self.longer {
                again.push(name);
            } else if kept.overridden.is_empty() {
                self.kept.remove(&name);
            } else {
                old.push(name);
            }
        }
        for name in again {
            if let Some(kept) = self.kept.get_mut(&name) {
                kept.gone = Some(now);
            }
            self.leave(name, now);
        }
        old
    }
}

impl Store {
    /// Sets what an operator wants of an instance: on top of what is set already. Returns all that is set then.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if that is nothing or too much, `INSTANCE_NOT_FOUND` if the instance is not there and has not been
    /// of late with an override, `TOO_MANY_OVERRIDES`.
    pub fn set_override(
        &mut self,
        key: &ServiceKey,
        id: &str,
        changes: &Override,
        now: Instant,
    ) -> Result<Arc<Override>> {
        if changes.is_empty() {
            let message = "the override is empty; set a status, a weight or metadata";
            return Err(registry_error::invalid_request().with_message(message));
        }
        self.forget_overrides(now);
        if !self.is_here(key, id, now) && self.overrides.get(key, id, now).is_none() {
            let message =
                format!("there is no instance `{id}` of {key}; it can be overridden once it is registered");
            return Err(registry_error::instance_not_found().with_message(message));
        }
        if let Some(merged) = self.overrides.merged(key, id, changes, &self.config.limits, now)? {
            self.say_override(key, &Arc::from(id), merged, false, now);
        }
        let set = self.overrides.get(key, id, now).map(Arc::clone);
        Ok(set.unwrap_or_default())
    }

    /// Takes back what an operator set of an instance. Returns whether there was something.
    pub fn clear_override(&mut self, key: &ServiceKey, id: &str, parts: Parts, now: Instant) -> bool {
        let Some(left) = self.overrides.without(key, id, parts, now) else { return false };
        self.say_override(key, &Arc::from(id), left, false, now);
        true
    }

    /// Takes back overrides whose instances have been gone for long.
    pub(super) fn forget_overrides(&mut self, now: Instant) {
        for (key, id) in self.overrides.forget(now) {
            self.say_override(&key, &id, Override::default(), true, now);
        }
    }

    fn say_override(
        &mut self,
        key: &ServiceKey,
        id: &Arc<str>,
        mut overridden: Override,
        forgotten: bool,
        now: Instant,
    ) {
        let version = self.clock.tick();
        overridden.sequence = version.clock;
        let of = FactKey { key: key.clone(), id: Arc::clone(id), kind: Kind::Override };
        self.overrule(&of, (Arc::new(overridden), version, forgotten), now);
        self.said.push(of);
    }

    /// Serves an instance with this override from now on.
    pub(super) fn overrule(&mut self, of: &FactKey, known: (Arc<Override>, Version, bool), now: Instant) {
        let (key, id) = (&of.key, &of.id);
        let (overridden, version) = (Arc::clone(&known.0), known.1);
        let here = self.get(key, id).is_some();
        let before = self.overrides.put(key, id, known, here, now);
        let before = before.filter(|b| !b.overridden.is_empty()).map(|b| b.version);
        let after = (!overridden.is_empty()).then_some(version);
        self.digests.change(of, before, after);
        let overridden = Some(overridden).filter(|o| !o.is_empty());
        let Some(service) = self.services.get_mut(key) else { return };
        if service.overrule(id, overridden, now)
            && let Some(record) = service.instances.get(id).map(|r| Arc::clone(&r.record))
        {
            self.note(key.clone(), record, Happened::Modified, now);
        }
    }

    /// Whether an instance is there and its lease counts.
    fn is_here(&self, key: &ServiceKey, id: &str, now: Instant) -> bool {
        let lease = |lease: u64| self.leases.get(lease).is_some_and(|l| l.is_live(now));
        self.get(key, id).is_some_and(|r| r.lease.is_none_or(lease))
    }
}
