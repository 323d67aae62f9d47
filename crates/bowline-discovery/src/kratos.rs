//! Instances as Go's Kratos writes them into registries that hold plain values, such as etcd and ZooKeeper: so that
//! services in both languages find each other.
//!
//! The value is a JSON object with `id`, `name`, `version`, `metadata` and `endpoints`. What an [`Instance`] has beyond
//! these goes into the metadata:
//!
//! | key | holds | left out |
//! |---|---|---|
//! | `weight` | [`Instance::weight`], which Kratos' selectors read | at 100, the default on both sides |
//! | `bowline.env` | the environment, `default` for the empty one | never; an instance without it is in every environment |
//! | `bowline.zone`, `bowline.cluster`, `bowline.tenant` | the fields of these names | if empty |
//! | `bowline.status` | `starting` or `out_of_service` | if up |
//!
//! Kratos tells HTTP from gRPC by the endpoint's scheme, and a server of ours speaks both at one address, so it is written
//! twice, as `http` and `grpc`. Read the other way round, endpoints for gRPC come first.

use std::collections::BTreeMap;

use bowline_core::{Endpoint, Error, Instance, InstanceId, InstanceStatus, Result, Scheme, Tenant};
use serde::{Deserialize, Deserializer, Serialize};

const WEIGHT: &str = "weight";
const OURS: &str = "bowline.";
const ENV: &str = "bowline.env";
const ZONE: &str = "bowline.zone";
const CLUSTER: &str = "bowline.cluster";
const TENANT: &str = "bowline.tenant";
const STATUS: &str = "bowline.status";
const DEFAULT_ENV: &str = "default";

/// An instance as Kratos knows it, for registries that have a form of their own for these fields.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "they are called what they are, in Kratos' `registry.ServiceInstance`")]
pub struct ServiceInstance {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub version: String,
    // Go writes an empty map and an empty list as null.
    #[serde(default, deserialize_with = "or_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_empty")]
    pub endpoints: Vec<String>,
}

fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

fn canonical(env: &str) -> &str {
    if env.is_empty() { DEFAULT_ENV } else { env }
}

/// The value for an instance. `env` is the environment of who has none of its own.
///
/// # Errors
/// `INVALID_ARGUMENT` if its service or id is empty or holds a `/` or a control character, which the layout
/// `/PREFIX/SERVICE/ID` has no place for, or its metadata uses a key that is kept for a field.
///
/// ```
/// use bowline_core::{Endpoint, Instance};
/// use bowline_discovery::kratos;
///
/// let instance = Instance::new("catalog", "catalog-1").with_endpoint(Endpoint::http("10.0.0.1", 80));
/// let value = kratos::to_json(&instance, "").unwrap();
/// assert_eq!(kratos::from_json(&value, "catalog", "").unwrap(), Some(instance));
/// ```
pub fn to_json(instance: &Instance, env: &str) -> Result<Vec<u8>> {
    let value = encode(instance, env)?;
    serde_json::to_vec(&value).map_err(|e| Error::internal("an instance as JSON").with_source(e))
}

/// An instance in Kratos' fields. `env` is the environment of who has none of its own.
///
/// # Errors
/// As [`to_json`].
pub fn encode(instance: &Instance, env: &str) -> Result<ServiceInstance> {
    for (what, name) in [("service", &*instance.service), ("instance id", instance.id.as_str())] {
        if name.is_empty()
            || matches!(name, "." | "..")
            || name.contains(['/', '\0'])
            || name.contains(char::is_control)
        {
            return Err(Error::invalid_argument(format!(
                "the {what} `{}` has no place in the registry; use a name without `/` and control characters",
                name.escape_debug()
            )));
        }
    }
    if let Some(key) = instance.metadata.keys().find(|key| *key == WEIGHT || key.starts_with(OURS)) {
        return Err(Error::invalid_argument(format!(
            "the metadata key `{key}` is kept for a field of the instance; set the field, or use another key"
        )));
    }
    let mut metadata = instance.metadata.clone();
    let env = if instance.env.is_empty() { env } else { &instance.env };
    metadata.insert(ENV.into(), canonical(env).into());
    let texts = [(ZONE, &*instance.zone), (CLUSTER, &*instance.cluster), (TENANT, instance.tenant.as_str())];
    for (key, value) in texts {
        if !value.is_empty() {
            metadata.insert(key.into(), value.into());
        }
    }
    if instance.weight != Instance::DEFAULT_WEIGHT {
        metadata.insert(WEIGHT.into(), instance.weight.to_string());
    }
    let status = match instance.status {
        InstanceStatus::Up => None,
        InstanceStatus::Starting => Some("starting"),
        InstanceStatus::OutOfService => Some("out_of_service"),
    };
    if let Some(status) = status {
        metadata.insert(STATUS.into(), status.into());
    }
    let mut endpoints = Vec::new();
    for endpoint in &instance.endpoints {
        let text = endpoint.to_string();
        let grpc = match endpoint.scheme() {
            Scheme::Http => Some(format!("grpc://{}", endpoint.authority())),
            Scheme::Https => Some(format!("grpcs://{}", endpoint.authority())),
            Scheme::Unix | Scheme::Memory => None,
        };
        endpoints.push(text);
        endpoints.extend(grpc);
    }
    Ok(ServiceInstance {
        id: instance.id.as_str().into(),
        name: instance.service.as_ref().into(),
        version: instance.version.clone(),
        metadata,
        endpoints,
    })
}

/// The instance in a value. `None` if it is one of another service or of another environment than `env`.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no instance, or has endpoints of which none can be used here.
pub fn from_json(value: &[u8], service: &str, env: &str) -> Result<Option<Instance>> {
    let found: ServiceInstance = serde_json::from_slice(value)
        .map_err(|e| Error::invalid_argument(format!("the value is no instance: {e}")).with_source(e))?;
    decode(found, service, env)
}

/// The instance in Kratos' fields. `None` if it is one of another service or of another environment than `env`.
///
/// # Errors
/// `INVALID_ARGUMENT` if it has endpoints of which none can be used here, or a malformed tenant.
pub fn decode(found: ServiceInstance, service: &str, env: &str) -> Result<Option<Instance>> {
    let mut metadata = found.metadata;
    let here = metadata.remove(ENV).is_none_or(|its| its == canonical(env));
    if found.name != service || !here {
        return Ok(None);
    }
    let mut text = |key: &str| metadata.remove(key).unwrap_or_default();
    let (zone, cluster, tenant, status) = (text(ZONE), text(CLUSTER), text(TENANT), text(STATUS));
    let tenant = Tenant::new(&tenant)
        .ok_or_else(|| Error::invalid_argument(format!("`{tenant}` in `{TENANT}` is no tenant")))?;
    let weight = metadata.get(WEIGHT).and_then(|weight| weight.parse().ok());
    if weight.is_some() {
        metadata.remove(WEIGHT);
    }
    Ok(Some(Instance {
        id: InstanceId::new(found.id),
        service: service.into(),
        version: found.version,
        env: env.to_owned(),
        zone,
        cluster,
        tenant,
        weight: weight.unwrap_or(Instance::DEFAULT_WEIGHT),
        status: match &*status {
            "starting" => InstanceStatus::Starting,
            "out_of_service" => InstanceStatus::OutOfService,
            // Also what a newer version may say: taking traffic is what instances are there for.
            _ => InstanceStatus::Up,
        },
        endpoints: endpoints(&found.endpoints)?,
        metadata,
    }))
}

/// Those that can be used, each once, those for gRPC before those for HTTP.
fn endpoints(texts: &[String]) -> Result<Vec<Endpoint>> {
    let is_http = |text: &&String| text.starts_with("http://") || text.starts_with("https://");
    let mut all: Vec<Endpoint> = Vec::new();
    let mut fault = None;
    let (http, others): (Vec<_>, Vec<_>) = texts.iter().partition(is_http);
    for text in others.into_iter().chain(http) {
        match endpoint(text) {
            Ok(endpoint) if all.contains(&endpoint) => {}
            Ok(endpoint) => all.push(endpoint),
            Err(error) => fault = Some(error),
        }
    }
    match fault {
        // Instances may have further endpoints, for protocols that are not spoken here.
        Some(fault) if all.is_empty() => Err(fault),
        _ => Ok(all),
    }
}

/// `grpc://10.0.0.1:80?isSecure=true` is how older versions of Kratos write `grpcs://10.0.0.1:80`.
fn endpoint(text: &str) -> Result<Endpoint> {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let secure = query.split('&').any(|pair| pair == "isSecure=true");
    match address.split_once("://") {
        Some((scheme @ ("http" | "grpc"), rest)) if secure => format!("{scheme}s://{rest}").parse(),
        _ => address.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status() -> impl Strategy<Value = InstanceStatus> {
        use InstanceStatus::{OutOfService, Starting, Up};
        prop_oneof![Just(Up), Just(Starting), Just(OutOfService)]
    }

    fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
        let one = prop_oneof![
            "[a-c]{1,3}".prop_map(|host| Endpoint::http(host, 80)),
            "[a-c]{1,3}".prop_map(|host| Endpoint::https(host, 443)),
            "/[a-c]{1,3}".prop_map(Endpoint::unix),
        ];
        proptest::collection::vec(one, 0..4).prop_map(|mut all| {
            let mut seen = Vec::new();
            all.retain(|e| {
                !seen.contains(e) && {
                    seen.push(e.clone());
                    true
                }
            });
            all
        })
    }

    proptest! {
        #[test]
        fn an_instance_goes_there_and_back(
            id in "[a-z0-9:@._-]{2,9}x", texts in proptest::array::uniform3("[a-zäß ]{0,6}"), tenant in "[a-z]{0,4}",
            weight: u32, status in status(), endpoints in endpoints(),
            metadata in proptest::collection::btree_map("[a-v.]{0,6}", "\\PC{0,6}", 0..4),
        ) {
            let [version, zone, cluster] = texts;
            let tenant = Tenant::new(&tenant).unwrap();
            let env = "prod".to_owned();
            let instance = Instance {
                version, zone, cluster, tenant, weight, status, endpoints, metadata, env,
                ..Instance::new("catalog", id)
            };
            let value = to_json(&instance, "").unwrap();
            prop_assert_eq!(from_json(&value, "catalog", "prod").unwrap(), Some(instance));
            prop_assert_eq!(from_json(&value, "catalog", "").unwrap(), None);
            prop_assert_eq!(from_json(&value, "order", "prod").unwrap(), None);
        }
    }

    #[test]
    fn what_kratos_writes_is_read() {
        let value =
            br#"{"id":"k-1","name":"helloworld","version":"v1","metadata":{"weight":"30","color":"blue"},
            "endpoints":["http://10.0.0.1:8000","grpc://10.0.0.1:9000?isSecure=false","ws://10.0.0.1:1"]}"#;
        let instance = from_json(value, "helloworld", "prod").unwrap().unwrap();
        assert_eq!((instance.id.as_str(), &*instance.version, &*instance.env), ("k-1", "v1", "prod"));
        assert_eq!(instance.weight, 30);
        assert_eq!(instance.metadata, [("color".to_owned(), "blue".to_owned())].into());
        assert_eq!(instance.endpoints, [Endpoint::http("10.0.0.1", 9000), Endpoint::http("10.0.0.1", 8000)]);

        let value =
            br#"{"id":"k","name":"s","version":"","metadata":null,"endpoints":["grpc://a:1?isSecure=true"]}"#;
        let instance = from_json(value, "s", "").unwrap().unwrap();
        assert_eq!(instance, Instance::new("s", "k").with_endpoint(Endpoint::https("a", 1)));
    }

    #[test]
    fn what_kratos_reads_is_written() {
        let mut instance = Instance::new("s", "a").with_endpoint(Endpoint::http("::1", 80));
        instance.weight = 7;
        let value: serde_json::Value = serde_json::from_slice(&to_json(&instance, "prod").unwrap()).unwrap();
        let expected = serde_json::json!({
            "id": "a", "name": "s", "version": "", "endpoints": ["http://[::1]:80", "grpc://[::1]:80"],
            "metadata": {"weight": "7", "bowline.env": "prod"},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_has_no_place_is_refused_with_the_mend() {
        let mut instance = Instance::new("s", "a");
        instance.metadata.insert("weight".into(), "1".into());
        assert!(to_json(&instance, "").unwrap_err().message().contains("set the field"));
        for (service, id) in [("a/b", "x"), ("", "x"), ("s", ""), ("s", "a\0"), ("s", "..")] {
            let error = to_json(&Instance::new(service, id), "").unwrap_err();
            assert!(error.is_invalid() && error.message().contains("without `/`"), "{error}");
        }
        assert!(from_json(b"[]", "s", "").unwrap_err().message().contains("no instance"));
        let value = br#"{"id":"a","name":"s","endpoints":["ws://a:1"]}"#;
        assert!(from_json(value, "s", "").unwrap_err().message().contains("unknown scheme"));
    }
}
