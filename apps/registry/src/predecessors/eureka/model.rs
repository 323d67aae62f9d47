//! Instances as Eureka writes them, and as the registry keeps them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bowline_core::{Endpoint, Instant, Result, Scheme};
use bowline_registry_bowline::api::bowline::registry::v1 as wire;
use bowline_registry_bowline::api::bowline::registry::v1::InstanceStatus;
use serde_json::{Map, Value, json};

use super::super::params::invalid;
use super::super::{EUREKA, RESERVED};
use crate::node::Shared;
use crate::store::{Happened, Recent, Record, Registered, ServiceKey};

/// Who registers by this protocol: the id is all it has to tell one process from another.
pub(super) const HOLDER: &str = "eureka";
/// The lease of who asks for none: three of the heartbeats that clients send every 30 s.
pub(super) const TTL: Duration = Duration::from_secs(90);

/// The fields that are kept as they are given, because only this protocol has a place for them.
const KEPT: [&str; 18] = [
    "hostName",
    "ipAddr",
    "sid",
    "port",
    "securePort",
    "homePageUrl",
    "statusPageUrl",
    "healthCheckUrl",
    "secureHealthCheckUrl",
    "vipAddress",
    "secureVipAddress",
    "countryId",
    "dataCenterInfo",
    "appGroupName",
    "asgName",
    "isCoordinatingDiscoveryServer",
    "lastDirtyTimestamp",
    "status",
];

/// An instance that was read.
#[derive(Debug)]
pub(super) struct Read {
    /// Without service and environment, which the path and the node say.
    pub(super) instance: wire::Instance,
    pub(super) ttl: Option<Duration>,
    /// When its content changed last, by its own clock.
    pub(super) dirty: Option<u64>,
}

/// An application's name: a service's, in capitals.
pub(super) fn app(key: &ServiceKey) -> String {
    key.service().to_ascii_uppercase()
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A scalar as text; empty if it is none.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        _ => String::new(),
    }
}

fn number(value: &Value, name: &str) -> Result<Option<u64>> {
    let text = text(value);
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e| {
        let shown: String = text.chars().take(80).collect();
        invalid(format!("`{name}` is no number that fits: `{shown}`: {e}"))
    })
}

/// A port and whether it is enabled: `{"$": 80, "@enabled": "true"}`, or the number alone. As in Eureka an enabling that is
/// left out counts for the port and not for the secure one.
fn port(of: &Map<String, Value>, name: &str, left_out: bool) -> Result<Option<(u16, bool)>> {
    let (value, enabled) = match of.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(members)) => {
            let enabled = members.get("@enabled").map_or(left_out, |enabled| text(enabled) == "true");
            (members.get("$").unwrap_or(&Value::Null), enabled)
        }
        Some(value) => (value, left_out),
    };
    let port = number(value, name)?.unwrap_or(0);
    let port = u16::try_from(port).map_err(|_| invalid(format!("`{name}` is {port}; use up to 65535")))?;
    Ok(Some((port, enabled)))
}

/// Reads an instance that registers as `app`.
///
/// # Errors
/// `INVALID_REQUEST` naming the field.
pub(super) fn read(document: Value, app: &str) -> Result<Read> {
    let Value::Object(document) = document else {
        return Err(invalid("`instance` is no object"));
    };
    let field = |name: &str| document.get(name).map(text).unwrap_or_default();
    let required = |name: &'static str| {
        let value = field(name);
        if value.is_empty() { Err(invalid(format!("`{name}` is missing"))) } else { Ok(value) }
    };
    let (host, own_app) = (required("hostName")?, required("app")?);
    required("ipAddr")?;
    if !own_app.eq_ignore_ascii_case(app) {
        let shown: String = own_app.chars().take(80).collect();
        return Err(invalid(format!("`app` is `{shown}`, but the path says `{app}`")));
    }
    let center = document.get("dataCenterInfo").map(|center| text(&center["name"])).unwrap_or_default();
    if center.is_empty() {
        return Err(invalid("`dataCenterInfo.name` is missing"));
    }
    let id = if field("instanceId").is_empty() { host.clone() } else { field("instanceId") };
    let status = match field("status").as_str() {
        "" | "UP" => InstanceStatus::INSTANCE_STATUS_UP,
        "OUT_OF_SERVICE" => InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE,
        // Only the instance itself can end these.
        "STARTING" | "DOWN" | "UNKNOWN" => InstanceStatus::INSTANCE_STATUS_STARTING,
        other => {
            let shown: String = other.chars().take(80).collect();
            return Err(invalid(format!(
                "`status` is `{shown}`; use UP, DOWN, STARTING, OUT_OF_SERVICE or UNKNOWN"
            )));
        }
    };
    let mut endpoints = Vec::new();
    for (name, scheme, left_out) in [("port", "http", true), ("securePort", "https", false)] {
        if let Some((port, true)) = port(&document, name, left_out)? {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let endpoint: Endpoint =
                format!("{scheme}://{host}:{port}").parse().map_err(|e: bowline_core::Error| {
                    invalid(format!("`hostName` and `{name}` are no address: {}", e.message()))
                })?;
            endpoints.push(endpoint.to_string());
        }
    }
    let lease = document.get("leaseInfo").unwrap_or(&Value::Null);
    let ttl = number(&lease["durationInSecs"], "leaseInfo.durationInSecs")?.filter(|secs| *secs > 0);
    let mut metadata = metadata(document.get("metadata"))?;
    let weight = metadata.get("weight").and_then(|weight| weight.parse().ok());
    let dirty = number(document.get("lastDirtyTimestamp").unwrap_or(&Value::Null), "lastDirtyTimestamp")?;
    let zone = metadata.get("zone").cloned().unwrap_or_default();
    let version = metadata.get("version").cloned().unwrap_or_default();
    let own: Map<String, Value> =
        document.into_iter().filter(|(name, _)| KEPT.contains(&name.as_str())).collect();
    metadata.insert(EUREKA.to_owned(), Value::Object(own).to_string());
    let status = status.into();
    let metadata = metadata.into_iter().collect();
    let instance =
        wire::Instance { id, zone, version, weight, status, endpoints, metadata, ..Default::default() };
    Ok(Read { instance, ttl: ttl.map(Duration::from_secs), dirty: dirty.filter(|dirty| *dirty > 0) })
}

fn metadata(given: Option<&Value>) -> Result<HashMap<String, String>> {
    let Some(Value::Object(given)) = given else { return Ok(HashMap::new()) };
    // The class of an empty map is a word of the protocol.
    let theirs = given.iter().filter(|(key, _)| !key.starts_with('@'));
    theirs
        .map(|(key, value)| {
            if key.starts_with(RESERVED) {
                return Err(invalid(format!("the metadata `{key}` is the registry's own; use another name")));
            }
            if matches!(value, Value::Object(_) | Value::Array(_)) {
                return Err(invalid(format!("the metadata `{key}` is no text")));
            }
            Ok((key.clone(), text(value)))
        })
        .collect()
}

fn proto(status: &str) -> Option<InstanceStatus> {
    Some(match status {
        "UP" => InstanceStatus::INSTANCE_STATUS_UP,
        "OUT_OF_SERVICE" => InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE,
        "STARTING" | "DOWN" | "UNKNOWN" => InstanceStatus::INSTANCE_STATUS_STARTING,
        _ => return None,
    })
}

fn name(status: InstanceStatus) -> &'static str {
    match status {
        InstanceStatus::INSTANCE_STATUS_STARTING => "STARTING",
        InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE => "OUT_OF_SERVICE",
        _ => "UP",
    }
}

/// An instance of the registry as this protocol sees it.
pub(super) struct Seen<'a> {
    shared: &'a Shared,
    key: &'a ServiceKey,
    record: &'a Record,
    dirty: Option<u64>,
    since: Instant,
    renewed: Instant,
    updated: Instant,
    ttl: Duration,
}

impl<'a> Seen<'a> {
    pub(super) fn of(shared: &'a Shared, key: &'a ServiceKey, found: &'a Registered) -> Self {
        Self {
            shared,
            key,
            record: &found.record,
            dirty: (*found.holder == *HOLDER).then_some(found.sequence),
            since: found.since,
            renewed: found.renewed,
            updated: found.updated,
            ttl: found.ttl,
        }
    }

    /// An instance that went.
    pub(super) fn gone(shared: &'a Shared, key: &'a ServiceKey, recent: &'a Recent) -> Self {
        let (since, renewed, updated) = (recent.at, recent.at, recent.at);
        Self { shared, key, record: &recent.record, dirty: None, since, renewed, updated, ttl: TTL }
    }

    /// As it is told; `None` for an instance without a host and port, which this protocol cannot express.
    pub(super) fn document(&self, happened: Happened) -> Option<Value> {
        let instance = self.record.instance();
        let own = instance.metadata.get(EUREKA).and_then(|own| serde_json::from_str::<Map<_, _>>(own).ok());
        let status = self.status(own.as_ref());
        let mut document = own.map_or_else(|| self.made_up(), Some)?;
        let millis = |at| millis(self.shared.unix_time(at));
        let secs = self.ttl.as_secs();
        let overridden = self.record.overridden().and_then(|o| o.status).map_or("UNKNOWN", name);
        let theirs = instance.metadata.iter().filter(|(key, _)| !key.starts_with(RESERVED));
        let mut metadata: BTreeMap<&str, Value> =
            theirs.map(|(k, v)| (k.as_str(), Value::String(v.clone()))).collect();
        if let Some(weight) = instance.weight {
            metadata.insert("weight", weight.to_string().into());
        }
        for (key, value) in [("zone", &instance.zone), ("version", &instance.version)] {
            if !value.is_empty() {
                metadata.entry(key).or_insert_with(|| value.clone().into());
            }
        }
        if metadata.is_empty() {
            metadata.insert("@class", "java.util.Collections$EmptyMap".into());
        }
        let happened = match happened {
            Happened::Added => "ADDED",
            Happened::Modified => "MODIFIED",
            Happened::Removed => "DELETED",
        };
        let dirty = self.dirty.unwrap_or_else(|| millis(self.updated));
        for (name, value) in [
            ("instanceId", json!(instance.id)),
            ("app", json!(app(self.key))),
            ("status", json!(status)),
            ("overriddenStatus", json!(overridden)),
            (
                "leaseInfo",
                json!({
                    "renewalIntervalInSecs": (secs / 3).max(1),
                    "durationInSecs": secs,
                    "registrationTimestamp": millis(self.since),
                    "lastRenewalTimestamp": millis(self.renewed),
                    "evictionTimestamp": 0,
                    "serviceUpTimestamp": millis(self.since),
                }),
            ),
            ("metadata", json!(metadata)),
            ("lastUpdatedTimestamp", json!(millis(self.updated).to_string())),
            ("lastDirtyTimestamp", json!(dirty.to_string())),
            ("actionType", json!(happened)),
        ] {
            document.insert(name.to_owned(), value);
        }
        Some(Value::Object(document))
    }

    /// Its own word, where that is finer than what the registry knows and nobody overrode it.
    fn status(&self, own: Option<&Map<String, Value>>) -> String {
        let served = self.record.instance().status.as_known().unwrap_or_default();
        let served = if self.record.is_up() { InstanceStatus::INSTANCE_STATUS_UP } else { served };
        let own = own.and_then(|own| own.get("status")).map(text).filter(|own| proto(own) == Some(served));
        own.unwrap_or_else(|| name(served).to_owned())
    }

    /// What an instance that was registered by another protocol would have said in this one.
    fn made_up(&self) -> Option<Map<String, Value>> {
        let instance = self.record.instance();
        let endpoints: Vec<Endpoint> = instance.endpoints.iter().filter_map(|e| e.parse().ok()).collect();
        let of = |scheme| endpoints.iter().find(|endpoint| endpoint.scheme() == scheme);
        let (plain, secure) = (of(Scheme::Http), of(Scheme::Https));
        let host = plain.or(secure)?.host();
        let port = |of: Option<&Endpoint>| json!({"$": of.map_or(0, Endpoint::port), "@enabled": of.is_some().to_string()});
        let document = json!({
            "hostName": host,
            "ipAddr": host,
            "port": port(plain),
            "securePort": port(secure),
            "countryId": 1,
            "dataCenterInfo": {
                "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
                "name": "MyOwn",
            },
            "vipAddress": instance.service,
            "secureVipAddress": instance.service,
            "isCoordinatingDiscoveryServer": "false",
        });
        match document {
            Value::Object(document) => Some(document),
            _ => None,
        }
    }
}
