//! Sums by which two nodes see where they differ.

use std::collections::BTreeMap;

use super::{FactKey, Kind, ServiceKey, Version, hash};

/// How many parts all services are divided into.
pub const BUCKETS: usize = 256;

/// Sums over the versions of everything that is there: what is gone counts for nothing, so that nodes that forgot it at
/// different times are equal.
#[derive(Debug)]
pub(super) struct Digests {
    services: BTreeMap<(u8, ServiceKey), u64>,
    buckets: [u64; BUCKETS],
    root: u64,
}

impl Digests {
    pub(super) fn new() -> Self {
        Self { services: BTreeMap::new(), buckets: [0; BUCKETS], root: 0 }
    }

    /// Something is at another version than before; `None` is not there.
    pub(super) fn change(&mut self, of: &FactKey, before: Option<Version>, after: Option<Version>) {
        let sum_of = |version: Option<Version>| version.map_or(0, |v| term(of, v));
        let by = sum_of(after).wrapping_sub(sum_of(before));
        let bucket = bucket(&of.key);
        let entry = (bucket, of.key.clone());
        let sum = self.services.entry(entry.clone()).or_default();
        let old = named(&of.key, *sum);
        *sum = sum.wrapping_add(by);
        let new = named(&of.key, *sum);
        if *sum == 0 {
            self.services.remove(&entry);
        }
        let by = new.wrapping_sub(old);
        if let Some(sum) = self.buckets.get_mut(usize::from(bucket)) {
            *sum = sum.wrapping_add(by);
        }
        self.root = self.root.wrapping_add(by);
    }

    pub(super) fn root(&self) -> u64 {
        self.root
    }

    pub(super) fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    /// A service's sum; 0 if there is nothing of it.
    pub(super) fn of(&self, key: &ServiceKey) -> u64 {
        self.services.get(&(bucket(key), key.clone())).copied().unwrap_or(0)
    }

    /// The services of a bucket.
    pub(super) fn services(&self, bucket: u8) -> impl Iterator<Item = (&ServiceKey, u64)> {
        let all = self.services.range((bucket, ServiceKey::first())..);
        all.take_while(move |((b, _), _)| *b == bucket).map(|((_, key), sum)| (key, *sum))
    }
}

/// Which bucket a service is in.
fn bucket(key: &ServiceKey) -> u8 {
    (hash_of_service(key) >> 56) as u8
}

/// A service's sum together with its name, so that equal sums of two services do not stand for each other.
fn named(key: &ServiceKey, sum: u64) -> u64 {
    if sum == 0 { 0 } else { hash::of(&[&hash_of_service(key).to_le_bytes(), &sum.to_le_bytes()]) }
}

fn hash_of_service(key: &ServiceKey) -> u64 {
    hash::of(&[key.namespace().as_bytes(), key.env().as_bytes(), key.service().as_bytes()])
}

fn term(of: &FactKey, version: Version) -> u64 {
    let kind = match of.kind {
        Kind::Instance => [0_u8],
        Kind::Override => [1],
    };
    let Version { clock, owner } = version;
    let numbers = [clock.to_le_bytes(), owner.node.to_le_bytes(), owner.life.to_le_bytes()];
    hash::of(&[of.id.as_bytes(), &kind, numbers.as_flattened()])
}
