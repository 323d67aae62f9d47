//! Instances as Consul holds them, in the form of Kratos' `contrib/registry/consul`.
//!
//! Consul takes at most 64 entries of metadata, with keys of letters, digits, `-` and `_`, and values of at most 512 bytes. Our
//! own fields have `-` for `.` in their keys; what does not fit goes, as JSON, into entries of its own.

use std::collections::BTreeMap;

use bowline_core::{Error, Instance, InstanceStatus, Result};
use bowline_discovery::kratos::{self, ServiceInstance};
use serde::{Deserialize, Serialize};

use crate::options::Options;

/// What keys of ours begin with in Kratos' form, and in Consul's.
const OURS: &str = "bowline.";
const OURS_HERE: &str = "bowline-";
/// Whose registration it is.
const HOLDER: &str = "bowline-holder";
/// What has no place elsewhere.
const MORE: &str = "bowline-more-";
const MOST_ENTRIES: usize = 64;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 512;
const VERSION: &str = "version=";

/// What has no place elsewhere.
#[derive(Default, Deserialize, Serialize)]
struct More {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaggedAddress {
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
}

/// The body of a registration.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Registration<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    tags: [String; 1],
    address: &'a str,
    port: u16,
    tagged_addresses: BTreeMap<String, TaggedAddress>,
    meta: BTreeMap<String, String>,
    checks: [Check; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    check_id: String,
    #[serde(rename = "TTL")]
    ttl: String,
    /// Critical would be the default, until the first renewal.
    status: &'static str,
    deregister_critical_service_after: String,
}

/// A service, as an agent and as the catalog tell it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Service {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    service: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    tagged_addresses: Option<BTreeMap<String, TaggedAddress>>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) create_index: u64,
    #[serde(default)]
    pub(crate) modify_index: u64,
}

/// The identifier of the check that an instance is renewed by.
pub(crate) fn check_id(id: &str) -> String {
    format!("service:{id}")
}

/// The body that registers an instance.
pub(crate) fn encode(instance: &Instance, holder: u64, options: &Options) -> Result<Vec<u8>> {
    let full = kratos::encode(instance, &options.env)?;
    let tagged = tagged(&full.endpoints);
    let mut more = More::default();
    let mut meta = BTreeMap::new();
    for (key, value) in full.metadata {
        if key.starts_with(OURS_HERE) {
            return Err(Error::invalid_argument(format!(
                "the metadata key `{key}` is kept for a field of the instance; use another key"
            )));
        }
        let here = key.strip_prefix(OURS).map_or_else(|| key.clone(), |rest| format!("{OURS_HERE}{rest}"));
        if fits(&here, &value) {
            meta.insert(here, value);
        } else {
            more.metadata.insert(key, value);
        }
    }
    // Consul holds one address a scheme, in no order.
    let seen = ServiceInstance { endpoints: texts(&tagged), ..ServiceInstance::default() };
    let seen = kratos::decode(seen, "", "").ok().flatten();
    if seen.is_none_or(|seen| seen.endpoints != instance.endpoints) {
        more.endpoints = Some(full.endpoints);
    }
    meta.insert(HOLDER.into(), format!("{holder:x}"));
    meta.extend(pieces(&more)?);
    if meta.len() > MOST_ENTRIES {
        return Err(Error::invalid_argument(format!(
            "`{}` has {} entries of metadata, its fields among them, and Consul takes {MOST_ENTRIES}; leave some out",
            instance.id,
            meta.len()
        )));
    }
    let first = instance.endpoints.iter().find(|endpoint| endpoint.port() != 0);
    let registration = Registration {
        id: &full.id,
        name: &full.name,
        tags: [format!("{VERSION}{}", full.version)],
        address: first.map_or("", |endpoint| endpoint.host()),
        port: first.map_or(0, |endpoint| endpoint.port()),
        tagged_addresses: tagged,
        meta,
        checks: [Check {
            check_id: check_id(&full.id),
            ttl: format!("{}ms", options.ttl.as_millis()),
            status: "passing",
            deregister_critical_service_after: format!("{}s", options.forget_after.as_secs()),
        }],
    };
    serde_json::to_vec(&registration).map_err(|e| Error::internal("an instance as JSON").with_source(e))
}

fn fits(key: &str, value: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !key.is_empty() && key.len() <= LONGEST_KEY && key.bytes().all(is_plain) && value.len() <= LONGEST_VALUE
}

/// By scheme; of several with one scheme the first.
fn tagged(endpoints: &[String]) -> BTreeMap<String, TaggedAddress> {
    let mut tagged = BTreeMap::new();
    for text in endpoints {
        let Some((scheme, _)) = text.split_once(':') else { continue };
        let port = text.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
        tagged.entry(scheme.to_owned()).or_insert_with(|| TaggedAddress { address: text.clone(), port });
    }
    tagged
}

/// Those that are an address of an instance, and not what Consul itself tags.
fn texts(tagged: &BTreeMap<String, TaggedAddress>) -> Vec<String> {
    let of_scheme = |(scheme, tagged): (&String, &TaggedAddress)| {
        let rest = tagged.address.strip_prefix(&**scheme)?;
        rest.starts_with(':').then(|| tagged.address.clone())
    };
    tagged.iter().filter_map(of_scheme).collect()
}

/// What is more, in pieces that fit.
fn pieces(more: &More) -> Result<Vec<(String, String)>> {
    if more.metadata.is_empty() && more.endpoints.is_none() {
        return Ok(Vec::new());
    }
    let text = serde_json::to_string(more).map_err(|e| Error::internal("metadata as JSON").with_source(e))?;
    let mut rest = &*text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let end = rest.floor_char_boundary(LONGEST_VALUE);
        let (piece, left) = rest.split_at(end);
        pieces.push((format!("{MORE}{:02}", pieces.len()), piece.to_owned()));
        rest = left;
    }
    Ok(pieces)
}

impl Service {
    /// Whose registration it is; `None` if it is not one of ours.
    pub(crate) fn holder(&self) -> Option<u64> {
        u64::from_str_radix(self.meta.as_ref()?.get(HOLDER)?, 16).ok()
    }

    /// The instance, at a node with this address. `None` if it is of another environment than `env`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what cannot be used.
    pub(crate) fn decode(self, node: &str, in_maintenance: bool, env: &str) -> Result<Option<Instance>> {
        let mut metadata = BTreeMap::new();
        let mut json = String::new();
        // In the order of their names, and so of their pieces.
        for (key, value) in self.meta.unwrap_or_default() {
            if key.starts_with(MORE) {
                json.push_str(&value);
            } else if key != HOLDER {
                let rest = key.strip_prefix(OURS_HERE).map(|rest| format!("{OURS}{rest}"));
                metadata.insert(rest.unwrap_or(key), value);
            }
        }
        let mut more = More::default();
        if !json.is_empty() {
            more = serde_json::from_str(&json).map_err(|e| {
                Error::invalid_argument(format!("the metadata in `{MORE}…` is malformed: {e}")).with_source(e)
            })?;
        }
        metadata.extend(more.metadata);
        let mut endpoints = texts(&self.tagged_addresses.unwrap_or_default());
        if endpoints.is_empty() && self.port != 0 {
            let host = if self.address.is_empty() { node } else { &self.address };
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            endpoints.push(format!("http://{host}:{}", self.port));
        }
        let tags = self.tags.unwrap_or_default();
        let version = tags.iter().find_map(|tag| tag.strip_prefix(VERSION)).unwrap_or_default();
        let found = ServiceInstance {
            id: self.id,
            version: version.to_owned(),
            metadata,
            endpoints: more.endpoints.unwrap_or(endpoints),
            name: self.service.clone(),
        };
        let mut instance = kratos::decode(found, &self.service, env)?;
        if let Some(instance) = instance.as_mut().filter(|_| in_maintenance) {
            instance.status = InstanceStatus::OutOfService;
        }
        Ok(instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::Endpoint;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        prop_oneof![
            ("[a-c]{1,3}", 1..999_u16).prop_map(|(host, port)| Endpoint::http(host, port)),
            ("[a-c]{1,3}", 1..999_u16).prop_map(|(host, port)| Endpoint::https(host, port)),
            "/[a-c]{1,3}".prop_map(Endpoint::unix),
        ]
    }

    fn registered(instance: &Instance) -> Value {
        serde_json::from_slice(&encode(instance, 7, &Options::default()).unwrap()).unwrap()
    }

    /// As the catalog tells what was registered.
    fn told(mut registration: Value) -> Service {
        registration["Service"] = registration["Name"].take();
        serde_json::from_value(registration).unwrap()
    }

    proptest! {
        #[test]
        fn an_instance_goes_there_and_back_within_consuls_limits(
            version in "[a-zäß ]{0,6}", weight: u32, mut endpoints in proptest::collection::vec(endpoint(), 0..4),
            metadata in proptest::collection::btree_map("[a-v.ä_-]{0,140}", "\\PC{0,600}", 0..4),
        ) {
            let mut seen = Vec::new();
            endpoints.retain(|e| !seen.contains(e) && { seen.push(e.clone()); true });
            let instance = Instance { version, weight, endpoints, metadata, ..Instance::new("s", "s-1@[::1]:80") };
            let registration = registered(&instance);
            for (key, value) in registration["Meta"].as_object().unwrap() {
                prop_assert!(fits(key, value.as_str().unwrap()), "{} {}", key, value);
            }
            let service = told(registration);
            prop_assert_eq!(service.holder(), Some(7));
            prop_assert_eq!(service.decode("10.0.0.9", false, "").unwrap(), Some(instance));
        }
    }

    #[test]
    fn what_kratos_reads_is_written() {
        let mut instance = Instance::new("s", "a").with_endpoint(Endpoint::http("::1", 80));
        (instance.version, instance.weight) = ("v1".into(), 7);
        let expected = json!({
            "ID": "a", "Name": "s", "Tags": ["version=v1"], "Address": "::1", "Port": 80,
            "TaggedAddresses": {
                "http": {"Address": "http://[::1]:80", "Port": 80}, "grpc": {"Address": "grpc://[::1]:80", "Port": 80},
            },
            "Meta": {"weight": "7", "bowline-env": "default", "bowline-holder": "7"},
            "Checks": [{
                "CheckID": "service:a", "TTL": "20000ms", "Status": "passing", "DeregisterCriticalServiceAfter": "600s",
            }],
        });
        assert_eq!(registered(&instance), expected);
    }

    #[test]
    fn what_others_register_is_read() {
        let service = json!({
            "ID": "web1", "Service": "web", "Tags": null, "Address": "", "Port": 8080, "Meta": null,
            "TaggedAddresses": {"lan_ipv4": {"Address": "10.0.0.1", "Port": 8080}},
        });
        let service: Service = serde_json::from_value(service).unwrap();
        let expected = Instance::new("web", "web1").with_endpoint(Endpoint::http("10.0.0.9", 8080));
        assert_eq!(
            service.clone().decode("10.0.0.9", false, "prod").unwrap().unwrap().endpoints,
            expected.endpoints
        );
        let resting = service.decode("10.0.0.9", true, "").unwrap().unwrap();
        assert_eq!(resting.status, InstanceStatus::OutOfService);
    }

    #[test]
    fn what_has_no_place_is_refused_with_the_mend() {
        let with = |metadata: BTreeMap<String, String>| {
            let instance = Instance { metadata, ..Instance::new("s", "a") };
            encode(&instance, 7, &Options::default()).unwrap_err()
        };
        let many = (0..70).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        assert!(with(many).message().contains("Consul takes 64"));
        assert!(with([("bowline-env".into(), "x".into())].into()).message().contains("use another key"));
    }
}
