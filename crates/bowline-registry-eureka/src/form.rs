//! Instances as Eureka holds them.
//!
//! Eureka has a host, a port and a secure port, a status, and metadata in which `zone`, `version` and `weight` are known to its
//! users. What an instance has beyond these goes into metadata under names that begin with `bowline-`.

use std::collections::BTreeMap;

use bowline_core::{Endpoint, Error, Instance, InstanceId, InstanceStatus, Result, Scheme, Tenant};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

const OURS: &str = "bowline-";
const ENV: &str = "bowline-env";
const CLUSTER: &str = "bowline-cluster";
const TENANT: &str = "bowline-tenant";
/// Whose registration it is.
const HOLDER: &str = "bowline-holder";
/// The endpoints, where a host and two ports do not tell them.
const ENDPOINTS: &str = "bowline-endpoints";
/// The instance's own metadata whose keys are Eureka's.
const MORE: &str = "bowline-more";
/// What Eureka's users know by these names.
const ZONE: &str = "zone";
const VERSION: &str = "version";
const WEIGHT: &str = "weight";
/// How Eureka's JSON says of a map what it is in Java.
const CLASS: &str = "@class";
const DEFAULT_ENV: &str = "default";

/// An instance, as servers tell it: of what they tell, what is used here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    #[serde(default)]
    instance_id: Option<String>,
    host_name: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    action_type: Option<String>,
    #[serde(default)]
    port: Option<Port>,
    #[serde(default)]
    secure_port: Option<Port>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, Value>>,
    #[serde(default, deserialize_with = "number")]
    pub(crate) last_dirty_timestamp: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Port {
    #[serde(rename = "$", deserialize_with = "number")]
    number: u64,
    #[serde(rename = "@enabled", default)]
    enabled: Value,
}

/// Servers write numbers as such or as text.
fn number<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(input)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| serde::de::Error::custom("neither a number nor the text of one"))
}

impl Port {
    fn get(&self) -> Option<u16> {
        let is_enabled = self.enabled == true || self.enabled == "true";
        u16::try_from(self.number).ok().filter(|_| is_enabled)
    }
}

fn canonical(env: &str) -> &str {
    if env.is_empty() { DEFAULT_ENV } else { env }
}

/// The application's name: in capitals, as Netflix' client has it.
pub(crate) fn app(service: &str) -> String {
    service.to_uppercase()
}

/// Servers take `OUT_OF_SERVICE` from operators alone: of an instance that is `UP` to them, they keep that when it says so itself.
fn status(status: InstanceStatus) -> &'static str {
    match status {
        InstanceStatus::Up => "UP",
        InstanceStatus::Starting => "STARTING",
        InstanceStatus::OutOfService => "DOWN",
    }
}

/// What is told of a registration beside the instance.
pub(crate) struct Registration<'a> {
    pub(crate) holder: u64,
    pub(crate) env: &'a str,
    pub(crate) ttl_seconds: u64,
    /// Orders what is said of one identifier: the later counts.
    pub(crate) dirty: u64,
    /// Whether it is about to be cancelled.
    pub(crate) is_leaving: bool,
}

/// The body that registers an instance.
pub(crate) fn encode(instance: &Instance, registration: &Registration<'_>) -> Result<Vec<u8>> {
    if let Some(key) = instance.metadata.keys().find(|key| key.starts_with(OURS)) {
        return Err(Error::invalid_argument(format!(
            "the metadata key `{key}` is kept for a field of the instance; use another key"
        )));
    }
    for (what, name) in [("service", &*instance.service), ("instance id", instance.id.as_str())] {
        if name.is_empty() || name.contains('/') || name.contains(char::is_control) {
            return Err(Error::invalid_argument(format!(
                "the {what} `{}` has no place in Eureka; use a name without `/` and control characters",
                name.escape_debug()
            )));
        }
    }
    let of_eureka = |key: &str| matches!(key, ZONE | VERSION | WEIGHT | CLASS);
    let (more, mut metadata): (BTreeMap<_, _>, BTreeMap<_, _>) =
        instance.metadata.clone().into_iter().partition(|(key, _)| of_eureka(key));
    if !more.is_empty() {
        metadata.insert(MORE.into(), json_text(&more)?);
    }
    let env = if instance.env.is_empty() { registration.env } else { &instance.env };
    metadata.insert(ENV.into(), canonical(env).into());
    metadata.insert(HOLDER.into(), format!("{:x}", registration.holder));
    let texts = [
        (ZONE, &*instance.zone),
        (VERSION, &*instance.version),
        (CLUSTER, &*instance.cluster),
        (TENANT, instance.tenant.as_str()),
    ];
    metadata
        .extend(texts.into_iter().filter(|t| !t.1.is_empty()).map(|(key, text)| (key.into(), text.into())));
    if instance.weight != Instance::DEFAULT_WEIGHT {
        metadata.insert(WEIGHT.into(), instance.weight.to_string());
    }
    let of = |scheme| instance.endpoints.iter().find(move |endpoint| endpoint.scheme() == scheme);
    let (http, https) = (of(Scheme::Http), of(Scheme::Https));
    // One host is told: a secure port at another one is not.
    let host = http.or(https).map_or("unknown", |endpoint| endpoint.host());
    let https = https.filter(|endpoint| endpoint.host() == host);
    let ports = (http.map(Endpoint::port), https.map(Endpoint::port));
    if endpoints(host, ports) != instance.endpoints {
        let all: Vec<_> = instance.endpoints.iter().map(ToString::to_string).collect();
        metadata.insert(ENDPOINTS.into(), json_text(&all)?);
    }
    let port = |port: Option<u16>, default: u16| json!({"$": port.unwrap_or(default), "@enabled": if port.is_some() { "true" } else { "false" }});
    let value = json!({"instance": {
        "instanceId": instance.id.as_str(),
        "app": app(&instance.service),
        "vipAddress": &*instance.service,
        "secureVipAddress": &*instance.service,
        "hostName": host,
        "ipAddr": host,
        "status": if registration.is_leaving { "DOWN" } else { status(instance.status) },
        "port": port(ports.0, 80),
        "securePort": port(ports.1, 443),
        "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
        "leaseInfo": {
            "renewalIntervalInSecs": (registration.ttl_seconds / 3).max(1), "durationInSecs": registration.ttl_seconds,
        },
        "metadata": metadata,
        "lastDirtyTimestamp": registration.dirty.to_string(),
        "lastUpdatedTimestamp": registration.dirty.to_string(),
    }});
    serde_json::to_vec(&value).map_err(|e| Error::internal("an instance as JSON").with_source(e))
}

/// What a host and its ports tell.
fn endpoints(host: &str, (http, https): (Option<u16>, Option<u16>)) -> Vec<Endpoint> {
    let http = http.map(|port| Endpoint::http(host, port));
    http.into_iter().chain(https.map(|port| Endpoint::https(host, port))).collect()
}

fn malformed(what: &str) -> Error {
    Error::invalid_argument(format!("`{what}` of its metadata is malformed"))
}

impl Told {
    pub(crate) fn id(&self) -> &str {
        self.instance_id.as_deref().filter(|id| !id.is_empty()).unwrap_or(&self.host_name)
    }

    /// Whether a list of changes tells that it is gone.
    pub(crate) fn is_deleted(&self) -> bool {
        self.action_type.as_deref() == Some("DELETED")
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(key)?.as_str()
    }

    /// Whose registration it is; `None` if it is not one of ours.
    pub(crate) fn holder(&self) -> Option<u64> {
        u64::from_str_radix(self.text(HOLDER)?, 16).ok()
    }

    /// The instance. `None` if it is of another environment than `env`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what cannot be used.
    pub(crate) fn decode(&self, service: &str, env: &str) -> Result<Option<Instance>> {
        if self.text(ENV).is_some_and(|its| its != canonical(env)) {
            return Ok(None);
        }
        let text = |key: &str| self.text(key).unwrap_or_default();
        let is_own = |key: &str| !key.starts_with(OURS) && !matches!(key, ZONE | VERSION | WEIGHT | CLASS);
        let all = self.metadata.iter().flatten();
        let mut metadata: BTreeMap<String, String> = all
            .filter(|(key, _)| is_own(key))
            .map(|(key, value)| {
                (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            .collect();
        if let Some(more) = self.text(MORE) {
            let more: BTreeMap<String, String> = serde_json::from_str(more).map_err(|_| malformed(MORE))?;
            metadata.extend(more);
        }
        let endpoints = match self.text(ENDPOINTS) {
            Some(texts) => {
                let texts: Vec<String> = serde_json::from_str(texts).map_err(|_| malformed(ENDPOINTS))?;
                texts.iter().map(|text| text.parse()).collect::<Result<_>>()?
            }
            None => {
                let port = |port: &Option<Port>| port.as_ref().and_then(Port::get);
                endpoints(&self.host_name, (port(&self.port), port(&self.secure_port)))
            }
        };
        Ok(Some(Instance {
            id: InstanceId::new(self.id()),
            service: service.into(),
            version: text(VERSION).into(),
            env: env.to_owned(),
            zone: text(ZONE).into(),
            cluster: text(CLUSTER).into(),
            tenant: Tenant::new(text(TENANT)).ok_or_else(|| malformed(TENANT))?,
            weight: text(WEIGHT).parse().unwrap_or(Instance::DEFAULT_WEIGHT),
            status: match &*self.status {
                "UP" => InstanceStatus::Up,
                "STARTING" => InstanceStatus::Starting,
                // DOWN, UNKNOWN: it is there, and takes no traffic.
                _ => InstanceStatus::OutOfService,
            },
            endpoints,
            metadata,
        }))
    }
}

/// As a value of metadata, which is text.
fn json_text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("metadata as JSON").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        prop_oneof![
            ("[a-c]{1,3}", 1..999_u16).prop_map(|(host, port)| Endpoint::http(host, port)),
            ("[a-c]{1,3}", 1..999_u16).prop_map(|(host, port)| Endpoint::https(host, port)),
            "/[a-c]{1,3}".prop_map(Endpoint::unix),
        ]
    }

    fn registration(env: &str) -> Registration<'_> {
        Registration { holder: 7, env, ttl_seconds: 90, dirty: 1_234, is_leaving: false }
    }

    fn told(body: &[u8]) -> Told {
        let mut value: Value = serde_json::from_slice(body).unwrap();
        serde_json::from_value(value["instance"].take()).unwrap()
    }

    proptest! {
        #[test]
        fn an_instance_goes_there_and_back(
            texts in proptest::array::uniform3("[a-zäß ]{0,6}"), weight: u32,
            endpoints in proptest::collection::vec(endpoint(), 0..4),
            metadata in proptest::collection::btree_map("[a-z.]{0,6}|zone|weight|@class", "\\PC{0,6}", 0..4),
        ) {
            let [version, zone, cluster] = texts;
            let env = "prod".to_owned();
            let instance =
                Instance { version, zone, cluster, weight, endpoints, metadata, env, ..Instance::new("s", "a@b:1") };
            let told = told(&encode(&instance, &registration("")).unwrap());
            prop_assert_eq!((told.holder(), told.last_dirty_timestamp), (Some(7), 1_234));
            prop_assert_eq!(told.decode("s", "").unwrap(), None);
            prop_assert_eq!(told.decode("s", "prod").unwrap(), Some(instance));
        }
    }

    #[test]
    fn what_others_register_is_read() {
        let value = json!({
            "hostName": "10.0.0.1", "app": "WEB", "ipAddr": "10.0.0.1", "status": "DOWN", "overriddenstatus": "UNKNOWN",
            "port": {"$": "8080", "@enabled": "true"}, "securePort": {"$": 443, "@enabled": "false"},
            "metadata": {"@class": "java.util.Collections$EmptyMap", "zone": "z1", "weight": "many"},
        });
        let told: Told = serde_json::from_value(value).unwrap();
        let mut expected = Instance::new("web", "10.0.0.1").with_endpoint(Endpoint::http("10.0.0.1", 8080));
        (expected.zone, expected.status, expected.env) =
            ("z1".into(), InstanceStatus::OutOfService, "prod".into());
        assert_eq!((told.decode("web", "prod").unwrap(), told.holder()), (Some(expected), None));
    }

    #[test]
    fn what_has_no_place_is_refused_with_the_mend() {
        let mut instance = Instance::new("s", "a");
        instance.metadata.insert("bowline-env".into(), "x".into());
        assert!(encode(&instance, &registration("")).unwrap_err().message().contains("use another key"));
        let error = encode(&Instance::new("a/b", "x"), &registration("")).unwrap_err();
        assert!(error.is_invalid() && error.message().contains("without `/`"), "{error}");
    }
}
