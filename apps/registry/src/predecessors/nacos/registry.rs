//! What Nacos' requests do to the registry, the same over HTTP and gRPC.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::{Error, Result};
use bowline_registry_nacos::api::{Instance, ServiceInfo};
use bowline_registry_nacos::names::DEFAULT_CLUSTER;

use super::super::{NACOS, RESERVED};
use super::model;
use super::names::{Name, cluster_of, namespace_of};
use crate::node::Shared;
use crate::store::{Granted, Record, Registered, Registering, ServiceKey, Store, check_scope};

/// How long what is told over HTTP may be remembered: what Nacos takes for clients that it cannot push to.
const CACHE: Duration = Duration::from_secs(3);

/// A registration.
pub(super) struct Registration {
    pub(super) record: Arc<Record>,
    pub(super) key: ServiceKey,
    pub(super) holder: Arc<str>,
    pub(super) ttl: Duration,
}

impl Registration {
    /// Reads what registers.
    ///
    /// # Errors
    /// What is wrong with the instance.
    pub(super) fn new(
        shared: &Shared,
        key: ServiceKey,
        given: Instance,
        holder: Arc<str>,
        ttl: Duration,
    ) -> Result<Self> {
        let instance = model::read(given, &key)?;
        let record = Arc::new(Record::new(instance, &shared.config.limits)?);
        let ttl = ttl.clamp(shared.config.min_ttl, shared.config.max_ttl);
        Ok(Self { record, key, holder, ttl })
    }

    /// Registers it, whoever has the id.
    ///
    /// # Errors
    /// A limit of the node.
    pub(super) fn put(&self, shared: &Shared) -> Result<Granted> {
        let here = u64::try_from(shared.unix_time(shared.now()).as_nanos()).unwrap_or(u64::MAX);
        shared.change(|store, now| {
            let asked = Registering {
                key: self.key.clone(),
                record: Arc::clone(&self.record),
                ttl: Some(self.ttl),
                holder: Arc::clone(&self.holder),
                // The latest word counts, which is the one that comes last.
                sequence: store.next_sequence(&self.key, self.record.id(), here),
                only_if_free: false,
            };
            store.register(asked, now)
        })
    }
}

/// Where an instance is: what names it in a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    pub(super) ip: &'a str,
    pub(super) port: u16,
    pub(super) cluster: &'a str,
}

impl Address<'_> {
    /// The id of the instance there, whichever protocol it was registered by.
    pub(super) fn find(&self, store: &Store, key: &ServiceKey, name: &Name) -> Option<Registered> {
        if let Some(found) = store.instance(key, &model::id(self.ip, self.port, self.cluster)) {
            return Some(found);
        }
        // Those of Nacos have that id.
        let (_, all) = store.registered(key);
        let mut others = all.into_iter().filter(|r| !r.record.instance().metadata.contains_key(NACOS));
        others.find(|other| {
            let told = model::tell(&other.record, name);
            told.is_some_and(|told| {
                (told.ip.as_str(), told.port) == (self.ip, self.port)
                    && cluster_of(&told.cluster_name) == cluster_of(self.cluster)
            })
        })
    }

    /// As [`Address::find`].
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(super) fn require(&self, store: &Store, key: &ServiceKey, name: &Name) -> Result<Registered> {
        self.find(store, key, name).ok_or_else(|| {
            let Self { ip, port, .. } = self;
            let cluster = if self.cluster.is_empty() { DEFAULT_CLUSTER } else { self.cluster };
            Error::not_found(format!(
                "{ip}:{port} in cluster `{cluster}` of `{}` is not registered",
                name.grouped()
            ))
        })
    }
}

/// Which instances of a service are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Clusters with commas; empty for all.
    pub(super) clusters: &'a str,
    pub(super) healthy_only: bool,
}

/// A service as it is now, and its revision. Disabled instances are told to nobody, as in Nacos.
pub(super) fn info(shared: &Shared, key: &ServiceKey, name: &Name, wanted: Wanted<'_>) -> (u64, ServiceInfo) {
    let store = shared.store();
    let (revision, found) = store.registered(key);
    // Told in the order of the states told of.
    let at = shared.unix_time(shared.now());
    drop(store);
    let clusters: Vec<&str> =
        wanted.clusters.split(',').map(str::trim).filter(|c| !c.is_empty()).map(cluster_of).collect();
    let hosts = found
        .iter()
        .filter(|found| clusters.is_empty() || clusters.contains(&found.record.instance().cluster.as_str()));
    let hosts = hosts
        .filter_map(|found| model::tell(&found.record, name))
        .filter(|told| told.enabled && (told.healthy || !wanted.healthy_only));
    let info = ServiceInfo {
        name: name.service.clone(),
        group_name: name.group.clone(),
        clusters: wanted.clusters.to_owned(),
        cache_millis: millis(CACHE),
        hosts: hosts.collect(),
        last_ref_time: millis(at),
        ..Default::default()
    };
    (revision, info)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A page of the names of a group's services, and how many there are on all.
///
/// # Errors
/// `INVALID_NAME` if the namespace is malformed.
pub(super) fn services(
    shared: &Shared,
    namespace: &str,
    group: &str,
    (number, size): (i64, i64),
) -> Result<(usize, Vec<String>)> {
    let (namespace, env) = check_scope(namespace_of(namespace), &shared.config.nacos_env)?;
    let all = shared.store().services(namespace, env);
    let names = all.iter().filter_map(|summary| Name::of(&summary.key)).filter(|name| name.group == group);
    let names: Vec<String> = names.map(|name| name.service).collect();
    // A page before the first is the first, as in Nacos.
    let size = usize::try_from(size).unwrap_or(0);
    let before = usize::try_from(number.saturating_sub(1)).unwrap_or(0).saturating_mul(size);
    Ok((names.len(), names.into_iter().skip(before).take(size).collect()))
}

/// The metadata of an instance without what is the registry's own.
pub(super) fn own_metadata(found: &Registered) -> std::collections::BTreeMap<String, String> {
    let metadata = &found.record.instance().metadata;
    let theirs = metadata.iter().filter(|(key, _)| !key.starts_with(RESERVED));
    theirs.map(|(key, value)| (key.clone(), value.clone())).collect()
}
