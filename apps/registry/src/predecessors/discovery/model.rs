//! Instances as bilibili discovery writes them, and as the registry keeps them.

use std::collections::BTreeMap;

use bowline_core::{Endpoint, Instant, Result, Scheme};
use bowline_registry_bowline::api::bowline::registry::v1 as wire;
use bowline_registry_bowline::api::bowline::registry::v1::InstanceStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::params::{Params, invalid};
use super::super::{EUREKA, NACOS, RESERVED};
use super::{SELF, nanos};
use crate::cluster::Front;
use crate::node::Shared;
use crate::store::{Registered, ServiceKey};

/// Who registers by this protocol: a host's name is all it has to tell one process from another.
pub(super) const HOLDER: &str = "bilibili-discovery";
/// Where [`Own`] is kept.
const OWN: &str = "bowline.discovery";

/// An instance.
#[derive(Debug, Serialize)]
pub(super) struct Instance {
    pub(super) region: String,
    pub(super) zone: String,
    env: String,
    appid: String,
    hostname: String,
    addrs: Vec<String>,
    version: String,
    metadata: BTreeMap<String, String>,
    pub(super) status: u32,
    reg_timestamp: u64,
    up_timestamp: u64,
    renew_timestamp: u64,
    dirty_timestamp: u64,
    latest_timestamp: u64,
}

/// The instances of a service, by zone.
#[derive(Debug, Serialize)]
pub(super) struct Instances {
    pub(super) instances: BTreeMap<String, Vec<Instance>>,
    pub(super) latest_timestamp: u64,
}

impl Instances {
    /// Whether a zone has an instance.
    pub(super) fn has_any(&self) -> bool {
        self.instances.values().any(|of_zone| !of_zone.is_empty())
    }

    /// The registry's nodes, for clients that look for them before anything else; `None` if none is in the zone.
    pub(super) fn of_nodes(host: &str, zone: &str, key: &ServiceKey, shared: &Shared) -> Option<Self> {
        let front = shared.front.borrow().clone();
        let mut instances: BTreeMap<String, Vec<Instance>> = BTreeMap::new();
        for node in nodes(&front, host, shared) {
            // One without a zone is in whichever is asked for.
            let of = if node.zone.is_empty() { zone } else { &node.zone }.to_owned();
            if zone.is_empty() || of == zone {
                let instance = node.instance(&of, key, shared);
                instances.entry(of).or_default().push(instance);
            }
        }
        let latest_timestamp = started(shared.epoch).saturating_add(front.changes);
        (!instances.is_empty()).then_some(Self { instances, latest_timestamp })
    }
}

/// A node of the registry, as clients are told of it.
pub(super) struct Node {
    pub(super) zone: String,
    /// Host and port.
    pub(super) host: String,
    url: String,
    life: u64,
}

/// This node, at `host` where it has no other address, and those it knows to serve.
pub(super) fn nodes(front: &Front, host: &str, shared: &Shared) -> Vec<Node> {
    let own = Node {
        zone: shared.own.zone.clone(),
        host: front.own.as_ref().map_or(host.to_owned(), Endpoint::authority),
        url: front.own.as_ref().map_or(format!("http://{host}"), ToString::to_string),
        life: shared.epoch,
    };
    let others = front.others.iter().map(|other| Node {
        zone: other.zone.clone(),
        host: other.at.authority(),
        url: other.at.to_string(),
        life: other.life,
    });
    std::iter::once(own).chain(others).collect()
}

/// When a life of a node began.
const fn started(life: u64) -> u64 {
    let at = timestamp(life >> 16);
    if at == 0 { 1 } else { at }
}

impl Node {
    fn instance(self, zone: &str, key: &ServiceKey, shared: &Shared) -> Instance {
        let started = started(self.life);
        Instance {
            region: String::new(),
            zone: zone.to_owned(),
            env: key.env().to_owned(),
            appid: SELF.to_owned(),
            hostname: self.host,
            addrs: vec![self.url],
            version: String::new(),
            metadata: BTreeMap::new(),
            status: 1,
            reg_timestamp: started,
            up_timestamp: started,
            renew_timestamp: nanos(shared.unix_time(shared.now())),
            dirty_timestamp: started,
            latest_timestamp: started,
        }
    }
}

/// A service's revision as a time in nanoseconds. Revisions count from the start of the node in units of 16 µs, so this is
/// that start and 16 µs for each change since: it grows with every change, also over restarts, and is never the same for
/// two.
pub(super) const fn timestamp(revision: u64) -> u64 {
    revision.saturating_mul(16_000)
}

/// What only this protocol has a place for.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Own {
    #[serde(default)]
    region: String,
    /// All addresses as they were given, those of schemes that only others know included.
    #[serde(default)]
    addrs: Vec<String>,
}

/// The instance that parameters describe.
///
/// # Errors
/// `INVALID_REQUEST` naming the parameter.
pub(super) fn read(params: &Params, key: &ServiceKey) -> Result<wire::Instance> {
    let (zone, id) = (params.required("zone")?, params.required("hostname")?);
    let text = params.required("status")?;
    let status = status(text.parse().map_err(|_| no_status(text))?)?;
    params.required("addrs")?;
    let addrs: Vec<String> = params.all("addrs").map(str::to_owned).collect();
    let mut endpoints: Vec<String> = Vec::new();
    for addr in &addrs {
        if let Some(endpoint) = endpoint(addr)?.map(|e| e.to_string())
            && !endpoints.contains(&endpoint)
        {
            endpoints.push(endpoint);
        }
    }
    let mut metadata = metadata(params.text("metadata"))?;
    let weight = metadata.get("weight").and_then(|weight| weight.parse().ok());
    let own = Own { region: params.text("region").to_owned(), addrs };
    let own =
        serde_json::to_string(&own).map_err(|e| invalid("addresses that JSON cannot hold").with_source(e))?;
    metadata.insert(OWN.to_owned(), own);
    Ok(wire::Instance {
        id: id.to_owned(),
        service: key.service().to_owned(),
        env: key.env().to_owned(),
        version: params.text("version").to_owned(),
        zone: zone.to_owned(),
        weight,
        status: status.into(),
        endpoints,
        metadata: metadata.into_iter().collect(),
        ..Default::default()
    })
}

/// The status of a number: 1 takes traffic, 2 does not.
///
/// # Errors
/// `INVALID_REQUEST` for others.
pub(super) fn status(number: u32) -> Result<InstanceStatus> {
    match number {
        1 => Ok(InstanceStatus::INSTANCE_STATUS_UP),
        2 => Ok(InstanceStatus::INSTANCE_STATUS_OUT_OF_SERVICE),
        other => Err(no_status(&other.to_string())),
    }
}

fn no_status(text: &str) -> bowline_core::Error {
    let shown: String = text.chars().take(80).collect();
    invalid(format!("the parameter `status` is `{shown}`; use 1 (takes traffic) or 2 (takes none)"))
}

/// Metadata as it is given: a JSON object of texts, as text. Numbers and truth values are taken as texts.
///
/// # Errors
/// `INVALID_REQUEST` if it is something else.
pub(super) fn metadata(text: &str) -> Result<BTreeMap<String, String>> {
    if text.is_empty() || text == "null" {
        return Ok(BTreeMap::new());
    }
    let read: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|e| {
        invalid(format!(
            "the parameter `metadata` is no JSON object: {e}; write it like {{\"key\":\"value\"}}"
        ))
    })?;
    read.into_iter()
        .map(|(key, value)| {
            if key.starts_with(RESERVED) {
                return Err(invalid(format!("the metadata `{key}` is the registry's own; use another name")));
            }
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                _ => return Err(invalid(format!("the metadata `{key}` is no text; write it in quotes"))),
            };
            Ok((key, value))
        })
        .collect()
}

/// The address as consumers of Bowline use it; `None` for a scheme they do not know.
fn endpoint(addr: &str) -> Result<Option<Endpoint>> {
    let wrong = |why: &str| {
        let shown: String = addr.chars().take(80).collect();
        invalid(format!("the address `{shown}` in `addrs` {why}; write it like http://10.0.0.1:8000"))
    };
    let (scheme, rest) = addr.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
    let (authority, query) = rest.split_once(['?', '/']).unwrap_or((rest, ""));
    let secure = query.split(['&', '?']).any(|pair| pair == "isSecure=true");
    let scheme = match scheme {
        "http" | "grpc" if secure => "https",
        "http" | "grpc" => "http",
        "https" | "grpcs" => "https",
        _ => return Ok(None),
    };
    let endpoint = format!("{scheme}://{authority}").parse();
    endpoint.map(Some).map_err(|e: bowline_core::Error| wrong("is malformed").with_source(e))
}

/// An instance of the registry as this protocol sees it.
pub(super) struct Seen<'a> {
    of: &'a Registered,
    key: &'a ServiceKey,
    shared: &'a Shared,
}

impl<'a> Seen<'a> {
    pub(super) fn of(of: &'a Registered, key: &'a ServiceKey, shared: &'a Shared) -> Self {
        Self { of, key, shared }
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(self.shared.unix_time(at))
    }

    /// When its own words were last others than before.
    pub(super) fn dirty_timestamp(&self) -> u64 {
        let own = (*self.of.holder == *HOLDER).then_some(self.of.sequence);
        own.unwrap_or_else(|| self.nanos(self.of.updated))
    }

    pub(super) fn instance(&self) -> Instance {
        let instance = self.of.record.instance();
        let own: Option<Own> = instance.metadata.get(OWN).and_then(|own| serde_json::from_str(own).ok());
        let own_addrs = own.as_ref().map(|own| own.addrs.clone()).filter(|addrs| !addrs.is_empty());
        let theirs = instance.metadata.iter().filter(|(key, _)| !key.starts_with(RESERVED));
        let mut metadata: BTreeMap<_, _> = theirs.map(|(k, v)| (k.clone(), v.clone())).collect();
        if let Some(weight) = instance.weight {
            metadata.insert("weight".to_owned(), weight.to_string());
        }
        let since = self.nanos(self.of.since);
        Instance {
            region: own.map(|own| own.region).unwrap_or_default(),
            zone: instance.zone.clone(),
            env: self.key.env().to_owned(),
            appid: self.key.service().to_owned(),
            hostname: instance.id.clone(),
            addrs: own_addrs.unwrap_or_else(|| addrs(instance)),
            version: instance.version.clone(),
            metadata,
            status: if self.of.record.is_up() { 1 } else { 2 },
            reg_timestamp: since,
            up_timestamp: since,
            renew_timestamp: self.nanos(self.of.renewed),
            dirty_timestamp: self.dirty_timestamp(),
            latest_timestamp: self.nanos(self.of.updated),
        }
    }
}

/// The addresses of an instance that was registered by another protocol. Bowline's take gRPC where they take HTTP.
fn addrs(instance: &wire::Instance) -> Vec<String> {
    // Of Eureka's and Nacos' it is not known.
    let takes_grpc = ![EUREKA, NACOS].iter().any(|own| instance.metadata.contains_key(*own));
    let mut addrs = Vec::new();
    for endpoint in instance.endpoints.iter().filter_map(|endpoint| endpoint.parse::<Endpoint>().ok()) {
        let (http, grpc) = match endpoint.scheme() {
            Scheme::Http => ("http", "grpc"),
            Scheme::Https => ("https", "grpcs"),
            _ => continue,
        };
        addrs.push(format!("{http}://{}", endpoint.authority()));
        if takes_grpc {
            addrs.push(format!("{grpc}://{}", endpoint.authority()));
        }
    }
    addrs
}
