//! What operators want of instances, whatever these register.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Instant, Result};
use bowline_registry_bowline::api::bowline::registry::v1::{Instance, InstanceStatus, registry_error};

use super::ServiceKey;
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
    fn merged(&self, changes: &Self) -> Self {
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

#[derive(Debug)]
struct Kept {
    overridden: Arc<Override>,
    /// Since when the instance is not there.
    gone: Option<Instant>,
}

/// All overrides: those of instances that are there, and for a while those of instances that are gone.
#[derive(Debug)]
pub(super) struct Overrides {
    kept: HashMap<Name, Kept>,
    /// In the order in which instances went; those that are back, or went again, are skipped.
    gone: VecDeque<(Instant, Name)>,
    keep: Duration,
    sequence: u64,
}

impl Overrides {
    /// None yet. Sequences count from `seed`.
    pub(super) fn new(seed: u64, keep: Duration) -> Self {
        Self { kept: HashMap::new(), gone: VecDeque::new(), keep, sequence: seed }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn get(&self, key: &ServiceKey, id: &str, now: Instant) -> Option<&Arc<Override>> {
        let kept = self.kept.get(&(key.clone(), id.into()))?;
        let forgotten = kept.gone.is_some_and(|gone| gone + self.keep <= now);
        (!forgotten).then_some(&kept.overridden)
    }

    /// What holds for an instance that registers.
    pub(super) fn come(&mut self, key: &ServiceKey, id: &Arc<str>, now: Instant) -> Option<Arc<Override>> {
        if self.kept.is_empty() {
            return None;
        }
        self.forget(now);
        let kept = self.kept.get_mut(&(key.clone(), Arc::clone(id)))?;
        kept.gone = None;
        Some(Arc::clone(&kept.overridden))
    }

    /// Its instance is gone.
    pub(super) fn go(&mut self, key: &ServiceKey, id: &Arc<str>, now: Instant) {
        if self.kept.is_empty() {
            return;
        }
        let name = (key.clone(), Arc::clone(id));
        let Some(kept) = self.kept.get_mut(&name) else { return };
        kept.gone = Some(now);
        self.gone.push_back((now, name));
        if self.gone.len() > 64 + 4 * self.kept.len() {
            let kept = &self.kept;
            self.gone.retain(|(at, name)| kept.get(name).is_some_and(|k| k.gone == Some(*at)));
        }
    }

    /// Sets what `changes` says. Returns what holds then.
    pub(super) fn set(
        &mut self,
        key: &ServiceKey,
        id: &str,
        changes: &Override,
        limits: &Limits,
        now: Instant,
    ) -> Result<Arc<Override>> {
        self.forget(now);
        let name = (key.clone(), Arc::from(id));
        let before = self.kept.get(&name).map(|kept| Arc::clone(&kept.overridden));
        if before.is_none() && self.kept.len() >= limits.overrides {
            let message = format!(
                "{} instances have an override; clear some or raise `limits.overrides` of the registry",
                limits.overrides
            );
            return Err(registry_error::too_many_overrides().with_message(message));
        }
        let mut merged = before.as_deref().cloned().unwrap_or_default().merged(changes);
        if let Some(before) = before.filter(|before| **before == merged) {
            return Ok(before);
        }
        merged.check(limits)?;
        merged.sequence = self.next();
        Ok(self.put(name, merged))
    }

    /// Takes parts back. Returns what is left of it; `None` if there was nothing of these parts.
    pub(super) fn clear(
        &mut self,
        key: &ServiceKey,
        id: &str,
        parts: Parts,
        now: Instant,
    ) -> Option<Option<Arc<Override>>> {
        self.forget(now);
        let name = (key.clone(), Arc::from(id));
        let before = self.kept.get(&name)?;
        let mut left = before.overridden.without(parts);
        if *before.overridden == left {
            return None;
        }
        if left.is_empty() {
            self.kept.remove(&name);
            return Some(None);
        }
        left.sequence = self.next();
        Some(Some(self.put(name, left)))
    }

    fn put(&mut self, name: Name, overridden: Override) -> Arc<Override> {
        let overridden = Arc::new(overridden);
        let kept = Kept { overridden: Arc::clone(&overridden), gone: None };
        self.kept.entry(name).or_insert(kept).overridden = Arc::clone(&overridden);
        overridden
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Forgets those whose instances have been gone for long.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some((gone, _)) = self.gone.front()
            && *gone + self.keep <= now
            && let Some((gone, name)) = self.gone.pop_front()
        {
            if self.kept.get(&name).is_some_and(|kept| kept.gone == Some(gone)) {
                self.kept.remove(&name);
            }
        }
    }
}
