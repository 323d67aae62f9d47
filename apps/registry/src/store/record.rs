//! What was registered, checked and hashed once.

use std::fmt;
use std::sync::Arc;

use bowline_core::{Endpoint, Result, Tenant};
use bowline_registry_bowline::api::bowline::registry::v1::{Instance, InstanceStatus, registry_error};
use bowline_rpc::Message;

use super::hash::Fnv;
use super::{Check, Override, key};
use crate::Limits;

/// An instance as the store keeps and shares it: immutable.
///
/// It is kept in the form it came in, so that fields this node does not know reach whoever does.
pub struct Record {
    id: Arc<str>,
    instance: Instance,
    hash: u64,
    size: usize,
    overridden: Option<Arc<Override>>,
}

impl Record {
    /// Checks an instance.
    ///
    /// # Errors
    /// `INVALID_NAME` for its id, `INVALID_INSTANCE` for what is malformed or beyond `limits`.
    pub fn new(mut instance: Instance, limits: &Limits) -> Result<Self> {
        // Not of what other nodes took: a later version may know more kinds of checks.
        Check::of(&instance)?;
        // The registry's to say: not well before a probe has said so.
        instance.unhealthy = instance.check.is_set();
        Self::told(instance, limits)
    }

    /// Checks an instance that another node took.
    ///
    /// # Errors
    /// As [`Record::new`].
    pub(crate) fn told(instance: Instance, limits: &Limits) -> Result<Self> {
        key::instance_id(&instance.id)?;
        check(&instance, limits)?;
        let record = Self::trusted(instance);
        let (size, most) = (record.size, limits.instance_bytes);
        match size > most {
            true => Err(invalid(&record.instance, &format!("has {size} bytes; at most {most}"))),
            false => Ok(record),
        }
    }

    /// An instance that another node has checked.
    pub fn trusted(mut instance: Instance) -> Self {
        let (hash, size) = fingerprint(&mut instance);
        Self { id: instance.id.as_str().into(), instance, hash, size, overridden: None }
    }

    /// The same instance as an operator wants it.
    pub(super) fn with_override(&self, overridden: Arc<Override>) -> Self {
        let mut instance = self.instance.clone();
        overridden.apply(&mut instance);
        let (hash, size) = fingerprint(&mut instance);
        let mut sum = Fnv::from(hash);
        let size = size + overridden.fingerprint(|part| sum.write(part));
        Self { id: Arc::clone(&self.id), instance, hash: sum.finish(), size, overridden: Some(overridden) }
    }

    /// The same instance, as what is known of it says of its health: if it is checked as before.
    pub(super) fn with_health_of(self: Arc<Self>, known: Option<&Self>) -> Arc<Self> {
        let (own, known) = (&self.instance, known.map(|known| &known.instance));
        let same = known.filter(|known| (&known.check, &known.endpoints) == (&own.check, &own.endpoints));
        match same.filter(|known| known.unhealthy != own.unhealthy) {
            Some(known) => Arc::new(Self::trusted(Instance { unhealthy: known.unhealthy, ..own.clone() })),
            None => self,
        }
    }

    /// The same instance as it is served while it is not well.
    pub(super) fn not_ready(&self) -> Self {
        let status = InstanceStatus::INSTANCE_STATUS_STARTING.into();
        let mut instance = Instance { status, ..self.instance.clone() };
        let (hash, size) = (fingerprint(&mut instance).0, self.size);
        // What an operator set is told beside it, and part of what the hash stands for.
        let mut sum = Fnv::from(hash);
        if let Some(overridden) = &self.overridden {
            overridden.fingerprint(|part| sum.write(part));
        }
        let (id, overridden) = (Arc::clone(&self.id), self.overridden.clone());
        Self { id, instance, hash: sum.finish(), size, overridden }
    }

    /// Whether nodes check it.
    pub fn is_checked(&self) -> bool {
        self.instance.check.is_set()
    }

    /// Names it within its service.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The instance, with what an operator set.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What an operator set, if anything.
    pub fn overridden(&self) -> Option<&Arc<Override>> {
        self.overridden.as_ref()
    }

    /// Stands for id and content.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Its size when encoded, about, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether it wants traffic.
    pub fn is_up(&self) -> bool {
        let out = [InstanceStatus::INSTANCE_STATUS_STARTING, InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE];
        !out.iter().any(|status| self.instance.status == *status)
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.instance == other.instance && self.overridden == other.overridden
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({}, {:016x})", self.id, self.hash)
    }
}

fn invalid(instance: &Instance, what: &str) -> bowline_core::Error {
    registry_error::invalid_instance().with_message(format!("instance `{}` {what}", instance.id))
}

fn check(instance: &Instance, limits: &Limits) -> Result<()> {
    if Tenant::new(&instance.tenant).is_none() {
        let what = format!("has the tenant `{}`; use up to 63 of a-z, 0-9 and `-`", instance.tenant);
        return Err(invalid(instance, &what));
    }
    let most = limits.endpoints;
    if instance.endpoints.len() > most {
        let what = format!("has {} endpoints; at most {most}", instance.endpoints.len());
        return Err(invalid(instance, &what));
    }
    for endpoint in &instance.endpoints {
        endpoint
            .parse::<Endpoint>()
            .map_err(|e| invalid(instance, &format!("is malformed: {}", e.message())).with_source(e))?;
    }
    let most = limits.metadata_entries;
    if instance.metadata.len() > most {
        let what = format!("has {} entries of metadata; at most {most}", instance.metadata.len());
        return Err(invalid(instance, &what));
    }
    Ok(())
}

/// A hash that is the same on every node and in every build, and the encoded size. The instance is as before.
fn fingerprint(instance: &mut Instance) -> (u64, usize) {
    // A map has no order when encoded; without it the encoding is canonical, fields this node does not know included.
    let metadata = std::mem::take(&mut instance.metadata);
    let mut hash = Fnv::default();
    let rest = encoded(instance);
    hash.write(&rest);
    let mut sorted: Vec<_> = metadata.iter().collect();
    sorted.sort();
    let mut size = rest.len();
    for (key, value) in sorted {
        hash.write(key.as_bytes());
        hash.write(value.as_bytes());
        size += key.len() + value.len() + 8;
    }
    instance.metadata = metadata;
    (hash.finish(), size)
}

fn encoded<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        let metadata = (0..9).map(|n| (format!("k{n}"), format!("v{n}"))).collect();
        Instance { id: "a".into(), service: "s".into(), metadata, ..Default::default() }
    }

    #[test]
    fn the_hash_depends_on_content_and_not_on_the_order_of_metadata() {
        let hash = |i: Instance| Record::new(i, &Limits::default()).unwrap().hash();
        let first = hash(instance());
        for _ in 0..20 {
            // Each map has a seed, and so an order, of its own.
            assert_eq!(hash(instance()), first);
        }
        let mut swapped = instance();
        swapped.metadata.insert("k1".into(), "v2".into());
        swapped.metadata.insert("k2".into(), "v1".into());
        assert_ne!(hash(swapped), first);
        assert_ne!(hash(Instance { weight: Some(0), ..instance() }), first);
    }

    #[test]
    fn what_is_malformed_or_too_large_is_refused_with_its_name() {
        let limits = Limits { instance_bytes: 1_000, endpoints: 1, metadata_entries: 9, ..Limits::default() };
        let refused = |change: &dyn Fn(&mut Instance)| {
            let mut instance = instance();
            change(&mut instance);
            let error = Record::new(instance, &limits).unwrap_err();
            assert!(error.is_invalid());
            error.message().to_owned()
        };
        assert!(refused(&|i| i.id = "a b".into()).contains("is no instance id"));
        assert!(refused(&|i| i.tenant = "Not One".into()).contains("tenant"));
        assert!(refused(&|i| i.endpoints = vec!["nowhere".into()]).contains("use http://HOST:PORT"));
        assert!(
            refused(&|i| i.endpoints = vec!["a:1".into(), "a:2".into()]).contains("2 endpoints; at most 1")
        );
        assert!(refused(&|i| i.version = "x".repeat(2_000)).contains("bytes; at most 1000"));
        assert!(refused(&|i| _ = i.metadata.insert("k".into(), "v".into())).contains("10 entries"));
    }
}
