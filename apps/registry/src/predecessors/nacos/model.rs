//! Instances as Nacos writes them, and as the registry keeps them.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_core::{Endpoint, Result, Scheme};
use bowline_registry_bowline::api::bowline::registry::v1 as wire;
use bowline_registry_bowline::api::bowline::registry::v1::InstanceStatus;
use bowline_registry_nacos::api::Instance;
use bowline_registry_nacos::names::{DEFAULT_CLUSTER, instance_id};
use serde::{Deserialize, Serialize};

use super::super::params::invalid;
use super::super::{NACOS, RESERVED};
use super::names::{Name, cluster_of};
use crate::store::{Record, ServiceKey};

/// How long an instance without heartbeats is healthy, unless its metadata says otherwise: what Nacos takes.
pub(super) const TTL: Duration = Duration::from_secs(15);
/// How often clients send heartbeats, unless the instance's metadata says otherwise.
const BEAT: Duration = Duration::from_secs(5);
/// Where an instance says that its connections take TLS: Spring's word for it, and Kratos'.
const SECURE: &str = "secure";
const KIND: &str = "kind";
/// The heaviest weight.
const MAX_WEIGHT: f64 = 10_000.0;

/// What only this protocol has a place for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Own {
    ip: String,
    port: u16,
    weight: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    /// Whether it said that it is healthy, which nobody is told while it is disabled.
    healthy: bool,
}

/// The id under which the registry keeps an instance: what tells instances of a service apart in Nacos.
pub(super) fn id(ip: &str, port: u16, cluster: &str) -> String {
    match cluster_of(cluster) {
        "" => format!("{ip}:{port}"),
        cluster => format!("{ip}:{port}@{cluster}"),
    }
}

/// The registry's weight.
///
/// # Errors
/// `INVALID_REQUEST` if it is out of bounds.
pub(super) fn weight(weight: f64) -> Result<u32> {
    if !(0.0..=MAX_WEIGHT).contains(&weight) {
        return Err(invalid(format!("the weight is {weight}; use 0 to {MAX_WEIGHT}")));
    }
    // In bounds, so that it fits; what is to have some traffic keeps some.
    let hundredths = (weight * 100.0).round() as u32;
    Ok(if weight > 0.0 { hundredths.max(1) } else { 0 })
}

/// The registry's status.
pub(super) fn status(healthy: bool, enabled: bool) -> InstanceStatus {
    match (enabled, healthy) {
        (false, _) => InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE,
        // Only the instance itself can end that.
        (true, false) => InstanceStatus::INSTANCE_STATUS_STARTING,
        (true, true) => InstanceStatus::INSTANCE_STATUS_UP,
    }
}

/// Metadata that may be registered.
///
/// # Errors
/// `INVALID_REQUEST` if it holds what is the registry's own.
pub(super) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<()> {
    match metadata.keys().find(|key| key.starts_with(RESERVED)) {
        Some(key) => Err(invalid(format!("the metadata `{key}` is the registry's own; use another name"))),
        None => Ok(()),
    }
}

/// What Nacos does of itself to persistent instances: it connects.
fn check() -> wire::HealthCheck {
    let interval = Some(Duration::from_secs(5).into()).into();
    wire::HealthCheck { probe: Some(wire::TcpProbe::default().into()), interval, ..Default::default() }
}

/// Reads an instance that registers.
///
/// # Errors
/// `INVALID_REQUEST` naming the field.
pub(super) fn read(given: Instance, key: &ServiceKey) -> Result<wire::Instance> {
    if given.ip.is_empty() {
        return Err(invalid("the parameter `ip` is missing"));
    }
    check_metadata(&given.metadata)?;
    let secure = given.metadata.get(SECURE).is_some_and(|secure| secure == "true")
        || given.metadata.get(KIND).is_some_and(|kind| matches!(&**kind, "https" | "grpcs"));
    let scheme = if secure { "https" } else { "http" };
    let host = if given.ip.contains(':') { format!("[{}]", given.ip) } else { given.ip.clone() };
    let endpoint: Endpoint =
        format!("{scheme}://{host}:{}", given.port).parse().map_err(|e: bowline_core::Error| {
            invalid(format!("`ip` and `port` are no address: {}", e.message()))
        })?;
    let own = Own {
        ip: given.ip.clone(),
        port: given.port,
        weight: given.weight,
        instance_id: given.instance_id.filter(|id| !id.is_empty()),
        healthy: given.healthy,
    };
    let own = serde_json::to_string(&own)
        .map_err(|e| invalid("an address that JSON cannot hold").with_source(e))?;
    let field = |name: &str| given.metadata.get(name).cloned().unwrap_or_default();
    let (zone, version) = (field("zone"), field("version"));
    let mut metadata = given.metadata;
    metadata.insert(NACOS.to_owned(), own);
    Ok(wire::Instance {
        id: id(&given.ip, given.port, &given.cluster_name),
        service: key.service().to_owned(),
        env: key.env().to_owned(),
        zone,
        version,
        cluster: cluster_of(&given.cluster_name).to_owned(),
        weight: Some(weight(given.weight)?),
        status: status(given.healthy, given.enabled).into(),
        endpoints: vec![endpoint.to_string()],
        metadata: metadata.into_iter().collect(),
        check: (!given.ephemeral).then(check).into(),
        ..Default::default()
    })
}

/// A time in an instance's metadata.
fn preserved(metadata: &BTreeMap<String, String>, name: &str, default: Duration) -> Duration {
    let given = metadata.get(name).and_then(|millis| millis.parse().ok());
    given.map_or(default, Duration::from_millis)
}

/// How long the instance lives without heartbeats.
pub(super) fn ttl(metadata: &BTreeMap<String, String>) -> Duration {
    preserved(metadata, "preserved.heart.beat.timeout", TTL)
}

/// How often its client is to send heartbeats.
pub(super) fn beat_interval(metadata: &BTreeMap<String, String>) -> Duration {
    preserved(metadata, "preserved.heart.beat.interval", BEAT)
}

/// An instance of the registry as this protocol tells it; `None` for one without a host and port.
pub(super) fn tell(record: &Record, name: &Name) -> Option<Instance> {
    let instance = record.instance();
    let own: Option<Own> = instance.metadata.get(NACOS).and_then(|own| serde_json::from_str(own).ok());
    let has = |scheme: &str| instance.endpoints.iter().any(|endpoint| endpoint.starts_with(scheme));
    let is_secure = has("https:") && !has("http:");
    let own = own.or_else(|| made_up(instance))?;
    let served = instance.weight.unwrap_or(100);
    let said = weight(own.weight).is_ok_and(|said| said == served).then_some(own.weight);
    let status = instance.status.as_known().unwrap_or_default();
    let cluster = if instance.cluster.is_empty() { DEFAULT_CLUSTER } else { &instance.cluster };
    let theirs = instance.metadata.iter().filter(|(key, _)| !key.starts_with(RESERVED));
    let mut metadata: BTreeMap<_, _> = theirs.map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, value) in [("zone", &instance.zone), ("version", &instance.version)] {
        if !value.is_empty() {
            metadata.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
    if is_secure && !metadata.contains_key(KIND) {
        metadata.entry(SECURE.to_owned()).or_insert_with(|| "true".to_owned());
    }
    let grouped = name.grouped();
    let id = own.instance_id.unwrap_or_else(|| instance_id(&own.ip, own.port, cluster, &grouped));
    Some(Instance {
        instance_id: Some(id),
        ip: own.ip,
        port: own.port,
        weight: said.unwrap_or_else(|| f64::from(served) / 100.0),
        healthy: own.healthy && status != InstanceStatus::INSTANCE_STATUS_STARTING,
        enabled: status != InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE,
        ephemeral: !record.is_checked(),
        cluster_name: cluster.to_owned(),
        service_name: Some(grouped),
        metadata,
    })
}

/// What an instance that was registered by another protocol would have said in this one.
fn made_up(instance: &wire::Instance) -> Option<Own> {
    let endpoints: Vec<Endpoint> = instance.endpoints.iter().filter_map(|e| e.parse().ok()).collect();
    let of = |scheme| endpoints.iter().find(|endpoint| endpoint.scheme() == scheme);
    let endpoint = of(Scheme::Http).or(of(Scheme::Https))?;
    let weight = f64::from(instance.weight.unwrap_or(100)) / 100.0;
    Some(Own {
        ip: endpoint.host().to_owned(),
        port: endpoint.port(),
        weight,
        instance_id: None,
        healthy: true,
    })
}
